"""The random CLIP of the default run."""

from pathlib import Path

import pytest
import torch
from runs import files_in
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, CLIPTextModel

from concepthash_hf import ConceptHashModel
from concepthash_hf.data.toy_birds import SPECIES
from concepthash_hf.language import embed_class_names
from concepthash_hf.toy_clip import save_toy_clip

NAMES = [species.name for species in SPECIES]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_toy_clip(folder, NAMES, image_size=32)
    return folder


def embed(clip: Path, names: list[str]) -> torch.Tensor:
    return embed_class_names(CLIPTextModel.from_pretrained(clip), AutoTokenizer.from_pretrained(clip), names)


def test_it_is_the_same_every_time_and_touches_no_generator(clip, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    save_toy_clip(tmp_path / "again", NAMES, image_size=32)
    assert torch.equal(torch.get_rng_state(), before)
    assert files_in(tmp_path / "again") == files_in(clip)
    save_toy_clip(tmp_path / "other", NAMES, image_size=32, seed=1)
    assert files_in(tmp_path / "other")["model.safetensors"] != files_in(clip)["model.safetensors"]


def test_shape(clip):
    config = CLIPModel.from_pretrained(clip).config
    assert config.vision_config.image_size == 32
    assert config.vision_config.image_size // config.vision_config.patch_size == 8
    assert AutoImageProcessor.from_pretrained(clip).crop_size["height"] == 32


def test_the_tokenizer_reads_words(clip):
    tokenizer = AutoTokenizer.from_pretrained(clip)

    def words(text: str) -> list[str]:
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    expected = ["<start>", *"a photo of a red crowned barred finch".split(), "<end>"]
    assert words("a photo of a red-crowned barred finch") == expected
    assert words("A photo of a  Red_crowned barred finch.") == expected
    assert words("a photo of a purple finch") == ["<start>", "a", "photo", "of", "a", "<unk>", "finch", "<end>"]
    assert "<unk>" not in {token for name in NAMES for token in words(name)}


def test_an_embedding_does_not_depend_on_the_other_names(clip):
    together = embed(clip, ["wren", *NAMES])[1:]
    alone = torch.cat([embed(clip, [name]) for name in NAMES])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_names_that_share_words_have_nearby_embeddings(clip):
    """That is all the language guidance of the default run; with values and with signs alone."""
    raw = embed(clip, NAMES)
    words = [set(name.replace("-", " ").split()) for name in NAMES]
    for embeddings in (raw - raw.mean(0), raw.sign()):
        unit = torch.nn.functional.normalize(embeddings, dim=-1)
        cosines = unit @ unit.T
        by_shared: dict[int, list[float]] = {}
        for i in range(len(NAMES)):
            for j in range(i):
                by_shared.setdefault(len(words[i] & words[j]), []).append(cosines[i, j].item())
        means = [sum(values) / len(values) for _, values in sorted(by_shared.items())]
        assert sorted(by_shared) == [0, 1, 2, 3, 4]
        assert means == sorted(means)
        assert means[4] > means[0] + 0.2
        assert torch.unique(embeddings, dim=0).shape[0] == len(NAMES)


def test_a_model_can_be_built_on_it(clip):
    model = ConceptHashModel.from_clip(clip, NAMES, num_bits=16, adapter_dim=8, freeze_backbone=False)
    assert model.get_hash_codes(torch.randn(2, 3, 32, 32)).shape == (2, 2)
    assert len(model.config.id2label) == 24
    assert all(parameter.requires_grad for parameter in model.vision_model.parameters())
    assert not any(parameter.requires_grad for parameter in model.text_model.parameters())
