"""Whether the bits of a sub-code depend on what its concept attends to: hide it and count the flipped bits."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...codes import split_sub_codes
from ...modeling_concepthash import ConceptHashPreTrainedModel
from .hiding import Hide, attention_ranks, bits_of, hide_patches, moved, photos_to_hide_in
from .measurement import Measurement
from .table import Table, numbered, shown_ratio


@dataclass(frozen=True)
class Faithfulness(Measurement):
    """Flipped bits when what a concept attends to is hidden. A ratio over 0 is None.

    Attributes:
        flips: (M, M), the share of the bits of sub-code j (column) that flip when what concept i (row) attends to is
            hidden.
        random_flips: (M, M), the same at a random place.
        diagonal: mean of the diagonal of `flips`: own sub-codes.
        off_diagonal: mean of the rest: other sub-codes.
        random: mean of the diagonal of `random_flips`.
        diagonal_over_off_diagonal: 1 for concepts that have nothing to do with their sub-codes.
        diagonal_over_random: 1 if it does not matter where one hides.
        hide: "blur" or "grey".
        share_hidden: of the patches, rounded to whole ones.
        num_photos: how many were changed.
    """

    flips: list[list[float]]
    random_flips: list[list[float]]
    diagonal: float
    off_diagonal: float
    random: float
    diagonal_over_off_diagonal: float | None
    diagonal_over_random: float | None
    hide: str
    share_hidden: float
    num_photos: int

    def table(self) -> Table:
        """A row for what each concept looks at, a column for each sub-code."""
        at_random = [row[concept] for concept, row in enumerate(self.random_flips)]
        rows = zip(numbered("what concept", len(self.flips)), self.flips, at_random, strict=True)
        return Table(
            title="Faithfulness: which bits flip when what a concept looks at is hidden",
            columns=["hidden", *numbered("bits of", len(self.flips)), "its own, hidden at random"],
            rows=[[f"{what} looks at", *flips, moved_away] for what, flips, moved_away in rows],
            note=f"Share of flipped bits of each sub-code, {self.num_photos:,} photos, "
            f"{100 * self.share_hidden:.0f} % of the patches hidden ({self.hide}). Faithful concepts are "
            f"heavy on the diagonal: here {shown_ratio(self.diagonal_over_off_diagonal)} times the rest, and "
            f"{shown_ratio(self.diagonal_over_random)} times hiding as much elsewhere.",
        )


def faithfulness(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    hide: Hide = "blur",
    share: float = 0.1,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> Faithfulness:
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
    for pixels, substitute, bits, attentions in photos_to_hide_in(model, photos, hide, batch_size, num_workers):
        num_patches = attentions[0, 0].numel()
        hidden_patches = max(1, round(share * num_patches))
        ranks = attention_ranks(attentions)
        for ours, at_random in ((flips, False), (random_flips, True)):
            of_concept = []
            for concept in range(num_concepts):
                hidden = ranks[:, concept] < hidden_patches
                if at_random:
                    hidden = moved(hidden, generator)
                changed = bits_of(model, hide_patches(pixels, hidden, substitute)) ^ bits
                of_concept.append(split_sub_codes(changed, num_concepts).float().mean(-1))
            ours.append(torch.stack(of_concept, dim=1))
    matrix, random_matrix = (torch.cat(each).cpu().double().mean(0).numpy() for each in (flips, random_flips))
    own = np.eye(num_concepts, dtype=bool)
    diagonal, off_diagonal, random = matrix[own].mean(), matrix[~own].mean(), random_matrix[own].mean()
    return Faithfulness(
        flips=matrix.tolist(),
        random_flips=random_matrix.tolist(),
        diagonal=float(diagonal),
        off_diagonal=float(off_diagonal),
        random=float(random),
        diagonal_over_off_diagonal=float(diagonal / off_diagonal) if off_diagonal else None,
        diagonal_over_random=float(diagonal / random) if random else None,
        hide=hide,
        share_hidden=hidden_patches / num_patches,
        num_photos=sum(len(batch) for batch in flips),
    )
