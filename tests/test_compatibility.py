"""Checkpoints of every format load for ever, to the same codes; those of other kinds and newer formats say so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from common import forget_checksums, tiny_clip_config, tiny_model, tiny_tower
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, BertConfig, BertModel, CLIPModel

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionConfig, ConceptHashVisionModel
from concepthash_hf.configuration_hashing import FORMAT_VERSION

FORMAT_1 = Path(__file__).parent / "checkpoints" / "format_1"
FORMAT_2 = FORMAT_1.parent / "format_2"

KINDS = ("whole", "small")

both = pytest.mark.parametrize("kind", [ConceptHashModel, ConceptHashVisionModel], ids=["whole", "tower"])


def edit_config(folder: Path, **changes: Any) -> None:
    """Change config.json; None removes."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


# formats that were


@pytest.fixture(params=["1-clip-whole", "1-clip-small", *(f"2-{b}-{k}" for b in ("clip", "dinov2") for k in KINDS)])
def kept(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A folder of a format, what else its loading takes, and what its model made of the pictures."""
    number, backbone, kind = request.param.split("-")
    top = FORMAT_1 if number == "1" else FORMAT_2
    folder = top / (kind if number == "1" else f"{backbone}-{kind}")
    expected = json.loads((top / ("expected.json" if number == "1" else f"{backbone}.json")).read_text())
    moved = {} if kind == "whole" else {"base_model_name_or_path": top / backbone}
    if kind == "small" and backbone == "dinov2":
        moved["text_base_name_or_path"] = top / "clip"
    return folder, moved, expected


def pixels(folder: Path) -> torch.Tensor:
    pictures = [Image.open(path) for path in sorted((FORMAT_1 / "photos").iterdir())]
    return AutoImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")["pixel_values"]


def test_every_format_gives_its_codes(kept):
    folder, where, expected = kept
    model, tower = (kind.from_pretrained(folder, **where) for kind in (ConceptHashModel, ConceptHashVisionModel))
    pixel_values = pixels(folder)
    with torch.no_grad():
        output = model(pixel_values)
    assert model.get_hash_codes(pixel_values).tolist() == expected["codes"]
    assert tower.get_hash_codes(pixel_values).tolist() == expected["codes"]
    for name in ("code_logits", "class_logits"):
        torch.testing.assert_close(output[name], torch.tensor(expected[name]), rtol=0, atol=1e-4)
    assert list(model.config.id2label.values()) == expected["class_names"]
    assert model.get_text_hash_codes(model.class_embeddings).tolist() == expected["class_codes"]
    prompt = AutoTokenizer.from_pretrained(folder)(f"a photo of a {expected['new_name']}", return_tensors="pt")
    codes = model.get_text_hash_codes(input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"])
    assert codes.tolist() == expected["code_of_new_name"]


def test_older_formats_saved_again_are_todays(kept, tmp_path):
    folder, where, expected = kept
    older, again = tmp_path / "older", tmp_path / "again"
    shutil.copytree(folder, older)
    edit_config(older, format_version=0)  # older than today's, whichever that is
    ConceptHashModel.from_pretrained(older, **where).save_pretrained(again)
    config = json.loads((again / "config.json").read_text())
    assert config["format_version"] == config["vision_config"]["format_version"] == FORMAT_VERSION
    assert ConceptHashModel.from_pretrained(again).get_hash_codes(pixels(folder)).tolist() == expected["codes"]


def test_what_was_kept_is_of_the_first_format():
    for name in ("whole", "small"):
        assert json.loads((FORMAT_1 / name / "config.json").read_text())["format_version"] == 1
    assert sum(path.stat().st_size for path in FORMAT_1.rglob("*")) < 1_000_000


@both
def test_a_checkpoint_that_does_not_say_is_of_the_first_format(kind, tmp_path):
    expected = json.loads((FORMAT_1 / "expected.json").read_text())
    shutil.copytree(FORMAT_1 / "whole", tmp_path, dirs_exist_ok=True)
    edit_config(tmp_path, format_version=None)
    assert kind.from_pretrained(tmp_path).get_hash_codes(pixels(tmp_path)).tolist() == expected["codes"]


# newer formats

LOADERS: dict[str, Callable[[Path], Any]] = {
    "ConceptHashModel": ConceptHashModel.from_pretrained,
    "ConceptHashVisionModel": ConceptHashVisionModel.from_pretrained,
    "AutoModel": AutoModel.from_pretrained,
    "ConceptHashConfig": ConceptHashConfig.from_pretrained,
    "ConceptHashVisionConfig": ConceptHashVisionConfig.from_pretrained,
    "AutoConfig": AutoConfig.from_pretrained,
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS.keys())
def test_a_newer_checkpoint_says_so(load, tmp_path):
    shutil.copytree(FORMAT_1 / "whole", tmp_path, dirs_exist_ok=True)
    # fields that today's code would stumble over
    edit_config(tmp_path, format_version=FORMAT_VERSION + 1, margin="learned", num_concepts={"head": 3})
    with pytest.raises(
        ValueError, match=rf"checkpoint format {FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}.*--upgrade"
    ):
        load(tmp_path)


@pytest.mark.parametrize("load", [ConceptHashVisionModel.from_pretrained, AutoModel.from_pretrained])
def test_a_newer_tower_says_so(load, tmp_path):
    tiny_tower().save_pretrained(tmp_path)
    load(tmp_path)
    edit_config(tmp_path, format_version=FORMAT_VERSION + 1)
    with pytest.raises(ValueError, match=f"checkpoint format {FORMAT_VERSION + 1}"):
        load(tmp_path)


# what is no ConceptHash, or not all of one


def other_model(kind: str, folder: Path) -> None:
    if kind == "bert":
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained(folder)
    elif kind == "clip":
        CLIPModel(tiny_clip_config()).save_pretrained(folder)
    elif kind == "clip_vision_model":
        tiny_clip_config().vision_config.save_pretrained(folder)


@both
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("bert", "holds a 'bert' model, not a ConceptHash$"),
        ("clip", "holds a 'clip' model, not a ConceptHash; .*from_backbone"),
        ("clip_vision_model", "holds a 'clip_vision_model' model, not a ConceptHash"),
        ("nothing", r"no config\.json"),
    ],
)
def test_other_models_are_refused(kind, other, message, tmp_path):
    other_model(other, tmp_path)
    for load in (kind.from_pretrained, kind.config_class.from_pretrained):
        with pytest.raises(ValueError, match=message) as error:
            load(tmp_path)
        assert str(tmp_path) in str(error.value)


def test_a_tower_alone_is_not_taken_for_the_whole(tmp_path):
    tiny_tower().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="only the vision tower.*ConceptHashVisionModel"):
        ConceptHashModel.from_pretrained(tmp_path)


@both
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.9999])
def test_truncated_weights(kind, share, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="damaged or incomplete.*again") as error:
        kind.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


@both
def test_missing_weights(kind, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match="no file named model.safetensors") as error:
        kind.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


@both
@pytest.mark.parametrize("lost", ["embeddings.patch_embedding.weight", "encoder.layers.1.mlp.fc1.bias", "encoder."])
def test_a_backbone_is_never_made_up(kind, lost, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    kept = {name: t for name, t in model.state_dict().items() if not name.startswith(f"vision_model.{lost}")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    forget_checksums(tmp_path)
    with pytest.raises(ValueError, match=r"incomplete: \d+ weights of the backbone or the hash function are missing"):
        kind.from_pretrained(tmp_path)


def test_a_text_tower_is_never_made_up(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    del state["text_model.final_layer_norm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    forget_checksums(tmp_path)
    with pytest.raises(ValueError, match="incomplete: 1 weights of the backbone.*text_model.final_layer_norm.weight"):
        ConceptHashModel.from_pretrained(tmp_path)
    ConceptHashVisionModel.from_pretrained(tmp_path)  # has no use for it
