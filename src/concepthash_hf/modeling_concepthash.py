"""The ConceptHash model: every learned part, from pixels to code logits (Ng et al., CVPRW 2024, section 3).

Notation: B photos, N patches, d vision width, p CLIP's projection width, t text width, M concepts, K bits, C classes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoderLayer,
    CLIPPreTrainedModel,
    CLIPVisionEmbeddings,
)
from transformers.utils import SAFE_WEIGHTS_NAME, ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .base_clip import clip_commit, load_clip, load_clip_config
from .codes import binarize, pack_bits
from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig
from .language import DEFAULT_TEMPLATE, embed_class_names
from .losses import (
    binary_cosine_logits,
    classification_loss,
    concept_loss,
    cosine_logits,
    diversity_loss,
    quantization_loss,
)
from .small_checkpoints import VARIANT, WEIGHTS_NAME, SmallCheckpoint, leave_out_base

# of `from_pretrained`, what says where on the Hub to look
_HUB_KWARGS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


@dataclass
class ConceptHashVisionOutput(ModelOutput):
    """What the vision tower makes of a batch of photos.

    Args:
        code_logits: float32 `(B, K)`, concept-major; a bit of the code is set where its logit is positive.
        concept_embeddings: `(B, M, d)`, last hidden state of the concept tokens.
        concept_attentions: `(B, M, N)`, attention of every concept token to the patches in the last layer, averaged
            over heads; None unless asked for.
        hidden_states: tuple of `(B, 1 + N + M, d)`, the input of the first layer and the output of each, if
            `output_hidden_states=True`.
        attentions: tuple of `(B, heads, 1 + N + M, 1 + N + M)`, if `output_attentions=True` with eager attention
            (an empty tuple under other attention implementations).
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


class ConceptHashAdapter(nn.Module):
    """Trainable bottleneck beside a frozen sub-layer: `A(u) = s * Up(GELU(Down(LN(u))))`, nothing at first."""

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.hidden_size)
        self.down_proj = nn.Linear(config.hidden_size, config.adapter_dim)
        self.up_proj = nn.Linear(config.adapter_dim, config.hidden_size)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(..., d)` -> `(..., d)`."""
        return self.scale * self.up_proj(F.gelu(self.down_proj(self.layer_norm(hidden_states))))


class ConceptHashEncoderLayer(CLIPEncoderLayer):
    """CLIP's encoder layer with an adapter on what attention and MLP add to the residual stream."""

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__(config)
        self.attention_adapter = ConceptHashAdapter(config)
        self.mlp_adapter = ConceptHashAdapter(config)

    def forward(self, hidden_states: Tensor, **kwargs: Unpack[TransformersKwargs]) -> Tensor:
        """`(B, 1 + N + M, d)` -> `(B, 1 + N + M, d)`."""
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), **kwargs)
        hidden_states = hidden_states + attended + self.attention_adapter(attended)
        transformed = self.mlp(self.layer_norm2(hidden_states))
        return hidden_states + transformed + self.mlp_adapter(transformed)

    def concept_attentions(self, hidden_states: Tensor, num_concepts: int) -> Tensor:
        """Attention of the last `num_concepts` tokens to the patch tokens, averaged over heads.

        Computes only these rows, so it costs little and works beside any attention implementation.

        Args:
            hidden_states: `(B, 1 + N + M, d)`, the input of this layer.
            num_concepts: M.

        Returns:
            `(B, M, N)`; softmax over all tokens, of which CLS and concepts are left out and not renormalised.
        """
        attention = self.self_attn
        normed = self.layer_norm1(hidden_states)
        queries = attention.q_proj(normed[:, -num_concepts:]).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        keys = attention.k_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        weights = torch.softmax(queries @ keys.mT * attention.scale, dim=-1, dtype=torch.float32)
        return weights[..., 1:-num_concepts].mean(1).to(hidden_states.dtype)


class ConceptHashEncoder(nn.Module):
    """The stack of encoder layers."""

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        self.layers = nn.ModuleList(ConceptHashEncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden_states: Tensor, **kwargs: Unpack[TransformersKwargs]) -> tuple[Tensor, Tensor]:
        """`(B, 1 + N + M, d)` -> the output of the last layer and its input, both of that shape."""
        layer_input = hidden_states
        for layer in self.layers:
            layer_input = hidden_states
            hidden_states = layer(layer_input, **kwargs)
        return hidden_states, layer_input


class ConceptPrompt(nn.Module):
    """Learned concept queries, refined by one small transformer block, as tokens of the vision transformer.

    They do not depend on the photo (paper section 3). The residual is `LN1(q)` while attention reads `q` itself.
    """

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        width = config.projection_dim
        num_heads = config.prompt_num_heads
        while width % num_heads:
            num_heads //= 2
        self.queries = nn.Parameter(torch.randn(config.num_concepts, width))
        self.self_attn = nn.MultiheadAttention(width, num_heads, dropout=config.prompt_dropout, batch_first=True)
        self.layer_norm1 = nn.LayerNorm(width)
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.prompt_dropout)
        self.projection = nn.Linear(width, config.hidden_size)

    def forward(self) -> Tensor:
        """Give the concept tokens, `(M, d)`."""
        queries = self.queries.unsqueeze(0)
        attended, _ = self.self_attn(queries, queries, queries, need_weights=False)
        hidden = self.layer_norm1(queries) + attended
        hidden = self.layer_norm2(hidden) + self.fc2(self.dropout(F.relu(self.fc1(hidden))))
        return self.projection(hidden).squeeze(0)


class ConceptHashHead(nn.Module):
    """One hash function shared by all concepts: `v_m = W_h (z_m + E_m)`, then BatchNorm over the K logits.

    The concept specificity embedding E_m shifts v_m by a constant, which BatchNorm takes away again in training, so it
    has no effect on what is learned (its gradient is round-off). It is here because the paper's model has it.
    """

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        self.specificity = nn.Parameter(torch.randn(config.num_concepts, config.hidden_size))
        self.projection = nn.Linear(config.hidden_size, config.bits_per_concept, bias=False)
        self.batch_norm = nn.BatchNorm1d(config.num_bits)

    def forward(self, concept_embeddings: Tensor) -> Tensor:
        """`(B, M, d)` -> code logits `(B, K)`, concept-major, in the dtype of the BatchNorm (float32)."""
        logits = self.projection(concept_embeddings + self.specificity).flatten(1)
        return self.batch_norm(logits.to(self.batch_norm.weight.dtype))


class ConceptHashTextProjection(nn.Module):
    """Class embeddings -> class centres in code space: `o_c = T2 ReLU(T1 e_c + .) + .`."""

    def __init__(self, width: int, num_bits: int):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, num_bits)

    def forward(self, class_embeddings: Tensor) -> Tensor:
        """`(C, t)` -> `(C, K)`."""
        return self.fc2(F.relu(self.fc1(class_embeddings)))


class ConceptClassifier(nn.Module):
    """Cosine classifier over single concepts, `cos(z_m + P_m, w_c)`; for training only."""

    def __init__(self, config: ConceptHashConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        self.position = nn.Parameter(torch.randn(config.num_concepts, width) * 0.02)
        self.centroids = nn.Parameter(torch.randn(config.num_labels, width))

    def forward(self, concept_embeddings: Tensor) -> Tensor:
        """`(B, M, d)` -> float32 `(B, M, C)`."""
        return cosine_logits(concept_embeddings + self.position, self.centroids)


class ConceptHashPreTrainedModel(CLIPPreTrainedModel):
    """What the two models share: initialisation and capabilities."""

    config: ConceptHashConfig | ConceptHashVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["CLIPVisionEmbeddings", "ConceptHashEncoderLayer", "CLIPTextEmbeddings", "CLIPEncoderLayer"]
    _input_embed_layer = "patch_embedding"
    # codes are signs of BatchNorm outputs: its statistics and its output stay in full precision
    _keep_in_fp32_modules_strict = ["batch_norm.weight", "batch_norm.bias", "batch_norm.running_*", "class_embeddings"]
    _can_record_outputs = {"hidden_states": ConceptHashEncoderLayer, "attentions": CLIPAttention}
    _can_compile_fullgraph = True
    # what comes from CLIP
    _clip_towers: tuple[str, ...]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: PreTrainedConfig | str | Path | None = None,
        base_model_name_or_path: str | Path | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load from a folder or the Hub: see `transformers.PreTrainedModel.from_pretrained`.

        A small checkpoint (`save_pretrained(..., trained_only=True)`) is completed with the weights of the CLIP that
        it was trained on, which must be the very same.

        Args:
            pretrained_model_name_or_path: a folder or Hub id; or None, with `config` and `state_dict`.
            *model_args: for the constructor.
            config: used in place of the checkpoint's own.
            base_model_name_or_path: where the CLIP of a small checkpoint is now; default where it was in training.
            output_loading_info: also give what was missing, unexpected or of another shape.
            **kwargs: `dtype`, `device_map`, `revision` and so on; or fields of the config to overrule.

        Raises:
            ValueError: if this is another kind of model, of a newer format, damaged or incomplete; or if the CLIP of a
                small checkpoint cannot be loaded or is another one.
            OSError: if there is no checkpoint.
        """
        source, small = pretrained_model_name_or_path, None
        if source is not None:
            hub_kwargs = {name: kwargs[name] for name in _HUB_KWARGS if name in kwargs}
            config_dict, _ = cls.config_class.get_config_dict(source, **hub_kwargs)
            base = base_model_name_or_path or getattr(config, "base_model_name_or_path", None)
            small = SmallCheckpoint.find(source, config_dict, base, hub_kwargs)
        try:
            if small is None:
                loaded = super().from_pretrained(
                    source, *model_args, config=config, output_loading_info=True, **kwargs
                )
            else:
                state = small.state_dict(cls._clip_towers)
                loaded = super().from_pretrained(
                    None, *model_args, config=config or source, state_dict=state, output_loading_info=True, **kwargs
                )
        except SafetensorError as error:
            raise ValueError(
                f"the weights in {source} are damaged or incomplete ({error}); copy or download them again "
                "(force_download=True)"
            ) from error
        model, info = loaded
        if small is not None:
            model._remember_origin(small)
        if source is not None:
            model._check_backbone_was_there(source, info["missing_keys"])
        return loaded if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        *args: Any,
        trained_only: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save into a folder, as safetensors: see `transformers.PreTrainedModel.save_pretrained`.

        Args:
            save_directory: the folder.
            is_main_process: whether this process is the one that writes.
            state_dict: default the model's own.
            *args: of `transformers`.
            trained_only: make a small checkpoint, without the frozen weights of the CLIP that the model was built on.
                `from_pretrained` then needs that CLIP, from its Hub id or folder.
            **kwargs: of `transformers`.

        Raises:
            ValueError: for `trained_only`, if the model has no CLIP, that cannot be loaded, or the frozen weights are
                not those of it.
        """
        stale = WEIGHTS_NAME
        if trained_only:
            if not isinstance(self, ConceptHashModel):
                raise ValueError(
                    "a tower alone does not know its CLIP: save the whole ConceptHashModel with trained_only=True, it "
                    "loads into ConceptHashVisionModel too"
                )
            state_dict, self.config.base_fingerprints = leave_out_base(state_dict or self.state_dict(), self.config)
            kwargs["variant"], stale = VARIANT, SAFE_WEIGHTS_NAME
        try:
            super().save_pretrained(save_directory, is_main_process, state_dict, *args, **kwargs)
        finally:
            if trained_only:
                self.config.base_fingerprints = None
        if is_main_process:
            (Path(save_directory) / stale).unlink(missing_ok=True)

    def _remember_origin(self, small: SmallCheckpoint) -> None:
        """As if it had been loaded from a whole checkpoint of that name; and where its CLIP is."""
        self.name_or_path = self.config.name_or_path = str(small.name_or_path)
        if isinstance(self, ConceptHashModel):
            self.config.base_model_name_or_path, self.config.base_model_revision = small.base

    def _check_backbone_was_there(self, source: str | Path, missing: Iterable[str]) -> None:
        """Parts of ours may be started anew, with transformers' warning; a random backbone is of no use."""
        backbone = set(self.backbone_parameters())
        lost = {name for name, parameter in self.named_parameters() if parameter in backbone} & set(missing)
        if lost:
            raise ValueError(
                f"{source} is incomplete: {len(lost)} weights of the backbone are missing, such as {min(lost)}"
            )

    @classmethod
    def is_custom_code(cls) -> bool:
        """Say no, so that initialisation reaches modules without parameters of their own.

        For code outside its package, transformers leaves out modules whose own parameters are all loaded, which is
        also true of those that have none: the rules of whole blocks, CLIP's and ours, would never run. That precaution
        is for initialisers that overwrite loaded weights; these here do not.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what CLIP does not have; CLIP's own parts as CLIP does."""
        if isinstance(module, ConceptHashAdapter):
            # torch's default for a Linear weight is this kaiming_uniform with a = sqrt(5)
            module.down_proj.reset_parameters()
            init.zeros_(module.down_proj.bias)
            init.zeros_(module.up_proj.weight)
            init.zeros_(module.up_proj.bias)
            init.ones_(module.scale)
        elif isinstance(module, ConceptPrompt):
            init.normal_(module.queries)
            for linear in (module.fc1, module.fc2, module.projection):
                linear.reset_parameters()
            # the generic rule for Linear has just overwritten MultiheadAttention's own choice for this one
            module.self_attn.out_proj.reset_parameters()
            init.zeros_(module.self_attn.out_proj.bias)
        elif isinstance(module, ConceptHashHead):
            init.normal_(module.specificity)
            module.projection.reset_parameters()
        elif isinstance(module, ConceptHashTextProjection):
            module.fc1.reset_parameters()
            module.fc2.reset_parameters()
        elif isinstance(module, ConceptClassifier):
            init.normal_(module.position, std=0.02)
            init.normal_(module.centroids)
        elif isinstance(module, ConceptHashModel):
            if module.class_embeddings is not None:
                init.normal_(module.class_embeddings)
        elif isinstance(self, ConceptHashModel):
            # CLIP's rules read fields that only the configs of towers have
            PreTrainedModel._init_weights(self, module)
        else:
            super()._init_weights(module)


class ConceptHashVisionModel(ConceptHashPreTrainedModel):
    """Photos -> concept embeddings -> code logits: all it takes to hash.

    Args:
        config: the shape of the tower.
    """

    config: ConceptHashVisionConfig
    _clip_towers = ("vision_model",)
    # a checkpoint of the whole model loads here too
    _keys_to_ignore_on_load_unexpected = [r"^(text_model|text_projection|class_embeddings|concept_classifier)"]

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__(config)
        self.embeddings = CLIPVisionEmbeddings(config)
        self.concept_prompt = ConceptPrompt(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = ConceptHashEncoder(config)
        self.hash_head = ConceptHashHead(config)
        self.post_init()

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that come from CLIP."""
        added = (ConceptHashAdapter, ConceptPrompt, ConceptHashHead)
        ours = {
            parameter for module in self.modules() if isinstance(module, added) for parameter in module.parameters()
        }
        return (parameter for parameter in self.parameters() if parameter not in ours)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor,
        interpolate_pos_encoding: bool = False,
        output_concept_attentions: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ConceptHashVisionOutput:
        """Hash photos.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.
            interpolate_pos_encoding: accept another H, W than the model was made for.
            output_concept_attentions: give `concept_attentions`; so does `output_attentions=True`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `ConceptHashVisionOutput`.

        Raises:
            ValueError: if `pixel_values` has the wrong shape.
        """
        self._check_pixel_values(pixel_values, interpolate_pos_encoding)
        # not handed down: sdpa would warn that it has no maps, and the hooks collect eager attention's anyway
        if kwargs.pop("output_attentions", self.config.output_attentions):
            output_concept_attentions = True

        patches = self.embeddings(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        concepts = self.concept_prompt().to(patches.dtype).expand(patches.shape[0], -1, -1)
        hidden_states = self.pre_layrnorm(torch.cat([patches, concepts], dim=1))
        hidden_states, last_layer_input = self.encoder(hidden_states, attention_mask=None, **kwargs)

        num_concepts = self.config.num_concepts
        concept_embeddings = hidden_states[:, -num_concepts:]
        concept_attentions = None
        if output_concept_attentions:
            last_layer = cast(ConceptHashEncoderLayer, self.encoder.layers[-1])
            concept_attentions = last_layer.concept_attentions(last_layer_input, num_concepts)
        return ConceptHashVisionOutput(
            code_logits=self.hash_head(concept_embeddings),
            concept_embeddings=concept_embeddings,
            concept_attentions=concept_attentions,
        )

    @torch.no_grad()
    def get_hash_codes(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Hash photos with the statistics of evaluation, whatever mode the model is in.

        Args:
            pixel_values: `(B, 3, H, W)`, from the image processor saved with the model.
            interpolate_pos_encoding: accept another H, W than the model was made for.

        Returns:
            uint8 `(B, ceil(K / 8))`: a bit is set where its code logit is positive; concept 0 first, most significant
            bit first (`numpy.packbits` order).

        Raises:
            ValueError: if `pixel_values` has the wrong shape.

        Example:
            >>> import torch
            >>> model = ConceptHashVisionModel(
            ...     ConceptHashVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            ...         num_attention_heads=2, projection_dim=16, image_size=32, patch_size=8, adapter_dim=8,
            ...         num_bits=16)
            ... )
            >>> model.get_hash_codes(torch.zeros(5, 3, 32, 32)).shape
            torch.Size([5, 2])
        """
        with evaluating(self):
            output = self(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        return pack_bits(binarize(output.code_logits))

    def _check_pixel_values(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> None:
        channels, size, patch = self.config.num_channels, self.config.image_size, self.config.patch_size
        is_batch = pixel_values.ndim == 4 and pixel_values.shape[0] > 0 and pixel_values.shape[1] == channels
        if not is_batch or not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values must be floating point of shape (batch, {channels}, height, width) with at least one "
                f"photo, got {pixel_values.dtype} of shape {tuple(pixel_values.shape)}; the image processor saved "
                "with the model makes them"
            )
        height, width = pixel_values.shape[2:]
        if not interpolate_pos_encoding and (height, width) != (size, size):
            raise ValueError(
                f"this model hashes photos of {size}x{size} pixels, got {height}x{width}; resize them with the image "
                "processor, or pass interpolate_pos_encoding=True"
            )
        if min(height, width) < patch:
            raise ValueError(f"photos must be at least one patch ({patch} pixels) wide and high, got {height}x{width}")


class ConceptHashModel(ConceptHashPreTrainedModel):
    """The vision tower with language guidance, concept classifier and the four objectives.

    The constructor sets `requires_grad`: CLIP's vision weights are frozen if `config.freeze_backbone`, its text tower
    always is.

    Args:
        config: the shape of the model. With `class_embedding_dim` the model has class embeddings, random until they
            are loaded or set by `set_classes`.
    """

    config: ConceptHashConfig
    _clip_towers = ("vision_model", "text_model")
    # transformers.Trainer: the loss is a mean over the batch, not yet divided for gradient accumulation
    accepts_loss_kwargs = False
    # what `from_clip` found; save it beside the model
    image_processor: CLIPImageProcessor | None = None

    def __init__(self, config: ConceptHashConfig):
        super().__init__(config)
        self.vision_model = ConceptHashVisionModel._from_config(config.vision_config)
        self.text_model = CLIPTextModel._from_config(config.text_config) if config.text_config is not None else None
        self.concept_classifier = ConceptClassifier(config)
        self.text_projection = None
        self.register_buffer("class_embeddings", None)
        if config.class_embedding_dim is not None:
            self.text_projection = ConceptHashTextProjection(config.class_embedding_dim, config.num_bits)
            self.class_embeddings = torch.zeros(config.num_labels, config.class_embedding_dim)
        self.post_init()
        self._set_requires_grad()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load from a folder or the Hub: see `ConceptHashPreTrainedModel.from_pretrained`."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # loading replaces the parameters, and all that it puts in require gradients
        model._set_requires_grad()
        return loaded

    @classmethod
    def from_clip(
        cls,
        clip_name_or_path: str | Path,
        class_names: Sequence[str | Sequence[str]] | None = None,
        *,
        class_embeddings: Tensor | None = None,
        template: str | Sequence[str] = DEFAULT_TEMPLATE,
        dtype: torch.dtype = torch.float32,
        keep_text_model: bool = True,
        **config_kwargs: Any,
    ) -> "ConceptHashModel":
        """Build an untrained model around a pretrained CLIP.

        The matching image processor is in `model.image_processor`: shorter side resized to round(8/7 of the image
        size), bicubic, centre crop, and the mean and standard deviation of that CLIP. Save it beside the model.

        Args:
            clip_name_or_path: a Hub id or a folder with a CLIP, its tokenizer and its image processor.
            class_names: the C classes, as folder-like names or words, or several synonyms for a class; the (first)
                names become `config.id2label`.
            class_embeddings: `(C, t)`, used instead of embedding the class names.
            template: the prompt(s) around a class name, see `embed_class_names`.
            dtype: of the weights; BatchNorm stays float32.
            keep_text_model: keep the frozen text tower, which turns new words into codes.
            **config_kwargs: fields of `ConceptHashConfig` and `ConceptHashVisionConfig`.

        Raises:
            ValueError: if this is no CLIP, or the class names, class embeddings and `num_labels` / `id2label` do not
                fit each other.

        Example:
            `ConceptHashModel.from_clip("openai/clip-vit-base-patch32", ["indigo bunting", "blue jay"], num_bits=64)`
        """
        clip_config = load_clip_config(clip_name_or_path)
        if unknown := config_kwargs.keys() - ConceptHashConfig.known_kwargs():
            raise ValueError(
                f"ConceptHashConfig has no {sorted(unknown)}; it has {sorted(ConceptHashConfig.known_kwargs())}"
            )
        # the dtype of the CLIP's weights is not that of the model
        config = ConceptHashConfig(
            vision_config=clip_config.vision_config.to_dict()
            | {"projection_dim": clip_config.projection_dim, "dtype": None},
            text_config=clip_config.text_config.to_dict() | {"dtype": None} if keep_text_model else None,
            base_model_name_or_path=str(clip_name_or_path),
            base_model_revision=clip_commit(clip_name_or_path),
            **config_kwargs,
        )
        if class_names is not None:
            _check_names_fit(class_names, config_kwargs)
        clip = load_clip(clip_name_or_path)
        model = cls(config)
        model._load_clip_weights(clip)
        if class_names is not None and class_embeddings is None:
            tokenizer = AutoTokenizer.from_pretrained(clip_name_or_path)
            class_embeddings = embed_class_names(clip.text_model, tokenizer, class_names, template)
        if class_embeddings is not None:
            names = class_names or list(config.id2label.values())
            model.set_classes([name if isinstance(name, str) else name[0] for name in names], class_embeddings)
        model.image_processor = _matching_image_processor(clip_name_or_path, config.vision_config.image_size)
        return model._cast(dtype)

    def get_hash_codes(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Hash photos: see `ConceptHashVisionModel.get_hash_codes`."""
        return self.vision_model.get_hash_codes(pixel_values, interpolate_pos_encoding)

    def set_classes(self, class_names: Sequence[str], class_embeddings: Tensor) -> None:
        """Give the model other classes: class embeddings, `id2label`, and new random centroids.

        Backbone, adapters, concepts, hash function and, if it was there, text projection stay as they are. Parameters
        are replaced, so make the optimizer afterwards.

        Args:
            class_names: C distinct names.
            class_embeddings: `(C, t)`, see `embed_class_names`.

        Raises:
            ValueError: if names and embeddings do not fit each other or the text projection.
        """
        if isinstance(class_names, str):
            raise ValueError(f"class names are a list, got the string {class_names!r}")
        names = list(class_names)
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"class names must be distinct and at least one, got {len(names)}, {len(set(names))} distinct"
            )
        if class_embeddings.ndim != 2 or len(class_embeddings) != len(names):
            raise ValueError(
                f"{len(names)} class names need class embeddings of shape ({len(names)}, t), "
                f"got {tuple(class_embeddings.shape)}"
            )
        if not bool(class_embeddings.isfinite().all()):
            raise ValueError("class embeddings must be finite numbers")
        width = self.config.class_embedding_dim
        if width is None and self.text_model is not None:
            width = self.text_model.config.hidden_size
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
        centroids = torch.randn(len(names), self.config.vision_config.hidden_size)
        self.concept_classifier.centroids = nn.Parameter(centroids.to(device, dtype))

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that come from CLIP, of both towers."""
        yield from self.vision_model.backbone_parameters()
        if self.text_model is not None:
            yield from self.text_model.parameters()

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that training changes."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

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
                "this model has no class embeddings; build it with from_clip(class_names=...) or call set_classes(...)"
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
        pixel_values: Tensor,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ConceptHashOutput:
        """Hash photos and, with labels, compute the objectives.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.
            labels: int64 `(B,)`, or multi-hot `(B, C)` with at least one class a photo.
            interpolate_pos_encoding: accept another H, W than the model was made for.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `ConceptHashOutput`.

        Raises:
            ValueError: if pixel values or labels have the wrong shape, labels are out of range (checked on the CPU),
                or labels come without class embeddings.
        """
        if labels is not None:
            self._check_labels(labels, batch_size=pixel_values.shape[0])
        needs_diversity = labels is not None and self.config.diversity_weight > 0
        vision = self.vision_model(
            pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            output_concept_attentions=needs_diversity,
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
            assert class_logits is not None and binary_class_logits is not None  # by _check_labels
            criterion = (labels, self.config.margin, self.config.scale)
            loss_terms = {
                "classification": classification_loss(class_logits, *criterion),
                "quantization": quantization_loss(binary_class_logits, *criterion),
                "concept": concept_loss(concept_logits, *criterion),
            }
            if vision.concept_attentions is not None:
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
            class_embeddings = self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return pack_bits(binarize(self.class_centres(class_embeddings)))

    def _check_labels(self, labels: Tensor, batch_size: int) -> None:
        if self.text_projection is None:
            raise ValueError(
                "the losses need class embeddings; build the model with from_clip(class_names=...) or call "
                "set_classes(...)"
            )
        num_classes = self.config.num_labels
        if not isinstance(labels, Tensor):
            raise ValueError(f"labels must be a tensor, got {type(labels).__name__}")
        integers = labels.ndim == 1 and not labels.is_floating_point() and labels.dtype != torch.bool
        multi_hot = labels.ndim == 2 and labels.shape[1] == num_classes
        if not (integers or multi_hot) or labels.shape[0] != batch_size:
            raise ValueError(
                f"labels must be integers of shape ({batch_size},) or multi-hot of shape ({batch_size}, "
                f"{num_classes}), got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        # looking at values on an accelerator would make the host wait for it in every step
        if labels.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if integers and not bool(((labels >= 0) & (labels < num_classes)).all()):
            raise ValueError(
                f"labels must lie in 0 ... {num_classes - 1}, got {int(labels.min())} ... {int(labels.max())}"
            )
        if multi_hot and not bool((((labels == 0) | (labels == 1)).all(1) & labels.bool().any(1)).all()):
            raise ValueError("multi-hot labels are 0 or 1, with at least one 1 in every row")

    def _set_requires_grad(self) -> None:
        self.requires_grad_(True)
        for parameter in self.vision_model.backbone_parameters():
            parameter.requires_grad = not self.config.freeze_backbone
        if self.text_model is not None:
            self.text_model.requires_grad_(False)

    def _load_clip_weights(self, clip: CLIPModel) -> None:
        result = self.vision_model.load_state_dict(clip.vision_model.state_dict(), strict=False)
        # CLIP's last layer norm comes after what we read
        unexpected = [name for name in result.unexpected_keys if not name.startswith("post_layernorm.")]
        assert not unexpected, unexpected
        if self.text_model is not None:
            self.text_model.load_state_dict(clip.text_model.state_dict())

    def _cast(self, dtype: torch.dtype) -> "ConceptHashModel":
        """To another dtype, but for what `from_pretrained` keeps in float32 too."""
        kept = set(self.vision_model.hash_head.batch_norm.parameters())
        for parameter in self.parameters():
            if parameter not in kept:
                parameter.data = parameter.data.to(dtype)
        for config in (self.config, self.config.vision_config, self.config.text_config):
            if config is not None:
                config.dtype = dtype
        return self


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _check_names_fit(class_names: Sequence[Any], config_kwargs: dict[str, Any]) -> None:
    num_labels = config_kwargs.get("num_labels", len(class_names))
    id2label = config_kwargs.get("id2label")
    if num_labels != len(class_names) or (id2label is not None and list(id2label.values()) != list(class_names)):
        raise ValueError(
            f"{len(class_names)} class names do not fit num_labels={num_labels} and id2label={id2label}; the names "
            "alone are enough"
        )


def _matching_image_processor(clip_name_or_path: str | Path, image_size: int) -> CLIPImageProcessor:
    try:
        clip_processor = AutoImageProcessor.from_pretrained(clip_name_or_path)
        mean, std = clip_processor.image_mean, clip_processor.image_std
    except OSError:  # a CLIP saved without one
        mean, std = OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
    return CLIPImageProcessor(
        size={"shortest_edge": round(image_size * 8 / 7)}, crop_size=image_size, image_mean=mean, image_std=std
    )


__all__ = [
    "ConceptHashModel",
    "ConceptHashOutput",
    "ConceptHashPreTrainedModel",
    "ConceptHashVisionModel",
    "ConceptHashVisionOutput",
]
