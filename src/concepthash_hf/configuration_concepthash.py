"""The shape of a ConceptHash model."""

import math
from typing import Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_hashing import (
    CheckpointConfig,
    HashingConfig,
    HashingVisionConfig,
    check_can_be_built,
    check_positive,
)

DEFAULT_TEMPLATE = "a photo of a {}"


class _OfConceptHash(CheckpointConfig):
    kind = "ConceptHash"
    kin = ("concepthash", "concepthash_vision")


@strict
class ConceptHashVisionConfig(_OfConceptHash, HashingVisionConfig):
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
        start_at_cls: whether concept tokens are added to the photo's CLS token where they join, so that they begin
            with what the backbone knows of the whole photo; else, and in a backbone without one (SigLIP), they join
            alone. With `read_out="regions"` each is added to the CLS token of its region, whatever stands here.
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

    prompt_dim: int | None = None
    num_concepts: int = 4
    match_token_scale: bool = False
    start_at_cls: bool = False
    shared_hash_function: bool = True
    prompt_block: bool = True
    prompt_num_heads: int = 8
    prompt_dropout: float | int = 0.1
    read_out: Literal["attention", "regions"] = "attention"
    region_layers: list[int] | None = None
    region_patches: int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.prompt_dim is None:
            self.prompt_dim = getattr(self.backbone_config, "projection_dim", None) or self.hidden_size
        if self.read_out == "regions":
            depth = self.num_hidden_layers
            self.region_layers = self.region_layers or sorted({-(-depth // 2), -(-depth * 2 // 3), -(-depth * 5 // 6)})
            self.region_patches = self.region_patches or -(-self.num_patches // self.num_concepts)

    @property
    def bits_per_concept(self) -> int:
        """K / M, the length of a sub-code."""
        return self.num_bits // self.num_concepts

    def validate_architecture(self):
        """Check the sizes against each other (part of strict validation)."""
        super().validate_architecture()
        for name in ("num_concepts", "prompt_dim", "prompt_num_heads"):
            check_positive(name, getattr(self, name))
        if self.num_bits % self.num_concepts:
            raise ValueError(
                f"num_bits must be a multiple of num_concepts, so that every concept gets a sub-code of the same "
                f"length; got num_bits={self.num_bits}, num_concepts={self.num_concepts}"
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


@strict
class ConceptHashConfig(_OfConceptHash, HashingConfig):
    """Shape of a ConceptHash model: the vision tower, language guidance and the objectives.

    The vision tower's own fields (`num_bits`, `num_concepts`, `adapter_dim`, ...) may be given here directly; they
    are passed on to `vision_config` and can be read from either.

    Args:
        vision_config: a `ConceptHashVisionConfig` or the dict of one.
        text_config: of the text tower, if the model keeps one (it is needed to turn new words into codes).
        class_embedding_dim: t, the width of the class embeddings; None for a model without language guidance, which
            hashes photos but has no class logits.
        binarize_class_embeddings: whether the text projection reads the sign of the class embeddings, as the authors'
            implementation does, or their values. The sign did better where both were measured (docs/results.md).
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
    classification_weight: float | int = 1.0
    quantization_weight: float | int = 1.0
    concept_weight: float | int = 1.0
    diversity_weight: float | int = 1.0
    margin: float | int = 0.2
    scale: float | int = 8.0
    centroid_std: float | int = 1.0
    text_base_name_or_path: str | None = None
    text_base_revision: str | None = None

    def validate_architecture(self):
        """Check the towers against each other (part of strict validation)."""
        if self.text_config is not None:
            check_can_be_built(self.text_config)
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


__all__ = ["ConceptHashConfig", "ConceptHashVisionConfig"]
