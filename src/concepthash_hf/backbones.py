"""The families of vision transformers that a hash model can be built on.

Each is transformers' own embeddings and layers, with two trainable adapters mixed into a layer. What differs between
families stands in `FAMILIES`, one entry each: `docs/extending.md` says how to add one.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionModel,
    ViTModel,
)
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoderLayer,
    CLIPPreTrainedModel,
    CLIPVisionEmbeddings,
)
from transformers.models.dinov2.modeling_dinov2 import (
    Dinov2Attention,
    Dinov2Embeddings,
    Dinov2Layer,
    Dinov2PreTrainedModel,
)
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import (
    Dinov2WithRegistersAttention,
    Dinov2WithRegistersEmbeddings,
    Dinov2WithRegistersLayer,
    Dinov2WithRegistersPreTrainedModel,
)
from transformers.models.siglip.modeling_siglip import (
    SiglipAttention,
    SiglipEncoderLayer,
    SiglipPreTrainedModel,
    SiglipVisionEmbeddings,
)
from transformers.models.vit.modeling_vit import ViTAttention, ViTEmbeddings, ViTLayer, ViTPreTrainedModel
from transformers.utils import TransformersKwargs

from .configuration_hashing import side


class Adapter(nn.Module):
    """Trainable bottleneck beside a frozen sub-layer: `A(u) = s * Up(GELU(Down(LN(u))))`, nothing at first."""

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.down_proj = nn.Linear(width, bottleneck)
        self.up_proj = nn.Linear(bottleneck, width)
        self.scale: nn.Parameter | None = nn.Parameter(torch.ones(1))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(..., d)` -> `(..., d)`."""
        hidden = F.gelu(self.down_proj(self.layer_norm(hidden_states)))
        if self.scale is None:
            return self.up_proj(hidden)
        # the scale is in the weights: on the output, its gradient would ask for all of that to be kept
        return F.linear(hidden, self.scale * self.up_proj.weight, self.scale * self.up_proj.bias)

    @torch.no_grad()
    def fold_scale(self) -> None:
        """Make the scale a part of the weights for good, in a copy that only hashes."""
        assert self.scale is not None
        self.up_proj.weight *= self.scale
        self.up_proj.bias *= self.scale
        self.scale = None


class AdaptedLayer(nn.Module):
    """Mixed in before a family's own layer: an adapter on what attention and MLP each add to the residual stream.

    `h = Attn(LN1 X); X <- X + h + A1(h);  f = MLP(LN2 X); X <- X + f + A2(f)` (paper, section 3).
    """

    def __init__(self, config: PreTrainedConfig, adapter_dim: int):
        super().__init__(config)
        self.attention_adapter = Adapter(config.hidden_size, adapter_dim)
        self.mlp_adapter = Adapter(config.hidden_size, adapter_dim)

    @abstractmethod
    def attention_input(self, hidden_states: Tensor) -> Tensor:
        """What the attention of this family reads: `LN1 X`."""

    @abstractmethod
    def attention_module(self) -> nn.Module:
        """The family's own attention, with its four projections and `head_dim`."""

    def after_attention(self, attended: Tensor) -> Tensor:
        """What this family does with the attention's output before it is added."""
        return attended

    @abstractmethod
    def mlp_branch(self, hidden_states: Tensor) -> Tensor:
        """What the MLP adds, `MLP(LN2 X)`."""

    def forward(
        self,
        hidden_states: Tensor,
        last_tokens: int | None = None,
        is_there: Tensor | None = None,
        with_adapters: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run the layer, for all tokens or for those at the end alone.

        Args:
            hidden_states: `(B, T, d)`.
            last_tokens: M; with it, queries, MLP and adapters are computed for the last M tokens, which attend to all.
            is_there: with `last_tokens`, bool `(B, T)`, the tokens that may be attended to; default all.
            with_adapters: whether to run this layer, or the family's own.
            **kwargs: for the attention.

        Returns:
            `(B, T, d)`; with `last_tokens` `(B, M, d)`, and their attention `(B, M, T)`, see `attention_of_last`.
        """
        if not with_adapters:
            return super().forward(hidden_states, **kwargs)
        if last_tokens is None:
            attended = self.attention_module()(self.attention_input(hidden_states), **kwargs)[0]
            return self._add(hidden_states, self.after_attention(attended))
        attention: Any = self.attention_module()
        normed = self.attention_input(hidden_states)
        weights = _attention_of_last(attention, normed, last_tokens, is_there)
        project = attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj
        attended = project(_attended(attention, normed, weights))
        states = self._add(hidden_states[:, -last_tokens:], self.after_attention(attended))
        return states, weights.mean(1)

    def attention_of_last(self, hidden_states: Tensor, num_tokens: int, is_there: Tensor | None = None) -> Tensor:
        """Attention of the last tokens to all, averaged over heads, beside any attention implementation.

        Args:
            hidden_states: `(B, T, d)`, the input of this layer.
            num_tokens: M.
            is_there: bool `(B, T)`, the tokens that may be attended to; default all.

        Returns:
            `(B, M, T)`, after the softmax.
        """
        normed = self.attention_input(hidden_states)
        return _attention_of_last(self.attention_module(), normed, num_tokens, is_there).mean(1)

    def _add(self, hidden_states: Tensor, attended: Tensor) -> Tensor:
        hidden_states = hidden_states + attended
        hidden_states += self.attention_adapter(attended)  # in the same memory, which no gradient needs as it was
        transformed = self.mlp_branch(hidden_states)
        hidden_states = hidden_states + transformed
        hidden_states += self.mlp_adapter(transformed)
        return hidden_states


def _attention_of_last(attention: Any, normed: Tensor, num_tokens: int, is_there: Tensor | None) -> Tensor:
    """`(B, heads, M, T)`, by `(q W) x` in place of `q (W x + b)`, for which W would have to project all T tokens.

    What the bias adds is the same for all of them, and so nothing to the softmax.
    """
    queries = attention.q_proj(normed[:, -num_tokens:]).unflatten(-1, (-1, attention.head_dim))
    queries = queries * attention.head_dim**-0.5
    by_head = torch.einsum("bmhk,hkd->bhmd", queries, _by_head(attention.k_proj.weight, attention))
    scores = (by_head.flatten(1, 2) @ normed.mT).unflatten(1, (-1, num_tokens))
    bias = attention.k_proj.bias
    if bias is not None and bias.requires_grad:  # of what is trained, several processes want every gradient
        scores = scores + torch.einsum("bmhk,hk->bhm", queries, _by_head(bias, attention))[..., None]
    if is_there is not None:
        scores = scores.masked_fill(~is_there[:, None, None], -torch.inf)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)


def _attended(attention: Any, normed: Tensor, weights: Tensor) -> Tensor:
    """`(B, M, d)`, by `W (p x) + b` in place of `p (W x + b)`: the weights p of a token add up to 1."""
    means = (weights.flatten(1, 2) @ normed).unflatten(1, weights.shape[1:3])
    values = torch.einsum("bhmd,hkd->bmhk", means, _by_head(attention.v_proj.weight, attention)).flatten(2)
    return values if attention.v_proj.bias is None else values + attention.v_proj.bias


def _by_head(parameter: Tensor, attention: Any) -> Tensor:
    """A projection's weights `(d, d)` or bias `(d,)` -> `(heads, d / heads, ...)`."""
    return parameter.unflatten(0, (-1, attention.head_dim))


class _AsInCLIP(AdaptedLayer):
    layer_norm1: nn.Module
    self_attn: nn.Module
    layer_norm2: nn.Module
    mlp: nn.Module

    def attention_input(self, hidden_states: Tensor) -> Tensor:
        return self.layer_norm1(hidden_states)

    def attention_module(self) -> nn.Module:
        return self.self_attn

    def mlp_branch(self, hidden_states: Tensor) -> Tensor:
        return self.mlp(self.layer_norm2(hidden_states))


class _AsInDinov2(AdaptedLayer):
    norm1: nn.Module
    attention: nn.Module
    layer_scale1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    layer_scale2: nn.Module
    drop_path: nn.Module

    def attention_input(self, hidden_states: Tensor) -> Tensor:
        return self.norm1(hidden_states)

    def attention_module(self) -> nn.Module:
        return self.attention

    def after_attention(self, attended: Tensor) -> Tensor:
        return self.drop_path(self.layer_scale1(attended))

    def mlp_branch(self, hidden_states: Tensor) -> Tensor:
        return self.drop_path(self.layer_scale2(self.mlp(self.norm2(hidden_states))))


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        ctx.save_for_backward(states)
        return states * torch.sigmoid(1.702 * states)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (states,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, 1.702 * states)  # it is SiLU(1.702 x) / 1.702


class QuickGELU(nn.Module):
    """CLIP's `x sigmoid(1.702 x)`, of which training keeps x alone: half of what it would keep by itself."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`(...)` -> `(...)`."""
        return _QuickGELU.apply(hidden_states)


class AdaptedCLIPLayer(_AsInCLIP, CLIPEncoderLayer):
    """CLIP's layer."""

    def __init__(self, config: PreTrainedConfig, adapter_dim: int):
        super().__init__(config, adapter_dim)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()


class AdaptedSiglipLayer(_AsInCLIP, SiglipEncoderLayer):
    """SigLIP's layer."""


class AdaptedDinov2Layer(_AsInDinov2, Dinov2Layer):
    """DINOv2's layer."""


class AdaptedDinov2WithRegistersLayer(_AsInDinov2, Dinov2WithRegistersLayer):
    """The layer of DINOv2 with registers."""


class AdaptedViTLayer(AdaptedLayer, ViTLayer):
    """The layer of a plain ViT."""

    layernorm_before: nn.Module
    attention: nn.Module
    layernorm_after: nn.Module
    mlp: nn.Module
    dropout: nn.Module

    def attention_input(self, hidden_states: Tensor) -> Tensor:
        """What the attention reads."""
        return self.layernorm_before(hidden_states)

    def attention_module(self) -> nn.Module:
        """The attention."""
        return self.attention

    def after_attention(self, attended: Tensor) -> Tensor:
        """What is done with the attention's output."""
        return self.dropout(attended)

    def mlp_branch(self, hidden_states: Tensor) -> Tensor:
        """What the MLP adds."""
        return self.dropout(self.mlp(self.layernorm_after(hidden_states)))


class _AnySize:
    """Embeddings that interpolate whenever they have to, called as those that have to be told."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)  # type: ignore[call-arg]
        # it serves masked pre-training alone; empty, since the family's initialisation writes to it
        del self.mask_token  # type: ignore[has-type]
        self.mask_token = nn.Buffer(torch.zeros(0), persistent=False)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        return super().forward(pixel_values)


class AnySizeDinov2Embeddings(_AnySize, Dinov2Embeddings):
    """DINOv2's embeddings."""


class AnySizeDinov2WithRegistersEmbeddings(_AnySize, Dinov2WithRegistersEmbeddings):
    """The embeddings of DINOv2 with registers."""


@dataclass(frozen=True)
class Family:
    """What is to be known of a family of vision transformers.

    Attributes:
        model: transformers' own whole model, whose weights are taken.
        pretrained: its base class, whose rules initialise what is not loaded.
        embeddings: pixels -> tokens with positions: `forward(pixel_values, interpolate_pos_encoding=False)`.
        layer: transformers' own layer.
        adapted_layer: the same with adapters.
        attention: the module in a layer that gives attention maps.
        position_embeddings: name of the weight in the embeddings.
        pre_norm: whether a `pre_layrnorm` follows the embeddings.
        num_prefix_tokens: tokens before the patches: CLS, registers.
        model_kwargs: for the constructor of `model`.
    """

    model: type[PreTrainedModel]
    pretrained: type[PreTrainedModel]
    embeddings: type[nn.Module]
    layer: type[nn.Module]
    adapted_layer: type[AdaptedLayer]
    attention: type[nn.Module]
    position_embeddings: str = "position_embeddings"
    pre_norm: bool = False
    num_prefix_tokens: Callable[[PreTrainedConfig], int] = lambda config: 1
    model_kwargs: Mapping[str, Any] | None = None

    @property
    def parts(self) -> tuple[type[nn.Module], ...]:
        """What must stay whole where a model is spread over devices."""
        return self.embeddings, self.layer, self.adapted_layer


FAMILIES: dict[str, Family] = {
    "clip_vision_model": Family(
        CLIPVisionModel,
        CLIPPreTrainedModel,
        CLIPVisionEmbeddings,
        CLIPEncoderLayer,
        AdaptedCLIPLayer,
        CLIPAttention,
        position_embeddings="position_embedding.weight",
        pre_norm=True,
    ),
    "dinov2": Family(
        Dinov2Model,
        Dinov2PreTrainedModel,
        AnySizeDinov2Embeddings,
        Dinov2Layer,
        AdaptedDinov2Layer,
        Dinov2Attention,
    ),
    "dinov2_with_registers": Family(
        Dinov2WithRegistersModel,
        Dinov2WithRegistersPreTrainedModel,
        AnySizeDinov2WithRegistersEmbeddings,
        Dinov2WithRegistersLayer,
        AdaptedDinov2WithRegistersLayer,
        Dinov2WithRegistersAttention,
        num_prefix_tokens=lambda config: 1 + config.num_register_tokens,
    ),
    "vit": Family(
        ViTModel,
        ViTPreTrainedModel,
        ViTEmbeddings,
        ViTLayer,
        AdaptedViTLayer,
        ViTAttention,
        model_kwargs={"add_pooling_layer": False},
    ),
    "siglip_vision_model": Family(
        SiglipVisionModel,
        SiglipPreTrainedModel,
        SiglipVisionEmbeddings,
        SiglipEncoderLayer,
        AdaptedSiglipLayer,
        SiglipAttention,
        position_embeddings="position_embedding.weight",
        num_prefix_tokens=lambda config: 0,
    ),
}
_CANNOT = {
    "dinov3_vit": "its positions are rotary, and concept tokens have none",
    "siglip2_vision_model": "it reads photos at their native resolution, in sequences of varying length; a SigLIP 2 "
    "of fixed resolution (model type 'siglip') works",
    "concepthash_vision": "it is a hash model already; load it with from_pretrained, and give it other classes with "
    "set_classes",
    "swin": "it has windows in place of global attention",
}

_LAYER = re.compile(r"^(?:encoder\.)?layers?\.(\d+)\.")
_LAST_NORM = re.compile(r"^(?:post_)?layernorm\.")
# of pooling and of masked pre-training
_NEVER_READ = re.compile(r"^(?:pooler|head|embeddings\.mask_token)\b")


def family_of(config: PreTrainedConfig) -> Family:
    """The family of a vision transformer.

    Args:
        config: of the vision transformer alone.

    Raises:
        ValueError: if it is none of ours, by name; with the reason, where it is a known one that cannot work.
    """
    if (family := FAMILIES.get(config.model_type)) is None:
        reason = _CANNOT.get(config.model_type)
        raise ValueError(
            f"a vision model of type {config.model_type!r} cannot be built on"
            + (f": {reason}" if reason else "")
            + f". Families that can: {', '.join(FAMILIES)}"
        )
    return family


def weights_by_our_names(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of a family's own model by the names that a hash model has for them.

    Names within embeddings and layers stay; layers are `encoder.layers.N`, the last norm is `last_layer_norm`. What a
    hash model never reads, pooling and mask tokens, is left out.

    Args:
        model: of `Family.model`.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        if not _NEVER_READ.match(name):
            ours = _LAST_NORM.sub("last_layer_norm.", _LAYER.sub(r"encoder.layers.\1.", name))
            state[ours] = tensor
    return state


@torch.no_grad()
def at_image_size(weights: Mapping[str, Tensor], config: PreTrainedConfig, prefix: str = "") -> dict[str, Tensor]:
    """Weights whose position embeddings are interpolated to the image size of a config, by the family's own code.

    Args:
        weights: by our names, for square photos of any size.
        config: of the vision transformer that is to have them.
        prefix: of the names.

    Returns:
        The same weights, but for the position embeddings.
    """
    family, patch_size, size = family_of(config), side(config.patch_size), side(config.image_size)
    name = f"{prefix}embeddings.{family.position_embeddings}"
    positions = weights[name]
    with torch.random.fork_rng(devices=[]):
        embeddings: Any = family.embeddings(config)
    num_others = embeddings.get_parameter(family.position_embeddings).shape[-2] - (size // patch_size) ** 2
    if embeddings.get_parameter(family.position_embeddings).shape == positions.shape:
        return dict(weights)
    embeddings.get_parameter(family.position_embeddings).data = positions.float()
    tokens = torch.zeros(1, (size // patch_size) ** 2 + num_others, positions.shape[-1])
    resized = embeddings.interpolate_pos_encoding(tokens, size, size)
    return {**weights, name: resized.reshape(*positions.shape[:-2], *resized.shape[-2:]).to(positions.dtype)}
