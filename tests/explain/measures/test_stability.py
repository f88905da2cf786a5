"""Bits that stay when a photo is mirrored, cropped or compressed."""

import itertools

import numpy as np
import pytest
import torch
from common import photos, tiny_model
from made import Photos, RowReader
from PIL import Image
from transformers import CLIPImageProcessor

from concepthash_hf.codes import unpack_bits
from concepthash_hf.explain.measures.stability import stability

PROCESSOR = CLIPImageProcessor()


def test_rows_stay_when_mirrored():
    found = stability(RowReader(), Photos(pixel_values=torch.randn(8, 3, 20, 20)), PROCESSOR, batch_size=3)
    assert found.flip == {"same_bits": 1, "same_bits_per_concept": [1, 1, 1, 1]}
    assert found.num_photos == 8


def test_a_crop_loses_the_border():
    """The first row of patches shows what lay further in, which is dark."""
    pixels = torch.zeros(3, 3, 20, 20)
    pixels[:, :, 0] = 1
    found = stability(RowReader(), Photos(pixel_values=pixels), PROCESSOR, crop=0.7)
    assert found.crop["same_bits_per_concept"] == [0.5, 1, 1, 1]
    assert stability(RowReader(), Photos(pixel_values=pixels), PROCESSOR, crop=1).crop["same_bits"] == 1


def test_jpeg_is_what_pil_writes(tmp_path):
    generator = np.random.default_rng(0)
    images = [Image.fromarray(generator.integers(0, 256, (30, 30, 3), dtype=np.uint8)) for _ in range(4)]
    model = tiny_model()

    def bits(pictures: list[Image.Image]) -> np.ndarray:
        processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
        return unpack_bits(model.get_hash_codes(**processor(pictures, return_tensors="pt")).numpy(), 12)

    pixels = CLIPImageProcessor(do_resize=False, do_center_crop=False)(images, return_tensors="pt")["pixel_values"]
    compressed = []
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.jpg", quality=5)
        compressed.append(Image.open(tmp_path / f"{number}.jpg"))
    found = stability(model, Photos(pixel_values=pixels), PROCESSOR, jpeg_quality=5)
    expected = (bits(images) == bits(compressed)).mean()
    assert found.jpeg["same_bits"] == pytest.approx(expected, abs=0.05)
    assert expected < 1


def test_chance_is_what_different_photos_share():
    model, pixels = tiny_model(), photos(6)
    codes = unpack_bits(model.get_hash_codes(pixels).numpy(), 12)
    expected = np.mean([(codes[i] == codes[j]).mean() for i, j in itertools.combinations(range(6), 2)])
    found = stability(model, Photos(pixel_values=pixels), PROCESSOR)
    assert found.chance == pytest.approx(expected)
    flipped = unpack_bits(model.get_hash_codes(pixels.flip(-1)).numpy(), 12)
    assert found.flip["same_bits"] == pytest.approx((codes == flipped).mean())


def test_what_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        stability(RowReader(), Photos(pixel_values=torch.ones(1, 3, 20, 20)), PROCESSOR)
    for options in ({"crop": 0}, {"crop": 1.1}, {"jpeg_quality": 0}):
        with pytest.raises(ValueError, match="crop lies in"):
            stability(RowReader(), Photos(pixel_values=torch.ones(2, 3, 20, 20)), PROCESSOR, **options)
