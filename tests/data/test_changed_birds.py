"""Toy birds with one part changed."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from concepthash_hf.data.changed_birds import CHANGED_PARTS, ChangedBirds
from concepthash_hf.data.toy_birds import draw_bird, toy_birds


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@pytest.fixture(scope="module")
def birds(tmp_path_factory) -> datasets.Dataset:
    return toy_birds(train_per_species=1, test_per_species=1)["test"]


def test_only_the_part_changes(birds):
    changed = ChangedBirds(birds, as_tensor)
    assert len(changed) == len(birds) == 24
    for row in (0, 17):
        item = changed[row]
        original = torch.from_numpy(np.array(birds[row]["image"])).permute(2, 0, 1)
        assert torch.equal(item["pixel_values"], original.float())
        bird = draw_bird(birds.features["label"].names[birds[row]["label"]], birds[row]["seed"])
        assert item["changed"].shape == (len(CHANGED_PARTS), 3, 96, 96)
        for part, picture in zip(CHANGED_PARTS, item["changed"], strict=True):
            elsewhere = torch.from_numpy(bird.coverage(part) == 0)
            differs = (picture != item["pixel_values"]).any(0)
            assert differs.any(), part
            assert not (differs & elsewhere).any(), part


def test_the_same_at_every_reading_and_other_values_with_another_seed(birds):
    one, again, other = (ChangedBirds(birds, as_tensor, seed)[3]["changed"] for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_real_photos_cannot_be_drawn_again():
    photos = datasets.Dataset.from_dict({"image": ["a.jpg"], "label": [0]})
    with pytest.raises(ValueError, match="only toy birds.*'seed'"):
        ChangedBirds(photos, as_tensor)
