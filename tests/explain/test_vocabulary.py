"""Phrases closest to what concepts look at."""

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from concepthash_hf.explain.vocabulary import closest_phrases


@pytest.fixture(scope="module")
def clip(shared_dir):
    folder = shared_dir / "bench" / "tiny-clip"
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def crops(shared_dir) -> list[list[Image.Image]]:
    """Flowers for one concept, birds for the other."""
    data = shared_dir / "data"
    folders = data / "flowers102" / "test" / "sunflower", data / "cub100" / "test" / "Blue_Jay"
    return [[Image.open(file).convert("RGB") for file in sorted(folder.glob("*.jpg"))[:6]] for folder in folders]


def test_flowers_and_birds(clip, crops):
    phrases = ["bird", "flower"]
    flower, bird = closest_phrases(*clip, crops, phrases)
    assert [flower[0].phrase, bird[0].phrase] == ["flower", "bird"]
    assert flower[0].above_others > 0 > flower[1].above_others
    # with two concepts, what one is above, the other is below
    assert flower[0].above_others == pytest.approx(-bird[1].above_others, abs=1e-5)


def test_probability_is_clips_own(clip, crops):
    model, tokenizer, processor = clip
    phrases = ["flower", "bird", "car"]
    found = closest_phrases(*clip, crops, phrases, top=3, batch_size=2)
    texts = tokenizer([f"a photo of a {phrase}" for phrase in phrases], padding=True, return_tensors="pt")
    for concept, of_concept in enumerate(found):
        with torch.no_grad():
            output = model(**texts, **processor(crops[concept], return_tensors="pt"))
        expected = dict(zip(phrases, output.logits_per_image.softmax(-1).mean(0).tolist(), strict=True))
        assert {score.phrase: score.probability for score in of_concept} == pytest.approx(expected, abs=1e-5)
        assert [score.above_others for score in of_concept] == sorted(
            (s.above_others for s in of_concept), reverse=True
        )


def test_the_same_crops_have_nothing_of_their_own(clip, crops):
    for of_concept in closest_phrases(*clip, [crops[0]] * 3, ["flower", "bird"]):
        assert [score.above_others for score in of_concept] == pytest.approx([0, 0], abs=1e-5)


def test_nothing_to_compare(clip, crops):
    for these, phrases in ((crops[:1], ["bird"]), ([crops[0], []], ["bird"]), (crops, [])):
        with pytest.raises(ValueError, match="two or more concepts"):
            closest_phrases(*clip, these, phrases)
