"""Hiding patches of photos, and what a model makes of the rest."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from ...codes import binarize
from ...modeling_concepthash import ConceptHashPreTrainedModel
from ..attention import read_batch

Hide = Literal["blur", "grey"]
"""What to put in place of patches: the photo under a Gaussian as wide as a patch, or its mean colour."""


def photos_to_hide_in(
    model: ConceptHashPreTrainedModel, photos: Dataset, hide: Hide, batch_size: int, num_workers: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Go through photos in batches, on the model's device.

    Yields:
        Pixel values `(B, 3, H, W)`, what to hide them behind (broadcasts to them), bits bool `(B, K)` and attentions
        `(B, M, h, w)`.

    Raises:
        ValueError: if `hide` is neither "blur" nor "grey", or there are no photos.
    """
    if hide not in ("grey", "blur"):
        raise ValueError(f'patches are hidden behind "blur" or "grey", got {hide!r}')
    none_yet = True
    for batch in DataLoader(photos, batch_size, num_workers=num_workers):
        none_yet = False
        pixels = batch["pixel_values"].to(model.device)
        code_logits, attentions = read_batch(model, pixels)
        substitute = pixels.mean((2, 3), keepdim=True) if hide == "grey" else blurred(pixels, model.config.patch_size)
        yield pixels, substitute, binarize(code_logits), attentions
    if none_yet:
        raise ValueError("there are no photos to hide anything in")


def attention_ranks(attentions: Tensor) -> Tensor:
    """Rank of every patch, 0 for the one attended to most, int64 of the shape `(..., h, w)` of the attentions."""
    return attentions.flatten(-2).argsort(dim=-1, descending=True, stable=True).argsort(-1).view(attentions.shape)


def hide_patches(pixel_values: Tensor, hidden: Tensor, substitute: Tensor) -> Tensor:
    """Put a substitute in place of some patches.

    Args:
        pixel_values: `(B, 3, H, W)`.
        hidden: bool `(B, h, w)`, by patch.
        substitute: broadcasts to `pixel_values`.

    Returns:
        `(B, 3, H, W)`.
    """
    rows, columns = (size // grid for size, grid in zip(pixel_values.shape[2:], hidden.shape[1:], strict=True))
    mask = hidden.repeat_interleave(rows, 1).repeat_interleave(columns, 2)[:, None]
    return torch.where(mask, substitute, pixel_values)


def moved(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Patches of each photo, bool `(B, h, w)`, moved together by a random offset; what leaves comes in opposite."""
    height, width = patches.shape[1:]
    rows = torch.randint(height, (len(patches),), generator=generator).tolist()
    columns = torch.randint(width, (len(patches),), generator=generator).tolist()
    moves = zip(patches, rows, columns, strict=True)
    return torch.stack([mask.roll((row, column), (0, 1)) for mask, row, column in moves])


def bits_of(model: ConceptHashPreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Bits bool `(B, K)` of photos `(B, 3, H, W)`."""
    return binarize(read_batch(model, pixel_values)[0])


def blurred(pixels: Tensor, patch_size: int) -> Tensor:
    """Photos `(B, 3, H, W)` under a Gaussian as wide as a patch.

    Args:
        pixels: of any scale.
        patch_size: in pixels.
    """
    # torchvision mirrors the border, which must lie inside the photo
    reach = min(2 * patch_size, min(pixels.shape[2:]) - 1)
    # one direction after the other: the same, in a fraction of the time
    for kernel in ([2 * reach + 1, 1], [1, 2 * reach + 1]):
        pixels = F.gaussian_blur(pixels, kernel, [float(patch_size)] * 2)
    return pixels
