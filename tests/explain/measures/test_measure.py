"""One door to all that is quick to measure."""

import numpy as np
import pytest
import torch
from common import TINY_VISION, photos, tiny_model
from made import Photos

from concepthash_hf.explain import measure_concepts, read_concepts
from concepthash_hf.explain.measures.faithfulness import faithfulness
from concepthash_hf.explain.measures.keypoint_regression import keypoint_regression
from concepthash_hf.explain.measures.localisation import localisation
from concepthash_hf.explain.measures.measure import spread

NAMES = ["head", "tail"]


def with_points(number: int) -> Photos:
    return Photos(pixel_values=photos(number), parts=TINY_VISION["image_size"] * torch.rand(number, 2, 2))


def test_everything_that_points_allow():
    model, test, train = tiny_model(), with_points(12), with_points(20)
    found = measure_concepts(model, test, NAMES, train, max_photos_to_hide_in=5, seed=3)
    expected = ["localisation", "part_discovery", "keypoint_regression", "diversity", "faithfulness", "region_only"]
    assert list(found) == expected
    read, read_train = read_concepts(model, test), read_concepts(model, train)
    assert found["localisation"] == localisation(read, NAMES, 3)
    assert found["keypoint_regression"] == keypoint_regression(read, read_train, NAMES, 3)
    some = torch.utils.data.Subset(test, [1, 3, 6, 8, 10])
    assert found["faithfulness"] == faithfulness(model, some, seed=3)
    assert measure_concepts(model, test, NAMES, train, read, max_photos_to_hide_in=5, seed=3) == found


def test_of_many_photos_a_part_is_fitted_to(monkeypatch):
    monkeypatch.setattr("concepthash_hf.explain.measures.measure._MOST_TRAIN_PHOTOS", 15)
    model, test, train = tiny_model(), with_points(6), with_points(20)
    found = measure_concepts(model, test, NAMES, train)["keypoint_regression"]
    read_train = read_concepts(model, spread(train, 15))
    assert found == keypoint_regression(read_concepts(model, test), read_train, NAMES)
    assert found.num_train_photos == 15


def test_what_is_not_known_is_left_out():
    plain = Photos(pixel_values=photos(4))
    assert list(measure_concepts(tiny_model(), plain)) == ["diversity", "faithfulness", "region_only"]
    assert list(measure_concepts(tiny_model({"num_concepts": 1}), plain)) == ["region_only"]
    masks = torch.randint(0, 3, (4, 30, 30), dtype=torch.uint8)
    masked = Photos(pixel_values=photos(4), parts=masks)
    assert "keypoint_regression" not in measure_concepts(tiny_model(), masked, NAMES, masked)


def test_what_is_refused():
    with pytest.raises(ValueError, match="no part annotations"):
        measure_concepts(tiny_model(), Photos(pixel_values=photos(4)), NAMES)
    with pytest.raises(ValueError, match="no photos to explain"):
        measure_concepts(tiny_model(), Photos(pixel_values=photos(0)))


def test_spread():
    assert list(spread(range(10), 3).indices) == [1, 5, 8]
    assert list(spread(range(3), 10).indices) == [0, 1, 2]
    np.testing.assert_array_equal(np.diff(spread(range(1000), 250).indices), 4)
