"""Overlap between the concepts of a photo."""

import itertools

import numpy as np
import pytest
import torch
from made import looking_at, readings

from concepthash_hf.explain.measures.diversity import diversity
from concepthash_hf.losses import diversity_loss


def test_apart():
    cells = np.array([[(0, 0), (1, 1)], [(2, 3), (0, 1)]])
    found = diversity(readings(looking_at(cells)))
    assert found.cosine == found.overlap == found.same_peak == 0
    np.testing.assert_allclose(found.patches_attended, [1, 1], rtol=1e-5)
    # shuffled, two single patches meet in one of 16 places
    chances = [getattr(found, f"{name}_chance") for name in ("cosine", "overlap", "same_peak")]
    assert chances == pytest.approx([1 / 16] * 3)


def test_the_same_place():
    attentions = np.repeat(np.random.default_rng(0).random((3, 1, 4, 4)), 2, axis=1)
    attentions[:, 1] *= 0.3  # the rest goes to other tokens
    found = diversity(readings(attentions))
    assert [found.cosine, found.overlap, found.same_peak] == pytest.approx([1, 1, 1], abs=1e-6)


def test_an_even_gaze_overlaps_by_chance_as_much_as_it_does():
    found = diversity(readings(np.ones((2, 3, 4, 4))))
    assert [found.overlap, found.overlap_chance, found.cosine_chance] == pytest.approx([1, 1, 1])
    np.testing.assert_allclose(found.patches_attended, [16] * 3, rtol=1e-5)


def test_a_spread_is_that_of_each_photo():
    """A patch in one photo and all 16 in the other are 8.5 on average."""
    attentions = np.ones((2, 2, 4, 4))
    attentions[0] = looking_at(np.array([[(0, 0), (1, 1)]]))[0]
    assert diversity(readings(attentions)).patches_attended == pytest.approx([8.5, 8.5], rel=1e-5)


def test_cosine_is_what_the_loss_lowers():
    attentions = np.random.default_rng(1).random((5, 3, 4, 4)).astype(np.float32)
    loss = diversity_loss(torch.tensor(attentions).flatten(2)).item()
    found = diversity(readings(attentions))
    assert found.cosine == pytest.approx(loss, rel=1e-5)
    assert np.mean([found.cosines[i][j] for i, j in ((0, 1), (0, 2), (1, 2))]) == pytest.approx(loss, rel=1e-5)


def test_chance_is_the_mean_over_all_shuffles():
    attentions = np.random.default_rng(2).random((1, 2, 2, 2)) ** 3
    one, other = (values.ravel() / values.sum() for values in attentions[0])
    shuffles = [one[list(order)] for order in itertools.permutations(range(4))]
    found = diversity(readings(attentions))
    assert found.overlap_chance == pytest.approx(np.mean([np.minimum(s, other).sum() for s in shuffles]), rel=1e-5)
    norm = np.linalg.norm(one) * np.linalg.norm(other)
    assert found.cosine_chance == pytest.approx(np.mean([s @ other / norm for s in shuffles]), rel=1e-5)


def test_who_sees_nothing_has_nothing_in_common():
    attentions = np.random.default_rng(0).random((2, 3, 4, 4))
    attentions[0, 1] = 0
    found = diversity(readings(attentions))
    assert found.cosines[0][1] == pytest.approx(diversity(readings(attentions[1:])).cosines[0][1] / 2)
    assert np.isfinite([found.cosine, found.cosine_chance, found.overlap, found.overlap_chance]).all()
    # of the six pairs, two are of the concept that sees nothing
    pair, three = diversity(readings(attentions[:1, [0, 2]])), diversity(readings(attentions[1:]))
    for name in ("cosine", "cosine_chance", "overlap", "overlap_chance"):
        expected = (getattr(pair, name) + 3 * getattr(three, name)) / 6
        assert getattr(found, name) == pytest.approx(expected, rel=1e-5)


def test_one_concept_has_no_overlap():
    with pytest.raises(ValueError, match="only one"):
        diversity(readings(np.ones((2, 1, 4, 4))))
