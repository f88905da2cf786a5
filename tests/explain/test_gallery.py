"""Photos grouped by sub-code, cropped to where the concept looks."""

import numpy as np
import pytest
from pictures import pixels_of, places
from PIL import Image

from concepthash_hf.explain import ConceptReadings, concept_gallery
from concepthash_hf.explain.crops import attended_box

# two concepts of two bits; the second concept's sub-codes are all the same
SUB_CODES = np.array([[0, 1], [1, 1], [0, 1], [1, 0], [0, 1], [0, 1], [1, 1]], dtype=bool)
LABELS = np.array([0, 1, 0, 2, 0, 1, 1])


def readings(labels: np.ndarray | None = LABELS) -> ConceptReadings:
    """Every photo's first concept looks at a patch of its own, the second at the upper left."""
    bits = np.concatenate([SUB_CODES, np.ones_like(SUB_CODES)], axis=1)
    attentions = np.zeros((len(bits), 2, 5, 5), dtype=np.float32)
    for row in range(len(bits)):
        attentions[row, 0, 4 - row % 2, row % 5] = 0.9
    attentions[:, 1, 0, 0] = 0.9
    return ConceptReadings(np.where(bits, 1.5, -0.5).astype(np.float32), attentions, patch_size=6, labels=labels)


class Album:
    """Photos of noise, and how often each was asked for."""

    def __init__(self):
        self.asked_for: list[int] = []

    def photo(self, row: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(row).integers(0, 256, (50, 50, 3), dtype=np.uint8))

    def __call__(self, row: int) -> Image.Image:
        self.asked_for.append(row)
        return self.photo(row)


def test_groups_are_the_most_frequent_sub_codes():
    gallery = concept_gallery(readings(), Album(), crop_size=20)
    assert gallery.num_values == (3, 1) and gallery.num_photos == 7
    first, second = gallery.groups
    assert [group.bits.tolist() for group in first] == [[False, True], [True, True], [True, False]]
    assert [group.rows.tolist() for group in first] == [[0, 2, 4, 5], [1, 6], [3]]
    assert [group.rows.tolist() for group in second] == [list(range(7))]
    for group in (*first, *second):
        assert (readings().sub_codes[group.rows, group.concept] == group.bits).all()


def near_readings(number: int, flips: int, seed: int = 0) -> ConceptReadings:
    """One concept of 16 bits: photos of three kinds, each with another few bits of its kind's sub-code flipped."""
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, 2, (3, 16)).astype(bool)
    bits = kinds[np.arange(number) % 3]
    for row in range(number):
        bits[row, generator.choice(16, flips, replace=False)] ^= True
    attentions = np.full((number, 1, 5, 5), 0.01, dtype=np.float32)
    return ConceptReadings(np.where(bits, 1.0, -1.0).astype(np.float32), attentions, 6, np.arange(number) % 3)


def test_near_sub_codes_are_put_together_where_equal_ones_are_rare():
    near = near_readings(60, flips=1)
    gallery = concept_gallery(near, Album(), num_groups=3, crop_size=20)
    (radius,) = gallery.radii
    assert radius == 2  # from the sub-code of one photo to those of others of its kind
    (groups,) = gallery.groups
    assert len(np.unique(np.concatenate([group.rows for group in groups]))) == sum(len(group.rows) for group in groups)
    for group in groups:
        differing = (near.sub_codes[group.rows, 0] != group.bits).sum(1)
        assert differing.max() <= radius and (near.labels[group.rows] == near.labels[group.rows[0]]).all()
        assert len(group.rows) == 20


def test_equal_sub_codes_stay_by_themselves_where_they_are_common():
    equal = concept_gallery(near_readings(60, flips=0), Album(), crop_size=20)
    assert equal.radii == (0,) and [len(group.rows) for group in equal.groups[0]] == [20, 20, 20]


def test_near_has_an_end():
    """Photos with nothing in common are not put together: a quarter of the bits may differ, no more."""
    strangers = near_readings(40, flips=8)
    gallery = concept_gallery(strangers, Album(), crop_size=20)
    assert gallery.radii == (4,)
    for group in gallery.groups[0]:
        assert (strangers.sub_codes[group.rows, 0] != group.bits).sum(1).max() <= 4


def test_the_classes_of_a_group_take_turns():
    gallery = concept_gallery(readings(), Album(), num_photos=4, crop_size=20)
    (first, *_), (second,) = gallery.groups
    assert first.shown.tolist() == [0, 5, 2, 4]
    # three of class 0, three of class 1, one of class 2
    assert sorted(LABELS[second.shown[:3]].tolist()) == [0, 1, 2] and len(second.shown) == 4


def test_without_labels_and_with_several():
    unknown = concept_gallery(readings(labels=None), Album(), num_photos=3, crop_size=20)
    assert unknown.groups[0][0].shown.tolist() == [0, 2, 4]
    multi_hot = np.eye(3)[LABELS]
    several = concept_gallery(readings(labels=multi_hot), Album(), num_photos=4, crop_size=20)
    assert several.groups[0][0].shown.tolist() == [0, 5, 2, 4]


def test_crops_show_where_the_concept_looks():
    album = Album()
    gallery = concept_gallery(readings(), album, crop_size=20)
    for groups in gallery.groups:
        for group in groups:
            for row, crop in zip(group.shown, group.crops, strict=True):
                box = attended_box(readings().attentions[row, group.concept], 50)
                assert crop == album.photo(row).crop(box).resize((20, 20), Image.Resampling.LANCZOS)
    assert sorted(album.asked_for) == list(range(7)), "every photo is read once"


def test_not_more_than_asked_for():
    album = Album()
    gallery = concept_gallery(readings(), album, num_groups=2, num_photos=1, crop_size=20)
    assert [len(groups) for groups in gallery.groups] == [2, 1]
    assert all(len(group.crops) == 1 for groups in gallery.groups for group in groups)
    assert len(album.asked_for) < 7


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_figure_has_a_row_for_every_group(columns):
    gallery = concept_gallery(readings(), Album(), crop_size=20)
    figure = gallery.figure(columns)
    corners = []
    for groups in gallery.groups:
        tops = []
        for group in groups:
            found = [places(figure, crop) for crop in group.crops]
            assert all(len(place) == 1 for place in found)
            rows, lefts = zip(*(place[0] for place in found), strict=True)
            assert len(set(rows)) == 1 and list(lefts) == sorted(lefts)
            tops.append(rows[0])
        assert tops == sorted(set(tops))
        corners.append((tops[0], lefts[0]))
    (top, left), (other_top, other_left) = corners
    assert (other_top > top and other_left == left) if columns == 1 else (other_top == top and other_left > left)
    assert (pixels_of(figure)[:, -4:] == 255).all()


def test_nothing_to_show():
    with pytest.raises(ValueError, match="num_photos=0"):
        concept_gallery(readings(), Album(), num_photos=0)
