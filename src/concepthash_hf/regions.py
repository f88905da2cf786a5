"""Regions of a photo, one for each concept: which patches a concept may see.

A small head reads the patch tokens of a few frozen layers and says to which concept, or to the background, a patch
belongs. It is learned before training, without labels (`region_learning.learn_regions`), and then stays as it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_concepthash import ConceptHashVisionConfig

HIDDEN_WIDTH = 256


class RegionStates(NamedTuple):
    """What the frozen layers make of photos whose concepts see their regions alone.

    Attributes:
        tokens: `(B, M, P + L, d)`, for each concept the tokens before the patches and the patches that it sees.
        regions: int64 `(B, M, L)`, see `seen_patches`.
    """

    tokens: Tensor
    regions: Tensor


class RegionHead(nn.Module):
    """Patch tokens -> to which concept each patch belongs: `W2 GELU(W1 t + b1) + b2`, the last for the background."""

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        assert config.region_layers is not None
        self.down_proj = nn.Linear(len(config.region_layers) * config.hidden_size, HIDDEN_WIDTH)
        self.up_proj = nn.Linear(HIDDEN_WIDTH, config.num_concepts + 1)

    @property
    def is_learned(self) -> bool:
        """Whether it is more than the nothing that it starts as."""
        return bool(self.up_proj.weight.any())

    def forward(self, features: Tensor) -> Tensor:
        """`(..., number of layers x d)`, from `region_features` -> `(..., M + 1)`."""
        return self.up_proj(F.gelu(self.down_proj(features)))


def region_features(states: Sequence[Tensor]) -> Tensor:
    """What the head reads of a patch: its tokens after several layers, each of mean 0 and variance 1.

    Args:
        states: each `(B, N, d)`.

    Returns:
        `(B, N, number of layers x d)`.
    """
    return torch.cat([F.layer_norm(tokens, tokens.shape[-1:]) for tokens in states], dim=-1)


def seen_patches(region_logits: Tensor, most: int) -> Tensor:
    """The patches of each region.

    A patch belongs to the concept, or the background, with the largest logit. A concept without any patch sees the one
    that is the likeliest to be its own: it has to read something.

    Args:
        region_logits: `(B, N, M + 1)`, the last for the background.
        most: L, patches that a concept may see; of a larger region the surest.

    Returns:
        int64 `(B, M, L)`, numbers of patches, the surest first; -1 where there are no more.
    """
    share = region_logits.float().softmax(-1)
    own = F.one_hot(region_logits.argmax(-1), share.shape[-1])
    # its own, which are above 1, before all others
    score, patches = (share + own).mT[:, :-1].topk(most, -1)
    is_first = torch.arange(most, device=patches.device) == 0
    return torch.where((score > 1) | is_first, patches, -1)


def check_regions(regions: Tensor, batch_size: int, num_concepts: int, num_patches: int) -> None:
    """Refuse regions that are none of these photos.

    Args:
        regions: as `seen_patches` gives them.
        batch_size: B.
        num_concepts: M.
        num_patches: N.

    Raises:
        ValueError: if the shape is another, a number is of no patch, or a concept sees nothing.
    """
    if regions.ndim != 3 or regions.shape[:2] != (batch_size, num_concepts) or regions.dtype != torch.int64:
        raise ValueError(
            f"regions must be int64 of shape ({batch_size}, {num_concepts}, patches), got {regions.dtype} of shape "
            f"{tuple(regions.shape)}"
        )
    if not bool(((regions >= -1) & (regions < num_patches)).all()) or not bool((regions >= 0).any(-1).all()):
        raise ValueError(
            f"regions hold numbers of patches, 0 ... {num_patches - 1}, or -1 for none, and every concept sees at "
            "least one patch"
        )
