"""Keypoints from the centres of concepts: by hand, against a naive fit, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import PATCH, SIDE, centre, looking_at, masks_of, readings
from sklearn.linear_model import LinearRegression

from concepthash_hf.explain.attention import ConceptReadings
from concepthash_hf.explain.measures.keypoint_regression import keypoint_regression

NAMES = ["head", "tail", "wing"]


def following(seed: int, number: int = 40) -> ConceptReadings:
    """Two concepts that look at head and tail; the wing is halfway between."""
    cells = np.random.default_rng(seed).integers(0, SIDE, (number, 2, 2))
    points = centre(cells)
    return readings(looking_at(cells), np.concatenate([points, points.mean(1, keepdims=True)], axis=1))


def at_random(seed: int, number: int) -> ConceptReadings:
    """Maps and points that have nothing to do with each other; some points are not visible."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, SIDE * PATCH, (number, 3, 2)).astype(np.float32)
    points[generator.random((number, 3)) < 0.2] = np.nan
    return readings(generator.random((number, 2, SIDE, SIDE)) ** 4, points)


def test_parts_that_concepts_follow():
    found = keypoint_regression(following(0), following(1), NAMES)
    assert found.error == pytest.approx(0, abs=1e-6)
    assert found.error_per_part == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.shuffled_error > 0.25 and found.mean_position_error > 0.25
    assert (found.num_photos, found.num_train_photos) == (40, 40)


def test_the_mean_position_by_hand():
    """Half of the keypoints to fit to are at the left edge, half at the right: all are half a photo off."""
    points = np.array([[[0.0, 20.0]], [[40.0, 20.0]]] * 10, dtype=np.float32)
    read = readings(np.ones((20, 1, SIDE, SIDE)), points)
    found = keypoint_regression(read, read, ["head"])
    assert found.mean_position_error == pytest.approx(0.5)
    assert found.error == pytest.approx(0.5) and found.shuffled_error == pytest.approx(0.5)  # even maps tell nothing


def test_what_was_learned_is_not_what_is_measured():
    """A fit to other photos where the parts lie mirrored is wrong."""
    mirrored = following(1)
    parts = mirrored.parts.copy()
    parts[..., 0] = SIDE * PATCH - parts[..., 0]
    wrong = readings(mirrored.attentions, parts)
    assert keypoint_regression(following(0), wrong, NAMES).error > 0.3
    assert keypoint_regression(wrong, wrong, NAMES).error == pytest.approx(0, abs=1e-6)


def test_places_at_random_are_no_better_than_the_mean_position():
    found = keypoint_regression(at_random(0, 300), at_random(1, 1000), NAMES)
    assert found.error == pytest.approx(found.mean_position_error, rel=0.03)
    assert found.shuffled_error == pytest.approx(found.mean_position_error, rel=0.03)


@given(st.integers(0, 10_000))
def test_as_loops_and_scikit_learn_have_it(seed):
    test, train = at_random(seed, 9), at_random(seed + 1, 30)

    def centres(read: ConceptReadings) -> np.ndarray:
        rows = []
        for maps in read.attentions:
            row = []
            for of_concept in maps.astype(float):
                weights = of_concept / of_concept.sum()
                row.append(sum(weights[r, c] * (c + 0.5) / SIDE for r, c in np.ndindex(SIDE, SIDE)))
                row.append(sum(weights[r, c] * (r + 0.5) / SIDE for r, c in np.ndindex(SIDE, SIDE)))
            rows.append(row)
        return np.array(rows)

    distances = {part: [] for part in range(3)}
    from_mean = []
    for part in range(3):
        seen = ~np.isnan(train.parts[:, part, 0])
        fit = LinearRegression().fit(centres(train)[seen], train.parts[seen, part] / (SIDE * PATCH))
        for photo, where in zip(centres(test), test.parts[:, part] / (SIDE * PATCH), strict=True):
            if not np.isnan(where[0]):
                distances[part].append(np.hypot(*(fit.predict(photo[None])[0] - where)))
                from_mean.append(np.hypot(*(train.parts[seen, part].mean(0) / (SIDE * PATCH) - where)))
    found = keypoint_regression(test, train, NAMES)
    assert found.error == pytest.approx(np.mean(sum(distances.values(), [])), rel=1e-4)
    for part, per_part in enumerate(found.error_per_part):
        assert per_part == (pytest.approx(np.mean(distances[part]), rel=1e-4) if distances[part] else None)
    assert found.mean_position_error == pytest.approx(np.mean(from_mean), rel=1e-4)


def test_parts_that_are_seen_too_rarely_are_left_out():
    test, train = following(0), following(1)
    train.parts[5:, 2] = np.nan  # 5 photos for 5 coefficients
    test.parts[:, 0] = np.nan
    found = keypoint_regression(test, train, NAMES)
    assert found.error_per_part == [None, pytest.approx(0, abs=1e-6), None]
    train.parts[:, 1] = np.nan
    found = keypoint_regression(test, train, NAMES)
    assert found.error is found.shuffled_error is found.mean_position_error is None
    assert [row[1] for row in found.table().rows] == [None] * 3


def test_a_concept_that_sees_nothing_is_in_the_middle():
    """It tells nothing, and it does not spoil what the other concepts tell."""
    test, train = (
        readings(np.concatenate([np.zeros((40, 1, SIDE, SIDE)), read.attentions], axis=1), read.parts)
        for read in (following(0), following(1))
    )
    assert keypoint_regression(test, train, NAMES).error == pytest.approx(0, abs=1e-6)


def test_one_that_sees_nothing_at_times_is_in_the_middle_then():
    """As if it looked everywhere evenly."""
    with_nothing, with_even = [], []
    for seed in (0, 1):
        read = at_random(seed, 60)
        for value, filled in ((0, with_nothing), (1, with_even)):
            attentions = read.attentions.copy()
            attentions[::3, 0] = value
            filled.append(readings(attentions, read.parts))
    found, expected = (keypoint_regression(*both, NAMES) for both in (with_nothing, with_even))
    assert found.error_per_part == pytest.approx(expected.error_per_part, rel=1e-4)
    assert found.error == pytest.approx(expected.error, rel=1e-4)


def test_shares_of_the_sides_of_a_photo_that_is_not_square():
    points = np.array([[[0.0, 20.0]], [[80.0, 20.0]]] * 10, dtype=np.float32)
    read = readings(np.ones((20, 1, 4, 8)), points)  # 80 wide, 40 high
    assert keypoint_regression(read, read, ["head"]).mean_position_error == pytest.approx(0.5)
    read = readings(np.ones((20, 1, 4, 8)), points[..., ::-1] / 2)
    assert keypoint_regression(read, read, ["head"]).mean_position_error == pytest.approx(0.5)


def test_what_is_refused(moving):
    read = following(0)
    with pytest.raises(ValueError, match="have no parts"):
        keypoint_regression(readings(looking_at(moving)), read, NAMES)
    with pytest.raises(ValueError, match="have masks of parts"):
        keypoint_regression(read, readings(looking_at(moving), masks_of(moving)), NAMES)
    with pytest.raises(ValueError, match="2 part names for annotations of 3 parts"):
        keypoint_regression(read, read, ["head", "tail"])
