"""Hashing a whole collection on one process (for two: tests/distributed)."""

import numpy as np
import pytest
import torch
from common import NUM_CLASSES
from runs import NumberedPhotos, NumberReader, TinyPhotos, forget_accelerate, untrained

from concepthash_hf import hashing
from concepthash_hf.hashing import default_workers, hash_dataset
from concepthash_hf.scripts import encode, evaluate, explain
from concepthash_hf.training import ConceptHashTrainingArguments


@pytest.fixture(autouse=True)
def _new_process() -> None:
    forget_accelerate()


@pytest.mark.parametrize("number", [1, 3, 4, 5, 37])
def test_every_photo_is_hashed_once_and_in_order(number):
    codes, labels = hash_dataset(NumberReader(), NumberedPhotos(number), batch_size=4)
    assert (codes.dtype, labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(codes[:, 0], np.arange(number))
    np.testing.assert_array_equal(labels, 1000 + np.arange(number))


def test_codes_do_not_depend_on_batches_workers_or_the_mode():
    model, photos = untrained(), TinyPhotos(19)
    model.train()
    expected = model.get_hash_codes(photos.photos).numpy()
    for settings in ({"batch_size": 7}, {"batch_size": 19, "num_workers": 2}):
        codes, labels = hash_dataset(model, photos, **settings)
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(labels, photos.labels)
    assert model.training


def test_multi_hot_labels_are_kept():
    photos = TinyPhotos(10)
    photos.labels = torch.eye(NUM_CLASSES)[photos.labels] + torch.eye(NUM_CLASSES)[(photos.labels + 2) % NUM_CLASSES]
    _, labels = hash_dataset(untrained(), photos, batch_size=4)
    np.testing.assert_array_equal(labels, photos.labels)


@pytest.mark.parametrize(
    ("cores", "processes", "expected"),
    [(1, None, 0), (2, None, 1), (8, None, 7), (8, "2", 3), (8, "16", 0), (99, "1", 16)],
)
def test_workers_by_default_beside_a_gpu(cores, processes, expected, monkeypatch):
    monkeypatch.setattr(hashing, "on_cpu", lambda: True)
    assert ConceptHashTrainingArguments().dataloader_num_workers == 0
    monkeypatch.setattr(hashing, "on_cpu", lambda: False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(hashing, "cores", lambda: cores)
    if processes is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_workers() == ConceptHashTrainingArguments().dataloader_num_workers == expected
    words = {"model_name_or_path": "model", "dataset": "photos", "output_dir": "here"}
    for script in (encode, evaluate, explain):
        assert script.Arguments(**words).dataloader_num_workers == expected
