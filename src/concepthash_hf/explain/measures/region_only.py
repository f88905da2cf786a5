"""Whether the region of a concept is enough for its sub-code: hide everything else."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...codes import split_sub_codes
from ...modeling_concepthash import ConceptHashPreTrainedModel
from .hiding import Hide, bits_of, hide_patches, moved, photos_to_hide_in
from .measurement import Measurement
from .table import Table, numbered


@dataclass(frozen=True)
class RegionOnly(Measurement):
    """Shares of bits that stay when only the region of a concept is shown.

    Attributes:
        kept: (M, M), the share of the bits of sub-code j (column) that stay when everything but the region of concept
            i (row) is hidden.
        own_kept: mean of the diagonal of `kept`; 1 where a sub-code needs nothing but its concept's region.
        other_kept: mean of the rest; None if there is a single concept.
        random_kept: (M,), of the own sub-code when the region is moved to a random place.
        nothing_kept: (M,), of each sub-code when all of the photo is hidden.
        region_share: (M,), the mean share of the patches that each region has.
        hide: "blur" or "grey".
        num_photos: how many were changed.
    """

    kept: list[list[float]]
    own_kept: float
    other_kept: float | None
    random_kept: list[float]
    nothing_kept: list[float]
    region_share: list[float]
    hide: str
    num_photos: int

    def table(self) -> Table:
        """A row for the region of each concept, a column for each sub-code."""
        names = numbered("the region of concept", len(self.kept))
        rows = zip(names, self.region_share, self.kept, self.random_kept, self.nothing_kept, strict=True)
        return Table(
            title="Region only: which bits stay when everything but the region of a concept is hidden",
            columns=[
                "shown",
                "share of the photo",
                *numbered("bits of", len(self.kept)),
                "its own, region at random",
                "its own, all hidden",
            ],
            rows=[[name, share, *kept, at_random, nothing] for name, share, kept, at_random, nothing in rows],
            note=f"Share of the bits of each sub-code that stay, {self.num_photos:,} photos ({self.hide}). A sub-code "
            f"that depends on its concept's region alone has 1 on the diagonal: here {self.own_kept:.2f}.",
        )


def region_only(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    hide: Hide = "blur",
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> RegionOnly:
    """Hide everything but the region of each concept, and count the bits of every sub-code that stay.

    The region of a concept are the patches that have more than an even share of its attention; if there are patches
    that it does not attend to at all (exactly 0: it cannot see them), all others. Beside it the same region is moved
    to a place drawn at random, and the whole photo is hidden.

    Args:
        model: of any number of concepts.
        photos: items with "pixel_values".
        hide: what to put in place of the patches, see `faithfulness`.
        seed: of the random places.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Raises:
        ValueError: if there are no photos, or `hide` is none of the above.
    """
    num_concepts = model.config.num_concepts
    generator = torch.Generator().manual_seed(seed)
    kept: list[Tensor] = []
    random_kept: list[Tensor] = []
    nothing_kept: list[Tensor] = []
    shares: list[Tensor] = []
    for pixels, substitute, bits, attentions in photos_to_hide_in(model, photos, hide, batch_size, num_workers):

        def same(shown: Tensor) -> Tensor:
            """Share of the bits of each sub-code that stay, (B, M)."""
            changed = bits_of(model, hide_patches(pixels, ~shown, substitute))  # noqa: B023
            return split_sub_codes(changed == bits, num_concepts).float().mean(-1)  # noqa: B023

        regions = concept_regions(attentions)
        shares.append(regions.float().mean((2, 3)))
        kept.append(torch.stack([same(regions[:, concept]) for concept in range(num_concepts)], dim=1))
        elsewhere = [same(moved(regions[:, concept], generator))[:, concept] for concept in range(num_concepts)]
        random_kept.append(torch.stack(elsewhere, dim=1))
        nothing_kept.append(same(torch.zeros_like(regions[:, 0])))
    matrix = torch.cat(kept).cpu().double().mean(0).numpy()
    own = np.eye(num_concepts, dtype=bool)
    return RegionOnly(
        kept=matrix.tolist(),
        own_kept=float(matrix[own].mean()),
        other_kept=float(matrix[~own].mean()) if num_concepts > 1 else None,
        random_kept=torch.cat(random_kept).cpu().double().mean(0).tolist(),
        nothing_kept=torch.cat(nothing_kept).cpu().double().mean(0).tolist(),
        region_share=torch.cat(shares).cpu().double().mean(0).tolist(),
        hide=hide,
        num_photos=sum(len(batch) for batch in kept),
    )


def concept_regions(attentions: Tensor) -> Tensor:
    """Which patches belong to each concept, bool of the shape `(B, M, h, w)` of the attentions, see `region_only`."""
    even = attentions.mean((2, 3), keepdim=True)
    sees_all = (attentions > 0).all(-1).all(-1)[..., None, None]
    return attentions > torch.where(sees_all, even, 0)
