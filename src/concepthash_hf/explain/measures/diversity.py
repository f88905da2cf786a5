"""How much the concepts of a photo look at the same place."""

from dataclasses import dataclass

import numpy as np

from ..attention import ConceptReadings
from .measurement import Measurement
from .table import Table


@dataclass(frozen=True)
class Diversity(Measurement):
    """Overlap of attentions, means over photos (and over pairs of different concepts).

    Attributes:
        num_photos: how many were looked at.
        cosine: of two attentions, what the diversity loss lowers (paper section 3).
        cosine_chance: of shuffled maps.
        cosines: (M, M), by pair.
        overlap: the share of attention that two concepts have in common, the sum over patches of the smaller of their
            two shares.
        overlap_chance: of shuffled maps.
        same_peak: how often two concepts attend most to the same patch.
        same_peak_chance: 1 / N.
        patches_attended: (M,), over how many patches each concept spreads, the exponential of the entropy of its
            attention; 1 for a single patch, all patches for an even gaze.
    """

    num_photos: int
    cosine: float
    cosine_chance: float
    cosines: list[list[float]]
    overlap: float
    overlap_chance: float
    same_peak: float
    same_peak_chance: float
    patches_attended: list[float]

    def table(self) -> Table:
        """Three overlaps beside their chance."""
        return Table(
            title="Diversity: how much the concepts of a photo look at the same place",
            columns=["", "measured", "chance"],
            rows=[
                ["cosine", self.cosine, self.cosine_chance],
                ["share in common", self.overlap, self.overlap_chance],
                ["same strongest patch", self.same_peak, self.same_peak_chance],
            ],
            note="Means over photos and pairs of concepts; lower is more diverse. Chance: these maps, shuffled.",
        )


def diversity(readings: ConceptReadings) -> Diversity:
    """Measure the overlap between the attentions of a photo's concepts.

    Chance is the same overlap when every concept's map is shuffled over the patches: how much maps as sharp as these
    share if they have nothing to do with each other.

    Args:
        readings: of two concepts or more.

    Raises:
        ValueError: if there is only one concept.
    """
    if readings.num_concepts < 2:
        raise ValueError("overlap is between concepts, and this model has only one")
    shares = readings.attention_shares.reshape(len(readings), readings.num_concepts, -1)
    num_patches = shares.shape[-1]
    norms = np.linalg.norm(shares, axis=-1)
    norms[norms == 0] = np.inf  # a concept that sees no patch has nothing in common with others
    cosines = np.einsum("nik,njk->nij", shares, shares) / (norms[:, :, None] * norms[:, None])
    first, second = np.triu_indices(readings.num_concepts, 1)
    # shuffled maps: the mean product of two values is the product of their means, and shares have the mean 1 / N
    cosine_chance = 1 / (num_patches * norms[:, first] * norms[:, second])
    peaks = shares.argmax(-1)
    return Diversity(
        num_photos=len(readings),
        cosine=float(cosines[:, first, second].mean()),
        cosine_chance=float(cosine_chance.mean()),
        cosines=cosines.mean(0).tolist(),
        overlap=float(np.minimum(shares[:, first], shares[:, second]).sum(-1).mean()),
        overlap_chance=_shuffled_overlap(shares[:, first], shares[:, second]),
        same_peak=float((peaks[:, first] == peaks[:, second]).mean()),
        same_peak_chance=1 / num_patches,
        patches_attended=np.exp(-(shares * np.log(np.maximum(shares, 1e-30))).sum(-1)).mean(0).tolist(),
    )


def _shuffled_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Expected overlap of shuffled maps: every patch of one meets every patch of the other equally often."""
    num_patches = one.shape[-1]
    total = sum(np.minimum(one, other[..., patch, None]).sum() for patch in range(num_patches))
    return float(total / num_patches / np.prod(one.shape[:-1]))
