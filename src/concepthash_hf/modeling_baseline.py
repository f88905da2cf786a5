"""Hash models of other methods: the same backbone and adapters, and a hash function on the CLS token or the patches.

The hash functions are in `hash_heads`, what they are trained with in `objectives`, what is fitted in `linear_hashing`.
Notation: B photos, N patches, P tokens before them (CLS, registers), d vision width, K bits, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from torch import Tensor, nn
from transformers import CLIPImageProcessor
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .backbones import Adapter, family_of
from .base_models import load_base_config, load_pixel_processor, matching_image_processor, vision_config_of
from .building import (
    A_TEXT_MODEL,
    base_fields,
    check_classes,
    check_known,
    check_names_fit,
    first_names,
    load_bases,
    text_source,
    to_dtype,
)
from .class_checks import check_distinct_embeddings
from .concept_layers import ConceptHashEncoder
from .configuration_baseline import BaselineConfig, BaselineVisionConfig
from .configuration_concepthash import DEFAULT_TEMPLATE
from .hash_heads import HEADS, HashHead
from .language import embed_class_names, load_text_model, load_tokenizer
from .linear_hashing import FITS
from .losses import check_labels
from .methods import METHODS, method_named
from .modeling_hashing import HashingPreTrainedModel, HashingTower
from .objectives import Objective, make_objective
from .presets import Preset, adapter_fields
from .sdpa import kernel_of


@dataclass
class BaselineVisionOutput(ModelOutput):
    """What the tower makes of a batch of photos.

    Args:
        code_logits: float32 `(B, K)`; a bit of the code is set where its logit is positive.
        features: what is hashed: the CLS token, `(B, d)`, or what a head gathers from the patches, `(B, f)`.
        beside: what else the objective reads, see `hash_heads.HeadOutput`.
        hidden_states: tuple of `(B, P + N, d)`, the input of the first layer and the output of each, if
            `output_hidden_states=True`; CLS comes first, and last where there are adapters.
        attentions: tuple of `(B, heads, P + N, P + N)`, if `output_attentions=True` with eager attention.
    """

    code_logits: Tensor | None = None
    features: Tensor | None = None
    beside: dict[str, Tensor] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class BaselineOutput(ModelOutput):
    """What the whole model makes of a batch of photos.

    Args:
        loss: float32 scalar, the sum of `loss_terms`; None without labels.
        loss_terms: dict of float32 scalars, see the method's objective; None without labels.
        code_logits: float32 `(B, K)`; a bit of the code is set where its logit is positive.
        features: see `BaselineVisionOutput`.
        beside: see there.
        hidden_states: see `BaselineVisionOutput`.
        attentions: see `BaselineVisionOutput`.
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    code_logits: Tensor | None = None
    features: Tensor | None = None
    beside: dict[str, Tensor] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class BaselinePreTrainedModel(HashingPreTrainedModel):
    """What the two models share: how their own parts start."""

    config: BaselineConfig | BaselineVisionConfig
    _own_modules = (Adapter, HashHead)
    _towers_with_base = ("vision_model",)
    _keep_in_fp32_modules_strict = [
        *("batch_norm.weight", "batch_norm.bias", "batch_norm.running_*", "running_deviation", "objective"),
    ]
    whole_config_class = BaselineConfig

    def _init_own(self, module: nn.Module) -> None:
        if isinstance(module, HashHead | Objective):
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.Conv1d):
                    part.reset_parameters()
        if isinstance(module, Objective):
            module.draw()


class BaselineVisionModel(HashingTower, BaselinePreTrainedModel):
    """Photos -> tokens -> code logits: all it takes to hash.

    Args:
        config: the shape of the tower.
    """

    config: BaselineVisionConfig
    # a checkpoint of the whole model loads here too
    _keys_to_ignore_on_load_unexpected = [r"^objective\."]

    def __init__(self, config: BaselineVisionConfig):
        super().__init__(config)
        backbone, family = cast(Any, config.backbone_config), family_of(config.backbone_config)
        # the layers read this one
        backbone._attn_implementation = kernel_of(config._attn_implementation)
        self._input_embed_layer = family.model._input_embed_layer
        width, eps = config.hidden_size, config.layer_norm_eps
        self.num_prefix_tokens = family.num_prefix_tokens(backbone)
        self.embeddings = family.embeddings(backbone)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps) if family.pre_norm else nn.Identity()
        self.encoder = ConceptHashEncoder(config)
        self.last_layer_norm = nn.LayerNorm(width, eps=eps) if config.apply_last_norm else nn.Identity()
        self.hash_head = HEADS[config.head](config)
        self.post_init()

    @property
    def has_adapters(self) -> bool:
        """Whether there is a layer with adapters."""
        return self.config.first_adapted_layer < self.config.num_hidden_layers

    @property
    def _reads_all_tokens(self) -> bool:
        """Whether what follows the frozen layers reads more than the CLS token."""
        return self.has_adapters or self.hash_head.reads_patches

    @property
    def num_frozen_tokens(self) -> int:
        """How many tokens of a photo `frozen_states` gives."""
        return super().num_frozen_tokens if self._reads_all_tokens else 1

    def frozen_states(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False, **kwargs: Any) -> Tensor:
        """What training does not change of photos, if the backbone is frozen.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.
            interpolate_pos_encoding: accept another H, W than the model was made for.
            **kwargs: for the layers.

        Returns:
            The tokens where adapters begin, `(B, P + N, d)`; without adapters, the CLS token alone, `(B, 1, d)`,
            unless the hash function reads the patches.

        Raises:
            ValueError: if `pixel_values` has the wrong shape.
        """
        kwargs.setdefault("attention_mask", None)  # which some layers want to be told
        states = self.encoder.before_concepts(self._first_tokens(pixel_values, interpolate_pos_encoding), **kwargs)
        return states if self._reads_all_tokens else states[:, :1]

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        frozen_states: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaselineVisionOutput:
        """Hash photos.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised; or
            interpolate_pos_encoding: accept another H, W than the model was made for.
            frozen_states: what `frozen_states(pixel_values)` gave, in place of the photos.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `BaselineVisionOutput`.

        Raises:
            ValueError: if `pixel_values` has the wrong shape, or not exactly one of it and `frozen_states` is given.

        Example:
            >>> config = BaselineVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            ...     num_attention_heads=2, image_size=32, patch_size=8, adapter_dim=8, num_bits=16)
            >>> model, photos = BaselineVisionModel(config).eval(), torch.zeros(5, 3, 32, 32)
            >>> model(photos).code_logits.shape, model.get_hash_codes(photos).shape
            (torch.Size([5, 16]), torch.Size([5, 2]))
        """
        if (pixel_values is None) == (frozen_states is None):
            raise ValueError("give either pixel_values or frozen_states")
        # not handed down: sdpa would warn that it has no maps, and the hooks collect eager attention's anyway
        output_attentions = kwargs.pop("output_attentions", self.config.output_attentions)
        kwargs["attention_mask"] = None
        if pixel_values is not None:
            frozen_states = self.frozen_states(pixel_values, interpolate_pos_encoding, **kwargs)
        tokens = cast(Tensor, frozen_states).to(self.dtype)
        number = tokens.shape[1] - self.num_prefix_tokens
        if not self.hash_head.reads_patches:
            # tokens have their positions in them: those that are hashed may come last
            tokens, number = tokens.roll(-1, dims=1), 1
        if self.has_adapters:
            recorded = bool(output_attentions or kwargs.get("output_hidden_states", self.config.output_hidden_states))
            # of the last ones alone the last layer is computed
            tokens, _ = self.encoder(tokens, number, recorded, **kwargs)
        code_logits, features, beside = self.hash_head(self.last_layer_norm(tokens[:, -number:]))
        return BaselineVisionOutput(code_logits=code_logits, features=features, beside=beside or None)


class BaselineModel(BaselinePreTrainedModel):
    """The tower, and the objective that trains it.

    The constructor sets `requires_grad`: the backbone's own weights are frozen if `config.freeze_backbone`; where
    nothing trains the hash function (`config.objective` is None), it is filled by `fit`.

    Args:
        config: the shape of the model.
    """

    config: BaselineConfig
    accepts_loss_kwargs = False
    # what `from_backbone` found; save it beside the model
    image_processor: CLIPImageProcessor | None = None

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.vision_model = BaselineVisionModel._from_config(config.vision_config)
        self.objective: Any = None
        if config.objective is not None:
            constants = config.objective_kwargs or {}
            sizes = (config.num_bits, config.num_labels, config.class_embedding_dim)
            self.objective = make_objective(config.objective, *sizes, constants)
        self.post_init()
        self._set_requires_grad()

    @classmethod
    def from_backbone(
        cls,
        vision: str | Path,
        class_names: Sequence[str | Sequence[str]],
        *,
        method: str,
        text: str | Path | None = None,
        class_embeddings: Tensor | None = None,
        template: str | Sequence[str] = DEFAULT_TEMPLATE,
        dtype: torch.dtype = torch.float32,
        preset: Preset = "fast",
        **config_kwargs: Any,
    ) -> "BaselineModel":
        """Build an untrained model of a method around a pretrained vision transformer.

        The matching image processor is in `model.image_processor`, as for a ConceptHash.

        Args:
            vision: a Hub id or a folder: DINOv2 (with or without registers), ViT, or a CLIP or SigLIP, whose vision
                tower is taken.
            class_names: the C distinct classes; the (first) names become `config.id2label`.
            method: a key of `methods.METHODS`.
            text: a Hub id or a folder with a text tower and its tokenizer, for methods that read language; default
                that of `vision`.
            class_embeddings: `(C, t)`, used instead of embedding the class names.
            template: the prompt(s) around a class name.
            dtype: of the weights; BatchNorm and objective stay float32.
            preset: where adapters begin and how wide they are, the same as for a ConceptHash.
            **config_kwargs: fields of `BaselineConfig` and `BaselineVisionConfig`, such as `num_bits`.

        Raises:
            ValueError: if there is no such method, these are no such models, class names and class embeddings do not
                fit each other, or the method reads language and there is none.

        Example:
            `BaselineModel.from_backbone("facebook/dinov2-small", ["indigo bunting", "blue jay"], method="csq")`
        """
        chosen = method_named(method)
        check_names_fit(class_names, config_kwargs)
        check_known(config_kwargs, BaselineConfig)
        fields = base_fields(vision) | chosen.config_fields() | {"method": method}
        backbone = vision_config_of(load_base_config(vision))
        fields |= adapter_fields(preset, backbone)
        if not chosen.adapters:
            fields["first_adapted_layer"] = backbone.num_hidden_layers
        if chosen.reads_language:
            if class_embeddings is None:
                class_embeddings = _embedded(method, vision, text, class_names, template)
            fields["class_embedding_dim"] = class_embeddings.shape[1]
        names = first_names(class_names)
        check_classes(names, class_embeddings if chosen.reads_language else None)
        if chosen.reads_language and class_embeddings is not None:
            check_distinct_embeddings(class_embeddings, names)
        fields |= {"id2label": dict(enumerate(names)), "label2id": {name: c for c, name in enumerate(names)}}
        model = cls(BaselineConfig(**fields | config_kwargs))
        if model.objective is not None and model.objective.reads_language != chosen.reads_language:
            raise ValueError(
                f"objective_kwargs={model.config.objective_kwargs} make another method of {method}: whether language "
                f"is read is in the name, one of {', '.join(METHODS)}"
            )
        load_bases(model)
        if chosen.reads_language:
            model.objective.read(class_embeddings)
        vision_config = model.config.vision_config
        model.image_processor = matching_image_processor(
            load_pixel_processor(vision), vision_config.backbone_config.model_type, vision_config.image_size
        )
        to_dtype(model, dtype)
        return model

    def start_epoch(self, steps_done: int) -> None:
        """Move on what changes in the course of training.

        Args:
            steps_done: optimizer steps before this epoch.
        """
        self.objective.start_epoch(steps_done)

    def check_can_be_trained(self) -> None:
        """Refuse to be trained where nothing trains it.

        Raises:
            ValueError: if the method fits its hash function.
        """
        if self.objective is None:
            raise ValueError(f"{self.config.method} is not trained: its hash function is fitted, by fitting.fit")

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Fit the hash function, of a method that does not train it.

        Args:
            features: `(n, d)`, what the tower gives of photos, see `BaselineVisionOutput.features`.

        Raises:
            ValueError: if the method trains its hash function, or there are too few photos.
        """
        if self.objective is not None:
            raise ValueError(f"{self.config.method} is trained, not fitted: by training.train")
        weight, bias = FITS[self.config.method](features.float().cpu(), self.config.num_bits)
        projection = self.vision_model.hash_head.projection
        projection.weight.copy_(weight)
        projection.bias.copy_(bias)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        frozen_states: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaselineOutput:
        """Hash photos and, with labels, compute the objective.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised; or
            labels: int64 `(B,)`, or multi-hot `(B, C)` with at least one class a photo.
            interpolate_pos_encoding: accept another H, W than the model was made for.
            frozen_states: from `vision_model.frozen_states`, in place of the photos.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `BaselineOutput`.

        Raises:
            ValueError: if pixel values or labels have the wrong shape, labels are out of range (checked on the CPU),
                or labels come to a model that nothing trains.
        """
        if labels is not None:
            self.check_can_be_trained()
            photos = pixel_values if pixel_values is not None else frozen_states
            if photos is not None:
                check_labels(labels, photos.shape[0], self.config.num_labels)
        vision = self.vision_model(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, frozen_states=frozen_states, **kwargs
        )
        loss = loss_terms = None
        if labels is not None:
            with torch.autocast(vision.code_logits.device.type, enabled=False):
                loss_terms = self.objective(vision.code_logits, labels, **(vision.beside or {}))
            loss = sum(loss_terms.values())
        return BaselineOutput(
            loss=loss,
            loss_terms=loss_terms,
            code_logits=vision.code_logits,
            features=vision.features,
            beside=vision.beside,
            hidden_states=vision.hidden_states,
            # eager attention alone collects full maps
            attentions=vision.attentions or None,
        )

    def _set_requires_grad(self) -> None:
        self.requires_grad_(True)
        for parameter in self.vision_model.backbone_parameters():
            parameter.requires_grad = not self.config.freeze_backbone
        if self.objective is None:
            self.requires_grad_(False)


def _embedded(
    method: str,
    vision: str | Path,
    text: str | Path | None,
    class_names: Sequence[str | Sequence[str]],
    template: str | Sequence[str],
) -> Tensor:
    """Class embeddings of these names, `(C, t)`."""
    source = text_source(vision, text)
    if source is None:
        raise ValueError(
            f"{method} reads language, and {vision} has no text tower: give text=..., such as {A_TEXT_MODEL!r}, or "
            "class_embeddings"
        )
    return embed_class_names(load_text_model(source), load_tokenizer(source), class_names, template)


__all__ = [
    "BaselineModel",
    "BaselineOutput",
    "BaselinePreTrainedModel",
    "BaselineVisionModel",
    "BaselineVisionOutput",
]
