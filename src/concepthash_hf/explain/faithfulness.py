"""Whether the bits of a sub-code depend on what its concept attends to: hide it and count the flipped bits."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from ..codes import binarize, split_sub_codes
from ..modeling_concepthash import ConceptHashPreTrainedModel
from .attention import read_batch

Hide = Literal["blur", "grey"]


def faithfulness(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    hide: Hide = "blur",
    share: float = 0.1,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Hide what each concept attends to, and count the flipped bits of every sub-code.

    Of every photo the same number of patches is hidden for every concept: those that it attends to most. Beside it the
    same patches are moved, together, to a place drawn at random (what leaves the photo comes in at the other side).

    Args:
        model: with two concepts or more.
        photos: items with "pixel_values".
        hide: what to put in place of the patches: "blur", the photo under a Gaussian as wide as a patch, or "grey", a
            plain area in the photo's mean colour.
        share: of the patches to hide, above 0 and below 1.
        seed: of the random places.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Returns:
        A dict that is ready for JSON:

        - `flips` (M, M): the share of the bits of sub-code j (column) that flip when what concept i (row) attends to
          is hidden; `random_flips` (M, M): the same at a random place;
        - `diagonal` and `off_diagonal`: means of `flips`; `random`: mean of the diagonal of `random_flips`;
        - `diagonal_over_off_diagonal`: 1 for concepts that have nothing to do with their sub-codes;
          `diagonal_over_random`: 1 if it does not matter where one hides;
        - `hide`, `share_hidden` (rounded to whole patches), `num_photos`.

        A ratio over 0 is None.

    Raises:
        ValueError: if there is only one concept, no photo, or `share` or `hide` is none of the above.
    """
    num_concepts = model.config.num_concepts
    if num_concepts < 2:
        raise ValueError("faithfulness compares sub-codes with each other, and this model has only one concept")
    if not 0 < share < 1:
        raise ValueError(f"the share of patches to hide lies between 0 and 1, got {share}")
    generator = torch.Generator().manual_seed(seed)
    flips: list[Tensor] = []
    random_flips: list[Tensor] = []
    hidden_patches = 0
    for pixels, substitute, bits, attentions in _batches(model, photos, hide, batch_size, num_workers):
        num_patches = attentions[0, 0].numel()
        hidden_patches = max(1, round(share * num_patches))
        ranks = attention_ranks(attentions)
        for ours, at_random in ((flips, False), (random_flips, True)):
            of_concept = []
            for concept in range(num_concepts):
                hidden = ranks[:, concept] < hidden_patches
                if at_random:
                    hidden = _moved(hidden, generator)
                changed = _bits(model, hide_patches(pixels, hidden, substitute)) ^ bits
                of_concept.append(split_sub_codes(changed, num_concepts).float().mean(-1))
            ours.append(torch.stack(of_concept, dim=1))
    if not flips:
        raise ValueError("there are no photos to hide anything in")
    matrix, random_matrix = (torch.cat(each).double().mean(0).numpy() for each in (flips, random_flips))
    own = np.eye(num_concepts, dtype=bool)
    diagonal, off_diagonal, at_random = matrix[own].mean(), matrix[~own].mean(), random_matrix[own].mean()
    return {
        "flips": matrix.tolist(),
        "random_flips": random_matrix.tolist(),
        "diagonal": float(diagonal),
        "off_diagonal": float(off_diagonal),
        "random": float(at_random),
        "diagonal_over_off_diagonal": float(diagonal / off_diagonal) if off_diagonal else None,
        "diagonal_over_random": float(diagonal / at_random) if at_random else None,
        "hide": hide,
        "share_hidden": hidden_patches / num_patches,
        "num_photos": sum(len(batch) for batch in flips),
    }


def deletion_insertion(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    hide: Hide = "blur",
    steps: int = 10,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Hide, or show, ever more of a photo in the order of a concept's attention, and follow its sub-code.

    The value of a curve is the share of the bits of the concept's sub-code that are as in the whole photo. Deletion
    hides the patches attended to most first: the faster it falls, the more the sub-code depends on them. Insertion
    shows them first in a photo that is hidden otherwise: the faster it rises, the more they suffice. Chance is the
    same in a random order of the patches (Petsiuk et al., 2018, for classifiers).

    Args:
        model: whose sub-codes to follow.
        photos: items with "pixel_values".
        hide: see `faithfulness`.
        steps: of the curves.
        seed: of the random orders.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Returns:
        A dict that is ready for JSON: `shares` (steps + 1) of the patches hidden or shown, `deletion` and `insertion`
        (M, steps + 1), `random_deletion` and `random_insertion` likewise, and of each curve the area below it, meaned
        over concepts: `deletion_area` (lower is better), `insertion_area` (higher is better) and `random_..._area`.

    Raises:
        ValueError: if there is no photo, or `steps` or `hide` is none of the above.
    """
    if steps < 1:
        raise ValueError(f"curves have at least one step, got {steps}")
    num_concepts = model.config.num_concepts
    generator = torch.Generator().manual_seed(seed)
    shares = np.linspace(0, 1, steps + 1)
    names = ("deletion", "insertion", "random_deletion", "random_insertion")
    curves = {name: np.zeros((num_concepts, steps + 1)) for name in names}
    num_photos = 0
    for pixels, substitute, bits, attentions in _batches(model, photos, hide, batch_size, num_workers):
        ranks = attention_ranks(attentions)
        noise = torch.rand(attentions[:, 0].shape, generator=generator).to(attentions.device)
        random_ranks = attention_ranks(noise[:, None])[:, 0]
        num_photos += len(pixels)

        def kept(hidden: Tensor) -> np.ndarray:
            """Unchanged bits by sub-code, summed over the photos."""
            same = _bits(model, hide_patches(pixels, hidden, substitute)) == bits  # noqa: B023
            return split_sub_codes(same, num_concepts).float().mean(-1).sum(0).double().cpu().numpy()

        for step, share in enumerate(shares):
            number = round(share * ranks[0, 0].numel())
            curves["random_deletion"][:, step] += kept(random_ranks < number)
            curves["random_insertion"][:, step] += kept(random_ranks >= number)
            for concept in range(num_concepts):
                curves["deletion"][concept, step] += kept(ranks[:, concept] < number)[concept]
                curves["insertion"][concept, step] += kept(ranks[:, concept] >= number)[concept]
    if not num_photos:
        raise ValueError("there are no photos to hide anything in")
    curves = {name: curve / num_photos for name, curve in curves.items()}
    areas = {f"{name}_area": float(np.trapezoid(curve, shares).mean()) for name, curve in curves.items()}
    listed = {name: curve.tolist() for name, curve in curves.items()}
    return {"num_photos": num_photos, "hide": hide, "shares": shares.tolist(), **listed, **areas}


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


def _batches(
    model: ConceptHashPreTrainedModel, photos: Dataset, hide: Hide, batch_size: int, num_workers: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Pixel values, what to hide them behind, bits and attentions, on the model's device."""
    if hide not in ("grey", "blur"):
        raise ValueError(f'patches are hidden behind "blur" or "grey", got {hide!r}')
    patch_size = model.config.patch_size
    for batch in DataLoader(photos, batch_size, num_workers=num_workers):
        pixels = batch["pixel_values"].to(model.device)
        code_logits, attentions = read_batch(model, pixels)
        substitute = pixels.mean((2, 3), keepdim=True) if hide == "grey" else _blurred(pixels, patch_size)
        yield pixels, substitute, binarize(code_logits), attentions


def _blurred(pixels: Tensor, patch_size: int) -> Tensor:
    # torchvision mirrors the border, which must lie inside the photo
    reach = min(2 * patch_size, min(pixels.shape[2:]) - 1)
    return F.gaussian_blur(pixels, [2 * reach + 1, 2 * reach + 1], [float(patch_size)] * 2)


def _moved(hidden: Tensor, generator: torch.Generator) -> Tensor:
    """Each photo's hidden patches, moved around the grid by a random offset."""
    height, width = hidden.shape[1:]
    rows = torch.randint(height, (len(hidden),), generator=generator).tolist()
    columns = torch.randint(width, (len(hidden),), generator=generator).tolist()
    moves = zip(hidden, rows, columns, strict=True)
    return torch.stack([mask.roll((row, column), (0, 1)) for mask, row, column in moves])


def _bits(model: ConceptHashPreTrainedModel, pixels: Tensor) -> Tensor:
    return binarize(read_batch(model, pixels)[0])
