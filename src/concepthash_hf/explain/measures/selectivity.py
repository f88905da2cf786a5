"""Whether a change of one part shows in one sub-code."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.utils.data import DataLoader, Dataset

from ...codes import binarize, split_sub_codes
from ...modeling_concepthash import ConceptHashPreTrainedModel
from ..attention import read_batch
from .localisation import Localisation
from .measurement import Measurement, listed
from .table import Table, numbered


@dataclass(frozen=True)
class Selectivity(Measurement):
    """Flipped bits when one of P parts is changed, by M sub-codes.

    Attributes:
        num_photos: how many were changed.
        part_names: (P,).
        flips: (P, M), the share of the bits of each sub-code that flip when the part changes.
        concentration: (P,), of all bits that flip with a part, the share in the sub-code that reacts to it most, which
            is chosen on a random half of the photos and measured on the other, and the other way round; None for a
            part that flips nothing.
        mean_concentration: over parts.
        concentration_chance: 1 / M, that of flips that have nothing to do with concepts.
        agreement: see `agreement_with_localisation`, where that was asked.
    """

    num_photos: int
    part_names: list[str]
    flips: list[list[float]]
    concentration: list[float | None]
    mean_concentration: float | None
    concentration_chance: float
    agreement: float | None = None

    def table(self) -> Table:
        """A row for each part that was changed, a column for each sub-code."""
        rows = zip(self.part_names, self.flips, self.concentration, strict=True)
        return Table(
            title="Selectivity: which bits flip when one part of the photo is changed",
            columns=["part changed", *numbered("bits of", len(self.flips[0])), "of these in one sub-code"],
            rows=[[part, *flips, concentration] for part, flips, concentration in rows],
            note=f"Share of flipped bits of each sub-code, {self.num_photos:,} photos. Last column: of all flipped "
            "bits those in the sub-code that reacts most, chosen on one half of the photos, measured on the other; "
            f"chance {self.concentration_chance:.2f}.",
        )


def selectivity(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    part_names: Sequence[str],
    seed: int = 0,
    batch_size: int = 16,
    num_workers: int = 0,
) -> Selectivity:
    """Change one part of what a photo shows, and count the flipped bits of every sub-code.

    Args:
        model: of any number of concepts.
        photos: items with "pixel_values" `(3, H, W)` and "changed" `(P, 3, H, W)`, the photo with each part changed,
            such as `data.changed_birds.ChangedBirds`.
        part_names: P names.
        seed: of the halves (see below).
        batch_size: photos at a time, each of which is P + 1 pictures.
        num_workers: processes that make photos.

    Raises:
        ValueError: if there are no photos, or the names do not fit them.
    """
    num_concepts = model.config.num_concepts
    flips = []
    for batch in DataLoader(photos, batch_size, num_workers=num_workers):
        if batch["changed"].shape[1] != len(part_names):
            raise ValueError(f"{len(part_names)} part names for photos with {batch['changed'].shape[1]} changes")
        pictures = torch.cat([batch["pixel_values"][:, None], batch["changed"]], dim=1)
        bits = binarize(read_batch(model, pictures.flatten(0, 1))[0]).unflatten(0, pictures.shape[:2])
        flips.append(split_sub_codes(bits[:, 1:] ^ bits[:, :1], num_concepts).float().mean(-1).cpu())
    if not flips:
        raise ValueError("there are no photos in which a part could change")
    flipped = torch.cat(flips).double().numpy()
    half = np.random.default_rng(seed).permutation(len(flipped)) % 2 == 0
    concentration = _concentration(flipped[half].mean(0), flipped[~half].mean(0))
    known = concentration[np.isfinite(concentration)]
    return Selectivity(
        num_photos=len(flipped),
        part_names=list(part_names),
        flips=flipped.mean(0).tolist(),
        concentration=listed(concentration),
        mean_concentration=float(known.mean()) if len(known) else None,
        concentration_chance=1 / num_concepts,
    )


def agreement_with_localisation(selective: Selectivity, localised: Localisation) -> float | None:
    """Measure whether the concepts that look at a part are those whose bits flip when it changes.

    Spearman's rank correlation, over all concepts and changed parts, of the concept's score for the part and the
    flipped share of its sub-code, each over its mean over concepts for that part.

    Args:
        selective: what `selectivity` gave.
        localised: what `localisation` gave for the same model; has all the changed parts.

    Returns:
        Between -1 and 1; 0 by chance. None where there is nothing to correlate: a single concept, concepts that all do
        the same, no part that flips a bit and is seen.

    Raises:
        ValueError: if a changed part was not localised.
    """
    if missing := [part for part in selective.part_names if part not in localised.part_names]:
        raise ValueError(f"no localisation of the changed parts {missing}; it has {localised.part_names}")
    columns = [localised.part_names.index(part) for part in selective.part_names]
    scores = np.array(localised.score, dtype=float).T[columns]
    flips = np.array(selective.flips)
    with np.errstate(divide="ignore", invalid="ignore"):
        looked, flipped = (values / values.mean(1, keepdims=True) for values in (scores, flips))
    known = np.isfinite(looked) & np.isfinite(flipped)
    if known.sum() < 2 or any(np.ptp(values[known]) < 1e-9 for values in (looked, flipped)):
        return None
    return float(spearmanr(looked[known], flipped[known]).statistic)


def _concentration(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of the flips (P, M) of one half in the sub-code that reacts most in the other, mean of both ways (P)."""
    parts = np.arange(len(one))
    with np.errstate(divide="ignore", invalid="ignore"):
        ways = [
            measured[parts, chosen.argmax(1)] / measured.sum(1) for chosen, measured in ((one, other), (other, one))
        ]
    return np.mean(ways, axis=0)
