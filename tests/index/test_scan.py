"""The error of the scan is known: exactness rests on it."""

import numpy as np
import pytest

from concepthash_hf.index.scan import WeightedScan

from .oracle import random_codes, unpacked


@pytest.mark.parametrize("num_bits", [8, 64, 136, 512])
@pytest.mark.parametrize("kind", ["equal", "uniform", "wild", "one"])
@pytest.mark.parametrize("num_candidates", [1, 10, 100])
def test_what_is_not_proposed_is_at_least_so_far(num_bits, kind, num_candidates):
    generator = np.random.default_rng(num_bits)
    codes, queries = random_codes(1000, num_bits), random_codes(30, num_bits, seed=1)
    weights = {
        "equal": np.ones((30, num_bits)),
        "uniform": generator.random((30, num_bits)),
        "wild": np.exp(generator.normal(size=(30, num_bits)) * 4),
        "one": np.eye(num_bits)[generator.integers(0, num_bits, 30)],
    }[kind]
    signs = unpacked(queries, num_bits) * 2.0 - 1
    candidates, unseen = WeightedScan(codes)._propose((weights * signs).astype(np.float32), num_candidates)
    differing = unpacked(queries, num_bits)[:, None] != unpacked(codes, num_bits)[None]
    distances = (differing * weights[:, None]).sum(-1)
    for query in range(30):
        others = np.setdiff1d(np.arange(1000), candidates[query])
        assert distances[query, others].min() >= unseen[query]
        # and it is no empty promise: nearly what the farthest candidate has
        farthest = distances[query, candidates[query]].max()
        heaviest_half_byte = weights[query].reshape(-1, 4).sum(-1).max()
        assert unseen[query] >= farthest - num_bits / 4 * heaviest_half_byte / 255 - 1e-4 * weights[query].sum()


@pytest.mark.parametrize("size", [1, 1e-6, 1e6])
def test_more_is_proposed_until_nothing_nearer_can_be_left(monkeypatch, size):
    """Thousands of items within the error of the scan, of which only a few are nearest."""
    generator = np.random.default_rng(0)
    weights = np.full((1, 64), 1.0)
    weights[0, :6] = [0.001, 0.0011, 0.0012, 0.0013, 0.0014, 0.0015]
    weights *= size
    bits = np.zeros((5000, 64), dtype=bool)
    bits[:, :6] = generator.random((5000, 6)) < 0.9
    bits[:, 6:10] = True
    codes, query = np.packbits(bits, axis=1), np.zeros((1, 8), dtype=np.uint8)
    truth = (bits * weights).sum(-1)
    scan, asked = WeightedScan(codes), []
    propose = scan._propose
    monkeypatch.setattr(scan, "_propose", lambda vectors, count: asked.append(count) or propose(vectors, count))
    distances, positions = scan.nearest(query, weights, 20, lambda queries, items: truth[items])
    np.testing.assert_allclose(distances[0], np.sort(truth)[:20])
    np.testing.assert_array_equal(positions[0], np.argsort(truth, kind="stable")[:20])
    assert len(asked) > 1


@pytest.mark.parametrize(
    ("unseen", "step", "proposed", "enough"),
    [
        (3.0, 0.0, 3.0, True),
        (2.9, 0.0, 3.0, False),
        (2.9, 1.0, 3.0, True),  # of whole numbers, 3 is the next after 2.9
        (2.6, 1.0, 3.0, True),
        (2.4, 1.0, 3.0, False),
        (1.9, 1.0, 3.0, False),
        (0.3, 0.0, 3.0, False),
        (0.3, 0.0, 0.9, False),  # less than one
        (-1.0, 0.0, 3.0, False),
    ],
)
def test_it_asks_again_where_an_unseen_item_could_be_nearer(monkeypatch, unseen, step, proposed, enough):
    """The nearest is not proposed at first: item 0, at `unseen` or the next distance there is."""
    nearest = unseen if step == 0 else np.ceil(unseen)
    truth, scan, asked = np.array([max(nearest, 0.0), proposed, 4.0]), WeightedScan(random_codes(3, 8)), []

    def propose(vectors, count):
        asked.append(count)
        return (
            (np.array([[1, 2]]), np.array([unseen]))
            if len(asked) == 1
            else (np.array([[0, 1, 2]]), np.array([np.inf]))
        )

    monkeypatch.setattr(scan, "_propose", propose)
    distances, positions = scan.nearest(
        np.zeros((1, 1), np.uint8), np.ones((1, 8)), 1, lambda queries, items: truth[items], step
    )
    assert len(asked) == (1 if enough else 2)
    assert distances[0, 0] == (proposed if enough else truth[0]) and positions[0, 0] == (1 if enough else 0)


@pytest.mark.parametrize("size", [0, 1e-60, 1, 1e60])
@pytest.mark.parametrize("pairs_at_a_time", [1, 500, 10**6])
def test_any_size_of_weights_and_any_number_of_queries_at_a_time(monkeypatch, size, pairs_at_a_time):
    monkeypatch.setattr("concepthash_hf.index.scan.PAIRS_AT_A_TIME", pairs_at_a_time)
    codes, queries = random_codes(2000, 64), random_codes(7, 64, seed=1)
    weights = size * np.random.default_rng(0).random((7, 64))
    differing = unpacked(queries, 64)[:, None] != unpacked(codes, 64)[None]
    truth = (differing * weights[:, None]).sum(-1)
    exact = lambda rows, items: np.take_along_axis(truth[rows], items, axis=1)  # noqa: E731
    distances, positions = WeightedScan(codes).nearest(queries, weights, 5, exact)
    order = np.argsort(truth, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(truth, order, axis=1))


@pytest.mark.parametrize("size", [1, 1e-6, 1e6])
def test_one_proposal_is_enough_for_usual_codes(monkeypatch, size):
    codes, queries = random_codes(5000, 64), random_codes(20, 64, seed=1)
    weights = size * np.random.default_rng(0).random((20, 64))
    truth = ((unpacked(queries, 64)[:, None] != unpacked(codes, 64)[None]) * weights[:, None]).sum(-1)
    scan, asked = WeightedScan(codes), []
    propose = scan._propose
    monkeypatch.setattr(scan, "_propose", lambda vectors, count: asked.append(len(vectors)) or propose(vectors, count))
    distances, _ = scan.nearest(queries, weights, 10, lambda of, items: np.take_along_axis(truth[of], items, axis=1))
    np.testing.assert_allclose(distances, np.sort(truth)[:, :10])
    assert asked == [20]
