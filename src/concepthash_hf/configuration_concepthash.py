"""The shape of a ConceptHash model, and the format of its checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# of checkpoints; raised when what is written can no longer be read by the code that was there before.
# 1: a CLIP's fields stand flat in vision_config. 2: backbone_config, and text towers of any kind.
FORMAT_VERSION = 2
DEFAULT_BACKBONE = "clip_vision_model"
DEFAULT_TEMPLATE = "a photo of a {}"
# of what a config says: layers are built one by one, the others are widths or numbers of tokens
_LARGEST = {"num_hidden_layers": 1_000, "vocab_size": 10_000_000, "image_size": 10_000}
_LARGEST_SIZE = 500_000
_POSITIVE = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("max_position_embeddings", "mlp_ratio", "projection_dim", "projection_size", "num_channels"),
)


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


# model types that somebody may take for a ConceptHash
_TO_BUILD_ON = ("clip", "siglip", "dinov2", "dinov2_with_registers", "vit", "clip_vision_model", "siglip_vision_model")


class _CheckpointConfig:
    """Refuses the config.json of other kinds of models and of newer formats."""

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> tuple[dict, dict]:
        """Read a config.json: see `transformers.PreTrainedConfig`.

        Raises:
            ValueError: if it is not that of a ConceptHash model, or of a newer format.
        """
        try:
            config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except (RecursionError, TypeError, AttributeError):
            raise ValueError(
                f"the config.json of {pretrained_model_name_or_path} is no JSON file of a config"
            ) from None
        _check_model_type(config_dict, pretrained_model_name_or_path, cls)
        _check_format(config_dict, pretrained_model_name_or_path)
        _check_towers(config_dict, pretrained_model_name_or_path)
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
class ConceptHashVisionConfig(_CheckpointConfig, PreTrainedConfig):
    """Shape of the tower that hashes photos: a vision transformer with adapters, concept tokens and a hash head.

    Sizes of the transformer itself are in `backbone_config`. They may also be given here directly, and the usual ones
    be read here (`hidden_size`, `num_hidden_layers`, `image_size`, ...). By default it is a CLIP's.

    Args:
        backbone_config: of the vision transformer, of one of the families in `backbones.FAMILIES`.
        prompt_dim: p, the width of the concept queries; default CLIP's `projection_dim`, elsewhere the hidden size.
        num_bits: K, the length of a code in bits; a multiple of `num_concepts`.
        num_concepts: M, the number of concepts, each with a sub-code of `num_bits / num_concepts` bits.
        adapter_dim: bottleneck width of the two adapters in every adapted layer.
        first_adapted_layer: the layer, from 0, before which the concept tokens join the others, and from which on
            there are adapters. Layers before it work as in the bare backbone.
        match_token_scale: whether concept tokens join at the root mean square of the photo's patch tokens; else as
            they are, which suits a backbone that normalises its input (CLIP, with `first_adapted_layer=0`).
        apply_last_norm: whether concepts are read after the backbone's last layer norm, or before.
        shared_hash_function: whether one hash function serves all concepts, or each has its own.
        prompt_block: whether a small transformer block prepares the concept tokens (the paper's), or they are
            parameters themselves.
        prompt_num_heads: attention heads of that block, halved until they divide `prompt_dim`.
        prompt_dropout: dropout probability inside that block.
        read_out: "attention", concepts attend to the whole photo, or "regions", each sees the patches of its region
            and nothing else (`docs/faithful.md`). Regions are learned before training, by `learn_regions`.
        region_layers: after how many layers, from 1, tokens are read that say which region a patch belongs to; for
            `read_out="regions"`, default at one half, two thirds and five sixths of the depth.
        region_patches: L, patches that a concept sees at the most, of a photo of `image_size`; for
            `read_out="regions"`, default the M-th part of them.
        format_version: of checkpoints; not to be set.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if `num_bits` does not divide by `num_concepts`, the image size by
            the patch size, there are more concepts than patches, a size is not positive, or a value has another type.

    Example:
        >>> ConceptHashVisionConfig(num_bits=32, num_concepts=4).bits_per_concept
        8
        >>> ConceptHashVisionConfig(backbone_config={"model_type": "dinov2", "image_size": 224}).num_patches
        256
    """

    model_type = "concepthash_vision"
    base_config_key = "vision_config"

    backbone_config: dict | PreTrainedConfig | None = None
    prompt_dim: int | None = None
    num_bits: int = 64
    num_concepts: int = 4
    adapter_dim: int = 384
    first_adapted_layer: int = 0
    match_token_scale: bool = False
    apply_last_norm: bool = False
    shared_hash_function: bool = True
    prompt_block: bool = True
    prompt_num_heads: int = 8
    prompt_dropout: float | int = 0.1
    read_out: Literal["attention", "regions"] = "attention"
    region_layers: list[int] | None = None
    region_patches: int | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs):
        backbone = self.backbone_config or {}
        if not isinstance(backbone, dict):
            backbone = backbone.to_dict()
        backbone_class = _config_class(backbone.get("model_type", DEFAULT_BACKBONE))
        own = {field.name for field in fields(PreTrainedConfig)}
        flat = {field.name for field in fields(backbone_class) if field.name not in own}
        given = {name: kwargs.pop(name) for name in flat if name in kwargs}
        # not a sub-config in transformers' sense, which is the config of a model inside: here are only layers
        self.backbone_config = backbone_class(**{name: backbone[name] for name in flat & backbone.keys()} | given)
        self.format_version = FORMAT_VERSION
        if self.prompt_dim is None:
            self.prompt_dim = getattr(self.backbone_config, "projection_dim", None) or self.hidden_size
        if self.read_out == "regions":
            depth = self.num_hidden_layers
            self.region_layers = self.region_layers or sorted({-(-depth // 2), -(-depth * 2 // 3), -(-depth * 5 // 6)})
            self.region_patches = self.region_patches or -(-self.num_patches // self.num_concepts)
        super().__post_init__(**kwargs)

    @property
    def bits_per_concept(self) -> int:
        """K / M, the length of a sub-code."""
        return self.num_bits // self.num_concepts

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
        sizes = (
            *("num_bits", "num_concepts", "adapter_dim", "prompt_dim", "prompt_num_heads"),
            *("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        )
        for name in sizes:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        _check_can_be_built(self, self.backbone_config)
        if self.num_bits % self.num_concepts:
            raise ValueError(
                f"num_bits must be a multiple of num_concepts, so that every concept gets a sub-code of the same "
                f"length; got num_bits={self.num_bits}, num_concepts={self.num_concepts}"
            )
        if self.image_size % self.patch_size:
            below = self.image_size // self.patch_size * self.patch_size
            raise ValueError(
                f"image_size must be a multiple of the backbone's patch size, {self.patch_size}; got "
                f"{self.image_size}, near it are {below or self.patch_size} and {below + self.patch_size}"
            )
        if self.num_concepts > self.num_patches:
            raise ValueError(
                f"{self.num_concepts} concepts are more than the {self.num_patches} patches of a photo "
                f"(image_size={self.image_size}, patch_size={self.patch_size}); take fewer concepts or larger photos"
            )
        if not 0 <= self.first_adapted_layer < self.num_hidden_layers:
            raise ValueError(
                f"first_adapted_layer must lie in 0 ... {self.num_hidden_layers - 1}, the layers of the backbone; got "
                f"{self.first_adapted_layer}"
            )
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must lie in [0, 1), got {self.prompt_dropout}")
        self._check_regions()

    def _check_regions(self):
        if self.read_out != "regions":
            if self.region_layers is not None or self.region_patches is not None:
                raise ValueError(
                    "region_layers and region_patches are of read_out='regions', this is read_out='attention'"
                )
            return
        layers, patches = cast(list[int], self.region_layers), cast(int, self.region_patches)
        in_order = sorted(set(layers)) == layers and 1 <= layers[0] and layers[-1] <= self.num_hidden_layers
        if not in_order:
            raise ValueError(
                f"region_layers must be ascending numbers in 1 ... {self.num_hidden_layers}, the layers of the "
                f"backbone; got {layers}"
            )
        if not 1 <= patches <= self.num_patches:
            raise ValueError(
                f"region_patches must lie in 1 ... {self.num_patches}, the patches of a photo; got {patches}"
            )


# may be given to the whole model's config
_VISION_KWARGS = (*ConceptHashVisionConfig.__annotations__, "image_size")


@strict
class ConceptHashConfig(_CheckpointConfig, PreTrainedConfig):
    """Shape of a ConceptHash model: the vision tower, language guidance and the objectives.

    The vision tower's own fields (`num_bits`, `num_concepts`, `adapter_dim`, ...) may be given here directly; they
    are passed on to `vision_config` and can be read from either.

    Args:
        vision_config: a `ConceptHashVisionConfig` or the dict of one.
        text_config: of the text tower, if the model keeps one (it is needed to turn new words into codes).
        class_embedding_dim: t, the width of the class embeddings; None for a model without language guidance, which
            hashes photos but has no class logits.
        binarize_class_embeddings: whether the text projection reads the sign of the class embeddings, as the authors'
            implementation does, or their values. The sign did better where both were measured (README, results).
        prompt_template: the text(s) around a class name when it was embedded, with `{}` for the name.
        freeze_backbone: whether the backbone's own weights stay fixed. The text tower always does.
        classification_weight: weight of the classification loss.
        quantization_weight: weight of the quantization loss.
        concept_weight: weight of the concept loss.
        diversity_weight: weight of the concept spatial diversity loss; at 0 no attention maps are computed.
        margin: subtracted from the cosine of the true class (g in the paper).
        scale: inverse temperature of the cosine cross-entropies.
        centroid_std: standard deviation of the concept classifier's centroids at the start; small ones turn faster.
        base_model_name_or_path: the model that the vision tower was built from.
        base_model_revision: its commit, if it came from the Hub.
        text_base_name_or_path: the model that the text tower is from, if that is another.
        text_base_revision: its commit, if it came from the Hub.
        base_fingerprints: in a small checkpoint, of the towers that it leaves out; not to be set.
        format_version: of checkpoints; not to be set.
        num_labels: C, the number of classes; or give `id2label`.

    Example:
        >>> config = ConceptHashConfig(num_bits=32, num_concepts=4, num_labels=200)
        >>> config.num_bits, config.vision_config.num_bits, config.num_labels
        (32, 32, 200)
    """

    model_type = "concepthash"
    # `transformers.Trainer` leaves these out of the predictions it gathers
    keys_to_ignore_at_inference = ["loss_terms", "concept_attentions", "hidden_states", "attentions"]
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=ConceptHashVisionConfig),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_text_model", optional=True),
    }

    vision_config: dict | ConceptHashVisionConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    class_embedding_dim: int | None = None
    binarize_class_embeddings: bool = True
    prompt_template: str | list[str] = DEFAULT_TEMPLATE
    freeze_backbone: bool = True
    classification_weight: float | int = 1.0
    quantization_weight: float | int = 1.0
    concept_weight: float | int = 1.0
    diversity_weight: float | int = 1.0
    margin: float | int = 0.2
    scale: float | int = 8.0
    centroid_std: float | int = 1.0
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    text_base_name_or_path: str | None = None
    text_base_revision: str | None = None
    base_fingerprints: dict[str, str] | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs):
        vision_kwargs = {name: kwargs.pop(name) for name in _VISION_KWARGS if name in kwargs}
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
        """What the constructor takes: own fields, the vision tower's own, and the labels that every config has.

        A config accepts any other keyword too, as all of transformers' do; who wants misspelt ones refused asks here.
        """
        return {*cls.__annotations__, *_VISION_KWARGS, "id2label", "label2id", "num_labels"}

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Make a config of a dict; keyword arguments overrule it, the vision tower's own fields among them."""
        vision_kwargs = {name: kwargs.pop(name) for name in _VISION_KWARGS if name in kwargs}
        # of a file too: a model that was loaded from a small checkpoint has all its weights
        return super().from_dict({**config_dict, **vision_kwargs, "base_fingerprints": None}, **kwargs)

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

    def validate_architecture(self):
        """Check the towers against each other (part of strict validation)."""
        if self.text_config is not None:
            _check_can_be_built(self.text_config)
        weights = {
            name: getattr(self, f"{name}_weight")
            for name in ("classification", "quantization", "concept", "diversity")
        }
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"loss weights must be finite and not negative, got {weights}")
        if not (0 <= self.margin < math.inf and 0 < self.scale < math.inf):
            raise ValueError(
                f"margin and scale must be finite, margin not negative and scale positive; got {self.margin} and "
                f"{self.scale}"
            )
        if not 0 < self.centroid_std < math.inf:
            raise ValueError(f"centroid_std must be finite and positive, got {self.centroid_std}")
        if self.vision_config.read_out == "regions" and not self.freeze_backbone:
            raise ValueError(
                "read_out='regions' needs freeze_backbone=True: regions are found by the backbone as it is"
            )
        if self.class_embedding_dim is not None and self.class_embedding_dim < 1:
            raise ValueError(f"class_embedding_dim must be positive or None, got {self.class_embedding_dim}")


def _config_class(model_type: str) -> type[PreTrainedConfig]:
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ValueError(f"backbone_config is of model type {model_type!r}, which transformers does not know")
    return CONFIG_MAPPING[model_type]


def _check_can_be_built(*configs: PreTrainedConfig) -> None:
    """Refuse sizes that no model of today has: the file of a stranger could fill the memory with them."""
    for config in configs:
        for name, value in vars(config).items():
            smallest, largest = int(name in _POSITIVE), _LARGEST.get(name, _LARGEST_SIZE)
            is_size = isinstance(value, int) and not isinstance(value, bool)
            if is_size and (value > largest or (smallest and value < smallest)):
                raise ValueError(
                    f"{name} of a {config.model_type!r} model must be at least {smallest}, at most {largest}, got "
                    f"{value}"
                )


def _check_model_type(config_dict: Mapping[str, Any], source: str | Path, wanted: type) -> None:
    model_type = config_dict.get("model_type")
    if model_type is None:
        raise ValueError(f"{source} holds no ConceptHash model: there is no config.json with a model_type")
    if model_type not in (ConceptHashConfig.model_type, ConceptHashVisionConfig.model_type):
        hint = "; a new one is built on it by ConceptHashModel.from_backbone" if model_type in _TO_BUILD_ON else ""
        raise ValueError(f"{source} holds a {model_type!r} model, not a ConceptHash{hint}")
    if wanted is ConceptHashConfig and model_type == ConceptHashVisionConfig.model_type:
        raise ValueError(
            f"{source} holds only the vision tower of a ConceptHash, which hashes photos: load it with "
            "ConceptHashVisionModel (or AutoModel)"
        )


def _check_towers(config_dict: Mapping[str, Any], source: str | Path) -> None:
    vision = config_dict.get("vision_config", config_dict)
    backbone = vision.get("backbone_config") if isinstance(vision, dict) else None
    for part, known in ((vision, (None, "concepthash", "concepthash_vision")), (backbone, CONFIG_MAPPING)):
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


__all__ = ["ConceptHashConfig", "ConceptHashVisionConfig"]
