"""The ConceptHash model: every learned part, from pixels to code logits (Ng et al., CVPRW 2024, section 3).

Notation: B photos, N patches, P tokens before them (CLS, registers), d vision width, p width of the concept queries,
t text width, M concepts, K bits, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPImageProcessor
from transformers import initialization as init
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .backbones import Adapter, family_of
from .base_models import load_pixel_processor, matching_image_processor
from .building import (
    A_TEXT_MODEL,
    check_classes,
    check_names_fit,
    config_on,
    first_names,
    load_bases,
    text_source,
    to_dtype,
)
from .codes import binarize, pack_bits
from .concept_layers import (
    ConceptClassifier,
    ConceptHashEncoder,
    ConceptHashHead,
    ConceptHashTextProjection,
    ConceptPrompt,
    ConceptTokens,
)
from .configuration_concepthash import DEFAULT_TEMPLATE, ConceptHashConfig, ConceptHashVisionConfig
from .language import embed_class_names, load_text_model, load_tokenizer, make_text_model, text_features, text_width
from .losses import binary_cosine_logits, check_labels, cosine_logits, diversity_loss, margin_cross_entropy
from .modeling_hashing import HashingPreTrainedModel, HashingTower
from .presets import Preset
from .read_outs import READ_OUTS, RegionReadOut
from .regions import RegionHead, RegionStates
from .sdpa import kernel_of


@dataclass
class ConceptHashVisionOutput(ModelOutput):
    """What the vision tower makes of a batch of photos.

    Args:
        code_logits: float32 `(B, K)`, concept-major; a bit of the code is set where its logit is positive.
        concept_embeddings: `(B, M, d)`, last hidden state of the concept tokens.
        concept_attentions: `(B, M, N)`, attention of every concept token to the patches in the last layer, averaged
            over heads; None unless asked for. 0 outside of a concept's region, if the model has regions.
        hidden_states: tuple of `(B, P + N + M, d)`, of `(B, P + N, d)` before the concept tokens join, the input of
            the first layer and the output of each, if `output_hidden_states=True`. If the model has regions, what its
            layers gave in the order in which they ran: first `(B, P + N, d)` where the regions are found, then
            `(B * M, ..., d)` where they are read.
        attentions: tuple of `(B, heads, P + N + M, P + N + M)`, without the M before the concept tokens join, if
            `output_attentions=True` with eager attention (an empty tuple under other attention implementations); with
            regions as `hidden_states`.
    """

    code_logits: Tensor | None = None
    concept_embeddings: Tensor | None = None
    concept_attentions: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class ConceptHashOutput(ModelOutput):
    """What the whole model makes of a batch of photos.

    Args:
        loss: float32 scalar, the weighted sum of `loss_terms`; None without labels.
        loss_terms: dict of float32 scalars `classification`, `quantization`, `concept` and, if its weight is not 0,
            `diversity`; before weighting. None without labels.
        code_logits: float32 `(B, K)`, concept-major; a bit of the code is set where its logit is positive.
        class_logits: float32 `(B, C)`, cosines with the class centres; None without class embeddings.
        binary_class_logits: float32 `(B, C)`, cosines with the binarised class centres; None without class embeddings.
        concept_logits: float32 `(B, M, C)`, cosines of every concept embedding with the centroids of the classes.
        concept_embeddings: `(B, M, d)`.
        concept_attentions: `(B, M, N)`, last layer, heads averaged, patch tokens only; present if
            `output_attentions=True` or the diversity loss needs it.
        hidden_states: see `ConceptHashVisionOutput`.
        attentions: see `ConceptHashVisionOutput`.
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    code_logits: Tensor | None = None
    class_logits: Tensor | None = None
    binary_class_logits: Tensor | None = None
    concept_logits: Tensor | None = None
    concept_embeddings: Tensor | None = None
    concept_attentions: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class ConceptHashPreTrainedModel(HashingPreTrainedModel):
    """What the two models share: how their own parts start."""

    config: ConceptHashConfig | ConceptHashVisionConfig
    whole_config_class = ConceptHashConfig
    _own_modules = (Adapter, ConceptPrompt, ConceptTokens, RegionHead, ConceptHashHead)

    def _check_weights(self, source: str | Path, missing: set[str], unexpected: set[str]) -> None:
        regions = {name for name in self.state_dict() if ".read_out." in f".{name}"}
        if (regions and regions <= missing) or any(".read_out." in f".{name}" for name in unexpected):
            here, there = ("regions", "attention") if regions else ("attention", "regions")
            raise ValueError(
                f"{source} was trained with read_out={there!r}: its concepts cannot be read with read_out={here!r}; "
                "load it as it is, or train another model"
            )

    def _init_own(self, module: nn.Module) -> None:
        if isinstance(module, ConceptPrompt):
            init.normal_(module.queries)
            for linear in (module.fc1, module.fc2, module.projection):
                linear.reset_parameters()
            # the generic rule for Linear has just overwritten MultiheadAttention's own choice for this one
            module.self_attn.out_proj.reset_parameters()
            init.zeros_(module.self_attn.out_proj.bias)
        elif isinstance(module, ConceptTokens):
            init.normal_(module.queries)
        elif isinstance(module, RegionHead):
            module.down_proj.reset_parameters()
            init.zeros_(module.up_proj.weight)  # by which it is known that nothing was learned
            init.zeros_(module.up_proj.bias)
        elif isinstance(module, ConceptHashHead):
            init.normal_(module.specificity)
            module.projection.reset_parameters()
        elif isinstance(module, ConceptHashTextProjection):
            module.fc1.reset_parameters()
            module.fc2.reset_parameters()
        elif isinstance(module, ConceptClassifier):
            init.normal_(module.position, std=0.02)
            init.normal_(module.centroids, std=module.centroid_std)
        elif isinstance(module, ConceptHashModel) and module.class_embeddings is not None:
            init.normal_(module.class_embeddings)


class ConceptHashVisionModel(HashingTower, ConceptHashPreTrainedModel):
    """Photos -> concept embeddings -> code logits: all it takes to hash.

    Args:
        config: the shape of the tower.
    """

    config: ConceptHashVisionConfig
    _towers_with_base = ("vision_model",)
    # a checkpoint of the whole model loads here too
    _keys_to_ignore_on_load_unexpected = [r"^(text_model|text_projection|class_embeddings|concept_classifier)"]

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__(config)
        backbone, family = config.backbone_config, family_of(config.backbone_config)
        # the layers read this one
        backbone._attn_implementation = kernel_of(config._attn_implementation)
        self._input_embed_layer = family.model._input_embed_layer
        width, eps = config.hidden_size, config.layer_norm_eps
        self.num_prefix_tokens = family.num_prefix_tokens(backbone)
        self.embeddings = family.embeddings(backbone)
        self.concept_prompt = ConceptPrompt(config) if config.prompt_block else ConceptTokens(config)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps) if family.pre_norm else nn.Identity()
        self.encoder = ConceptHashEncoder(config)
        self.read_out: Any = READ_OUTS[config.read_out](config)
        self.last_layer_norm = nn.LayerNorm(width, eps=eps) if config.apply_last_norm else nn.Identity()
        self.hash_head = ConceptHashHead(config)
        self.post_init()

    @property
    def num_frozen_tokens(self) -> int:
        """How many tokens of a photo `frozen_states` gives."""
        if self.config.read_out == "regions":
            return self.config.num_concepts * (self.num_prefix_tokens + cast(int, self.config.region_patches))
        return super().num_frozen_tokens

    def frozen_states(
        self,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool = False,
        regions: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor | RegionStates:
        """Tokens of photos where the concepts join them: all that training does not change, if the backbone is frozen.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.
            interpolate_pos_encoding: accept another H, W than the model was made for.
            regions: int64 `(B, M, L)`, which patches each concept sees, in place of what `find_regions` gives; only
                for a model with `read_out="regions"`.
            **kwargs: for the layers.

        Returns:
            `(B, P + N, d)`, or `RegionStates` of such a model; for `forward(frozen_states=...)`.

        Raises:
            ValueError: if `pixel_values` or `regions` have the wrong shape.
        """
        kwargs.setdefault("attention_mask", None)  # which some layers want to be told
        tokens = self._first_tokens(pixel_values, interpolate_pos_encoding)
        return self.read_out.frozen_states(self.encoder, tokens, regions, **kwargs)

    def find_regions(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Which patches each concept sees, in a model with `read_out="regions"`.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.
            interpolate_pos_encoding: accept another H, W than the model was made for.

        Returns:
            int64 `(B, M, L)`, numbers of patches (row by row, from 0), the surest first; -1 where there are no more.

        Raises:
            ValueError: if the model has no regions, or `pixel_values` has the wrong shape.
        """
        tokens = self._first_tokens(pixel_values, interpolate_pos_encoding)
        return self.read_out.find_regions(self.encoder, tokens, attention_mask=None)

    def region_features(self, pixel_values: Tensor) -> Tensor:
        """What the regions of photos are found by, in a model with `read_out="regions"`: see `learn_regions`.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.

        Returns:
            `(B, N, number of config.region_layers * d)`, of every patch.
        """
        tokens = self._first_tokens(pixel_values, interpolate_pos_encoding=False)
        return cast(RegionReadOut, self.read_out).features(self.encoder, tokens, attention_mask=None)

    def concept_tokens(self, states: Tensor | RegionStates) -> Tensor:
        """The concept tokens as they join the tokens of photos.

        Args:
            states: what they join, from `frozen_states`.

        Returns:
            `(B, M, d)`.
        """
        joined = states.tokens if isinstance(states, RegionStates) else states
        tokens = self.concept_prompt().to(joined.dtype).expand(joined.shape[0], -1, -1)
        if self.config.match_token_scale:
            scale = self.read_out.token_scale(states)
            return F.layer_norm(tokens, tokens.shape[-1:]) * scale.to(tokens.dtype)
        return self.pre_layrnorm(tokens)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_concept_attentions: bool = False,
        frozen_states: Tensor | RegionStates | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ConceptHashVisionOutput:
        """Hash photos.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised; or
            interpolate_pos_encoding: accept another H, W than the model was made for.
            output_concept_attentions: give `concept_attentions`; so does `output_attentions=True`.
            frozen_states: what `frozen_states(pixel_values)` gave, in place of the photos; if the model has regions,
                of photos of its own size.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `ConceptHashVisionOutput`.

        Raises:
            ValueError: if `pixel_values` has the wrong shape, or not exactly one of it and `frozen_states` is given.

        Example:
            >>> config = ConceptHashVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            ...     num_attention_heads=2, projection_dim=16, image_size=32, patch_size=8, adapter_dim=8, num_bits=16)
            >>> model, photos = ConceptHashVisionModel(config).eval(), torch.zeros(5, 3, 32, 32)
            >>> model(photos).code_logits.shape, model.get_hash_codes(photos).shape
            (torch.Size([5, 16]), torch.Size([5, 2]))
        """
        # not handed down: sdpa would warn that it has no maps, and the hooks collect eager attention's anyway
        output_attentions = kwargs.pop("output_attentions", self.config.output_attentions)
        if (pixel_values is None) == (frozen_states is None):
            raise ValueError("give either pixel_values or frozen_states")
        kwargs["attention_mask"] = None
        num_patches = self.config.num_patches
        if pixel_values is not None:
            frozen_states = self.frozen_states(pixel_values, interpolate_pos_encoding, **kwargs)
            height, width = pixel_values.shape[2:]
            num_patches = (height // self.config.patch_size) * (width // self.config.patch_size)
        states = self.read_out.received(frozen_states, self.dtype)
        recorded = bool(output_attentions or kwargs.get("output_hidden_states", self.config.output_hidden_states))
        concepts, attentions = self.read_out(
            self.encoder, states, self.concept_tokens(states), num_patches, all_tokens=recorded, **kwargs
        )
        concept_embeddings = self.last_layer_norm(concepts)
        return ConceptHashVisionOutput(
            code_logits=self.hash_head(concept_embeddings),
            concept_embeddings=concept_embeddings,
            concept_attentions=attentions if output_attentions or output_concept_attentions else None,
        )


class ConceptHashModel(ConceptHashPreTrainedModel):
    """The vision tower with language guidance, concept classifier and the four objectives.

    The constructor sets `requires_grad`: the backbone's own weights are frozen if `config.freeze_backbone`, the text
    tower always is.

    Args:
        config: the shape of the model. With `class_embedding_dim` the model has class embeddings, random until they
            are loaded or set by `set_classes`.
    """

    config: ConceptHashConfig
    _towers_with_base = ("vision_model", "text_model")
    # transformers.Trainer: the loss is a mean over the batch, not yet divided for gradient accumulation
    accepts_loss_kwargs = False
    # what `from_backbone` found; save it beside the model
    image_processor: CLIPImageProcessor | None = None

    def __init__(self, config: ConceptHashConfig):
        super().__init__(config)
        self.vision_model = ConceptHashVisionModel._from_config(config.vision_config)
        self.text_model = make_text_model(config.text_config) if config.text_config is not None else None
        self.concept_classifier = ConceptClassifier(config)
        self.text_projection = None
        self.register_buffer("class_embeddings", None)
        if config.class_embedding_dim is not None:
            self.text_projection = ConceptHashTextProjection(config.class_embedding_dim, config.num_bits)
            self.class_embeddings = torch.zeros(config.num_labels, config.class_embedding_dim)
        self.post_init()
        self._set_requires_grad()

    @classmethod
    def from_backbone(
        cls,
        vision: str | Path,
        class_names: Sequence[str | Sequence[str]] | None = None,
        *,
        text: str | Path | None = None,
        class_embeddings: Tensor | None = None,
        template: str | Sequence[str] = DEFAULT_TEMPLATE,
        dtype: torch.dtype = torch.float32,
        keep_text_model: bool = True,
        preset: Preset = "fast",
        **config_kwargs: Any,
    ) -> "ConceptHashModel":
        """Build an untrained model around a pretrained vision transformer and a pretrained text tower.

        The matching image processor is in `model.image_processor`: shorter side resized to round(8/7 of the image
        size), bicubic, centre crop, and the backbone's mean and standard deviation. Save it beside the model.

        Args:
            vision: a Hub id or a folder: DINOv2 (with or without registers), ViT, or a CLIP or SigLIP, whose vision
                tower is taken.
            class_names: the C classes, as folder-like names or words, or several synonyms for a class; the (first)
                names become `config.id2label`.
            text: a Hub id or a folder with a text tower and its tokenizer: a CLIP, a SigLIP, or a sentence encoder;
                default that of `vision`.
            class_embeddings: `(C, t)`, used instead of embedding the class names.
            template: the prompt(s) around a class name, see `embed_class_names`.
            dtype: of the weights; BatchNorm stays float32.
            keep_text_model: keep the frozen text tower, which turns new words into codes.
            preset: "fast" is the design that did best on real photos in minutes, "paper" the published one.
            **config_kwargs: fields of `ConceptHashConfig` and `ConceptHashVisionConfig`, such as `num_bits`, or
                `image_size`: any multiple of the patch size, by default what the backbone's image processor makes.

        Raises:
            ValueError: if these are no such models, there are class names and no text tower, or the class names, class
                embeddings and `num_labels` / `id2label` do not fit each other.

        Example:
            `ConceptHashModel.from_backbone("facebook/dinov2-small", ["indigo bunting", "blue jay"],
            text="openai/clip-vit-base-patch32", num_bits=64)`
        """
        text = text_source(vision, text)
        if class_names is not None:
            check_names_fit(class_names, config_kwargs)
            if class_embeddings is None and text is None:
                raise ValueError(
                    f"{vision} has no text tower, which class names need: give text=..., such as "
                    f"{A_TEXT_MODEL!r}, or class_embeddings=..."
                )
        model = cls(config_on(vision, text, template, keep_text_model, preset, config_kwargs))
        load_bases(model)
        if class_names is not None and class_embeddings is None:
            text_model = model.text_model if keep_text_model else load_text_model(cast(str | Path, text))
            tokenizer = load_tokenizer(cast(str | Path, text))
            class_embeddings = embed_class_names(text_model, tokenizer, class_names, template)
        if class_embeddings is not None:
            names = class_names or list(model.config.id2label.values())
            model.set_classes(names, class_embeddings)
        vision_config = model.config.vision_config
        model.image_processor = matching_image_processor(
            load_pixel_processor(vision), vision_config.backbone_config.model_type, vision_config.image_size
        )
        to_dtype(model, dtype)
        return model

    @classmethod
    def from_clip(
        cls, clip_name_or_path: str | Path, class_names: Sequence[str | Sequence[str]] | None = None, **kwargs: Any
    ) -> "ConceptHashModel":
        """Build an untrained model around a CLIP, which has both towers: see `from_backbone`.

        Example:
            `ConceptHashModel.from_clip("openai/clip-vit-base-patch32", ["indigo bunting", "blue jay"], num_bits=64)`
        """
        return cls.from_backbone(clip_name_or_path, class_names, text=clip_name_or_path, **kwargs)

    def set_classes(self, class_names: Sequence[str | Sequence[str]], class_embeddings: Tensor) -> None:
        """Give the model other classes: class embeddings, `id2label`, and new random centroids.

        Backbone, adapters, concepts, hash function and, if it was there, text projection stay as they are. Parameters
        are replaced, so make the optimizer afterwards.

        Args:
            class_names: C distinct names; of several for a class the first counts.
            class_embeddings: `(C, t)`, see `embed_class_names`.

        Raises:
            ValueError: if names and embeddings do not fit each other or the text projection.
        """
        names = first_names(class_names)
        check_classes(names, class_embeddings)
        width = self.config.class_embedding_dim
        if width is None and self.text_model is not None:
            width = text_width(self.text_model.config)
        if width is not None and class_embeddings.shape[1] != width:
            raise ValueError(
                f"this model takes class embeddings of width {width}, got {class_embeddings.shape[1]}; embed the "
                "class names with the text tower that it was built with"
            )
        device, dtype = self.concept_classifier.centroids.device, self.concept_classifier.centroids.dtype
        self.config.class_embedding_dim = class_embeddings.shape[1]
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: index for index, name in enumerate(names)}
        if self.text_projection is None:
            projection = ConceptHashTextProjection(class_embeddings.shape[1], self.config.num_bits)
            self.text_projection = projection.to(device, dtype)
        self.class_embeddings = class_embeddings.detach().clone().to(device, torch.float32)
        centroids = self.concept_classifier.new_centroids(len(names), self.config.vision_config.hidden_size)
        self.concept_classifier.centroids = nn.Parameter(centroids.to(device, dtype))

    def check_can_be_trained(self) -> None:
        """Refuse to be trained before what has to be done first.

        Raises:
            ValueError: if the model has regions, and they have not been learned.
        """
        self.vision_model.read_out.check_learned()

    def class_centres(self, class_embeddings: Tensor | None = None) -> Tensor:
        """Project class embeddings into code space (paper section 3).

        Args:
            class_embeddings: `(C, t)`; default those of the model.

        Returns:
            `(C, K)`; the binary code of a class is the sign of its centre.

        Raises:
            ValueError: if the model has no class embeddings, or these have another width.
        """
        if self.text_projection is None:
            raise ValueError(
                "this model has no class embeddings; build it with from_backbone(class_names=...) or call "
                "set_classes(...)"
            )
        embeddings = self.class_embeddings if class_embeddings is None else class_embeddings
        if embeddings.ndim != 2 or embeddings.shape[1] != self.config.class_embedding_dim:
            raise ValueError(
                f"class embeddings must be (C, {self.config.class_embedding_dim}), got {tuple(embeddings.shape)}"
            )
        if self.config.binarize_class_embeddings:
            embeddings = embeddings.sign()
        weight = self.text_projection.fc1.weight
        return self.text_projection(embeddings.to(weight.device, weight.dtype))

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        frozen_states: Tensor | RegionStates | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ConceptHashOutput:
        """Hash photos and, with labels, compute the objectives (paper section 3).

        `L_clf = CE_g(cos(b, o_c), y)` pulls code logits towards the semantic centre of their class, `L_quan` towards
        the binarised one, which passes no gradient to the text projection; `L_cd = mean_m CE_g(cos(z_m + P_m, w_c),
        y)` makes every concept alone tell the classes apart (the margin is on all concepts; the authors' code has it
        on concept 0 only, by an indexing slip); `L_csd` makes concepts look at different places.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised; or
            labels: int64 `(B,)`, or multi-hot `(B, C)` with at least one class a photo.
            interpolate_pos_encoding: accept another H, W than the model was made for.
            frozen_states: from `vision_model.frozen_states`, in place of the photos.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `ConceptHashOutput`.

        Raises:
            ValueError: if pixel values or labels have the wrong shape, labels are out of range (checked on the CPU),
                or labels come without class embeddings.
        """
        if labels is not None:
            photos = pixel_values if pixel_values is not None else frozen_states
            photos = photos.tokens if isinstance(photos, RegionStates) else photos
            if self.text_projection is None:
                raise ValueError(
                    "the losses need class embeddings; build the model with from_backbone(class_names=...) or call "
                    "set_classes(...)"
                )
            if photos is not None:
                check_labels(labels, photos.shape[0], self.config.num_labels)
        needs_diversity = labels is not None and self.config.diversity_weight > 0
        vision = self.vision_model(
            pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_concept_attentions=needs_diversity,
            frozen_states=frozen_states,
            **kwargs,
        )
        class_logits: Tensor | None = None
        binary_class_logits: Tensor | None = None
        if self.text_projection is not None:
            centres = self.class_centres()
            class_logits = cosine_logits(vision.code_logits, centres)
            binary_class_logits = binary_cosine_logits(vision.code_logits, centres)
        concept_logits = self.concept_classifier(vision.concept_embeddings)

        loss = loss_terms = None
        if labels is not None:
            assert class_logits is not None and binary_class_logits is not None  # else there were no labels
            criterion = (labels, self.config.margin, self.config.scale)
            loss_terms = {
                "classification": margin_cross_entropy(class_logits, *criterion),
                "quantization": margin_cross_entropy(binary_class_logits, *criterion),
                "concept": margin_cross_entropy(concept_logits, *criterion),
            }
            if needs_diversity:
                loss_terms["diversity"] = diversity_loss(vision.concept_attentions)
            loss = sum(getattr(self.config, f"{name}_weight") * term for name, term in loss_terms.items())
        return ConceptHashOutput(
            loss=loss,
            loss_terms=loss_terms,
            code_logits=vision.code_logits,
            class_logits=class_logits,
            binary_class_logits=binary_class_logits,
            concept_logits=concept_logits,
            concept_embeddings=vision.concept_embeddings,
            concept_attentions=vision.concept_attentions,
            hidden_states=vision.hidden_states,
            # eager attention alone collects full maps
            attentions=vision.attentions or None,
        )

    @torch.no_grad()
    def get_text_hash_codes(
        self,
        class_embeddings: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Turn words into codes: the code of a class centre, also of a class never trained on.

        Args:
            class_embeddings: `(C, t)`, from `embed_class_names`; or
            input_ids: `(C, tokens)`, prompts tokenized for the model's text tower.
            attention_mask: `(C, tokens)`, goes with `input_ids`.

        Returns:
            uint8 `(C, ceil(K / 8))`, to be compared with the codes of photos.

        Raises:
            ValueError: if not exactly one of `class_embeddings` and `input_ids` is given, the model has no text tower
                for `input_ids`, or no class embeddings were ever set.
        """
        if (class_embeddings is None) == (input_ids is None):
            raise ValueError("give either class_embeddings or input_ids")
        if input_ids is not None:
            if self.text_model is None:
                raise ValueError("this model was saved without its text tower; give class_embeddings")
            class_embeddings = text_features(self.text_model, input_ids, attention_mask)
        return pack_bits(binarize(self.class_centres(class_embeddings)))

    def _set_requires_grad(self) -> None:
        self.requires_grad_(True)
        for parameter in self.vision_model.backbone_parameters():
            parameter.requires_grad = not self.config.freeze_backbone
        if isinstance(self.vision_model.read_out, RegionReadOut):
            self.vision_model.read_out.requires_grad_(False)  # learned before
        if self.text_model is not None:
            self.text_model.requires_grad_(False)


__all__ = [
    "ConceptHashModel",
    "ConceptHashOutput",
    "ConceptHashPreTrainedModel",
    "ConceptHashVisionModel",
    "ConceptHashVisionOutput",
]
