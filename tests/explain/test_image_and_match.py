"""Photos and pairs of photos, explained concept by concept."""

import io

import numpy as np
import pytest
import torch
from common import TINY_VISION, tiny_model, tiny_tower
from pictures import pixels_of, places
from PIL import Image
from runs import largest_difference, state_of
from transformers import CLIPImageProcessor

from concepthash_hf.codes import hamming_distance, sub_code_distances
from concepthash_hf.data import BadImageError
from concepthash_hf.data.toy_birds import draw_bird
from concepthash_hf.explain import (
    explain_image,
    explain_images,
    explain_match,
    overlay_attention,
)
from concepthash_hf.explain.crops import attended_box, photo_as_seen
from concepthash_hf.explain.figure_parts import bit_strip, concept_colour, outline

SIZE = TINY_VISION["image_size"]
PROCESSOR = CLIPImageProcessor(size={"shortest_edge": 34}, crop_size=SIZE)


@pytest.fixture
def bird() -> Image.Image:
    return draw_bird("red-crowned barred finch", seed=3, size=100).image


@pytest.fixture
def other_bird() -> Image.Image:
    return draw_bird("yellow-crowned blue-winged parrot", seed=4, size=120).image


@pytest.fixture(params=["sdpa", "eager"])
def model(request):
    torch.manual_seed(5)
    model = tiny_model()
    model.set_attn_implementation(request.param)
    return model


def test_an_explanation_is_what_the_model_says(model, bird):
    explanation = explain_image(model, PROCESSOR, bird)
    pixel_values = PROCESSOR(bird, return_tensors="pt")["pixel_values"]
    output = model(pixel_values, output_attentions=True)
    assert (explanation.code == model.get_hash_codes(pixel_values)[0].numpy()).all()
    bits = np.concatenate([concept.bits for concept in explanation.concepts])
    assert (bits == (output.code_logits[0] > 0).numpy()).all() and 0 < bits.sum() < len(bits)
    assert [concept.concept for concept in explanation.concepts] == [0, 1, 2]
    for number, concept in enumerate(explanation.concepts):
        expected = output.concept_attentions[0, number].reshape(3, 3).detach().numpy()
        np.testing.assert_allclose(concept.attention, expected, atol=1e-6)
        assert concept.sub_code == "".join(str(int(bit)) for bit in concept.bits)
        assert concept.crop == explanation.photo.crop(attended_box(concept.attention, explanation.photo.width))
    assert explanation.photo == photo_as_seen(bird, PROCESSOR)


def test_the_figure_shows_photo_gaze_crop_and_bits_of_every_concept(bird):
    torch.manual_seed(5)
    explanation = explain_image(tiny_model(), PROCESSOR, bird)
    figure = explanation.figure("a finch", tile=64)
    ((top, left),) = places(figure, explanation.photo.resize((64, 64), Image.Resampling.LANCZOS))
    for number, concept in enumerate(explanation.concepts):
        colour = concept_colour(number)
        lit = overlay_attention(explanation.thumbnail(64), concept.attention, colour)
        ((row, column),) = places(figure, outline(lit, attended_box(concept.attention, 64), colour))
        assert row == top and column > left
        crop = concept.crop.resize((64, 64), Image.Resampling.LANCZOS)
        assert any(below > row and across == column for below, across in places(figure, crop))
        strip = bit_strip(concept.bits, number, 64)
        assert any(below > row and across == column for below, across in places(figure, strip))
        left = column
    assert (pixels_of(figure)[-4:] == 255).all() and (pixels_of(figure)[:, -4:] == 255).all()
    assert figure != explanation.figure("another caption", tile=64)
    assert explanation.figure("a very long caption " * 20, tile=64).size == figure.size


@pytest.mark.parametrize("num_concepts", [1, 9])
def test_any_number_of_concepts(num_concepts, bird, other_bird):
    tower = tiny_tower(num_concepts=num_concepts, num_bits=2 * num_concepts)
    match = explain_match(tower, PROCESSOR, bird, other_bird)
    assert len(match.query.concepts) == len(match.distances) == num_concepts
    for figure in (match.figure(tile=40), match.query.figure(tile=40)):
        assert figure.width > (1 + num_concepts) * 40


def test_the_model_stays_as_it_is(bird):
    model = tiny_model({"prompt_dropout": 0.5}).train()
    before, rng = state_of(model), torch.get_rng_state()
    one, other = (explain_image(model, PROCESSOR, bird) for _ in range(2))
    assert (one.concepts[0].attention == other.concepts[0].attention).all()
    assert model.training and largest_difference(before, state_of(model)) == 0
    assert (torch.get_rng_state() == rng).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_half_precision(bird):
    model = tiny_model().to(torch.bfloat16)
    attention = explain_image(model, PROCESSOR, bird).concepts[0].attention
    assert attention.dtype == np.float32 and 0 < attention.sum() <= 1


def test_however_a_photo_is_given(bird, tmp_path):
    tower = tiny_tower()
    file, buffer = tmp_path / "bird.png", io.BytesIO()
    bird.save(file)
    bird.save(buffer, "PNG")
    codes = [explain_image(tower, PROCESSOR, image).code for image in (bird, file, str(file), buffer.getvalue())]
    assert all((code == codes[0]).all() for code in codes)
    # a photo lying on its side is turned upright, for the model and for the eye
    lying = bird.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=exif)
    upright = explain_image(tower, PROCESSOR, tmp_path / "lying.png")
    assert upright.photo.tobytes() == photo_as_seen(bird, PROCESSOR).tobytes()
    assert (upright.code == codes[0]).all()


def test_several_photos_at_once(bird, other_bird):
    tower = tiny_tower()
    together = explain_images(tower, PROCESSOR, [bird, other_bird])
    for alone, explanation in zip((bird, other_bird), together, strict=True):
        assert (explain_image(tower, PROCESSOR, alone).code == explanation.code).all()
    assert explain_images(tower, PROCESSOR, []) == []


def test_what_cannot_be_explained(bird, tmp_path):
    (tmp_path / "note.jpg").write_text("not a picture")
    with pytest.raises(BadImageError, match="note.jpg"):
        explain_image(tiny_tower(), PROCESSOR, tmp_path / "note.jpg")
    with pytest.raises(ValueError, match="photos of 30x30 pixels, got 64x64"):
        explain_image(tiny_tower(), CLIPImageProcessor(size={"shortest_edge": 70}, crop_size=64), bird)
    with pytest.raises(TypeError, match="a Linear has no concepts to explain; give a ConceptHashModel"):
        explain_image(torch.nn.Linear(2, 2), PROCESSOR, bird)


class TestMatch:
    def test_distances_are_those_of_the_sub_codes(self, model, bird, other_bird):
        match = explain_match(model, PROCESSOR, bird, other_bird)
        codes = match.query.code, match.match.code
        assert match.distances.tolist() == sub_code_distances(*codes, 12, 3).tolist()
        assert match.distance == hamming_distance(*codes) > 0
        assert match.differing.sum(1).tolist() == match.distances.tolist()

    def test_in_words(self, bird, other_bird):
        torch.manual_seed(5)
        tower = tiny_tower()
        same, match = (explain_match(tower, PROCESSOR, bird, photo) for photo in (bird, other_bird))
        assert same.distance == 0
        assert [same.verdict(concept) for concept in range(3)] == ["agrees"] * 3
        for concept, distance in enumerate(match.distances.tolist()):
            assert match.verdict(concept) == (f"differs in {distance} of 4 bits" if distance else "agrees")

    def test_the_figure_shows_both_and_marks_the_bits_that_differ(self, bird, other_bird):
        torch.manual_seed(5)
        match = explain_match(tiny_tower(), PROCESSOR, bird, other_bird)
        figure = match.figure(("asked", "found"), tile=64)
        ((above, left),) = places(figure, match.query.thumbnail(64))
        ((below, same_left),) = places(figure, match.match.thumbnail(64))
        assert above < below and left == same_left
        for concept in range(3):
            ((row, column),) = places(figure, match.query.overlay(concept, 64))
            assert (row, column) == (above, left + (concept + 1) * 70)
            assert (below, column) in places(figure, match.match.overlay(concept, 64))
            strips = []
            for photo in (match.query, match.match):
                marked = bit_strip(photo.concepts[concept].bits, concept, 64, match.differing[concept])
                strips.append([row for row, across in places(figure, marked) if across == column])
            # where they agree, both strips are the same picture
            (first, *_), (*_, second) = strips
            assert len(strips[0]) == len(strips[1]) == (1 if match.distances[concept] else 2)
            assert above < first < second < below
        assert (match.distances > 0).any()
        assert figure != match.figure(("asked", "something else"), tile=64)
