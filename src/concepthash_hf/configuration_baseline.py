"""The shape of a hash model that other methods train: a hash function on the CLS token, or on the map of patches."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import SubConfigSpec

from .configuration_hashing import CheckpointConfig, HashingConfig, HashingVisionConfig


class _OfBaseline(CheckpointConfig):
    kind = "Baseline"
    kin = ("hashing_baseline", "hashing_baseline_vision")


@strict
class BaselineVisionConfig(_OfBaseline, HashingVisionConfig):
    """Shape of the tower: a vision transformer, adapters in its last layers or none, and a hash function.

    Args:
        backbone_config: see `HashingVisionConfig`, as `num_bits`, `adapter_dim` and `format_version`.
        first_adapted_layer: the layer, from 0, from which on there are adapters; the number of layers for none.
        head: the hash function, a key of `hash_heads.HEADS`.
        apply_last_norm: whether it reads tokens after the backbone's last layer norm, or before.
        hash_bias: whether it has a bias.
        batch_norm: whether a BatchNorm follows a linear one.

    Example:
        >>> BaselineVisionConfig(num_bits=32, first_adapted_layer=12).num_concepts
        1
    """

    model_type = "hashing_baseline_vision"
    base_config_key = "vision_config"
    # a code is not made of parts
    num_concepts = 1

    head: Literal["linear", "a2net", "semicon"] = "linear"
    apply_last_norm: bool = True
    hash_bias: bool = True
    batch_norm: bool = False

    def validate_architecture(self):
        """Check the sizes against each other (part of strict validation)."""
        super().validate_architecture()
        if not 0 <= self.first_adapted_layer <= self.num_hidden_layers:
            raise ValueError(
                f"first_adapted_layer must lie in 0 ... {self.num_hidden_layers}: the layers of the backbone, and "
                f"behind them, for no adapters; got {self.first_adapted_layer}"
            )
        if self.head == "linear" and self.backbone_config.model_type == "siglip_vision_model":
            raise ValueError(
                "this method hashes the CLS token, and a SigLIP has none: take a CLIP, DINOv2 or ViT, or a method on "
                "patch maps, such as a2net"
            )


@strict
class BaselineConfig(_OfBaseline, HashingConfig):
    """Shape of a model of another method: the tower, and what it is trained with.

    Args:
        vision_config: a `BaselineVisionConfig` or the dict of one; its fields may be given here directly.
        method: name of the method, a key of `methods.METHODS`.
        objective: what trains it, a key of `objectives.OBJECTIVES`; None where nothing does.
        objective_kwargs: constants of the objective.
        class_embedding_dim: t, the width of the class embeddings; None where the method reads no language.
        freeze_backbone: see `HashingConfig`, as the fields that follow it there.
        num_labels: C, the number of classes; or give `id2label`.
    """

    model_type = "hashing_baseline"
    keys_to_ignore_at_inference = ["loss_terms", "beside", "hidden_states", "attentions"]
    sub_configs_defaults = {"vision_config": SubConfigSpec(config_class=BaselineVisionConfig)}
    # words are read once, and the model keeps what they gave
    text_config = None
    text_base_name_or_path = None

    vision_config: dict | BaselineVisionConfig | None = None
    method: str = "ce"
    objective: str | None = "ce"
    objective_kwargs: dict[str, Any] | None = None
    class_embedding_dim: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if "num_concepts" in kwargs:
            raise ValueError("a code of another method is not made of parts: leave num_concepts out")
        super().__post_init__(**kwargs)


__all__ = ["BaselineConfig", "BaselineVisionConfig"]
