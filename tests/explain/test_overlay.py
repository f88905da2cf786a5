"""Pictures of where concepts look."""

import numpy as np
import pytest
import torch
from common import TINY_VISION, photos, tiny_model, tiny_tower
from pictures import pixels_of, places
from PIL import Image
from runs import largest_difference, state_of
from transformers import CLIPImageProcessor

from concepthash_hf.explain import concept_sheet, overlay_attention
from concepthash_hf.explain.figure_parts import CONCEPT_COLOURS

RED = (255, 0, 0)
SIZE = TINY_VISION["image_size"]
PROCESSOR = CLIPImageProcessor()


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))


def test_lit_where_it_looks_and_grey_elsewhere(photo):
    attention = np.zeros((4, 4))
    attention[:, :2] = 0.01  # the left half
    shown = pixels_of(overlay_attention(photo, attention, RED))
    original = pixels_of(photo)
    # where it looks: the photo, every pixel moved by the same share of the way to the colour
    towards = np.array(RED) - original[:, :12]
    moved = shown[:, :12] - original[:, :12]
    share = (moved * towards).sum() / (towards**2).sum()
    assert 0.1 < share < 0.5
    np.testing.assert_allclose(moved, share * towards, atol=1.5)
    # elsewhere: no colour and less contrast, but the bird can be seen
    elsewhere, brightness = shown[:, 36:], original[:, 36:].mean(-1)
    assert np.ptp(elsewhere, axis=-1).max() == 0
    assert np.corrcoef(elsewhere[..., 0].ravel(), brightness.ravel())[0, 1] > 0.99
    assert elsewhere[..., 0].std() < 0.7 * brightness.std()


def test_the_overlay_depends_on_the_shape_of_attention_only(photo):
    attention = np.random.default_rng(1).random((3, 3))
    one, other = (overlay_attention(photo, factor * attention, RED) for factor in (1, 1e-3))
    assert np.abs(pixels_of(one) - pixels_of(other)).max() <= 1
    assert one.size == photo.size
    assert one.mode == "RGB"
    assert one != overlay_attention(photo, attention, (0, 0, 255))
    assert one != overlay_attention(photo, attention.T, RED)


def test_attention_to_nothing(photo):
    shown = pixels_of(overlay_attention(photo, np.zeros((4, 4)), RED))
    assert np.ptp(shown, axis=-1).max() == 0


def test_the_colours_differ():
    assert len(set(CONCEPT_COLOURS)) == len(CONCEPT_COLOURS) >= 4


def test_the_sheet_shows_the_photos_and_the_attention_of_the_model():
    torch.manual_seed(1)
    model = tiny_model()
    originals = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PROCESSOR.image_mean, PROCESSOR.image_std))
    pixel_values = (originals / 255 - mean) / std
    sheet = concept_sheet(model, pixel_values, PROCESSOR, captions=["first", "second"], tile=SIZE)

    attentions = model(pixel_values, output_attentions=True).concept_attentions.detach().numpy()
    rows = []
    for number, original in enumerate(originals):
        picture = Image.fromarray(original.permute(1, 2, 0).numpy())
        (place,) = places(sheet, picture)
        row = [place]
        for concept in range(3):
            attention = attentions[number, concept].reshape(3, 3)
            row += places(sheet, overlay_attention(picture, attention, CONCEPT_COLOURS[concept]))
        assert len({y for y, _ in row}) == 1
        assert [x for _, x in row] == sorted({x for _, x in row})
        assert len(row) == 4
        rows.append(row[0][0])
    assert rows[1] >= rows[0] + SIZE


@pytest.mark.parametrize("batch", [1, 3])
def test_the_model_stays_as_it_is(batch):
    model, pixel_values = tiny_model({"prompt_dropout": 0.5}), photos(batch)
    expected = concept_sheet(model, pixel_values, PROCESSOR)
    before = state_of(model)
    model.train()
    assert concept_sheet(model, pixel_values, PROCESSOR) == expected
    assert model.training and model.vision_model.hash_head.batch_norm.training
    assert largest_difference(before, state_of(model)) == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_tower_alone_and_any_attention_implementation():
    tower, pixel_values = tiny_tower(), photos(2)
    sheets = []
    for implementation in ("sdpa", "eager"):
        tower.set_attn_implementation(implementation)
        sheets.append(pixels_of(concept_sheet(tower, pixel_values, PROCESSOR)))
    assert np.abs(sheets[0] - sheets[1]).max() <= 1


def test_more_concepts_than_colours():
    tower = tiny_tower(num_concepts=9, num_bits=18)
    sheet = concept_sheet(tower, photos(1), PROCESSOR, tile=40)
    assert sheet.width >= 10 * 40


def test_a_caption_for_every_photo():
    with pytest.raises(ValueError, match="2 captions for 3 photos"):
        concept_sheet(tiny_tower(), photos(3), PROCESSOR, captions=["one", "two"])
