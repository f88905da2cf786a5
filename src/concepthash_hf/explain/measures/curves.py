"""How much of a sub-code hangs on what its concept attends to most: deletion and insertion curves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...codes import split_sub_codes
from ...modeling_concepthash import ConceptHashPreTrainedModel
from .hiding import Hide, attention_ranks, bits_of, hide_patches, photos_to_hide_in
from .measurement import Measurement
from .table import Table


@dataclass(frozen=True)
class Curves(Measurement):
    """Shares of a sub-code's bits that are as in the whole photo, while ever more of it is hidden or shown.

    Attributes:
        num_photos: how many were changed.
        hide: "blur" or "grey".
        shares: (steps + 1) of the patches hidden or shown.
        deletion: (M, steps + 1), patches attended to most hidden first.
        insertion: (M, steps + 1), patches attended to most shown first.
        random_deletion: (M, steps + 1), hidden in a random order.
        random_insertion: (M, steps + 1), shown in a random order.
        deletion_area: below the curve, mean over concepts; lower is better.
        insertion_area: higher is better.
        random_deletion_area: its chance level.
        random_insertion_area: its chance level.
    """

    num_photos: int
    hide: str
    shares: list[float]
    deletion: list[list[float]]
    insertion: list[list[float]]
    random_deletion: list[list[float]]
    random_insertion: list[list[float]]
    deletion_area: float
    insertion_area: float
    random_deletion_area: float
    random_insertion_area: float

    def table(self) -> Table:
        """The areas below the curves."""
        return Table(
            title="Deletion and insertion: how much of a sub-code hangs on what its concept looks at most",
            columns=["patches with most attention", "area below the curve", "patches in random order"],
            rows=[
                ["hidden first (lower is better)", self.deletion_area, self.random_deletion_area],
                ["shown first (higher is better)", self.insertion_area, self.random_insertion_area],
            ],
            note=f"Share of the sub-code's bits that are as in the whole photo while ever more of it is hidden "
            f"({self.hide}) or shown, mean of {len(self.shares)} steps and all concepts, {self.num_photos:,} photos.",
        )


def deletion_insertion(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    hide: Hide = "blur",
    steps: int = 10,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> Curves:
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
    for pixels, substitute, bits, attentions in photos_to_hide_in(model, photos, hide, batch_size, num_workers):
        ranks = attention_ranks(attentions)
        noise = torch.rand(attentions[:, 0].shape, generator=generator).to(attentions.device)
        random_ranks = attention_ranks(noise[:, None])[:, 0]
        num_photos += len(pixels)

        def kept(hidden: Tensor) -> np.ndarray:
            """Unchanged bits by sub-code, summed over the photos."""
            same = bits_of(model, hide_patches(pixels, hidden, substitute)) == bits  # noqa: B023
            return split_sub_codes(same, num_concepts).float().mean(-1).sum(0).double().cpu().numpy()

        for step, share in enumerate(shares):
            number = round(share * ranks[0, 0].numel())
            curves["random_deletion"][:, step] += kept(random_ranks < number)
            curves["random_insertion"][:, step] += kept(random_ranks >= number)
            for concept in range(num_concepts):
                curves["deletion"][concept, step] += kept(ranks[:, concept] < number)[concept]
                curves["insertion"][concept, step] += kept(ranks[:, concept] >= number)[concept]
    curves = {name: curve / num_photos for name, curve in curves.items()}
    values: dict[str, Any] = {name: curve.tolist() for name, curve in curves.items()}
    values |= {f"{name}_area": float(np.trapezoid(curve, shares).mean()) for name, curve in curves.items()}
    return Curves(num_photos=num_photos, hide=hide, shares=shares.tolist(), **values)
