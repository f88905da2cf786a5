"""Which part a concept points at: by hand, against naive loops, and what is refused."""

import numpy as np
import pytest
from made import PATCH, SIDE, centre, looking_at, masks_of, readings

from concepthash_hf.explain.measures.localisation import localisation


def test_concepts_that_follow_a_point_each(moving):
    found = localisation(readings(looking_at(moving), centre(moving)), ["head", "tail"])
    assert found.kind == "points" and found.num_photos == 12
    assert found.own_part == ["head", "tail"]
    np.testing.assert_allclose(found.score, np.eye(2))
    # a part in a corner is hit from 4 of 16 patches
    np.testing.assert_allclose(found.chance, [0.25, 0.25])
    np.testing.assert_allclose(found.own_times_chance, [4, 4])
    assert found.times_chance == pytest.approx(4)
    assert found.any_part == pytest.approx([1, 1]) and found.any_part_chance == pytest.approx(0.5)
    assert found.consistency == [1, 1]


def test_neighbours_are_hit_by_both_and_picked_by_one():
    """A hit may lie beside the part."""
    cells = np.array([[(1, 1), (1, 2)], [(2, 2), (2, 1)], [(0, 1), (1, 1)], [(3, 0), (2, 0)]])
    found = localisation(readings(looking_at(cells), centre(cells)), ["head", "throat"])
    np.testing.assert_allclose(found.score, np.ones((2, 2)))
    assert found.consistency == [1, 1]


def test_a_concept_that_never_moves_is_not_above_other_photos():
    """It hits the part that is always there, far above chance; its gaze in other photos does as well."""
    cells = np.array([[(0, 0), (3, 3)]] * 10)
    found = localisation(readings(looking_at(cells), centre(cells)), ["head", "tail"])
    assert found.times_chance == pytest.approx(4)
    assert found.times_other_photos == pytest.approx(1)
    np.testing.assert_allclose(found.other_photos, np.eye(2))


def test_mass_inside_masks(moving):
    attentions = looking_at(moving, height=0.3)
    attentions[:, 0] *= 0.5
    attentions[np.arange(12), 0, moving[:, 1, 0], moving[:, 1, 1]] = 0.05  # a quarter of the gaze on the other part
    found = localisation(readings(attentions, masks_of(moving)), ["head", "tail"])
    assert found.kind == "masks"
    np.testing.assert_allclose(found.score, [[0.75, 0.25], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(found.chance, [1 / 16, 1 / 16])
    np.testing.assert_allclose(found.own_times_chance, [12, 16], rtol=1e-6)
    np.testing.assert_allclose(found.any_part, [1, 1], rtol=1e-6)
    assert found.any_part_chance == pytest.approx(2 / 16)
    assert found.consistency_chance == pytest.approx(1 / 16)


def test_looking_beside_every_part(moving):
    cells = np.full_like(moving, 1)  # the parts are in corners
    found = localisation(readings(looking_at(cells), masks_of(moving)), ["head", "tail"])
    assert found.times_chance == 0 and found.consistency == [0, 0] and found.any_part == [0, 0]


def test_a_part_that_no_photo_shows(moving):
    points = centre(moving)
    points = np.concatenate([points, np.full((12, 1, 2), np.nan, dtype=np.float32)], axis=1)
    found = localisation(readings(looking_at(moving), points), ["head", "tail", "wing"])
    assert found.chance[2] is None and found.score[0][2] is None
    assert found.own_part == ["head", "tail"] and found.times_chance == pytest.approx(4)


def naive_point_hit(peak, point) -> bool:
    row, column = int(point[1] // PATCH), int(point[0] // PATCH)
    return any((peak[0] + dy, peak[1] + dx) == (row, column) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_points_as_naive_loops_count_them(seed):
    generator = np.random.default_rng(seed)
    attentions = generator.random((7, 3, SIDE, SIDE))
    points = generator.uniform(0, SIDE * PATCH, (7, 2, 2)).astype(np.float32)
    points[generator.random((7, 2)) < 0.3] = np.nan
    points[0, :] = [[1, 1], [25, 38]]  # each part is seen
    read = readings(attentions, points)
    found = localisation(read, ["a", "b"])
    for part in range(2):
        shown = [photo for photo in range(7) if not np.isnan(points[photo, part]).any()]
        cells = [(row, column) for row in range(SIDE) for column in range(SIDE)]
        chance = [naive_point_hit(cell, points[photo, part]) for photo in shown for cell in cells]
        assert found.chance[part] == pytest.approx(np.mean(chance))
        for concept in range(3):
            peaks = [np.unravel_index(attentions[photo, concept].argmax(), (SIDE, SIDE)) for photo in range(7)]
            hits = [naive_point_hit(peaks[photo], points[photo, part]) for photo in shown]
            assert found.score[concept][part] == pytest.approx(np.mean(hits))
            others = [
                naive_point_hit(peaks[other], points[photo, part])
                for photo in shown
                for other in range(7)
                if other != photo
            ]
            assert found.other_photos[concept][part] == pytest.approx(np.mean(others))
    # consistency: the nearest part within a hit
    picks = np.full((7, 3), -1)
    for photo, concept in np.ndindex(7, 3):
        peak = np.array(np.unravel_index(attentions[photo, concept].argmax(), (SIDE, SIDE)))
        near = [part for part in range(2) if naive_point_hit(tuple(peak), np.nan_to_num(points[photo, part], nan=-99))]
        middle = (peak[::-1] + 0.5) * PATCH
        if near:
            picks[photo, concept] = min(near, key=lambda part: np.hypot(*(points[photo, part] - middle)))
    expected = [max(np.mean(picks[:, concept] == part) for part in range(2)) for concept in range(3)]
    np.testing.assert_allclose(found.consistency, expected)


def test_masks_as_naive_loops_count_them():
    generator = np.random.default_rng(3)
    attentions = generator.random((4, 2, SIDE, SIDE))
    masks = generator.integers(0, 4, (4, SIDE * PATCH, SIDE * PATCH), dtype=np.uint8)
    found = localisation(readings(attentions, masks), ["a", "b", "c"])
    for concept in range(2):
        for part in range(3):
            mass = []
            for photo in range(4):
                share = attentions[photo, concept] / attentions[photo, concept].sum()
                by_pixel = np.kron(share, np.ones((PATCH, PATCH))) / PATCH**2
                mass.append(by_pixel[masks[photo] == part + 1].sum())
            assert found.score[concept][part] == pytest.approx(np.mean(mass), rel=1e-5)
            assert found.chance[part] == pytest.approx((masks == part + 1).mean(), rel=1e-5)


def test_random_gazes_are_at_chance():
    """The best of nine parts, chosen and measured on the same photos, would be far above it."""
    generator = np.random.default_rng(0)
    gaze, parts = (generator.integers(0, SIDE, (400, number, 2)) for number in (4, 9))
    found = localisation(readings(looking_at(gaze), centre(parts)), [f"part {i}" for i in range(9)])
    assert found.times_chance == pytest.approx(1, abs=0.12)
    assert found.times_other_photos == pytest.approx(1, abs=0.12)


def test_a_part_is_chosen_on_either_half_and_measured_on_the_other():
    """Concept by concept, in loops; the halves are not those of a shuffle by the same seed."""
    generator = np.random.default_rng(7)
    attentions = generator.random((20, 3, SIDE, SIDE)) ** 8
    points = generator.uniform(0, SIDE * PATCH, (20, 2, 2)).astype(np.float32)
    found = localisation(readings(attentions, points), ["a", "b"], seed=5)
    half = np.random.default_rng([5, 20]).permutation(20) % 2 == 0
    assert not np.array_equal(half, np.random.default_rng(5).permutation(20) % 2 == 0)
    sides = [localisation(readings(attentions[side], points[side]), ["a", "b"]) for side in (half, ~half)]
    for concept in range(3):
        over_chance, over_others = [], []
        for chosen_on, measured_on in (sides, sides[::-1]):
            own = max((0, 1), key=lambda part: chosen_on.score[concept][part] / chosen_on.chance[part])
            score = measured_on.score[concept][own]
            over_chance.append(score / measured_on.chance[own])
            over_others.append(score / measured_on.other_photos[concept][own])
        assert found.own_times_chance[concept] == pytest.approx(np.mean(over_chance))
        assert found.own_times_other_photos[concept] == pytest.approx(np.mean(over_others))


def test_a_part_that_is_nowhere_else():
    """Where the gaze in other photos never meets the part, there is nothing to be times of."""
    cells = np.array([[(0, 0)], [(0, 3)], [(3, 0)], [(3, 3)]])
    found = localisation(readings(looking_at(cells), centre(cells)), ["head"])
    assert found.times_chance == pytest.approx(4) and found.other_photos == [[0]]
    assert found.times_other_photos is None and found.own_times_other_photos == [None]


def test_too_few_photos_to_halve(moving):
    with pytest.raises(ValueError, match="3 photos are too few"):
        localisation(readings(looking_at(moving[:3]), centre(moving[:3])), ["head", "tail"])
    points = centre(moving)
    points[1:] = np.nan  # seen once
    with pytest.raises(ValueError, match="seen in both halves"):
        localisation(readings(looking_at(moving), points), ["head", "tail"])


def test_photos_without_annotations_are_refused(moving):
    with pytest.raises(ValueError, match="no part annotations.*with_parts=True"):
        localisation(readings(looking_at(moving)), ["head", "tail"])


def test_names_of_other_parts_are_refused(moving):
    read = readings(looking_at(moving), centre(moving))
    with pytest.raises(ValueError, match="3 part names for annotations of 2 parts"):
        localisation(read, ["head", "tail", "wing"])
    with pytest.raises(ValueError, match="1 part names for annotations of 2 parts"):
        localisation(readings(looking_at(moving), masks_of(moving)), ["head"])


def test_photos_that_show_no_part_are_refused(moving):
    nothing = np.full((12, 2, 2), np.nan, dtype=np.float32)
    with pytest.raises(ValueError, match="no photo shows any"):
        localisation(readings(looking_at(moving), nothing), ["head", "tail"])
