"""Groups of near-duplicates inside a collection."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .hamming import HammingIndex
from .inputs import ArrayLike, as_codes, as_ids, check_radius

QUERIES_AT_A_TIME = 1024


def near_duplicates(codes: ArrayLike, radius: int, num_bits: int, ids: ArrayLike | None = None) -> list[np.ndarray]:
    """Group items that lie within a radius of each other, directly or through others of the group.

    Every two items are compared, equal codes once: 200,000 different codes of 64 bits take some 13 core seconds.

    Args:
        codes: packed, uint8 `(n, ceil(num_bits / 8))`.
        radius: bits, inclusive; 0 groups equal codes. Groups grow together where it is too large.
        num_bits: K.
        ids: integers or strings `(n,)`; default positions.

    Returns:
        The ids of every group of two or more, in order of the items; large groups first.

    Raises:
        ValueError: if the codes do not fit, ids repeat, or the radius is no integer from 0.
    """
    packed, radius = as_codes(codes, num_bits), check_radius(radius)
    given = as_ids(ids, len(packed))
    names = np.arange(len(packed)) if given is None else given.to_numpy(zero_copy_only=False)
    distinct, code_of_item = np.unique(packed, axis=0, return_inverse=True)
    group_of_code = _components(distinct, radius, num_bits)
    group_of_item = group_of_code[code_of_item.reshape(-1)]
    order = np.argsort(group_of_item, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group_of_item[order])) + 1)
    return [names[group] for group in sorted(groups, key=lambda group: (-len(group), *group[:1])) if len(group) > 1]


def _components(distinct: np.ndarray, radius: int, num_bits: int) -> np.ndarray:
    """The number of the group of every code."""
    if radius == 0 or len(distinct) < 2:
        return np.arange(len(distinct))
    index = HammingIndex.from_codes(distinct, num_bits=num_bits, num_concepts=1)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for start in range(0, len(distinct), QUERIES_AT_A_TIME):
        found = index.range_search(distinct[start : start + QUERIES_AT_A_TIME], radius)
        first = start + np.repeat(np.arange(len(found)), np.diff(found.offsets))
        pairs.append(np.stack([first, found.ids])[:, first < found.ids])
    first, second = np.concatenate(pairs, axis=1)
    size = len(distinct)
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(size, size))
    return connected_components(graph, directed=False)[1]
