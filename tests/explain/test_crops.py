"""Which part of a photo the model sees, and which part of that a concept looks at."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from transformers import CLIPImageProcessor

from concepthash_hf.data import decode_image
from concepthash_hf.explain.crops import attended_box, photo_as_seen

SIZE = 64
ATTENTIONS = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(0, 1, width=16, allow_subnormal=False),
)


def processor(**changes) -> CLIPImageProcessor:
    return CLIPImageProcessor(**({"size": {"shortest_edge": 73}, "crop_size": SIZE} | changes))


def place_of_every_pixel(width: int, height: int) -> Image.Image:
    """Red says how far to the right, green how far down."""
    down, across = np.mgrid[:height, :width]
    pixels = np.stack([255 * across / (width - 1), 255 * down / (height - 1), np.zeros_like(across)], axis=-1)
    return Image.fromarray(pixels.round().astype(np.uint8))


def what_the_model_gets(photo: Image.Image, image_processor: CLIPImageProcessor) -> np.ndarray:
    pixel_values = image_processor(photo, return_tensors="pt")["pixel_values"][0]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (image_processor.image_mean, image_processor.image_std))
    return ((pixel_values * std + mean) * 255).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(640, 480), (300, 500), (400, 400), (90, 80)])
@pytest.mark.parametrize(
    "changes", [{}, {"size": {"shortest_edge": SIZE}}, {"size": {"height": 80, "width": 70}}], ids=str
)
def test_shows_what_the_model_gets_at_the_resolution_of_the_photo(size, changes):
    photo, image_processor = place_of_every_pixel(*size), processor(**changes)
    seen = photo_as_seen(photo, image_processor)
    shrunk = np.asarray(seen.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(shrunk - what_the_model_gets(photo, image_processor)).max() < 6
    assert seen.width == seen.height
    if "height" not in image_processor.size:
        assert seen.width == round(min(size) * SIZE / image_processor.size["shortest_edge"])


def test_a_real_photo(shared_dir):
    file = next((shared_dir / "data" / "cub100" / "test" / "Blue_Jay").glob("*.jpg"))
    photo, image_processor = decode_image(file), processor(size={"shortest_edge": 256}, crop_size=224)
    seen = photo_as_seen(photo, image_processor)
    assert seen.width == round(min(photo.size) * 224 / 256)
    shrunk = np.asarray(seen.resize((224, 224), Image.Resampling.BICUBIC), dtype=float)
    expected = what_the_model_gets(photo, image_processor)
    # another grid of pixels, so edges differ a little
    assert np.abs(shrunk - expected).mean() < 4
    assert np.corrcoef(shrunk.ravel(), expected.ravel())[0, 1] > 0.99


def test_pixels_are_those_of_the_photo():
    photo = place_of_every_pixel(200, 146)
    seen = np.asarray(photo_as_seen(photo, processor()))
    assert seen.shape == (128, 128, 3)
    assert (seen == np.asarray(photo)[9:137, 36:164]).all()


def test_a_very_large_photo_is_reduced():
    photo = place_of_every_pixel(3000, 2000)
    seen = photo_as_seen(photo, processor())
    assert seen.size == (1024, 1024)
    shrunk = np.asarray(seen.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(shrunk - what_the_model_gets(photo, processor())).max() < 6


def test_without_resizing_what_is_missing_is_black():
    photo, image_processor = Image.new("RGB", (100, 40), (200, 200, 200)), processor(do_resize=False)
    seen = np.asarray(photo_as_seen(photo, image_processor), dtype=float)
    assert (seen[12:52] == 200).all() and (seen[:12] == 0).all() and (seen[52:] == 0).all()
    assert np.abs(seen - what_the_model_gets(photo, image_processor)).max() < 1


def test_a_processor_that_does_not_crop_to_a_square():
    with pytest.raises(ValueError, match="square centre crop"):
        photo_as_seen(Image.new("RGB", (9, 9)), CLIPImageProcessor(crop_size={"height": 8, "width": 9}))


def looked_for(attention: np.ndarray, image_size: int, share: float) -> tuple[int, ...]:
    """The definition, in loops."""
    (rows, columns), best = attention.shape, None
    height, width = max(1, round(share * rows)), max(1, round(share * columns))
    for top in range(rows - height + 1):
        for left in range(columns - width + 1):
            inside = attention[top : top + height, left : left + width].astype(float)
            if best is None or inside.sum() > best[0]:
                down, across = np.mgrid[top : top + height, left : left + width] + 0.5
                mass = inside + 1e-12
                best = inside.sum(), (down * mass).sum() / mass.sum(), (across * mass).sum() / mass.sum()
    sides = round(width * image_size / columns), round(height * image_size / rows)
    centre = best[2] * image_size / columns, best[1] * image_size / rows
    starts = [min(max(c - side / 2, 0), image_size - side) for c, side in zip(centre, sides, strict=True)]
    return *starts, *(start + side for start, side in zip(starts, sides, strict=True))


@given(ATTENTIONS, st.floats(0.05, 1), st.integers(30, 200))
def test_the_box_is_the_window_with_the_most_attention(attention, share, image_size):
    box = attended_box(attention, image_size, share)
    left, top, right, bottom = box
    assert 0 <= left < right <= image_size and 0 <= top < bottom <= image_size
    # windows that differ by rounding only may win in either
    slightly = attention.astype(float) + 1e-6 * np.random.default_rng(0).random(attention.shape)
    expected = looked_for(slightly, image_size, share)
    assert attended_box(slightly, image_size, share) == pytest.approx(expected, abs=0.51)


@given(ATTENTIONS, ATTENTIONS)
def test_boxes_are_of_one_size(one, other):
    def size(attention):
        left, top, right, bottom = attended_box(np.resize(attention, (7, 7)), 224)
        return right - left, bottom - top

    assert size(one) == size(other) == (96, 96)


@pytest.mark.parametrize("patch", [(0, 0), (3, 4), (7, 2)])
def test_a_single_patch_is_in_the_middle_unless_it_is_at_the_border(patch):
    attention = np.zeros((8, 8))
    attention[patch] = 0.5
    left, top, right, bottom = attended_box(attention, 160, share=3 / 8)
    for place, start, end in ((patch[0], top, bottom), (patch[1], left, right)):
        assert start <= 20 * place and 20 * (place + 1) <= end
        if 0 < place < 7:
            assert (start + end) / 2 == 20 * (place + 0.5)


@pytest.mark.parametrize("attention", [np.ones(9), np.full((3, 3), -1.0), np.full((3, 3), np.nan)], ids=str)
def test_what_is_no_attention(attention):
    with pytest.raises(ValueError, match="attention must be of shape"):
        attended_box(attention, 96)
