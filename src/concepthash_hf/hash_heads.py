"""How the tokens of a photo become code logits: linearly from the CLS token, or from the map of its patches.

Heads on patch maps are those of Ng et al., 2024, who put them on a vision transformer to compare with, by their code:
they read all patch tokens of the last layer, before the last layer norm. Convolutions are 1x1 there, so that a map is
a sequence of patches here. Notation: B photos, N patches, d vision width, K bits, M attention maps.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_baseline import BaselineVisionConfig

_NUM_MAPS = 4


class HeadOutput(NamedTuple):
    """What a head makes of tokens.

    Args:
        code_logits: float32 `(B, K)`.
        features: `(B, f)`, what is hashed.
        beside: what else the objective reads, by name.
    """

    code_logits: Tensor
    features: Tensor
    beside: dict[str, Tensor]


class HashHead(nn.Module, ABC):
    """Tokens of photos -> code logits.

    Attributes:
        reads_patches: whether it reads the tokens of the patches, or the CLS token alone.
        after_last_norm: whether it reads them after the backbone's last layer norm, if nobody says otherwise.
    """

    reads_patches = True
    after_last_norm = False

    @abstractmethod
    def forward(self, tokens: Tensor) -> HeadOutput:
        """Hash.

        Args:
            tokens: of the patches, `(B, N, d)`, or CLS, `(B, 1, d)`.
        """


class LinearHash(HashHead):
    """`W x (+ b)` of the CLS token x, and a BatchNorm where a method has one."""

    reads_patches = False
    after_last_norm = True

    def __init__(self, config: BaselineVisionConfig):
        super().__init__()
        self.projection = nn.Linear(config.hidden_size, config.num_bits, bias=config.hash_bias)
        self.batch_norm = nn.BatchNorm1d(config.num_bits) if config.batch_norm else nn.Identity()

    def forward(self, tokens: Tensor) -> HeadOutput:
        """See `HashHead`."""
        features = tokens[:, 0]
        return HeadOutput(self.batch_norm(self.projection(features).float()), features, {})


class A2NetHead(HashHead):
    """Attribute-aware codes (Wei, Shen, Sun, Ye, Yang: A^2-Net, NeurIPS 2021), as Ng et al., 2024, have it.

    Of the patches X, M = 4 attention maps `a_m = v_m . X + c_m`, without an activation; with one affine map L for all
    of them and another, G, for the whole photo, `f = [mean L(a_1 X), ..., mean L(a_M X), mean G(X)]` and `u = W f`.
    The same W gives the features back: `W^T tanh u`, which the objective holds against f.
    """

    def __init__(self, config: BaselineVisionConfig):
        super().__init__()
        width = config.hidden_size
        self.attention = nn.Linear(width, _NUM_MAPS)
        self.local = nn.Linear(width, width)
        self.whole = nn.Linear(width, width)
        self.projection = nn.Linear((_NUM_MAPS + 1) * width, config.num_bits, bias=config.hash_bias)

    def forward(self, tokens: Tensor) -> HeadOutput:
        """See `HashHead`."""
        # an affine map of the mean is the mean of the affine map
        attended = self.attention(tokens).mT @ tokens / tokens.shape[1]
        features = torch.cat([self.local(attended).flatten(1), self.whole(tokens.mean(1))], 1)
        logits = self.projection(features)
        reconstruction = logits.tanh() @ self.projection.weight
        return HeadOutput(logits.float(), features, {"features": features, "reconstruction": reconstruction})


class SemiconHead(HashHead):
    """Suppressed attention, interacting channels (Shen, Sun, Wei, Jiang, Yang: SEMICON, ECCV 2022).

    As Ng et al., 2024, have it: an eighth of the bits is of each of M = 4 attention maps a_i (`SuppressedAttention`),
    the other half of the whole photo X, `u = [W_1 mean I_1(a_1 X) + b_1, ..., W_0 mean I_0(X) + b_0]`, with an
    interaction I (`ChannelInteraction`) for each.

    Raises:
        ValueError: if K does not divide by 8, or d by the 16 heads of an interaction.
    """

    def __init__(self, config: BaselineVisionConfig):
        super().__init__()
        width, num_heads, parts = config.hidden_size, 16, 2 * _NUM_MAPS
        for name, size, divisor in (("num_bits", config.num_bits, parts), ("hidden_size", width, num_heads)):
            if size % divisor:
                raise ValueError(f"SEMICON takes a {name} that is a multiple of {divisor}, got {size}")
        sizes = [config.num_bits // parts] * _NUM_MAPS + [config.num_bits // 2]
        self.attention = SuppressedAttention(width, _NUM_MAPS)
        self.interactions = nn.ModuleList(ChannelInteraction(width, num_heads) for _ in sizes)
        self.projections = nn.ModuleList(nn.Linear(width, size, bias=config.hash_bias) for size in sizes)

    def forward(self, tokens: Tensor) -> HeadOutput:
        """See `HashHead`."""
        maps = self.attention(tokens).to(tokens.dtype)
        attended = [*(tokens * each[..., None] for each in maps.unbind(1)), tokens]
        pooled = [interact(each.mT).mean(-1) for interact, each in zip(self.interactions, attended, strict=True)]
        logits = [project(each) for project, each in zip(self.projections, pooled, strict=True)]
        return HeadOutput(torch.cat(logits, 1).float(), torch.cat(pooled, 1), {})


class SuppressedAttention(nn.Module):
    """M attention maps in turn, each of what the ones before it have left (SEMICON, section 3.2).

    `a_i = ReLU(BN(w_i . x_i)), x_1 = X, x_{i+1} = s_i x_i`, with the suppression s_i of a_i (`Suppression`).

    Args:
        width: d.
        num_maps: M.
    """

    def __init__(self, width: int, num_maps: int):
        super().__init__()
        self.maps = nn.ModuleList(AttentionMap(width) for _ in range(num_maps))
        self.suppressions = nn.ModuleList(Suppression() for _ in range(num_maps - 1))

    def forward(self, patches: Tensor) -> Tensor:
        """`(B, N, d)` -> float32 `(B, M, N)`."""
        maps, left = [self.maps[0](patches)], patches
        for suppression, attention in zip(self.suppressions, list(self.maps)[1:], strict=True):
            left = left * suppression(maps[-1]).to(left.dtype)[..., None]
            maps.append(attention(left))
        return torch.stack(maps, 1)


class AttentionMap(nn.Module):
    """`ReLU(BN(w . x))` of each patch x."""

    def __init__(self, width: int):
        super().__init__()
        self.projection = nn.Linear(width, 1, bias=False)
        self.batch_norm = nn.BatchNorm1d(1)

    def forward(self, patches: Tensor) -> Tensor:
        """`(B, N, d)` -> float32 `(B, N)`."""
        return F.relu(self.batch_norm(self.projection(patches).mT.float())).squeeze(1)


class Suppression(nn.Module):
    """How much is left of each patch after an attention map: less where it was large, more where it was small.

    `p = softmax a` over the patches, `s = 2 - clip((p - mean p) / (std p)^0.3 + 1, 0, 2)`, without a gradient. Mean
    and deviation are of all patches of the batch in training, as published. At test time a code must not depend on the
    photos beside it: the mean is 1 / N anyway, and the deviation is a running mean from training, as in a BatchNorm.
    """

    exponent = 0.3
    running_deviation: Tensor
    num_batches_tracked: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_deviation", torch.ones(()))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, attention: Tensor) -> Tensor:
        """`(B, N)` -> `(B, N)`, in 0 ... 2."""
        shares = attention.softmax(1)
        deviation = self.running_deviation
        if self.training:
            deviation = shares.std()
            self.num_batches_tracked += 1
            # the mean of the first ten, then BatchNorm's usual weight
            self.running_deviation.lerp_(deviation, (1 / self.num_batches_tracked).clamp(min=0.1))
        # a map without a maximum suppresses nothing
        prominence = (shares - 1 / shares.shape[1]) / deviation.clamp(min=1e-9) ** self.exponent
        return 2 - (prominence + 1).clamp(0, 2)


class ChannelInteraction(nn.Module):
    """Attention of channels to channels, within groups and then across them (SEMICON's ICON, section 3.3).

    With g heads of w channels each: `Y = softmax(phi(Q K^T / sqrt w)) V + x`, w x w in every head, where
    `phi(a) = sign(a) sqrt(|a| + 1e-5)`; channels are shuffled from (g, w) to (w, g), `r = ReLU(BN(Y))`; the same over
    g in each of w groups, shuffled back, plus r. Two things are as in the authors' code, so that numbers agree: Q, K,
    V are thirds of all outputs of a grouped convolution, and r is added in its shuffled order.

    Args:
        channels: d, a multiple of `num_heads`.
        num_heads: g.
    """

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.num_heads, self.head_width = num_heads, channels // num_heads
        self.within = nn.Conv1d(channels, 3 * channels, 1, groups=self.num_heads)
        self.batch_norm = nn.BatchNorm1d(channels)
        self.across = nn.Conv1d(channels, 3 * channels, 1, groups=self.head_width)

    def forward(self, states: Tensor) -> Tensor:
        """`(B, d, N)` -> `(B, d, N)`."""
        mixed = _attend(self.within(states), self.num_heads) + states
        rectified = F.relu(self.batch_norm(_shuffled(mixed, self.num_heads).float())).to(states.dtype)
        return _shuffled(_attend(self.across(rectified), self.head_width), self.head_width) + rectified


def _attend(queries_keys_values: Tensor, groups: int) -> Tensor:
    """`(B, 3 d, N)` -> `(B, d, N)`: of the channels of each group to one another."""
    queries, keys, values = queries_keys_values.unflatten(1, (3, groups, -1)).unbind(1)
    scores = queries @ keys.mT / queries.shape[2] ** 0.5
    scores = scores.sign() * (scores.abs() + 1e-5).sqrt()
    return (scores.softmax(-1) @ values).flatten(1, 2)


def _shuffled(states: Tensor, groups: int) -> Tensor:
    """Channels `(groups, rest)` in the order `(rest, groups)`."""
    return states.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


HEADS: dict[str, type[HashHead]] = {"linear": LinearHash, "a2net": A2NetHead, "semicon": SemiconHead}
