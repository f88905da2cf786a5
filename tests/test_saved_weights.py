"""Config and weights that belong together, and all that hashing needs."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from common import forget_checksums, tiny_config, tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import files_in
from safetensors.torch import load_file, save_file

from concepthash_hf import ConceptHashModel, ConceptHashVisionModel, whole_files
from concepthash_hf.whole_files import one_writer

both = pytest.mark.parametrize("kind", [ConceptHashModel, ConceptHashVisionModel], ids=["whole", "tower"])


def other_model() -> ConceptHashModel:
    """Of the same shape, with other classes and weights."""
    model = tiny_model(id2label=dict(enumerate("abcde")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


@both
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_mixture_of_two_models_is_refused(kind, copy, tmp_path, name):
    other_model().save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, copy / name)
    with pytest.raises(
        ValueError, match="copy is damaged or incomplete: model.safetensors is not what was saved together"
    ):
        kind.from_pretrained(copy)


@given(position=st.integers(0, 10**9))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_of_the_weights_is_loaded(saved, tmp_path, position):
    folder = shutil.copytree(saved, tmp_path / "flipped", dirs_exist_ok=True)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[position // 8 % len(content)] ^= 1 << position % 8
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="flipped is damaged or incomplete: model.safetensors"):
        ConceptHashVisionModel.from_pretrained(folder)


@pytest.mark.parametrize("checksums", [{}, [], "text", {"model.safetensors": 5}])
def test_checksums_of_another_shape(copy, checksums):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"weights_sha256": checksums}))
    with pytest.raises(ValueError, match="is damaged"):
        ConceptHashModel.from_pretrained(copy)


def test_models_of_older_versions_load(copy):
    forget_checksums(copy)
    assert "weights_sha256" not in ConceptHashModel.from_pretrained(copy).config.to_dict()


def test_in_shards_and_back(copy):
    """Nothing of the older form is left beside the newer; files of other names stay."""
    (copy / "notes.txt").write_text("mine")
    model = ConceptHashModel.from_pretrained(copy)
    model.save_pretrained(copy, max_shard_size=20_000)
    shards = {path.name for path in copy.glob("model-*.safetensors")}
    assert len(shards) > 2 and not (copy / "model.safetensors").exists()
    assert json.loads((copy / "config.json").read_text())["weights_sha256"].keys() == shards
    same(ConceptHashModel.from_pretrained(copy), model)
    (first, *_) = sorted(shards)
    content = (copy / first).read_bytes()
    (copy / first).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{first} is not what was saved together"):
        ConceptHashModel.from_pretrained(copy)
    model.save_pretrained(copy)
    same(ConceptHashModel.from_pretrained(copy), model)
    assert {path.name for path in copy.iterdir()} == {"config.json", "model.safetensors", "notes.txt"}


def same(one: ConceptHashModel, other: ConceptHashModel) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


class Killed(BaseException):
    """Nobody tidies up after it."""


@pytest.mark.parametrize("step", range(12))
def test_killed_at_any_rename_it_is_one_of_both(copy, monkeypatch, step):
    """Before all is ready the old model, afterwards the new one; who loads it, or saves the next, completes it."""
    old, new = ConceptHashModel.from_pretrained(copy), other_model()
    steps = iter(range(step + 1))

    def killed(original):
        def act(*args, **kwargs):
            if next(steps) == step:
                monkeypatch.setattr(whole_files.shutil, "rmtree", lambda *args, **kwargs: None)
                raise Killed
            return original(*args, **kwargs)

        return act

    try:
        with monkeypatch.context() as patch:
            for name in ("replace", "fsync"):
                patch.setattr(whole_files.os, name, killed(getattr(os, name)))
            new.save_pretrained(copy)
    except Killed:
        pass
    monkeypatch.undo()
    loaded = ConceptHashModel.from_pretrained(copy)
    same(loaded, new if loaded.config.id2label[0] == "a" else old)
    with one_writer(copy):
        pass
    assert {path.name for path in copy.iterdir()} == {"config.json", "model.safetensors"}


def test_every_weight_of_the_tower_must_be_there(copy):
    """Without it codes would be random; each is left out once."""
    state = load_file(copy / "model.safetensors")
    forget_checksums(copy)
    tower = [name for name in state if name.startswith("vision_model.")]
    assert len(tower) > 50
    for name in tower:
        save_file({n: t for n, t in state.items() if n != name}, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=f"copy is incomplete: 1 weights .* are missing, such as .*{name[13:]}$"):
            ConceptHashVisionModel.from_pretrained(copy)
    with pytest.raises(ValueError, match=f"copy is incomplete: 1 weights .* are missing, such as {tower[-1]}$"):
        ConceptHashModel.from_pretrained(copy)


@pytest.mark.parametrize("part", [None, "vision_config", "text_config"])
def test_a_dtype_that_is_none_is_damage_of_the_config(part, copy):
    forget_checksums(copy)
    config = json.loads((copy / "config.json").read_text())
    (config[part] if part else config)["dtype"] = 7
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="copy is damaged: its config.json cannot be read .*dtype"):
        ConceptHashModel.from_pretrained(copy)


def test_the_text_tower_must_be_there(copy):
    """Where the whole model is loaded: without it words would mean anything."""
    state = load_file(copy / "model.safetensors")
    forget_checksums(copy)
    name = max(name for name in state if name.startswith("text_model."))
    save_file({n: t for n, t in state.items() if n != name}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"copy is incomplete: 1 weights of the backbone .* such as {name}$"):
        ConceptHashModel.from_pretrained(copy)
    ConceptHashVisionModel.from_pretrained(copy)


@both
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_every_weight_of_the_tower_must_be_finite(kind, copy, value):
    state = load_file(copy / "model.safetensors")
    state["vision_model.hash_head.projection.weight"][0, 0] = value
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    forget_checksums(copy)
    with pytest.raises(ValueError, match="copy is damaged: 1 weights are not finite, such as .*projection.weight$"):
        kind.from_pretrained(copy)


@both
def test_weights_of_another_shape(kind, copy):
    state = load_file(copy / "model.safetensors")
    name = "vision_model.hash_head.projection.weight"
    save_file(state | {name: torch.zeros(7, 9)}, copy / "model.safetensors", metadata={"format": "pt"})
    forget_checksums(copy)
    with pytest.raises(
        ValueError,
        match=r"1 weights of .*copy do not fit .*hash_head.projection.weight: its shape is \(7, 9\), not \(",
    ):
        kind.from_pretrained(copy)


def test_into_a_folder_of_another_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_WAIT", 0.1)
    model = ConceptHashModel(tiny_config())
    with one_writer(tmp_path):
        model.save_pretrained(tmp_path)  # the same thread is the same writer
    assert set(files_in(tmp_path)) == {"config.json", "model.safetensors"}
