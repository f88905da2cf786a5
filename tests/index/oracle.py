"""The truth about a search, in plain numpy."""

from typing import Any

import numpy as np

from concepthash_hf.codes import pack_bits


def random_codes(n: int, num_bits: int, seed: int = 0, clusters: int | None = None) -> np.ndarray:
    """Packed codes: uniform, or noisy copies of a few."""
    generator = np.random.default_rng(seed)
    if clusters is None:
        return pack_bits(generator.random((n, num_bits)) < 0.5)
    centres = np.random.default_rng(99).random((clusters, num_bits)) < 0.5
    return pack_bits(centres[generator.integers(0, clusters, n)] ^ (generator.random((n, num_bits)) < 0.1))


def unpacked(codes: np.ndarray, num_bits: int) -> np.ndarray:
    return np.unpackbits(codes, axis=1)[:, :num_bits]


def concept_distances(queries: np.ndarray, items: np.ndarray, num_bits: int, num_concepts: int) -> np.ndarray:
    """`(Q, n, M)`."""
    differing = unpacked(queries, num_bits)[:, None] != unpacked(items, num_bits)[None]
    return differing.reshape(len(queries), len(items), num_concepts, -1).sum(-1)


def check_search(found: Any, ids: np.ndarray, distances: np.ndarray, per_concept: np.ndarray, k: int) -> None:
    """The result is what a full sort gives, but for the choice among the items tied at the k-th distance.

    `distances` `(Q, n)` and `per_concept` `(Q, n, M)` are to all items, `ids` theirs, in order of insertion.
    """
    ids = np.asarray(ids)
    position_of = {identity: position for position, identity in enumerate(ids.tolist())}
    assert found.ids.shape == found.distances.shape == (len(distances), k)
    assert found.concept_distances.shape == (*found.ids.shape, per_concept.shape[-1])
    for query, truth in enumerate(distances):
        near, positions = found.distances[query], np.array([position_of[name] for name in found.ids[query].tolist()])
        assert len(set(positions)) == k
        # sums of the same weights in another order may differ in the last digit
        close = {"rtol": 1e-12, "atol": 1e-12 * truth.max()}
        np.testing.assert_allclose(near, np.sort(truth)[:k], **close)
        np.testing.assert_allclose(near, truth[positions], **close)
        np.testing.assert_array_equal(found.concept_distances[query], per_concept[query][positions])
        assert set(np.flatnonzero(truth < near[-1] - close["atol"])) <= set(positions)
        np.testing.assert_array_equal(np.lexsort((positions, near)), np.arange(k))
