"""Families of classes, as photos name them."""

import datasets
import pytest

from concepthash_hf.data import PhotoSplits, class_families

NAMES = ["wren", "jay", "owl"]
WORDS, NUMBERS = datasets.Value("string"), datasets.Value("int64")
CHOICE = datasets.ClassLabel(names=["finch", "gull"])


def split_of(labels: list, families: list, family=WORDS, label=None) -> datasets.Dataset:
    """Photos, but for the pictures."""
    features = datasets.Features({"label": label or datasets.ClassLabel(names=NAMES), "family": family})
    return datasets.Dataset.from_dict({"label": labels, "family": families}, features=features)


@pytest.mark.parametrize(
    ("family", "values", "expected"),
    [
        (WORDS, ["finch", None, "gull", ""], {"wren": "finch", "owl": "gull"}),
        (NUMBERS, [7, None, 0, None], {"wren": "7", "owl": "0"}),
        (CHOICE, [0, -1, 1, None], {"wren": "finch", "owl": "gull"}),
        (datasets.List(WORDS), [["finch"]] * 4, {}),
    ],
)
def test_every_split_tells_what_it_knows(family, values, expected):
    splits = PhotoSplits(
        train=split_of([0, 1], values[:2], family),
        query=split_of([2, 1], values[2:], family),
        database=split_of([0], [None], family),
    )
    assert class_families(splits) == expected


def test_what_says_nothing():
    photos = split_of([0, 1, 2], ["finch", "gull", "gull"])
    bare = photos.remove_columns("family")
    assert class_families(PhotoSplits(train=photos, query=bare)) == {"wren": "finch", "jay": "gull", "owl": "gull"}
    assert class_families(PhotoSplits(train=bare, query=bare)) == {}
    assert class_families(PhotoSplits(train=photos.to_iterable_dataset(), query=bare)) == {}
    several = split_of([[0, 1], [2]], ["finch", "gull"], label=datasets.List(datasets.ClassLabel(names=NAMES)))
    assert class_families(PhotoSplits(train=several, query=several)) == {}
