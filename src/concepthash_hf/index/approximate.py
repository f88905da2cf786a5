"""Approximate search by faiss for larger sets: a graph (HNSW) or inverted lists (IVF).

Either is built from codes, extended by more, and given back as arrays to be saved. Items are known by position.
"""

import math
from typing import Protocol, Self

import faiss
import numpy as np

from .flat import codes_of, make_flat

Arrays = dict[str, np.ndarray]


class Approximate(Protocol):
    """What `HammingIndex` asks of an approximate kind; `flat` holds all codes."""

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
    _VECTORS = ("neighbors", "offsets", "levels")

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
        """Take over saved links; faiss does not check them, so this does."""
        graph, n = cls(flat), flat.ntotal
        neighbors, offsets, levels = (arrays[f"hnsw.{name}"] for name in cls._VECTORS)
        entry_point, max_level = arrays["hnsw.entry"].tolist()
        hnsw = graph._index.hnsw
        sizes = np.array([hnsw.cum_nb_neighbors(level) for level in range(max_level + 2)])
        fits = (
            len(levels) == n
            and len(offsets) == n + 1
            and -1 <= entry_point < n
            and (n == 0 or (levels.min() >= 1 and levels.max() == max_level + 1 == levels[entry_point]))
            and np.array_equal(offsets, np.concatenate([[0], np.cumsum(sizes[levels])]).astype(offsets.dtype))
            and len(neighbors) == offsets[-1]
            and (len(neighbors) == 0 or (neighbors.min() >= -1 and neighbors.max() < n))
        )
        if not fits:
            raise ValueError("its graph does not belong to its codes")
        for name, values in zip(cls._VECTORS, (neighbors, offsets, levels), strict=True):
            faiss.copy_array_to_vector(values, getattr(hnsw, name))
        hnsw.entry_point, hnsw.max_level = entry_point, max_level
        graph._index.ntotal = n
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
        vectors = {f"hnsw.{name}": faiss.vector_to_array(getattr(hnsw, name)) for name in self._VECTORS}
        return {**vectors, "hnsw.entry": np.array([hnsw.entry_point, hnsw.max_level])}

    def outgrown(self) -> bool:
        """Never: every code finds its links when it is added."""
        return False


class InvertedLists:
    """Codes in lists around centres, of which a search reads the nearest few. A second copy of the codes."""

    SHARE_SEARCHED = 1 / 8
    LISTS_SEARCHED = 16  # at least
    CODES_PER_LIST = 39  # of which k-means makes a centre, at least
    GROWTH = 4

    def __init__(self, flat: faiss.IndexBinaryFlat, centres: np.ndarray) -> None:
        self.flat = flat
        self._centres = make_flat(flat.code_size, [centres], len(centres))
        self._index = faiss.IndexBinaryIVF(self._centres, flat.d, len(centres))
        self._index.is_trained = True
        self._index.nprobe = max(self.LISTS_SEARCHED, math.ceil(len(centres) * self.SHARE_SEARCHED))
        self._index.add(codes_of(flat))
        self._built_with = flat.ntotal

    @classmethod
    def build(cls, flat: faiss.IndexBinaryFlat) -> Self:
        """Find the centres by k-means."""
        num_lists = max(1, min(round(math.sqrt(flat.ntotal)), flat.ntotal // cls.CODES_PER_LIST))
        quantizer = faiss.IndexBinaryFlat(flat.d)
        index = faiss.IndexBinaryIVF(quantizer, flat.d, num_lists)
        index.train(codes_of(flat))
        return cls(flat, codes_of(quantizer).copy())

    @classmethod
    def restore(cls, flat: faiss.IndexBinaryFlat, arrays: Arrays) -> Self:
        """Put the codes into lists around saved centres."""
        centres = arrays["ivf.centres"]
        if centres.dtype != np.uint8 or centres.ndim != 2 or centres.shape[1] != flat.code_size or len(centres) == 0:
            raise ValueError("its centres do not belong to its codes")
        return cls(flat, centres)

    def add(self, codes: np.ndarray) -> None:
        """Put more codes into the lists."""
        self.flat.add(codes)
        self._index.add(codes)

    def search(self, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and positions, `(Q, k)`."""
        return self._index.search(codes, k)

    def arrays(self) -> Arrays:
        """The centres."""
        return {"ivf.centres": codes_of(self._centres).copy()}

    def outgrown(self) -> bool:
        """When there are so many more codes that the lists have become long."""
        return self._index.ntotal > self.GROWTH * self._built_with
