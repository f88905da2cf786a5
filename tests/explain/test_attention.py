"""Reading codes and concept attentions."""

import numpy as np
import pytest
import torch
from common import integer_labels, photos, tiny_model, tiny_tower
from made import Photos, looking_at, readings

from concepthash_hf.explain.attention import read_batch, read_concepts


@pytest.mark.parametrize("make", [tiny_model, tiny_tower])
def test_codes_and_attentions_are_the_models(make):
    model, pixels = make(), photos(5)
    parts = torch.rand(5, 2, 2)
    read = read_concepts(model, Photos(pixel_values=pixels, labels=integer_labels(5), parts=parts), batch_size=2)
    np.testing.assert_array_equal(read.codes, model.get_hash_codes(pixels).numpy())
    expected = model(pixels, output_attentions=True).concept_attentions.detach().numpy()
    np.testing.assert_allclose(read.attentions.reshape(5, 3, 9), expected, atol=1e-6)
    assert read.attentions.shape == (5, 3, 3, 3) and read.patch_size == 10 and read.num_concepts == 3
    np.testing.assert_array_equal(read.labels, integer_labels(5))
    np.testing.assert_array_equal(read.parts, parts)
    assert len(read) == 5
    np.testing.assert_array_equal(read.sub_codes.reshape(5, 12), read.code_logits > 0)


def test_attentions_follow_the_layout_of_the_photo():
    """The first row of patches is the upper edge: attention to it changes when that edge does."""
    tower, pixels = tiny_tower(), photos(1)
    _, before = read_batch(tower, pixels)
    pixels[:, :, :10] = 5
    _, after = read_batch(tower, pixels)
    change = (after / after.sum((2, 3), keepdim=True) - before / before.sum((2, 3), keepdim=True)).abs().sum((0, 1))
    assert change[0].sum() > change[1].sum() and change[0].sum() > change[2].sum()


def test_photos_without_labels_or_parts():
    read = read_concepts(tiny_tower(), Photos(pixel_values=photos(3)))
    assert read.labels is None and read.parts is None


def test_the_mode_of_the_model_stays():
    model = tiny_model({"prompt_dropout": 0.5}).train()
    one, other = (read_concepts(model, Photos(pixel_values=photos(2) * 0 + 1)) for _ in range(2))
    assert model.training
    np.testing.assert_array_equal(one.code_logits, other.code_logits)


def test_shares_and_peaks():
    cells = np.array([[(0, 3), (2, 1)], [(3, 3), (0, 0)]])
    read = readings(looking_at(cells) + 0.01)
    np.testing.assert_array_equal(read.peaks, cells)
    np.testing.assert_allclose(read.attention_shares.sum((2, 3)), 1, rtol=1e-6)
    assert read.attentions.sum((2, 3)).max() < 0.7


def test_the_peak_of_a_photo_that_is_not_square():
    attentions = np.zeros((1, 1, 3, 5))
    attentions[0, 0, 1, 4] = 1
    assert readings(attentions).peaks.tolist() == [[[1, 4]]]


def test_no_photos():
    with pytest.raises(ValueError, match="no photos"):
        read_concepts(tiny_tower(), Photos(pixel_values=photos(0)))
