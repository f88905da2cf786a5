"""Small checkpoints: what they hold, that they load to the same model, and every way in which a base can be wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from common import TINY_TEXT, TINY_VISION, integer_labels, photos, save_tiny_clip, tiny_clip_config, tiny_model
from real_photos import hash_model_and_photos
from torch import nn
from transformers import AutoImageProcessor, AutoModel, BertConfig, CLIPModel, pipeline
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from concepthash_hf import ConceptHashModel, ConceptHashVisionModel
from concepthash_hf.base_models import fingerprint
from concepthash_hf.hub import add_code
from concepthash_hf.small_checkpoints import WEIGHTS_NAME

NAMES = ["blue jay", "gull", "wren", "robin", "finch"]

both = pytest.mark.parametrize("kind", [ConceptHashModel, ConceptHashVisionModel], ids=["whole", "tower"])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return save_tiny_clip(tmp_path / "clip")


def build(clip: Path | str, **kwargs) -> ConceptHashModel:
    """An untrained model around a tiny CLIP."""
    ours = {name: TINY_VISION[name] for name in ("num_bits", "num_concepts", "adapter_dim")}
    embeddings = torch.randn(len(NAMES), TINY_TEXT["hidden_size"])
    return ConceptHashModel.from_clip(clip, NAMES, class_embeddings=embeddings, **(ours | kwargs))


def train(model: ConceptHashModel, steps: int = 3) -> ConceptHashModel:
    """Until all that is trained has moved."""
    optimizer = torch.optim.AdamW(model.trainable_parameters(), 0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(photos(8), labels=integer_labels(8)).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def model(clip: Path) -> ConceptHashModel:
    return train(build(clip))


@pytest.fixture
def small(model: ConceptHashModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "small", trained_only=True)
    return tmp_path / "small"


def same_state(ours: nn.Module, theirs: nn.Module) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        assert torch.equal(tensor, b[name]), name


# what is in one


def test_it_holds_what_was_trained_and_buffers_alone(model, small):
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    buffers = {"class_embeddings"} | {name for name in model.state_dict() if "batch_norm." in name}
    stored = safetensors.torch.load_file(small / WEIGHTS_NAME)
    assert stored.keys() == trained | buffers
    for name, tensor in stored.items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert {path.name for path in small.iterdir()} == {"config.json", WEIGHTS_NAME}


def test_its_config_names_the_clip(model, small, clip):
    config = json.loads((small / "config.json").read_text())
    assert config["base_model_name_or_path"] == str(clip)
    assert config["base_model_revision"] is None
    assert {tower: len(digest) for tower, digest in config["base_fingerprints"].items()} == {
        "vision_model": 64,
        "text_model": 64,
    }
    assert model.config.base_fingerprints is None  # says what a folder holds, not a model


@pytest.mark.parametrize("first_small", [True, False])
def test_saving_one_way_over_the_other_leaves_one_file(first_small, model, tmp_path):
    for is_small in (first_small, not first_small):
        model.save_pretrained(tmp_path / "out", trained_only=is_small)
        (weights,) = (tmp_path / "out").glob("*.safetensors")
        assert weights.name == (WEIGHTS_NAME if is_small else "model.safetensors")
        same_state(ConceptHashModel.from_pretrained(tmp_path / "out"), model)


def test_a_folder_is_made_small_and_whole_again_in_place(model, tmp_path):
    model.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "README.md").write_text("the card")
    for is_small in (True, False):
        loaded = ConceptHashModel.from_pretrained(tmp_path / "run")
        loaded.save_pretrained(tmp_path / "run", trained_only=is_small)
        same_state(ConceptHashModel.from_pretrained(tmp_path / "run"), model)
        same_state(loaded, model)
        weights = WEIGHTS_NAME if is_small else "model.safetensors"
        assert {path.name for path in (tmp_path / "run").iterdir()} == {"README.md", "config.json", weights}


def test_it_is_saved_again_as_either(model, small, tmp_path):
    loaded = ConceptHashModel.from_pretrained(small)
    for name, is_small in (("small again", True), ("whole", False)):
        loaded.save_pretrained(tmp_path / name, trained_only=is_small)
        same_state(ConceptHashModel.from_pretrained(tmp_path / name), model)
    assert (tmp_path / "small again" / WEIGHTS_NAME).read_bytes() == (small / WEIGHTS_NAME).read_bytes()


# loading


@both
def test_it_loads_to_the_same_model(kind, model, small):
    logger = logging.get_logger("transformers")
    with CaptureLogger(logger) as captured:
        loaded, info = kind.from_pretrained(small, output_loading_info=True)
    assert captured.out == ""
    assert not any(info.values()), info
    same_state(loaded, model if kind is ConceptHashModel else model.vision_model)
    pixel_values = photos(16)
    assert torch.equal(loaded.get_hash_codes(pixel_values), model.get_hash_codes(pixel_values))
    assert not loaded.training
    assert loaded.name_or_path == loaded.config.name_or_path == str(small)


def test_it_trains_on(model, small):
    loaded = ConceptHashModel.from_pretrained(small)
    for name, parameter in loaded.named_parameters():
        assert parameter.requires_grad == model.get_parameter(name).requires_grad, name
    frozen = loaded.vision_model.embeddings.patch_embedding.weight.clone()
    train(loaded)
    assert torch.equal(loaded.vision_model.embeddings.patch_embedding.weight, frozen)


def test_auto_model_and_pipeline(model, small):
    size = TINY_VISION["image_size"]
    model.image_processor.save_pretrained(small)
    assert AutoImageProcessor.from_pretrained(small).crop_size["height"] == size
    loaded = AutoModel.from_pretrained(small)
    assert type(loaded) is ConceptHashModel
    same_state(loaded, model)
    same_state(pipeline("image-feature-extraction", model=str(small)).model, model)


def test_weights_that_are_given_are_what_is_saved(model, tmp_path):
    """Such as the means of several steps."""
    halves = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            halves[name] /= 2
    model.save_pretrained(tmp_path / "halves", trained_only=True, state_dict=halves)
    loaded = ConceptHashModel.from_pretrained(tmp_path / "halves").state_dict()
    assert all(torch.equal(loaded[name], halves[name]) for name in halves)
    assert not all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_options_of_loading(model, small):
    loaded = ConceptHashModel.from_pretrained(small, diversity_weight=0.25, attn_implementation="eager")
    assert loaded.config.diversity_weight == 0.25
    assert loaded.vision_model.config._attn_implementation == "eager"
    same_state(loaded, model)
    same_state(ConceptHashModel.from_pretrained(small, config=model.config), model)
    half = ConceptHashModel.from_pretrained(small, dtype=torch.bfloat16)
    assert torch.equal(
        half.vision_model.embeddings.patch_embedding.weight,
        model.vision_model.embeddings.patch_embedding.weight.bfloat16(),
    )
    assert half.vision_model.hash_head.batch_norm.weight.dtype == torch.float32
    renewed = ConceptHashModel.from_pretrained(small, num_labels=9, ignore_mismatched_sizes=True)
    assert renewed.concept_classifier.centroids.shape[0] == 9


@pytest.mark.parametrize("saved_in", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precisions(saved_in, dtype, tmp_path):
    CLIPModel(tiny_clip_config()).to(saved_in).save_pretrained(tmp_path / "clip")
    model = build(tmp_path / "clip", dtype=dtype).eval()
    model.save_pretrained(tmp_path / "small", trained_only=True)
    loaded = ConceptHashModel.from_pretrained(tmp_path / "small")
    assert loaded.dtype == dtype
    same_state(loaded, model)


def test_without_a_text_tower(clip, tmp_path):
    model = train(build(clip, keep_text_model=False))
    model.save_pretrained(tmp_path / "small", trained_only=True)
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert list(config["base_fingerprints"]) == ["vision_model"]
    same_state(ConceptHashModel.from_pretrained(tmp_path / "small"), model)


def test_a_trained_backbone_is_kept(clip, tmp_path):
    model = train(build(clip, freeze_backbone=False))
    model.save_pretrained(tmp_path / "small", trained_only=True)
    stored = safetensors.torch.load_file(tmp_path / "small" / WEIGHTS_NAME)
    assert "vision_model.embeddings.patch_embedding.weight" in stored
    assert not any(name.startswith("text_model.") for name in stored)
    same_state(ConceptHashModel.from_pretrained(tmp_path / "small"), model)
    shutil.rmtree(clip)  # the vision tower needs nothing of it
    same_state(ConceptHashVisionModel.from_pretrained(tmp_path / "small"), model.vision_model)


def test_codes_of_words(model, small):
    input_ids = torch.tensor([[1, 5, 6, 3], [1, 9, 3, 3]])
    codes = model.get_text_hash_codes(input_ids=input_ids)
    assert torch.equal(ConceptHashModel.from_pretrained(small).get_text_hash_codes(input_ids=input_ids), codes)


# the CLIP is elsewhere, another one, or nowhere


@both
def test_a_clip_that_was_moved(kind, model, small, clip, tmp_path):
    clip.rename(tmp_path / "moved")
    loaded = kind.from_pretrained(small, base_model_name_or_path=tmp_path / "moved")
    same_state(loaded, model if kind is ConceptHashModel else model.vision_model)
    if kind is ConceptHashModel:
        assert loaded.config.base_model_name_or_path == str(tmp_path / "moved")
        same_state(AutoModel.from_pretrained(small, base_model_name_or_path=str(tmp_path / "moved")), model)


@both
def test_a_clip_that_is_not_there(kind, small, clip):
    shutil.rmtree(clip)
    with pytest.raises(ValueError, match="only what was trained.*cannot be loaded.*base_model_name_or_path") as error:
        kind.from_pretrained(small)
    assert str(small) in str(error.value)
    assert str(clip) in str(error.value)


@both
def test_a_hub_clip_that_is_not_in_the_cache(kind, small):
    with pytest.raises(ValueError, match="only what was trained.*no-such-person/no-such-clip, cannot be loaded"):
        kind.from_pretrained(small, base_model_name_or_path="no-such-person/no-such-clip")


def change_one_number(clip: Path, name: str) -> None:
    state = safetensors.torch.load_file(clip / "model.safetensors")
    state[name].view(-1)[3] += 1e-6
    safetensors.torch.save_file(state, clip / "model.safetensors", metadata={"format": "pt"})


@both
def test_a_clip_with_other_weights(kind, small, clip):
    change_one_number(clip, "vision_model.encoder.layers.1.mlp.fc2.bias")
    with pytest.raises(ValueError, match="is not the model that .*small was trained on.*of its vision_model"):
        kind.from_pretrained(small)


def test_a_clip_with_another_text_tower(model, small, clip):
    change_one_number(clip, "text_model.final_layer_norm.weight")
    with pytest.raises(ValueError, match="is not the model that .*small was trained on.*of its text_model"):
        ConceptHashModel.from_pretrained(small)
    same_state(ConceptHashVisionModel.from_pretrained(small), model.vision_model)


def test_what_is_not_used_of_a_clip_may_differ(clip, tmp_path):
    """The published design reads before the last layer norm."""
    model, small = train(build(clip, preset="paper")), tmp_path / "small"
    model.save_pretrained(small, trained_only=True)
    for name in ("vision_model.post_layernorm.weight", "visual_projection.weight"):
        change_one_number(clip, name)
    same_state(ConceptHashModel.from_pretrained(small), model)


@both
def test_a_clip_of_another_size(kind, small, tmp_path):
    CLIPModel(tiny_clip_config({"num_hidden_layers": 3})).save_pretrained(tmp_path / "deeper")
    with pytest.raises(ValueError, match="deeper is not the model that"):
        kind.from_pretrained(small, base_model_name_or_path=tmp_path / "deeper")


@both
def test_a_base_that_is_no_clip(kind, small, tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="cannot be loaded.*bert"):
        kind.from_pretrained(small, base_model_name_or_path=tmp_path / "bert")


@both
@pytest.mark.parametrize("share", [0, 0.5, 0.9999])
def test_truncated_files(kind, share, small, clip):
    for folder, name in ((small, WEIGHTS_NAME), (clip, "model.safetensors")):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match="damaged or incomplete") as error:
            kind.from_pretrained(small)
        assert str(folder) in str(error.value)
        (folder / name).write_bytes(content)
    kind.from_pretrained(small)


@both
def test_a_missing_file(kind, small):
    (small / WEIGHTS_NAME).unlink()
    with pytest.raises(OSError, match=WEIGHTS_NAME):
        kind.from_pretrained(small)


@both
def test_the_config_of_a_whole_checkpoint_does_not_make_a_backbone(kind, model, small, tmp_path):
    """Neither beside the file of trained weights, nor if that is given the other name."""
    model.config.save_pretrained(small)
    with pytest.raises(OSError, match="no file named model.safetensors"):
        kind.from_pretrained(small)
    (small / WEIGHTS_NAME).rename(small / "model.safetensors")
    with pytest.raises(ValueError, match="weights of the backbone or the hash function are missing"):
        kind.from_pretrained(small)


# saving what cannot be loaded again


def test_a_backbone_that_changed_is_not_left_out(model, tmp_path):
    with torch.no_grad():
        model.vision_model.encoder.layers[0].mlp.fc1.weight[0, 0] += 1e-3
    with pytest.raises(ValueError, match="not those of .*layers.0.mlp.fc1.weight differs.*save it whole"):
        model.save_pretrained(tmp_path / "small", trained_only=True)
    assert not (tmp_path / "small").exists()


def test_models_without_a_clip(tmp_path):
    with pytest.raises(ValueError, match="base_model_name_or_path=None.*Save it whole"):
        tiny_model().save_pretrained(tmp_path / "small", trained_only=True)


def test_nothing_frozen(clip, tmp_path):
    model = build(clip, freeze_backbone=False, keep_text_model=False)
    with pytest.raises(ValueError, match="freeze_backbone=False.*Save it whole"):
        model.save_pretrained(tmp_path / "small", trained_only=True)


def test_a_tower_alone(model, tmp_path):
    with pytest.raises(ValueError, match="a tower alone does not know its base"):
        model.vision_model.save_pretrained(tmp_path / "small", trained_only=True)


# fingerprints


def test_fingerprints_see_values_names_and_shapes_alone():
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(())}
    same = {"b": weights["b"].half(), "a": weights["a"].bfloat16().T.contiguous().T}
    assert fingerprint(same) == fingerprint(weights)
    others = [
        {"a": weights["a"], "c": weights["b"]},
        {"a": weights["a"]},
        {"a": weights["a"].view(3, 2), "b": weights["b"]},
        {"a": weights["a"].flip(0), "b": weights["b"]},
        {"a": weights["a"], "b": weights["b"] + 1e-7},
    ]
    assert len({fingerprint(other) for other in (*others, weights)}) == 6


# on its own, and from the Hub's cache


def run_python(code: str, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_it_loads_without_this_package(model, small, tmp_path):
    """The code travels with the checkpoint; the package cannot be imported."""
    add_code(small)
    pixel_values = photos()
    torch.save(pixel_values, tmp_path / "photos.pt")
    code = f"""
import sys
sys.modules["concepthash_hf"] = None
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained({str(small)!r}, trust_remote_code=True)
print(model.get_hash_codes(torch.load({str(tmp_path / "photos.pt")!r})).tolist())
"""
    output = run_python(code, HF_MODULES_CACHE=str(tmp_path / "modules"))
    assert output.splitlines()[-1] == str(model.get_hash_codes(pixel_values).tolist())


def test_the_commit_of_a_clip_from_the_hub_is_kept(tmp_path):
    """The CLIP has moved on since: what it was in training counts, and offline means that commit in the cache."""
    repository = tmp_path / "cache" / "models--someone--clip"
    old, new = "a" * 40, "b" * 40
    for commit in (old, new):
        save_tiny_clip(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(old)
    small = tmp_path / "small"
    run_python(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_small_checkpoints import build
build("someone/clip").save_pretrained({str(small)!r}, trained_only=True)
""",
        HF_HUB_CACHE=str(tmp_path / "cache"),
    )
    assert json.loads((small / "config.json").read_text())["base_model_revision"] == old

    (repository / "refs" / "main").write_text(new)
    # the revision that is asked for is that of the checkpoint
    loaded = ConceptHashModel.from_pretrained(small, cache_dir=tmp_path / "cache", revision="main")
    assert loaded.config.base_model_revision == old
    theirs = CLIPModel.from_pretrained(repository / "snapshots" / old).vision_model.encoder.layers[0].mlp.fc1.weight
    assert torch.equal(loaded.vision_model.encoder.layers[0].mlp.fc1.weight, theirs)

    shutil.move(repository / "snapshots" / old, tmp_path / "copy")
    loaded = ConceptHashModel.from_pretrained(small, base_model_name_or_path=tmp_path / "copy")
    assert loaded.config.base_model_name_or_path == str(tmp_path / "copy")
    assert loaded.config.base_model_revision is None
    with pytest.raises(ValueError, match=f"someone/clip at revision {old}, cannot be loaded"):
        ConceptHashModel.from_pretrained(small, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match=f"is not the model that .* which is someone/clip at revision {old}"):
        ConceptHashModel.from_pretrained(small, base_model_name_or_path=repository / "snapshots" / new)


# real photos


def test_real_photos(shared_dir, tmp_path):
    model, pixel_values = hash_model_and_photos(shared_dir, 24)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "small", trained_only=True)
    codes = model.get_hash_codes(pixel_values)
    assert len(codes.unique(dim=0)) == 24
    for name in ("whole", "small"):
        loaded = ConceptHashModel.from_pretrained(tmp_path / name)
        same_state(loaded, model)
        assert torch.equal(loaded.get_hash_codes(pixel_values), codes)
        tower = ConceptHashVisionModel.from_pretrained(tmp_path / name)
        assert torch.equal(tower.get_hash_codes(pixel_values), codes)
    whole, small = (tmp_path / "whole" / "model.safetensors").stat(), (tmp_path / "small" / WEIGHTS_NAME).stat()
    assert small.st_size < 0.25 * whole.st_size
