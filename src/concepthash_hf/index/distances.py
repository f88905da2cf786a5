"""Distances of packed codes: differing bits concept by concept, and weighted by the logits of a query."""

import numpy as np

from ..codes import as_words, pack_bits, unpack_bits


class ConceptCounter:
    """Counts the differing bits of every concept between packed codes.

    Args:
        num_bits: K.
        num_concepts: M.
    """

    def __init__(self, num_bits: int, num_concepts: int) -> None:
        concept_of_bit = np.repeat(np.arange(num_concepts), num_bits // num_concepts)
        self._masks = as_words(pack_bits(np.arange(num_concepts)[:, None] == concept_of_bit))

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Compare; leading axes broadcast.

        Args:
            a: uint8 `(..., ceil(K / 8))`.
            b: uint8 `(..., ceil(K / 8))`.

        Returns:
            int64 `(..., M)`.
        """
        differing = as_words(a ^ b)
        counts = np.bitwise_count(differing[..., None, :] & self._masks)
        # most codes are a single word, and a search of few codes feels every step
        return counts[..., 0].astype(np.int64) if counts.shape[-1] == 1 else counts.sum(axis=-1, dtype=np.int64)


def asymmetric_distances(logits: np.ndarray, codes: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Sum the absolute logits of the bits that differ.

    Args:
        logits: float64 `(Q, K)`.
        codes: their bits, packed, uint8 `(Q, ceil(K / 8))`.
        items: uint8 `(Q, c, ceil(K / 8))`.

    Returns:
        float64 `(Q, c)`.
    """
    differing = unpack_bits(codes[:, None] ^ items, logits.shape[1])
    return np.einsum("qck,qk->qc", differing, np.abs(logits))
