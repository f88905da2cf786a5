"""Validation, k-shot, class-disjoint, and class-balanced sampling."""

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concepthash_hf.data import PhotoSplits, class_balanced_sampler
from concepthash_hf.data.labels import strata, stratified_split


def table(labels, names=("a", "b", "c", "d"), several=False, prefix=""):
    label = datasets.ClassLabel(names=list(names))
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.List(label) if several else label)
    paths = [f"{prefix}{row}.png" for row in range(len(labels))]
    return datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features)


def paths(photos):
    return [image["path"] for image in photos["image"][:]]


@pytest.fixture
def splits():
    return PhotoSplits(
        train=table([0] * 10 + [1] * 6 + [2] * 3 + [3]),
        query=table([0, 1, 2, 3, 0, 1], prefix="query"),
        name="letters",
    )


label_sets = st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=40)


@settings(deadline=None)
@given(label_sets, st.floats(0.01, 0.99), st.integers(0, 5))
def test_stratified_split_divides_and_keeps_one_of_each(labels, fraction, seed):
    kept, held_out = stratified_split(labels, fraction, seed)
    assert (
        sorted(kept + held_out) == list(range(len(labels))) and kept == sorted(kept) and held_out == sorted(held_out)
    )
    assert stratified_split(labels, fraction, seed) == (kept, held_out)
    assert {label for row in kept for label in labels[row]} == {label for row in labels for label in row}
    singles = [row[0] for row in labels if len(row) == 1]
    if all(len(row) == 1 for row in labels):
        for label in set(singles):
            size = singles.count(label)
            out = sum(singles[row] == label for row in held_out)
            assert out == (0 if size == 1 else min(max(round(fraction * size), 1), size - 1))


@pytest.mark.parametrize("seed", range(20))
def test_a_label_that_others_bear_beside_theirs_is_not_lost(seed):
    """Of either pair one photo is held out, but not both of those with label 2."""
    labels = [[0, 2], [0], [1, 2], [1]]
    kept, held_out = stratified_split(labels, 0.5, seed)
    assert len(held_out) == 2 and {label for row in kept for label in labels[row]} == {0, 1, 2}
    kept, held_out = stratified_split([[0, 2, 2], [0]], 0.5, seed)  # once is enough for a photo to bear it
    assert 0 in kept


def test_of_classes_that_are_equally_rare_a_photo_counts_for_the_first():
    """In whatever order it names them."""
    assert strata([[0, 1], [1, 0], [], [2, 1, 0], [2, 2]]) == {-1: [2], 0: [0, 1, 3], 2: [4]}


def test_validation_is_stratified_seeded_and_leaves_the_database(splits):
    held = splits.with_validation(0.2, seed=3)
    assert held.counts == {"classes": 4, "train": 16, "query": 6, "database": 20, "validation": 4}
    assert np.bincount(held.validation["label"][:], minlength=4).tolist() == [2, 1, 1, 0]
    assert not set(paths(held.train)) & set(paths(held.validation))
    assert paths(held.validation) == paths(splits.with_validation(0.2, seed=3).validation)
    assert paths(held.validation) != paths(splits.with_validation(0.2, seed=4).validation)
    assert paths(held.database) == paths(splits.train) and paths(held.query) == paths(splits.query)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        splits.with_validation(1.5)


def test_k_shot(splits):
    few = splits.k_shot(4, seed=1)
    assert np.bincount(few.train["label"][:]).tolist() == [4, 4, 3, 1] and few.counts["database"] == 20
    assert set(paths(splits.k_shot(2, seed=1).train)) < set(paths(few.train))
    assert paths(splits.k_shot(4, seed=2).train) != paths(few.train)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        splits.k_shot(0)


def test_k_shot_with_several_labels():
    labels = [[0, 1], [0], [1], [1, 2], [2], [0, 2], []] * 3
    few = PhotoSplits(train=table(labels, several=True), query=table([[0]], several=True)).k_shot(2)
    counts = np.bincount([label for row in few.train["label"][:] for label in row], minlength=3)
    assert (counts[:3] >= 2).all() and len(few.train) <= 6


def test_class_disjoint(splits):
    apart = splits.class_disjoint(0.5, seed=1)
    assert len(apart.class_names) == 2 and sorted(apart.class_names + apart.query_class_names) == ["a", "b", "c", "d"]
    old_names, old_labels = splits.class_names, dict(zip(paths(splits.train), splits.train["label"][:], strict=True))
    for photos, names in ((apart.train, apart.class_names), (apart.database, apart.query_class_names)):
        assert len(photos) > 0
        for path, label in zip(paths(photos), photos["label"][:], strict=True):
            assert names[label] == old_names[old_labels[path]]
    assert len(apart.train) + len(apart.database) == 20 and not set(paths(apart.train)) & set(paths(apart.database))
    assert {apart.query_class_names[label] for label in apart.query["label"][:]} == set(apart.query_class_names)
    assert splits.class_disjoint(0.5, seed=1).class_names == apart.class_names


def test_class_disjoint_by_name_and_after_validation(splits):
    apart = splits.with_validation(0.3).class_disjoint(["d", "b"])
    assert apart.class_names == ("b", "d") and apart.query_class_names == ("a", "c")
    assert set(apart.validation["label"][:]) == {0}  # the only photo of d stays in train
    with pytest.raises(ValueError, match=r"unknown classes \['z'\]"):
        splits.class_disjoint(["a", "z"])
    with pytest.raises(ValueError, match="leaves 1 classes to train on and 3"):
        splits.class_disjoint(["a"])
    with pytest.raises(ValueError, match="leaves 4 classes to train on and 0"):
        splits.class_disjoint(1)
    several = PhotoSplits(train=table([[0], [1]], several=True), query=table([[0]], several=True))
    with pytest.raises(ValueError, match="one label a photo"):
        several.class_disjoint()


def test_splits_need_to_see_the_photos(splits):
    stream = PhotoSplits(train=splits.train.to_iterable_dataset(), query=splits.query.to_iterable_dataset())
    assert stream.counts == {"classes": 4}
    for method in (stream.with_validation, stream.class_disjoint, stream.without_bad_images, lambda: stream.k_shot(1)):
        with pytest.raises(ValueError, match="streaming=False"):
            method()


def test_splits_cannot_be_changed(splits):
    with pytest.raises(AttributeError):
        splits.name = "numbers"


def test_sampler_draws_classes_equally_often():
    labels = [0] * 900 + [1] * 90 + [2] * 10
    drawn = list(class_balanced_sampler(labels, 30_000, generator=torch.Generator().manual_seed(0)))
    shares = np.bincount(np.array(labels)[drawn]) / len(drawn)
    assert np.abs(shares - 1 / 3).max() < 0.015  # five standard deviations
    within = np.bincount(drawn, minlength=1000)[:900]
    assert within.max() < 40 and (within > 0).mean() > 0.99
    assert len(class_balanced_sampler(labels)) == len(class_balanced_sampler(np.array(labels))) == 1000
    again = list(class_balanced_sampler(labels, 30_000, generator=torch.Generator().manual_seed(0)))
    assert again == drawn


def test_sampler_counts_a_photo_for_its_rarest_label():
    labels = [[0]] * 98 + [[0, 1], [1]]
    drawn = list(class_balanced_sampler(labels, 10_000, generator=torch.Generator().manual_seed(0)))
    assert abs(np.mean(np.array(drawn) >= 98) - 0.5) < 0.03
    with pytest.raises(ValueError, match="no labels"):
        class_balanced_sampler([])
