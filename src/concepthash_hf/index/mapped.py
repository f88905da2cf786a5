"""Exact search of codes that stay in their file, which the system reads as needed and processes share."""

import json
from pathlib import Path

import faiss
import numpy as np


def map_codes(file: Path) -> np.ndarray:
    """The tensor `codes` of a checked safetensors file, uint8 `(n, width)`: pages of the file, not a copy."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        entry = json.loads(opened.read(length))["codes"]
    n, width = entry["shape"]
    if n == 0:
        return np.empty((0, width), dtype=np.uint8)
    return np.memmap(file, np.uint8, "r", 8 + length + entry["data_offsets"][0], (n, width))


class MappedFlat:
    """What `faiss.IndexBinaryFlat` answers, of codes that somebody else keeps.

    Args:
        codes: uint8 `(n, width)`, contiguous.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self.codes = codes
        self.ntotal, self.code_size = codes.shape

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances int32 and positions int64 `(Q, k)`, nearest first; `k` at most the number of codes."""
        queries = np.ascontiguousarray(queries)
        distances = np.empty((len(queries), k), dtype=np.int32)
        positions = np.empty((len(queries), k), dtype=np.int64)
        heaps = faiss.int_maxheap_array_t()
        heaps.nh, heaps.k = len(queries), k
        heaps.val, heaps.ids = faiss.swig_ptr(distances), faiss.swig_ptr(positions)
        given = faiss.swig_ptr(queries), faiss.swig_ptr(self.codes)
        faiss.hammings_knn_hc(heaps, *given, self.ntotal, self.code_size, 1)
        return distances, positions

    def range_search(self, queries: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets `(Q + 1,)`, distances and positions of all codes nearer than `radius`."""
        queries = np.ascontiguousarray(queries)
        found = faiss.RangeSearchResult(len(queries))
        given = faiss.swig_ptr(queries), faiss.swig_ptr(self.codes)
        faiss.hamming_range_search(*given, len(queries), self.ntotal, radius, self.code_size, found)  # type: ignore[attr-defined]
        offsets = faiss.rev_swig_ptr(found.lims, len(queries) + 1).copy()
        total = int(offsets[-1])
        distances, positions = (faiss.rev_swig_ptr(each, total).copy() for each in (found.distances, found.labels))
        return offsets, distances, positions
