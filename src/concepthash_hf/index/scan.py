"""Exact search where bits count differently: by concept weights, or by the code logits of the query.

faiss's fast scan of 4-bit product quantizers takes packed codes as they are: a half byte is one of 16 patterns of -1
and +1, and its inner product with the query, weight times sign in every bit, orders items by weighted distance. The
scan rounds, by no more than a known error. So it only proposes candidates; their distances are computed exactly, and
when the error leaves room for an item that was not proposed, it proposes more.
"""

from collections.abc import Callable

import faiss
import numpy as np

HALF_BYTE = 4
EXTRA_CANDIDATES = 32  # per query, beyond k: of these nearly every search needs only one scan
GROWTH = 4
PAIRS_AT_A_TIME = 2**18  # of query and candidate: what bounds the memory
FLOAT_ERROR = 1e-5  # of the sum of all weights: rounding in float32


class WeightedScan:
    """Codes laid out for a scan by weighted distance; a copy of them.

    Args:
        codes: uint8 `(n, W)`.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self._length, width = codes.shape
        patterns = np.unpackbits(np.arange(0, 256, 16, dtype=np.uint8)[:, None], axis=1, count=HALF_BYTE)
        quantizer = faiss.IndexPQ(8 * width, 2 * width, HALF_BYTE, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.tile(_signs(patterns), (2 * width, 1)).ravel(), quantizer.pq.centroids)
        faiss.copy_array_to_vector(codes.ravel(), quantizer.codes)
        quantizer.ntotal, quantizer.is_trained = self._length, True
        self._index = faiss.IndexPQFastScan(quantizer)  # type: ignore[arg-type]
        self._index.orig_codes = None  # type: ignore[attr-defined]  # of the quantizer, which goes

    def nearest(
        self,
        codes: np.ndarray,
        bit_weights: np.ndarray,
        k: int,
        distances_to: Callable[[np.ndarray, np.ndarray], np.ndarray],
        step: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest by the sum of the weights of differing bits.

        Args:
            codes: queries, uint8 `(Q, W)`.
            bit_weights: not negative, `(Q, K)`.
            k: at most the number of codes.
            distances_to: the exact distances, float64 `(q, c)`, of queries (int `(q,)`) to items (int `(q, c)`).
            step: what all distances are multiples of, where known.

        Returns:
            Distances float64 `(Q, k)` and positions int64 `(Q, k)`, ordered by (distance, position).
        """
        if not len(codes):
            return np.empty((0, k)), np.empty((0, k), dtype=np.int64)
        largest = bit_weights.max(axis=1, keepdims=True)
        scale = np.where(largest > 0, largest, 1.0)  # so that weights of any size fit into float32
        unused = 8 * codes.shape[1] - bit_weights.shape[1]
        weights = np.pad((bit_weights / scale).astype(np.float32), [(0, 0), (0, unused)])
        vectors = weights * _signs(np.unpackbits(codes, axis=1))
        distances, positions = np.empty((len(codes), k)), np.empty((len(codes), k), dtype=np.int64)
        # queries that are not settled yet, and how many candidates they get
        waiting = [(np.arange(len(codes)), 2 * k + EXTRA_CANDIDATES)]
        while waiting:
            queries, num_candidates = waiting.pop()
            at_a_time = max(1, PAIRS_AT_A_TIME // min(num_candidates, self._length))
            if len(queries) > at_a_time:
                waiting.append((queries[at_a_time:], num_candidates))
                queries = queries[:at_a_time]
            candidates, unseen = self._propose(vectors[queries], num_candidates)
            exact = distances_to(queries, candidates)
            exact[candidates < 0] = np.inf
            first = np.lexsort((candidates, exact))[:, :k]
            distances[queries] = np.take_along_axis(exact, first, axis=1)
            positions[queries] = np.take_along_axis(candidates, first, axis=1)
            # an unseen item would have to come at least one step before the last
            settled = distances[queries, -1] - step / 2 <= np.maximum(unseen, 0) * scale[queries, 0]
            if not settled.all():
                waiting.append((queries[~settled], GROWTH * num_candidates))
        return distances, positions

    def _propose(self, vectors: np.ndarray, num_candidates: int) -> tuple[np.ndarray, np.ndarray]:
        """Candidates `(Q, c)`, -1 where there is none, and a distance `(Q,)` that all other items have at least."""
        if num_candidates >= self._length:
            everything = np.broadcast_to(np.arange(self._length), (len(vectors), self._length))
            return everything, np.full(len(vectors), np.inf)
        products, candidates = self._index.search(_in_order_of_quantizers(vectors), num_candidates)
        products[candidates < 0] = np.inf
        weights = np.abs(vectors.astype(np.float64))
        # the scan rounds every table to 8 bits, with one scale for all tables of a query
        spans = 2 * weights.reshape(len(vectors), -1, HALF_BYTE).sum(axis=2)
        total = spans.sum(axis=1)
        half_step = np.maximum(spans.max(axis=1) / 255, total / 65535) / 2
        rounding = np.minimum(spans, half_step[:, None]).sum(axis=1)
        least = (total / 2 - products.min(axis=1)) / 2
        return candidates, least - rounding / 2 - FLOAT_ERROR * total


def _signs(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.float32) * 2 - 1


def _in_order_of_quantizers(vectors: np.ndarray) -> np.ndarray:
    """The lower half of a byte is a quantizer's code before the upper half."""
    halves = vectors.reshape(len(vectors), -1, 2, HALF_BYTE)
    return np.ascontiguousarray(halves[:, :, ::-1]).reshape(vectors.shape)
