"""The shape of a ConceptHash model, and the format of its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# of checkpoints; raised when what is written can no longer be read by the code that was there before
FORMAT_VERSION = 1


class _CheckpointConfig:
    """Refuses the config.json of other kinds of models and of newer formats."""

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> tuple[dict, dict]:
        """Read a config.json: see `transformers.PreTrainedConfig`.

        Raises:
            ValueError: if it is not that of a ConceptHash model, or of a newer format.
        """
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        _check_model_type(config_dict, pretrained_model_name_or_path, cls)
        _check_format(config_dict, pretrained_model_name_or_path)
        return config_dict, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config of a dict.

        Raises:
            ValueError: if it is of a newer format.
        """
        _check_format(config_dict, "this checkpoint")
        # says what a file holds; what is saved again is in today's format
        return super().from_dict(config_dict | {"format_version": FORMAT_VERSION}, **kwargs)


@strict
class ConceptHashVisionConfig(_CheckpointConfig, CLIPVisionConfig):
    """Shape of the tower that hashes photos: a CLIP vision transformer with adapters, concept tokens and a hash head.

    All sizes of the transformer itself are `CLIPVisionConfig`'s. `projection_dim` is also the width of the concept
    queries (p in the paper's notation).

    Args:
        num_bits: K, the length of a code in bits; a multiple of `num_concepts`.
        num_concepts: M, the number of concepts, each with a sub-code of `num_bits / num_concepts` bits.
        adapter_dim: bottleneck width of the two adapters in every layer.
        prompt_num_heads: attention heads of the block that prepares the concept tokens, halved until they divide
            `projection_dim`.
        prompt_dropout: dropout probability inside that block.
        format_version: of checkpoints; not to be set.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if `num_bits` does not divide by `num_concepts`, a size is not
            positive, or a value has another type.

    Example:
        >>> ConceptHashVisionConfig(num_bits=32, num_concepts=4).bits_per_concept
        8
    """

    model_type = "concepthash_vision"
    base_config_key = "vision_config"

    num_bits: int = 64
    num_concepts: int = 4
    adapter_dim: int = 384
    prompt_num_heads: int = 8
    prompt_dropout: float | int = 0.1
    format_version: int = FORMAT_VERSION

    @property
    def bits_per_concept(self) -> int:
        """K / M, the length of a sub-code."""
        return self.num_bits // self.num_concepts

    def validate_architecture(self):
        """Check the sizes against each other (part of strict validation)."""
        super().validate_architecture()
        for name in ("num_bits", "num_concepts", "adapter_dim", "prompt_num_heads", "image_size", "patch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.num_bits % self.num_concepts:
            raise ValueError(
                f"num_bits must be a multiple of num_concepts, so that every concept gets a sub-code of the same "
                f"length; got num_bits={self.num_bits}, num_concepts={self.num_concepts}"
            )
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must lie in [0, 1), got {self.prompt_dropout}")


@strict
class ConceptHashConfig(_CheckpointConfig, PreTrainedConfig):
    """Shape of a ConceptHash model: the vision tower, language guidance and the objectives.

    The vision tower's own fields (`num_bits`, `num_concepts`, `adapter_dim`, ...) may be given here directly; they
    are passed on to `vision_config` and can be read from either.

    Args:
        vision_config: a `ConceptHashVisionConfig` or the dict of one.
        text_config: CLIP's text tower, if the model keeps one (it is needed to turn new words into codes).
        class_embedding_dim: t, the width of the class embeddings; None for a model without language guidance, which
            hashes photos but has no class logits.
        binarize_class_embeddings: whether the text projection reads the sign of the class embeddings, as the authors'
            implementation does, or their values. The sign did better where both were measured (README, results).
        freeze_backbone: whether CLIP's own vision weights stay fixed. The text tower always does.
        classification_weight: weight of the classification loss.
        quantization_weight: weight of the quantization loss.
        concept_weight: weight of the concept loss.
        diversity_weight: weight of the concept spatial diversity loss; at 0 no attention maps are computed.
        margin: subtracted from the cosine of the true class (g in the paper).
        scale: inverse temperature of the cosine cross-entropies.
        base_model_name_or_path: the CLIP this model was built from.
        base_model_revision: its commit, if it came from the Hub.
        base_fingerprints: in a small checkpoint, of the CLIP's towers that it leaves out; not to be set.
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
        "text_config": SubConfigSpec(config_class=CLIPTextConfig, optional=True),
    }

    vision_config: dict | ConceptHashVisionConfig | None = None
    text_config: dict | CLIPTextConfig | None = None
    class_embedding_dim: int | None = None
    binarize_class_embeddings: bool = True
    freeze_backbone: bool = True
    classification_weight: float | int = 1.0
    quantization_weight: float | int = 1.0
    concept_weight: float | int = 1.0
    diversity_weight: float | int = 1.0
    margin: float | int = 0.2
    scale: float | int = 8.0
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    base_fingerprints: dict[str, str] | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs):
        own_fields = ConceptHashVisionConfig.__annotations__
        vision_kwargs = {name: kwargs.pop(name) for name in own_fields if name in kwargs}
        if vision_kwargs:
            vision_config = self.vision_config or {}
            if not isinstance(vision_config, dict):
                vision_config = vision_config.to_dict()
            self.vision_config = {**vision_config, **vision_kwargs}
        super().__post_init__(**kwargs)

    @classmethod
    def known_kwargs(cls) -> set[str]:
        """What the constructor takes: own fields, the vision tower's own, and the labels that every config has.

        A config accepts any other keyword too, as all of transformers' do; who wants misspelt ones refused asks here.
        """
        return {*cls.__annotations__, *ConceptHashVisionConfig.__annotations__, "id2label", "label2id", "num_labels"}

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Make a config of a dict; keyword arguments overrule it, the vision tower's own fields among them."""
        vision_kwargs = {name: kwargs.pop(name) for name in ConceptHashVisionConfig.__annotations__ if name in kwargs}
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

    def validate_architecture(self):
        """Check the towers against each other (part of strict validation)."""
        weights = {
            name: getattr(self, f"{name}_weight")
            for name in ("classification", "quantization", "concept", "diversity")
        }
        if any(weight < 0 for weight in weights.values()):
            raise ValueError(f"loss weights must not be negative, got {weights}")
        if not (0 <= self.margin and 0 < self.scale):
            raise ValueError(f"margin must not be negative and scale positive, got {self.margin} and {self.scale}")
        if self.class_embedding_dim is not None and self.class_embedding_dim < 1:
            raise ValueError(f"class_embedding_dim must be positive or None, got {self.class_embedding_dim}")


def _check_model_type(config_dict: Mapping[str, Any], source: str | Path, wanted: type) -> None:
    model_type = config_dict.get("model_type")
    if model_type is None:
        raise ValueError(f"{source} holds no ConceptHash model: there is no config.json with a model_type")
    if model_type not in (ConceptHashConfig.model_type, ConceptHashVisionConfig.model_type):
        hint = "; a new one is built on it by ConceptHashModel.from_clip" if model_type == "clip" else ""
        raise ValueError(f"{source} holds a {model_type!r} model, not a ConceptHash{hint}")
    if wanted is ConceptHashConfig and model_type == ConceptHashVisionConfig.model_type:
        raise ValueError(
            f"{source} holds only the vision tower of a ConceptHash, which hashes photos: load it with "
            "ConceptHashVisionModel (or AutoModel)"
        )


def _check_format(config_dict: Mapping[str, Any], source: str | Path) -> None:
    version = config_dict.get("format_version", 1)  # the first checkpoints did not say
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{source} is of checkpoint format {version}, this concepthash_hf reads formats up to {FORMAT_VERSION}: "
            "install a newer one (pip install --upgrade concepthash_hf)"
        )


__all__ = ["ConceptHashConfig", "ConceptHashVisionConfig"]
