"""The exact index of faiss, and its codes as an array."""

from collections.abc import Iterable

import faiss
import numpy as np

from .mapped import MappedFlat


def make_flat(width: int, codes: Iterable[np.ndarray] = (), length: int = 0) -> faiss.IndexBinaryFlat:
    """An exact index of the codes that come in blocks, `length` in all; no second copy is made on the way.

    Args:
        width: bytes per code.
        codes: blocks, uint8 `(n, width)`.
        length: the codes of all blocks together.
    """
    flat = faiss.IndexBinaryFlat(8 * width)
    flat.xb.resize(length * width)  # type: ignore[attr-defined]
    flat.ntotal = length
    target, start = codes_of(flat), 0
    for block in codes:
        target[start : start + len(block)] = block
        start += len(block)
    return flat


def codes_of(flat: faiss.IndexBinaryFlat | MappedFlat) -> np.ndarray:
    """The codes of an exact index, uint8 `(n, width)`: a view, good until the index changes."""
    if isinstance(flat, MappedFlat):
        return flat.codes
    if flat.ntotal == 0:
        return np.empty((0, flat.code_size), dtype=np.uint8)
    values = faiss.rev_swig_ptr(flat.xb.data(), flat.ntotal * flat.code_size)  # type: ignore[attr-defined]
    return values.reshape(flat.ntotal, flat.code_size)
