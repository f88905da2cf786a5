"""Which annotated part each concept points at, and how far above chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..attention import ConceptReadings
from .measurement import Measurement, listed
from .parts import PartTargets, part_targets
from .table import Cell, Table, numbered


@dataclass(frozen=True)
class Localisation(Measurement):
    """Where M concepts look among P parts; None where there is nothing to count, as for a part that no photo shows.

    Attributes:
        kind: "points" or "masks".
        num_photos: how many were looked at.
        part_names: (P,).
        score: (M, P), see `localisation`.
        chance: (P,), the score of a random patch, or of even attention.
        other_photos: (M, P), the score of the concept's attention in all other photos.
        own_part: (M,) names, chosen on all photos.
        own_times_chance: (M,), score over chance, measured on the halves that the own part was not chosen on.
        own_times_other_photos: (M,), likewise over the score of the attention in other photos.
        times_chance: mean of `own_times_chance` over concepts.
        times_other_photos: mean of `own_times_other_photos`.
        any_part: (M,), the score for the parts as a whole; for points, how often the patch attended to most lies on or
            beside any visible part.
        any_part_chance: the score of a random patch, or of even attention, for them.
        consistency: (M,), how often the concept picks its most frequent part, picking the part that covers most of the
            patch it attends to most (points: the nearest one within a hit).
        consistency_chance: the same for patches drawn at random.
    """

    kind: str
    num_photos: int
    part_names: list[str]
    score: list[list[float | None]]
    chance: list[float | None]
    other_photos: list[list[float | None]]
    own_part: list[str]
    own_times_chance: list[float | None]
    own_times_other_photos: list[float | None]
    times_chance: float | None
    times_other_photos: float | None
    any_part: list[float]
    any_part_chance: float
    consistency: list[float]
    consistency_chance: float

    def table(self) -> Table:
        """A row for each concept."""
        columns = (self.own_part, self.own_times_chance, self.own_times_other_photos, self.any_part, self.consistency)
        names = numbered("concept", len(self.own_part))
        rows: list[list[Cell]] = [list(row) for row in zip(names, *columns, strict=True)]
        rows.append(["mean", "", self.times_chance, self.times_other_photos, None, None])
        rows.append(["chance", "", 1.0, 1.0, self.any_part_chance, self.consistency_chance])
        return Table(
            title="Localisation: which part each concept points at",
            columns=["", "own part", "times chance", "times its gaze in other photos", "on any part", "consistency"],
            rows=rows,
            note=f"{self.num_photos:,} photos. "
            + (
                "A hit: the part lies in the patch attended to most, or one of its 8 neighbours; chance is a random "
                "patch."
                if self.kind == "points"
                else "The share of a concept's attention inside the part; chance is the part's share of the area."
            )
            + " The own part is chosen on one half of the photos and measured on the other. Consistency: how often a "
            "concept picks its most frequent part.",
        )


def localisation(readings: ConceptReadings, part_names: Sequence[str], seed: int = 0) -> Localisation:
    """Measure which part each concept looks at.

    The *score* of a concept for a part, over the photos that show the part:

    - point parts: how often the part lies in the patch that the concept attends to most, or one of its 8 neighbours
      (a hit). Chance: the same for a patch drawn at random;
    - part masks: the share of the concept's attention inside the part. Chance: that of even attention, the part's
      share of the area.

    A concept's *own part* is the one with the highest score over chance. Choosing the best of many would flatter it,
    so it is chosen on a random half of the photos and measured on the other, and the other way round. Beside chance
    stands `other_photos`: the score of the concept's attention in all other photos. What is above that follows the
    part, and not just a place where parts often are.

    Args:
        readings: with parts.
        part_names: P names, in the order of the parts in `readings`.
        seed: of the halves.

    Raises:
        ValueError: if the photos have no part annotations, names do not fit them, no photo shows any part, or there
            are too few to halve.
    """
    targets = part_targets(readings, part_names)
    # not the plain seed: photos that were shuffled with it would fall into halves by their old order
    generator = np.random.default_rng([seed, len(readings)])
    score, chance, elsewhere = _scores(targets, np.ones(len(readings), dtype=bool))
    with np.errstate(divide="ignore", invalid="ignore"):
        own = _best(score / chance)
    over_chance, over_elsewhere = _held_out(targets, generator)
    consistency, consistency_chance = _consistency(targets, readings.peaks)
    return Localisation(
        kind=targets.kind,
        num_photos=len(readings),
        part_names=list(part_names),
        score=listed(score),
        chance=listed(chance),
        other_photos=listed(elsewhere),
        own_part=[part_names[part] for part in own],
        own_times_chance=listed(over_chance),
        own_times_other_photos=listed(over_elsewhere),
        times_chance=listed(over_chance.mean()),
        times_other_photos=listed(over_elsewhere.mean()),
        any_part=np.einsum("nmhw,nhw->m", targets.gaze, targets.union / len(readings)).tolist(),
        any_part_chance=float(targets.union.mean()),
        consistency=consistency.tolist(),
        consistency_chance=consistency_chance,
    )


def _scores(targets: PartTargets, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score (M, P), chance (P), and score of the gaze in other photos (M, P), over chosen photos."""
    gaze, inside, visible = targets.gaze[chosen], targets.inside[chosen], targets.visible[chosen]
    times_seen = visible.sum(0)
    hits = np.einsum("nmhw,nphw->mp", gaze, inside)
    all_pairs = np.einsum("mhw,phw->mp", gaze.sum(0), inside.sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        score = hits / times_seen
        chance = inside.mean((2, 3)).sum(0) / times_seen
        elsewhere = (all_pairs - hits) / (times_seen * (len(gaze) - 1))
    return score, chance, elsewhere


def _best(times_chance: np.ndarray) -> np.ndarray:
    """The part with the highest value, by concept."""
    return np.where(np.isfinite(times_chance), times_chance, -1).argmax(1)


def _held_out(targets: PartTargets, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How far above chance, and above the gaze in other photos, each concept is at its part (M)."""
    half = generator.permutation(len(targets.gaze)) % 2 == 0
    seen = targets.visible[half].any(0) & targets.visible[~half].any(0)
    if len(half) < 4 or not seen.any():
        raise ValueError(
            f"{len(half)} photos are too few: a concept's part is chosen on one half and measured on the other, "
            "that takes four photos or more, and a part that is seen in both halves"
        )
    sides = [_scores(targets, chosen) for chosen in (half, ~half)]
    over_chance, over_elsewhere = [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        for (choose, choose_chance, _), (score, chance, elsewhere) in (sides, sides[::-1]):
            concepts, own = np.arange(len(choose)), _best(np.where(seen, choose / choose_chance, np.nan))
            over_chance.append(score[concepts, own] / chance[own])
            over_elsewhere.append(score[concepts, own] / elsewhere[concepts, own])
    return np.mean(over_chance, axis=0), np.mean(over_elsewhere, axis=0)


def _consistency(targets: PartTargets, peaks: np.ndarray) -> tuple[np.ndarray, float]:
    num_parts = targets.visible.shape[1]
    photos = np.arange(len(peaks))[:, None]
    picks = targets.pick[photos, peaks[..., 0], peaks[..., 1]]
    shares = np.stack([(picks == part).mean(0) for part in range(num_parts)])
    return shares.max(0), float(max((targets.pick == part).mean() for part in range(num_parts)))
