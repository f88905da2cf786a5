"""Is it in the collection at all? A radius, measured on photos of which that is known."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ..codes import hamming_distance
from .base import CodeIndex
from .inputs import ArrayLike


@dataclass(frozen=True)
class Calibration:
    """A radius within which a nearest neighbour counts as a find, and what it did on the held-out photos.

    Attributes:
        radius: bits, inclusive; ready for `range_search`.
        false_accept_rate: share of the strangers with an item within the radius.
        accept_rate: share of the members with an item within the radius; None if none were given.
        num_strangers: photos, or names, that the radius was calibrated on.
    """

    radius: int
    false_accept_rate: float
    accept_rate: float | None
    num_strangers: int


def calibrate_radius(
    index: CodeIndex, strangers: ArrayLike, false_accept_rate: float, members: ArrayLike | None = None
) -> Calibration:
    """Find the largest radius that accepts no more strangers than wanted.

    Args:
        index: the collection.
        strangers: codes of held-out photos of things that are not in the collection, uint8 `(n, ceil(K / 8))`.
        false_accept_rate: the share of strangers that may be taken for members, between 0 and 1.
        members: codes of held-out photos of things that are in it, to tell how many of them the radius accepts.

    Returns:
        The radius, and the shares that it accepts.

    Raises:
        ValueError: if the rate is not between 0 and 1, there are too few strangers to tell such a rate, or even a
            radius of 0 accepts more of them.
    """
    accepted = None if members is None else _nearest_distances(index, members)
    return _calibrated(_nearest_distances(index, strangers), false_accept_rate, accepted)


def calibrate_names(
    names: Sequence[str],
    codes: np.ndarray,
    item_codes: np.ndarray,
    item_names: Sequence[Collection[str]],
    false_accept_rate: float = 0.05,
) -> Calibration:
    """Find within how many bits of a name an item is nearer than it would be to the name of something else.

    Of each name in turn it is pretended that nothing here bears it: the items that do are left out, and the distance
    to the nearest of the others is how near a *stranger* comes, a name of something that is not in the collection.
    The radius is the largest that lets in no more strangers than wanted (of fewer than 20 names: one).

    Args:
        names: C names of classes, of which items may bear any.
        codes: of the names, uint8 `(C, ceil(K / 8))`.
        item_codes: of the collection, uint8 `(N, ceil(K / 8))`.
        item_names: of each item those names that it bears; empty for something else.
        false_accept_rate: the share of strangers that may be taken for members, between 0 and 1.

    Returns:
        The radius; `accept_rate` is the share of names that items bear and that have an item within it.

    Raises:
        ValueError: as `calibrate_radius`.
    """
    rows_of: dict[str, list[int]] = {}
    for row, of_item in enumerate(item_names):
        for name in of_item:
            rows_of.setdefault(name, []).append(row)
    strangers, members = [], []
    for name, code in zip(names, codes, strict=True):
        distances, own = hamming_distance(code, item_codes), rows_of.get(name, [])
        if own:
            members.append(distances[own].min())
        others = np.delete(distances, own)
        if len(others):
            strangers.append(others.min())
    rate = max(false_accept_rate, 1 / max(len(strangers), 2))
    return _calibrated(np.array(strangers), rate, np.array(members) if members else None)


def _calibrated(strangers: np.ndarray, false_accept_rate: float, members: np.ndarray | None) -> Calibration:
    """The largest radius for these distances to the nearest item."""
    if not 0 < false_accept_rate < 1:
        raise ValueError(f"a false-accept rate lies between 0 and 1, got {false_accept_rate}")
    nearest = np.sort(strangers)
    allowed = math.floor(false_accept_rate * len(nearest) + 1e-9)
    if allowed < 1:
        raise ValueError(
            f"{len(nearest)} strangers cannot tell a rate of {false_accept_rate}: "
            f"at least {math.ceil(1 / false_accept_rate - 1e-9)} are needed"
        )
    # the first stranger that must stay out, and all at its distance
    radius = int(nearest[allowed]) - 1
    if radius < 0:
        raise ValueError(
            f"{np.mean(nearest == 0):.3g} of the strangers have the very code of an item, more than the "
            f"{false_accept_rate} wanted: these codes cannot tell them apart"
        )
    accepted = None if members is None else float(np.mean(members <= radius))
    return Calibration(radius, float(np.mean(nearest <= radius)), accepted, len(nearest))


def _nearest_distances(index: CodeIndex, codes: ArrayLike) -> np.ndarray:
    distances = index.search(codes, k=1).distances[:, 0]
    if len(distances) == 0:
        raise ValueError("no codes to calibrate with")
    return distances
