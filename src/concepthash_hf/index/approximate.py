"""Approximate search by faiss for larger sets: a graph (HNSW) or inverted lists (IVF).

Either is built from codes, extended by more, and given back as arrays to be saved. Items are known by position.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import faiss
import numpy as np

from .files import CODES_PER_BLOCK
from .flat import codes_of, make_flat

Arrays = dict[str, np.ndarray]


class Approximate(Protocol):
    """What `HammingIndex` asks of an approximate kind; `flat` holds all codes, `ARRAYS` names what `arrays` gives."""

    ARRAYS: ClassVar[tuple[str, ...]]
    flat: faiss.IndexBinaryFlat

    @classmethod
    def build(cls, flat: faiss.IndexBinaryFlat) -> Self:
        """Build from all codes there are."""

    @classmethod
    def restore(cls, flat: faiss.IndexBinaryFlat, arrays: Arrays) -> Self:
        """Build from what `arrays` gave. Raises a ValueError if that does not go with the codes."""

    def add(self, codes: np.ndarray) -> None:
        """Add codes, also to `flat`."""

    def search(self, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and positions, `(Q, k)`; position -1 where nothing was found."""

    def arrays(self) -> Arrays:
        """All that is not in the codes."""

    def outgrown(self) -> bool:
        """Whether it should be built again."""


class HnswGraph:
    """A graph of near neighbours, walked greedily. Built on several threads its links differ a little every time."""

    LINKS = 32
    EF_CONSTRUCTION = 80
    EF_SEARCH = 128
    ARRAYS: ClassVar[tuple[str, ...]] = ("hnsw.neighbors", "hnsw.offsets", "hnsw.levels", "hnsw.entry")

    def __init__(self, flat: faiss.IndexBinaryFlat) -> None:
        self.flat = flat
        self._index = faiss.IndexBinaryHNSW(flat, self.LINKS)  # type: ignore[arg-type]
        self._index.hnsw.efConstruction = self.EF_CONSTRUCTION
        self._index.hnsw.efSearch = self.EF_SEARCH

    @classmethod
    def build(cls, flat: faiss.IndexBinaryFlat) -> Self:
        """Link all codes, which takes a while; `flat` is taken over."""
        graph = cls(make_flat(flat.code_size))
        graph.add(codes_of(flat))
        return graph

    @classmethod
    def restore(cls, flat: faiss.IndexBinaryFlat, arrays: Arrays) -> Self:
        """Take over saved links; faiss does not check them, and follows each to wherever it leads, so this does."""
        if missing := [name for name in cls.ARRAYS if name not in arrays]:
            raise ValueError(f"its graph lacks {', '.join(missing)}")
        graph = cls(flat)
        links = _Links(*(arrays[name] for name in cls.ARRAYS))
        if not links.belong_to(flat.ntotal, graph._level_ends()):
            raise ValueError("its graph does not belong to its codes")
        hnsw = graph._index.hnsw
        for name in ("neighbors", "offsets", "levels"):
            faiss.copy_array_to_vector(getattr(links, name), getattr(hnsw, name))
        hnsw.entry_point, hnsw.max_level = links.entry.tolist()
        graph._index.ntotal = flat.ntotal
        return graph

    def add(self, codes: np.ndarray) -> None:
        """Link more codes."""
        self._index.add(codes)

    def search(self, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and positions, `(Q, k)`."""
        return self._index.search(codes, k)

    def arrays(self) -> Arrays:
        """The links."""
        hnsw = self._index.hnsw
        vectors = [faiss.vector_to_array(getattr(hnsw, name)) for name in ("neighbors", "offsets", "levels")]
        return dict(zip(self.ARRAYS, [*vectors, np.array([hnsw.entry_point, hnsw.max_level])], strict=True))

    def outgrown(self) -> bool:
        """Never: every code finds its links when it is added."""
        return False

    def _level_ends(self) -> np.ndarray:
        """How many links a code of 0, 1, ... levels has, for as many levels as faiss ever gives one."""
        hnsw = self._index.hnsw
        return np.array([hnsw.cum_nb_neighbors(level) for level in range(hnsw.assign_probas.size() + 1)])


@dataclass(frozen=True)
class _Links:
    """The graph as faiss keeps it: for every code its links, level by level, -1 where there is none.

    Attributes:
        neighbors: int32, positions of codes.
        offsets: uint64 `(n + 1,)`, where the links of each code begin.
        levels: int32 `(n,)`, on how many levels a code is.
        entry: int64 `(2,)`, the code that a search starts from, and the highest level, from 0.
    """

    neighbors: np.ndarray
    offsets: np.ndarray
    levels: np.ndarray
    entry: np.ndarray

    def belong_to(self, n: int, level_ends: np.ndarray) -> bool:
        """Whether every number leads to where something is."""
        kinds = [(array.dtype, array.ndim) for array in (self.neighbors, self.offsets, self.levels, self.entry)]
        if kinds != [(np.int32, 1), (np.uint64, 1), (np.int32, 1), (np.int64, 1)]:
            return False
        if (len(self.levels), len(self.offsets), len(self.entry)) != (n, n + 1, 2):
            return False
        entry_point, max_level = self.entry.tolist()
        if not (0 <= entry_point < n and 1 <= self.levels.min() and self.levels.max() < len(level_ends)):
            return False
        return (
            self.levels.max() == max_level + 1 == self.levels[entry_point]
            and np.array_equal(self.offsets[1:], np.cumsum(level_ends[self.levels]).astype(np.uint64))
            and self.offsets[0] == 0
            and len(self.neighbors) == self.offsets[-1]
            and self.neighbors.min() >= -1
            and self.neighbors.max() < n
            and all(self._links_stay_on(level, level_ends) for level in range(1, max_level + 1))
        )

    def _links_stay_on(self, level: int, level_ends: np.ndarray) -> bool:
        """Whether the links of a level, from 0, lead to codes that are on it too."""
        first = self.offsets[:-1][self.levels > level].astype(np.int64)
        linked = self.neighbors[first[:, None] + np.arange(level_ends[level], level_ends[level + 1])]
        return bool((self.levels[linked[linked >= 0]] > level).all())


class InvertedLists:
    """Codes in lists around centres, of which a search reads the nearest few. A second copy of the codes.

    The centres are those of a sample; then the codes go through block by block, so that neither takes memory.
    """

    SHARE_SEARCHED = 1 / 8
    LISTS_SEARCHED = 16  # at least
    MOST_LISTS = 2**12  # what every code is compared with, once
    CODES_PER_LIST = 39  # of which k-means makes a centre, at least
    SAMPLE_PER_LIST = 256  # of which it does, where there are as many; more are no better
    GROWTH = 4
    ARRAYS: ClassVar[tuple[str, ...]] = ("ivf.centres", "ivf.lists")

    def __init__(self, flat: faiss.IndexBinaryFlat, centres: np.ndarray, lists: np.ndarray | None = None) -> None:
        self.flat = flat
        self._centres = make_flat(flat.code_size, [centres], len(centres))
        self._index = faiss.IndexBinaryIVF(self._centres, flat.d, len(centres))
        self._index.is_trained = True
        self._index.nprobe = max(self.LISTS_SEARCHED, math.ceil(len(centres) * self.SHARE_SEARCHED))
        self._put(codes_of(flat), lists)
        self._built_with = flat.ntotal

    @classmethod
    def build(cls, flat: faiss.IndexBinaryFlat) -> Self:
        """Find the centres of a sample by k-means, and put all codes into their lists."""
        num_lists = max(1, min(round(math.sqrt(flat.ntotal)), flat.ntotal // cls.CODES_PER_LIST, cls.MOST_LISTS))
        quantizer = faiss.IndexBinaryFlat(flat.d)
        index = faiss.IndexBinaryIVF(quantizer, flat.d, num_lists)
        step = max(1, flat.ntotal // (num_lists * cls.SAMPLE_PER_LIST))
        index.train(np.ascontiguousarray(codes_of(flat)[::step]))
        return cls(flat, codes_of(quantizer).copy())

    @classmethod
    def restore(cls, flat: faiss.IndexBinaryFlat, arrays: Arrays) -> Self:
        """Put the codes into saved lists around saved centres; faiss writes wherever a list is said to be."""
        centres, lists = (arrays.get(name) for name in cls.ARRAYS)
        shape_of_centre = (flat.code_size,)
        if centres is None or centres.dtype != np.uint8 or centres.shape[1:] != shape_of_centre or not len(centres):
            raise ValueError("its centres do not belong to its codes")
        # older versions kept the centres alone
        if lists is not None and not (
            (lists.dtype, lists.shape) == (np.int32, (flat.ntotal,))
            and lists.min(initial=0) >= 0
            and lists.max(initial=0) < len(centres)
        ):
            raise ValueError("its lists do not belong to its codes")
        return cls(flat, centres, lists)

    def add(self, codes: np.ndarray) -> None:
        """Put more codes into the lists."""
        self.flat.add(codes)
        self._put(codes)

    def search(self, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and positions, `(Q, k)`."""
        return self._index.search(codes, k)

    def arrays(self) -> Arrays:
        """The centres, and which list each code is in."""
        lists, kept = np.empty(self._index.ntotal, dtype=np.int32), self._index.invlists
        for number in range(kept.nlist):
            if size := kept.list_size(number):
                lists[faiss.rev_swig_ptr(kept.get_ids(number), size)] = number
        return dict(zip(self.ARRAYS, [codes_of(self._centres).copy(), lists], strict=True))

    def outgrown(self) -> bool:
        """When there are so many more codes that the lists have become long."""
        return self._index.ntotal > self.GROWTH * self._built_with

    def _put(self, codes: np.ndarray, lists: np.ndarray | None = None) -> None:
        """Put codes after those that are there, into these lists or those of the nearest centres."""
        for start in range(0, len(codes), CODES_PER_BLOCK):
            block = np.ascontiguousarray(codes[start : start + CODES_PER_BLOCK])
            chosen = self._centres.search(block, 1)[1][:, 0] if lists is None else lists[start : start + len(block)]
            chosen = np.ascontiguousarray(chosen, dtype=np.int64)
            self._index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(chosen))  # type: ignore[attr-defined]
