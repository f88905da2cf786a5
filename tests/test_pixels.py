"""Pixel values without torch, against the image processor itself: not nearly the same, the same."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from real_photos import photo_files
from transformers import CLIPImageProcessor

from concepthash_hf.data import decode_image
from concepthash_hf.pixels import PixelProcessor

SIDES = st.integers(1, 300)


def processors(folder, shortest_edge: int, crop: int, **settings) -> tuple[CLIPImageProcessor, PixelProcessor]:
    theirs = CLIPImageProcessor(size={"shortest_edge": shortest_edge}, crop_size=crop, **settings)
    theirs.save_pretrained(folder)
    return theirs, PixelProcessor.load(folder)


def check(theirs: CLIPImageProcessor, ours: PixelProcessor, picture: Image.Image) -> None:
    expected = theirs(picture, return_tensors="np")["pixel_values"][0]
    found = ours(picture)
    assert found.dtype == expected.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@given(width=SIDES, height=SIDES, shortest_edge=st.integers(8, 96), crop=st.integers(8, 96), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_any_picture_any_size(tmp_path_factory, width, height, shortest_edge, crop, seed):
    """Noise, which hides no rounding: larger, smaller, slivers, crops beyond the picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    check(*processors(tmp_path_factory.mktemp("processor"), shortest_edge, crop), Image.fromarray(noise))


def test_real_photos(shared_dir, tmp_path):
    both = processors(tmp_path, 256, 224, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    for file in photo_files(shared_dir, 40):
        check(*both, decode_image(file))


@pytest.mark.parametrize(
    "changes",
    [
        {"resample": 2},
        {"do_center_crop": False},
        {"size": {"height": 224, "width": 224}},
        {"crop_size": {"height": 224, "width": 200}},
        {"crop_size": 224},
        {"image_mean": None},
    ],
    ids=str,
)
def test_what_it_does_not_do_is_refused(tmp_path, changes):
    processors(tmp_path, 256, 224)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match="preprocessor_config.json is no image processor of a ConceptHash model"):
        PixelProcessor.load(tmp_path)


def test_none_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"preprocessor_config\.json"):
        PixelProcessor.load(tmp_path)
