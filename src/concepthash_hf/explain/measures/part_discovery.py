"""How well concepts divide a photo as annotated parts do: the measures of work on discovered parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..attention import ConceptReadings
from .grouping import adjusted_rand_index, normalised_mutual_information
from .measurement import Measurement
from .parts import part_targets
from .table import Table

_SHUFFLES = 10


@dataclass(frozen=True)
class PartDiscovery(Measurement):
    """Agreement of concepts and parts, over all visible parts of all photos.

    Attributes:
        num_photos: how many were looked at.
        num_visible_parts: how many things the two groupings divide.
        nmi: normalised mutual information of concept and part, 0 to 1.
        nmi_chance: its mean when the concepts are shuffled among the parts of each photo.
        ari: adjusted Rand index of concept and part, 0 in expectation for concepts drawn at random.
        ari_chance: its mean when shuffled likewise.
    """

    num_photos: int
    num_visible_parts: int
    nmi: float
    nmi_chance: float
    ari: float
    ari_chance: float

    def table(self) -> Table:
        """Both measures beside their chance."""
        return Table(
            title="Part discovery: whether different parts belong to different concepts",
            columns=["", "measured", "chance"],
            rows=[
                ["normalised mutual information", self.nmi, self.nmi_chance],
                ["adjusted Rand index", self.ari, self.ari_chance],
            ],
            note=f"{self.num_visible_parts:,} visible parts in {self.num_photos:,} photos; each belongs to the "
            "concept with the largest share of its attention there. Chance: concepts shuffled among a photo's parts.",
        )


def part_discovery(readings: ConceptReadings, part_names: Sequence[str], seed: int = 0) -> PartDiscovery:
    """Measure whether concepts divide photos as parts do.

    Every visible part of every photo is given to one concept: the one with the largest share of its own attention
    (maps sum to 1 for each concept) in the patch that the point lies in, or inside the mask. That grouping is compared
    with the one by part, over all photos at once (Choudhury et al., "Unsupervised Part Discovery from Contrastive
    Reconstruction", 2021; so do PDiscoNet, 2023, and PDiscoFormer, 2024). There a background competes with the parts;
    here a part always belongs to a concept.

    Args:
        readings: with parts.
        part_names: P names, in the order of the parts in `readings`.
        seed: of the shuffles.

    Raises:
        ValueError: if the photos have no part annotations, names do not fit them, or no photo shows any part.
    """
    targets = part_targets(readings, part_names)
    concepts = np.einsum("nmhw,nphw->nmp", readings.attention_shares, targets.at).argmax(1)
    photo, part = np.nonzero(targets.visible)
    concept = concepts[photo, part]
    generator = np.random.default_rng(seed)
    shuffled = [concept[np.lexsort((generator.random(len(photo)), photo))] for _ in range(_SHUFFLES)]
    return PartDiscovery(
        num_photos=len(readings),
        num_visible_parts=len(part),
        nmi=normalised_mutual_information(concept, part),
        nmi_chance=float(np.mean([normalised_mutual_information(order, part) for order in shuffled])),
        ari=adjusted_rand_index(concept, part),
        ari_chance=float(np.mean([adjusted_rand_index(order, part) for order in shuffled])),
    )
