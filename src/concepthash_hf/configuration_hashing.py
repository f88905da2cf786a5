"""What the configs of all hash models share: the vision transformer inside, where it is from, the format of files."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, PreTrainedConfig

# of checkpoints; raised when what is written can no longer be read by the code that was there before.
# 1: a CLIP's fields stand flat in vision_config. 2: backbone_config, and text towers of any kind.
FORMAT_VERSION = 2
DEFAULT_BACKBONE = "clip_vision_model"
# of what a config says: layers are built one by one, the others are widths or numbers of tokens
_LARGEST = {"num_hidden_layers": 1_000, "vocab_size": 10_000_000, "image_size": 10_000}
_LARGEST_SIZE = 500_000
_POSITIVE = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("max_position_embeddings", "mlp_ratio", "projection_dim", "projection_size", "num_channels"),
)
# model types that somebody may take for a hash model
_TO_BUILD_ON = ("clip", "siglip", "dinov2", "dinov2_with_registers", "vit", "clip_vision_model", "siglip_vision_model")


def side(size: int | list[int] | tuple[int, ...]) -> int:
    """Side of a square that some configs give as two numbers.

    Raises:
        ValueError: if the two differ.
    """
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise ValueError(f"photos and patches must be square, the backbone's config says {tuple(size)}")
    return size[0]


class CheckpointConfig:
    """Refuses the config.json of other kinds of models and of newer formats.

    Attributes:
        kind: what the model is called in messages.
        kin: model types of the whole model and of its tower alone.
        model_type: which of the two this one is.
    """

    kind: str
    kin: tuple[str, str]
    model_type: str

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> tuple[dict, dict]:
        """Read a config.json: see `transformers.PreTrainedConfig`.

        Raises:
            ValueError: if it is not that of such a model, or of a newer format.
        """
        try:
            config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except (RecursionError, TypeError, AttributeError):
            raise ValueError(
                f"the config.json of {pretrained_model_name_or_path} is no JSON file of a config"
            ) from None
        _check_model_type(config_dict, pretrained_model_name_or_path, cls)
        _check_format(config_dict, pretrained_model_name_or_path)
        _check_towers(config_dict, pretrained_model_name_or_path, cls)
        return config_dict, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config of a dict.

        Raises:
            ValueError: if it is of a newer format.
        """
        _check_format(config_dict, "this checkpoint")
        return super().from_dict(config_dict, **kwargs)


@strict
class HashingVisionConfig(CheckpointConfig, PreTrainedConfig):
    """Shape of a tower that hashes photos: a vision transformer, adapters in its layers, and codes.

    Sizes of the transformer itself are in `backbone_config`. They may also be given here directly, and the usual ones
    be read here (`hidden_size`, `num_hidden_layers`, `image_size`, ...). By default it is a CLIP's.

    Args:
        backbone_config: of the vision transformer, of one of the families in `backbones.FAMILIES`.
        num_bits: K, the length of a code in bits.
        adapter_dim: bottleneck width of the two adapters in every adapted layer.
        first_adapted_layer: the layer, from 0, from which on there are adapters. Layers before it work as in the bare
            backbone.
        apply_last_norm: whether what is hashed is read after the backbone's last layer norm, or before.
        format_version: of checkpoints; not to be set.
    """

    backbone_config: dict | PreTrainedConfig | None = None
    num_bits: int = 64
    adapter_dim: int = 384
    first_adapted_layer: int = 0
    apply_last_norm: bool = False
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs):
        backbone = self.backbone_config or {}
        if not isinstance(backbone, dict):
            backbone = backbone.to_dict()
        backbone_class = _config_class(backbone.get("model_type", DEFAULT_BACKBONE))
        flat = _fields_of(backbone_class)
        given = {name: kwargs.pop(name) for name in flat if name in kwargs}
        # not a sub-config in transformers' sense, which is the config of a model inside: here are only layers
        self.backbone_config = backbone_class(**{name: backbone[name] for name in flat & backbone.keys()} | given)
        self.format_version = FORMAT_VERSION
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width d of the vision transformer."""
        return self.backbone_config.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the vision transformer."""
        return self.backbone_config.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        """Attention heads of a layer."""
        return self.backbone_config.num_attention_heads

    @property
    def layer_norm_eps(self) -> float:
        """Of the vision transformer's own layer norms."""
        return self.backbone_config.layer_norm_eps

    @property
    def num_channels(self) -> int:
        """Colours of a photo."""
        return self.backbone_config.num_channels

    @property
    def image_size(self) -> int:
        """Side of the photos in pixels."""
        return side(self.backbone_config.image_size)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return side(self.backbone_config.patch_size)

    @property
    def num_patches(self) -> int:
        """N, the patches of a photo."""
        return (self.image_size // self.patch_size) ** 2

    def validate_architecture(self):
        """Check the sizes against each other (part of strict validation)."""
        for name in (
            *("num_bits", "adapter_dim", "image_size", "patch_size"),
            *("hidden_size", "num_hidden_layers", "num_attention_heads"),
        ):
            check_positive(name, getattr(self, name))
        check_can_be_built(self, self.backbone_config)
        if self.image_size % self.patch_size:
            below = self.image_size // self.patch_size * self.patch_size
            raise ValueError(
                f"image_size must be a multiple of the backbone's patch size, {self.patch_size}; got "
                f"{self.image_size}, near it are {below or self.patch_size} and {below + self.patch_size}"
            )


@strict
class HashingConfig(CheckpointConfig, PreTrainedConfig):
    """Shape of a whole hash model: its tower, and what it was built on.

    The tower's own fields (`num_bits`, `adapter_dim`, ...) may be given here directly; they are passed on to
    `vision_config`.

    Args:
        vision_config: of the tower, or the dict of it.
        freeze_backbone: whether the backbone's own weights stay fixed.
        base_model_name_or_path: the model that the tower was built from.
        base_model_revision: its commit, if it came from the Hub.
        base_fingerprints: in a small checkpoint, of the towers that it leaves out; not to be set.
        format_version: of checkpoints; not to be set.
    """

    vision_config: dict | PreTrainedConfig | None = None
    freeze_backbone: bool = True
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    base_fingerprints: dict[str, str] | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs):
        vision_kwargs = {name: kwargs.pop(name) for name in self._vision_kwargs() if name in kwargs}
        if vision_kwargs:
            vision_config = self.vision_config or {}
            if not isinstance(vision_config, dict):
                vision_config = vision_config.to_dict()
            self.vision_config = {**vision_config, **vision_kwargs}
        # says what a file holds; what is made of it, and saved again, is in today's format
        self.format_version = FORMAT_VERSION
        super().__post_init__(**kwargs)

    @classmethod
    def known_kwargs(cls) -> set[str]:
        """What the constructor takes: own fields, the tower's own, and the labels that every config has.

        A config accepts any other keyword too, as all of transformers' do; who wants misspelt ones refused asks here.
        """
        return {*_fields_of(cls), *cls._vision_kwargs(), "id2label", "label2id", "num_labels"}

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Make a config of a dict; keyword arguments overrule it, the tower's own fields among them."""
        vision_kwargs = {name: kwargs.pop(name) for name in cls._vision_kwargs() if name in kwargs}
        # of a file too: a model that was loaded from a small checkpoint has all its weights
        return super().from_dict({**config_dict, **vision_kwargs, "base_fingerprints": None}, **kwargs)

    @classmethod
    def _vision_kwargs(cls) -> set[str]:
        """Fields of the tower that may be given to the whole."""
        tower: Any = cls.sub_configs_defaults["vision_config"]
        return (_fields_of(tower.config_class) | {"image_size"}) - _fields_of(cls)

    @property
    def num_bits(self) -> int:
        """K, the length of a code in bits."""
        return self.vision_config.num_bits

    @property
    def num_concepts(self) -> int:
        """M, the number of concepts."""
        return self.vision_config.num_concepts

    @property
    def adapter_dim(self) -> int:
        """Bottleneck width of the adapters."""
        return self.vision_config.adapter_dim

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.vision_config.patch_size


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no positive integer.

    Raises:
        ValueError: says which field it is.
    """
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _fields_of(config_class: type[PreTrainedConfig]) -> set[str]:
    """Names of the fields of a config, without those that every config has."""
    return {field.name for field in fields(config_class)} - {field.name for field in fields(PreTrainedConfig)}


def _config_class(model_type: str) -> type[PreTrainedConfig]:
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ValueError(f"backbone_config is of model type {model_type!r}, which transformers does not know")
    return CONFIG_MAPPING[model_type]


def check_can_be_built(*configs: PreTrainedConfig) -> None:
    """Refuse sizes that no model of today has: the file of a stranger could fill the memory with them.

    Raises:
        ValueError: says which size it is.
    """
    for config in configs:
        for name, value in vars(config).items():
            smallest, largest = int(name in _POSITIVE), _LARGEST.get(name, _LARGEST_SIZE)
            is_size = isinstance(value, int) and not isinstance(value, bool)
            if is_size and (value > largest or (smallest and value < smallest)):
                raise ValueError(
                    f"{name} of a {config.model_type!r} model must be at least {smallest}, at most {largest}, got "
                    f"{value}"
                )


def _check_model_type(config_dict: Mapping[str, Any], source: str | Path, wanted: type[CheckpointConfig]) -> None:
    model_type = config_dict.get("model_type")
    if model_type is None:
        raise ValueError(f"{source} holds no {wanted.kind} model: there is no config.json with a model_type")
    if model_type not in wanted.kin:
        hint = f"; a new one is built on it by {wanted.kind}Model.from_backbone" if model_type in _TO_BUILD_ON else ""
        raise ValueError(f"{source} holds a {model_type!r} model, not a {wanted.kind}{hint}")
    whole, tower = wanted.kin
    if wanted.model_type == whole and model_type == tower:
        raise ValueError(
            f"{source} holds only the vision tower of a {wanted.kind}, which hashes photos: load it with "
            f"{wanted.kind}VisionModel (or AutoModel)"
        )


def _check_towers(config_dict: Mapping[str, Any], source: str | Path, wanted: type[CheckpointConfig]) -> None:
    vision = config_dict.get("vision_config", config_dict)
    backbone = vision.get("backbone_config") if isinstance(vision, dict) else None
    for part, known in ((vision, (None, *wanted.kin)), (backbone, CONFIG_MAPPING)):
        kind = part.get("model_type") if isinstance(part, dict) else None
        if isinstance(part, dict) and (not isinstance(kind, str | None) or kind not in known):
            raise ValueError(f"{source} is damaged: a tower in its config.json has the model_type {kind!r}")


def _check_format(config_dict: Mapping[str, Any], source: str | Path) -> None:
    version = config_dict.get("format_version", 1)  # the first checkpoints did not say
    if isinstance(version, bool) or not isinstance(version, int):
        raise ValueError(f"{source} is damaged: format_version in its config.json is no whole number but {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{source} is of checkpoint format {version}, this concepthash_hf reads formats up to {FORMAT_VERSION}: "
            "install a newer one (pip install --upgrade concepthash_hf)"
        )
