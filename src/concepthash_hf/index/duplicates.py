"""Groups of near-duplicates inside a collection."""

import faiss
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .flat import make_flat
from .inputs import ArrayLike, as_codes, as_ids, check_radius

QUERIES_AT_A_TIME = 1024
# what bounds the memory: of one search, where everything may be near everything, and of pairs that wait to be joined
HITS_AT_A_TIME = 2**24
PAIRS_AT_A_TIME = 2**20
SAMPLE = 64  # one in so many codes tells how many hits a search will have
# a code with more neighbours is in a crowd, whose pairs are too many to look at one by one
CROWD = 64


def near_duplicates(codes: ArrayLike, radius: int, num_bits: int, ids: ArrayLike | None = None) -> list[np.ndarray]:
    """Group items that lie within a radius of each other, directly or through others of the group.

    Every two items are compared, equal codes once, and in a crowd of near-identical codes only as many as it takes to
    know that they belong together. Memory is linear in the number of codes. A million codes of 64 bits take some
    minutes on two cores where no two are near, half a minute where all are.

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
    groups = _Groups(len(distinct))
    if radius == 0:
        return groups.numbers()
    open_codes = _OpenCodes(distinct, min(radius, num_bits))
    while len(codes := open_codes.next()):
        counts, found = open_codes.near(codes)
        in_crowd = counts > CROWD
        groups.join(np.repeat(codes, counts)[~np.repeat(in_crowd, counts)], found[~np.repeat(in_crowd, counts)])
        open_codes.close(codes[~in_crowd])
        for code in codes[in_crowd]:
            if open_codes.is_open[code]:
                crowd = _crowd_of(code, open_codes)
                groups.join(np.full(len(crowd), code), crowd)
    return groups.numbers()


def _crowd_of(code: np.int64, open_codes: "_OpenCodes") -> np.ndarray:
    """All open codes that a code is joined to, directly or through others, which are closed.

    They belong together, so pairs among them need no look: what was reached once is not searched again.
    """
    members, waiting = [np.array([code])], np.array([code])
    open_codes.close(waiting)
    while len(waiting) and open_codes.is_open.any():
        block = open_codes.bounded(waiting[:QUERIES_AT_A_TIME])
        _, found = open_codes.near(block)
        reached = np.unique(found[open_codes.is_open[found]])
        open_codes.close(reached)
        members.append(reached)
        waiting = np.concatenate([waiting[len(block) :], reached])
    return np.concatenate(members)


class _OpenCodes:
    """Codes whose neighbours among each other are not all known."""

    def __init__(self, codes: np.ndarray, radius: int) -> None:
        self._codes, self._radius = codes, radius
        self.is_open = np.ones(len(codes), dtype=bool)
        self._index_open()

    def next(self) -> np.ndarray:
        """The positions of the next few open codes, none if all are closed."""
        while self._cursor < len(self._positions):
            block = self._positions[self._cursor : self._cursor + QUERIES_AT_A_TIME]
            if self.is_open[block].any():
                return self.bounded(block[self.is_open[block]])
            self._cursor += len(block)
        return np.empty(0, dtype=np.int64)

    def bounded(self, positions: np.ndarray) -> np.ndarray:
        """As many of them as may be searched for at a time: one by one where everything is near everything."""
        if len(positions) * len(self._positions) <= HITS_AT_A_TIME:
            return positions
        limits, _, _ = self._sample.range_search(self._codes[positions], self._radius + 1)
        if SAMPLE * int(limits[-1]) <= HITS_AT_A_TIME:
            return positions
        return positions[: max(1, HITS_AT_A_TIME // len(self._positions))]

    def near(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many codes are near each of some, and their positions; closed ones may be among them."""
        limits, _, rows = self._flat.range_search(self._codes[positions], self._radius + 1)  # faiss: below it
        return np.diff(limits.astype(np.int64)), self._positions[rows]

    def close(self, positions: np.ndarray) -> None:
        """Their neighbours are known: search no more among them."""
        self.is_open[positions] = False
        self._closed += len(positions)
        if 8 * self._closed > len(self._positions):  # not each time: it copies all that are left
            self._index_open()

    def _index_open(self) -> None:
        self._positions = np.flatnonzero(self.is_open)
        self._flat = self._indexed(self._positions)
        self._sample = self._indexed(self._positions[::SAMPLE])
        self._closed = self._cursor = 0

    def _indexed(self, positions: np.ndarray) -> faiss.IndexBinaryFlat:
        return make_flat(self._codes.shape[1], [self._codes[positions]], len(positions))


class _Groups:
    """Joins items pair by pair, and remembers only the group of each."""

    def __init__(self, length: int) -> None:
        self._number = np.arange(length)
        self._pairs: list[np.ndarray] = []

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Item by item."""
        self._pairs.append(np.stack([first, second])[:, first != second])
        if sum(pairs.shape[1] for pairs in self._pairs) > PAIRS_AT_A_TIME:
            self._settle()

    def numbers(self) -> np.ndarray:
        """The number of every item's group."""
        self._settle()
        return self._number

    def _settle(self) -> None:
        if not self._pairs:
            return
        first, second = self._number[np.concatenate(self._pairs, axis=1)]
        size = len(self._number)
        graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(size, size))
        self._number = connected_components(graph, directed=False)[1][self._number]
        self._pairs = []
