"""Concepts against parts: by hand, against naive loops and scikit-learn, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import PATCH, SIDE, centre, looking_at, masks_of, readings
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from concepthash_hf.explain.measures.part_discovery import part_discovery


def test_a_concept_for_each_part(moving):
    for parts in (centre(moving), masks_of(moving)):
        found = part_discovery(readings(looking_at(moving), parts), ["head", "tail"])
        assert found.nmi == pytest.approx(1) and found.ari == pytest.approx(1)
        assert found.nmi_chance < 0.3 and found.ari_chance < 0.3
        assert found.num_visible_parts == 24 and found.num_photos == 12


def test_neighbours_are_told_apart():
    cells = np.array([[(1, 1), (1, 2)], [(2, 2), (2, 1)], [(0, 1), (1, 1)], [(3, 0), (2, 0)]])
    assert part_discovery(readings(looking_at(cells), centre(cells)), ["head", "throat"]).nmi == pytest.approx(1)


def test_one_concept_that_has_all_parts_tells_nothing(moving):
    attentions = looking_at(moving)
    attentions[:, 0] = attentions.sum(1)
    attentions[:, 1] = np.eye(SIDE)[1][:, None] * np.eye(SIDE)[1]  # a patch that no part is in
    found = part_discovery(readings(attentions, centre(moving)), ["head", "tail"])
    assert found.nmi == found.ari == 0


def test_concepts_compete_by_shares_not_by_attention(moving):
    """A concept whose attention goes to other tokens mostly is as good as any."""
    attentions = looking_at(moving)
    attentions[:, 0] *= 1e-3
    attentions[:, 1] += 1e-2  # at the head as well, ten times as much as concept 0
    assert part_discovery(readings(attentions, centre(moving)), ["head", "tail"]).nmi == pytest.approx(1)


def test_chance_shuffles_the_concepts_within_a_photo():
    """Where a photo's parts all belong to one concept, a shuffle changes nothing."""
    attentions = np.full((6, 2, SIDE, SIDE), 1e-3)
    points = np.full((6, 3, 2), np.nan, dtype=np.float32)
    for photo in range(6):
        attentions[photo, photo % 2, :, :] = 1
        attentions[photo, 1 - photo % 2, 3, 3] = 1  # where no part is
        shown = [0, 1] if photo % 2 else [1, 2]
        points[photo, shown] = [[5, 5], [15, 5]]
    found = part_discovery(readings(attentions, points), ["head", "wing", "tail"])
    assert 0 < found.nmi < 1 and found.nmi_chance == pytest.approx(found.nmi)
    assert found.ari_chance == pytest.approx(found.ari)


def test_concepts_at_random():
    generator = np.random.default_rng(0)
    gaze, parts = (generator.integers(0, SIDE, (400, number, 2)) for number in (4, 9))
    found = part_discovery(readings(looking_at(gaze), centre(parts)), [f"part {i}" for i in range(9)])
    for value in (found.nmi, found.nmi_chance, found.ari, found.ari_chance):
        assert abs(value) < 0.02


@given(st.integers(0, 10_000))
def test_as_loops_and_scikit_learn_have_it(seed):
    generator = np.random.default_rng(seed)
    attentions = generator.random((5, 3, SIDE, SIDE)) * generator.random((5, 3, 1, 1))
    points = generator.uniform(0, SIDE * PATCH, (5, 4, 2)).astype(np.float32)
    points[generator.random((5, 4)) < 0.3] = np.nan
    points[0, 0] = [1, 1]
    concepts, parts = [], []
    for photo, part in np.ndindex(5, 4):
        x, y = points[photo, part]
        if not np.isnan(x):
            patch = int(y // PATCH), int(x // PATCH)
            shares = [attentions[photo, concept][patch] / attentions[photo, concept].sum() for concept in range(3)]
            concepts.append(int(np.argmax(shares)))
            parts.append(part)
    found = part_discovery(readings(attentions, points), list("abcd"), seed)
    assert found.num_visible_parts == len(parts)
    assert found.ari == pytest.approx(adjusted_rand_score(parts, concepts))
    if len(set(concepts)) > 1 or len(set(parts)) > 1:  # else scikit-learn says 1, there is nothing to tell
        assert found.nmi == pytest.approx(normalized_mutual_info_score(parts, concepts), abs=1e-9)


@given(st.integers(0, 10_000), st.permutations(range(3)))
def test_the_order_of_concepts_says_nothing(seed, order):
    generator = np.random.default_rng(seed)
    attentions = generator.random((6, 3, SIDE, SIDE))
    points = generator.uniform(0, SIDE * PATCH, (6, 4, 2)).astype(np.float32)
    one = part_discovery(readings(attentions, points), list("abcd"))
    other = part_discovery(readings(attentions[:, list(order)], points), list("abcd"))
    assert other.nmi == pytest.approx(one.nmi) and other.ari == pytest.approx(one.ari)
    assert 0 <= one.nmi <= 1 and -1 <= one.ari <= 1


def test_concepts_that_see_nothing_have_no_part(moving):
    attentions = np.concatenate([np.zeros((12, 1, SIDE, SIDE)), looking_at(moving)], axis=1)
    assert part_discovery(readings(attentions, centre(moving)), ["head", "tail"]).nmi == pytest.approx(1)


def test_photos_without_annotations_are_refused(moving):
    with pytest.raises(ValueError, match="no part annotations.*with_parts=True"):
        part_discovery(readings(looking_at(moving)), ["head", "tail"])
