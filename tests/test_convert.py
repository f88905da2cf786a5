"""Reading checkpoints of the authors' implementation: what is accepted, what is refused and how that is said."""

import logging
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from common import photos, tiny_clip_config, tiny_model, to_reference_names
from torch import Tensor
from transformers import BertConfig, CLIPConfig, CLIPModel

from concepthash_hf import ConceptHashModel, ConceptHashVisionModel
from concepthash_hf.convert import convert_reference_checkpoint

# parts of CLIP that the reference carries along
UNUSED = {
    "backbone.logit_scale",
    "backbone.visual_projection.weight",
    "backbone.text_projection.weight",
    "backbone.vision_model.post_layernorm.weight",
    "backbone.vision_model.post_layernorm.bias",
}
# the two names of everything trained that has two
FIRST_NAMES = r"hash_pe|hash_queries|concept_pe|concept_ce\.centroids|backbone\..*adapt_mlp.*"
SECOND_NAMES = r"adapter_params\..*|trainable_params\..*"


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(shared_dir / "reference" / "golden.safetensors")


@pytest.fixture
def state(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's state dict."""
    return {name.removeprefix("state/"): tensor for name, tensor in golden.items() if name.startswith("state/")}


@pytest.fixture
def folder(shared_dir: Path) -> Path:
    """The CLIP it was built on."""
    return shared_dir / "reference" / "tiny-clip"


@pytest.fixture
def config(folder: Path) -> CLIPConfig:
    return CLIPConfig.from_pretrained(folder)


def same(model: ConceptHashModel, other: ConceptHashModel) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# what is accepted


def test_the_config_is_recovered_from_the_shapes(state, folder):
    model = convert_reference_checkpoint(state, folder)
    config, vision = model.config, model.config.vision_config
    assert (config.num_bits, config.num_concepts, config.adapter_dim, config.num_labels) == (16, 4, 24, 10)
    assert (config.class_embedding_dim, vision.prompt_dim) == (32, 40)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.image_size, vision.patch_size) == (48, 3, 64, 16)
    assert config.binarize_class_embeddings
    assert config.base_model_name_or_path == str(folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    # counted by the authors' code
    assert sum(parameter.numel() for parameter in model.trainable_parameters()) == 29_638
    assert len(list(model.trainable_parameters())) == 67


def test_from_a_folder_comes_the_text_tower_too(state, folder, config):
    with_text = convert_reference_checkpoint(state, folder)
    text = CLIPModel.from_pretrained(folder).text_model.state_dict()
    assert all(torch.equal(with_text.text_model.state_dict()[name], tensor) for name, tensor in text.items())
    without = convert_reference_checkpoint(state, config)
    assert without.text_model is None
    assert without.config.text_config is None
    assert {name: t for name, t in with_text.state_dict().items() if not name.startswith("text_model.")}.keys() == (
        without.state_dict().keys()
    )


def test_a_folder_with_a_config_alone_gives_no_text_tower_and_says_so(state, config, tmp_path, caplog):
    config.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="concepthash_hf"):
        model = convert_reference_checkpoint(state, tmp_path)
    assert model.text_model is None
    assert "without a text tower" in caplog.text


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("kind", [str, Path])
def test_files(state, folder, tmp_path, suffix, kind):
    path = tmp_path / f"last{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    same(convert_reference_checkpoint(kind(path), folder), convert_reference_checkpoint(state, folder))


@pytest.mark.parametrize("dropped", [FIRST_NAMES, SECOND_NAMES], ids=["second", "first"])
def test_one_of_the_two_names_is_enough(state, folder, dropped):
    once = {name: tensor for name, tensor in state.items() if not re.fullmatch(dropped, name)}
    assert len(once) == len(state) - 46
    same(convert_reference_checkpoint(once, folder), convert_reference_checkpoint(state, folder))


def test_what_the_reference_never_reads_may_be_there_or_not(state, folder):
    lean = {name: tensor for name, tensor in state.items() if name not in UNUSED}
    assert len(lean) == len(state) - len(UNUSED)
    fat = state | {"backbone.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    same(convert_reference_checkpoint(lean, folder), convert_reference_checkpoint(fat, folder))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_checkpoints_become_float32(state, folder, dtype):
    halves = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model = convert_reference_checkpoint(halves, folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    full = convert_reference_checkpoint(
        {name: tensor.to(dtype).to(tensor.dtype) for name, tensor in state.items()}, folder
    )
    same(model, full)


def test_config_kwargs(state, folder):
    names = {index: f"bird {index}" for index in range(10)}
    model = convert_reference_checkpoint(state, folder, prompt_dropout=0.3, id2label=names, diversity_weight=0.0)
    assert model.config.vision_config.prompt_dropout == 0.3
    assert model.vision_model.concept_prompt.dropout.p == 0.3
    assert model.config.id2label == names
    assert model.config.diversity_weight == 0.0


def test_a_converted_model_saves_and_loads(golden, state, folder, tmp_path):
    model = convert_reference_checkpoint(state, folder)
    model.save_pretrained(tmp_path)
    loaded = ConceptHashModel.from_pretrained(tmp_path)
    same(model, loaded)
    codes = model.get_hash_codes(golden["images"])
    assert torch.equal(loaded.get_hash_codes(golden["images"]), codes)
    assert torch.equal(ConceptHashVisionModel.from_pretrained(tmp_path).get_hash_codes(golden["images"]), codes)


def test_the_given_state_is_left_alone(state, folder):
    before = {name: tensor.clone() for name, tensor in state.items()}
    model = convert_reference_checkpoint(state, folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"num_concepts": 1, "num_bits": 6},
        {"num_concepts": 6, "num_bits": 6, "adapter_dim": 1},
        {"num_hidden_layers": 11, "hidden_size": 16, "num_bits": 36},
    ],
    ids=["tiny", "one concept", "sub-codes of one bit", "layers of two digits"],
)
def test_other_geometries(vision):
    model = tiny_model(vision, text=False, num_labels=3, class_embedding_dim=7)
    converted = convert_reference_checkpoint(to_reference_names(model), tiny_clip_config(vision))
    same(converted, model)
    assert converted.config.num_labels == 3
    pixel_values = photos()
    assert torch.equal(converted.get_hash_codes(pixel_values), model.get_hash_codes(pixel_values))


def test_the_reference_names_of_these_tests_are_the_golden_ones(state, folder):
    written = to_reference_names(convert_reference_checkpoint(state, folder))
    assert state.keys() - written.keys() == UNUSED
    for name, tensor in written.items():
        assert torch.equal(tensor, state[name]), name


def test_a_clip_stored_in_16_bits_gives_a_float32_model(shared_dir, tmp_path):
    clip = shared_dir / "bench" / "tiny-clip"
    published = {"preset": "paper", "num_labels": 2, "num_bits": 8}
    model = ConceptHashModel.from_clip(clip, class_embeddings=torch.randn(2, 256), **published)
    converted = convert_reference_checkpoint(to_reference_names(model), clip)
    same(converted, model)
    assert {tensor.dtype for tensor in converted.state_dict().values()} == {torch.float32, torch.int64}
    converted.save_pretrained(tmp_path)
    tower = ConceptHashVisionModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}


# what is refused


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (("hash_queries", "trainable_params.hash_queries"), r"no ConceptHash checkpoint.*without queries"),
        (("hash_bn.weight",), r"no ConceptHash checkpoint.*without batch norm"),
        (("center",), r"no ConceptHash checkpoint.*without class centres"),
        (("hash_bn.running_var",), r"1 tensors missing.*hash_head.batch_norm.running_var"),
        (("hash_pe", "trainable_params.hash_pe"), r"1 tensors missing.*hash_head.specificity"),
        (("text_projection.2.bias",), r"1 tensors missing.*text_projection.fc2.bias"),
        (
            ("backbone.vision_model.encoder.layers.1.mlp.fc1.weight",),
            r"1 tensors missing.*encoder.layers.1.mlp.fc1.weight",
        ),
        (
            (
                "backbone.vision_model.encoder.layers.2.adapt_mlp_2.scale",
                "adapter_params.adapter_2_adapt_mlp_2_scale",
            ),
            r"1 tensors missing.*encoder.layers.2.mlp_adapter.scale",
        ),
    ],
)
def test_missing_tensors_are_named(state, folder, lost, message):
    rest = {name: tensor for name, tensor in state.items() if name not in lost}
    assert len(rest) == len(state) - len(lost)
    with pytest.raises(ValueError, match=message):
        convert_reference_checkpoint(rest, folder)


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("codebook", "codebook"),
        ("hash_fc.bias", "hash_head.projection.bias"),
        ("hash_attention.norm3.weight", "hash_attention.norm3.weight"),
        ("adapter_params.adapter_0_adapt_mlp_3_scale", "layers.0.adapt_mlp_3.scale"),
        ("backbone.vision_model.encoder.layers.3.mlp.fc1.weight", "encoder.layers.3.mlp.fc1.weight"),
        ("backbone.vision_model.embeddings.another", "embeddings.another"),
        (
            "backbone.text_model.embeddings.token_embedding.weight",
            "backbone.text_model.embeddings.token_embedding.weight",
        ),
    ],
)
def test_left_over_tensors_are_named(state, folder, extra, named):
    with pytest.raises(ValueError, match=rf"(1 tensors have no place|1 left over).*{named}"):
        convert_reference_checkpoint(state | {extra: torch.zeros(1)}, folder)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("trainable_params.hash_pe", "hash_head.specificity"),
        ("concept_ce.centroids", "concept_classifier.centroids"),
        ("adapter_params.adapter_1_adapt_mlp_2_down_proj_weight", "layers.1.mlp_adapter.down_proj.weight"),
        ("adapter_params.adapter_0_adapt_mlp_1_scale", "layers.0.attention_adapter.scale"),
    ],
)
def test_copies_that_differ_are_refused(state, folder, name, ours):
    with pytest.raises(ValueError, match=f"the copies differ.*{ours}"):
        convert_reference_checkpoint(state | {name: state[name] + 1e-3}, folder)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"num_hidden_layers": 2}, r"left over.*encoder.layers.2"),
        ({"num_hidden_layers": 4}, r"tensors missing.*encoder.layers.3"),
        ({"image_size": 96}, r"position_embedding.weight \(17, 48\), expected \(37, 48\)"),
        ({"patch_size": 8, "image_size": 32}, r"patch_embedding.weight \(48, 3, 16, 16\), expected \(48, 3, 8, 8\)"),
        ({"intermediate_size": 64}, r"mlp.fc1.weight \(96, 48\), expected \(64, 48\)"),
        ({"hidden_size": 64}, r"of another shape.*expected \(64"),
        ({"num_channels": 1}, r"patch_embedding.weight \(48, 3, 16, 16\), expected \(48, 1, 16, 16\)"),
    ],
)
def test_a_clip_of_another_geometry_is_refused(state, config, geometry, message):
    vision = config.vision_config.to_dict() | geometry
    other = CLIPConfig(vision_config=vision, text_config=config.text_config.to_dict(), projection_dim=40)
    with pytest.raises(ValueError, match=f"does not fit this CLIP.*{message}"):
        convert_reference_checkpoint(state, other)


def test_contradicting_settings_are_refused(state, folder):
    with pytest.raises(ValueError, match=r"does not fit.*centroids \(10, 48\), expected \(7, 48\)"):
        convert_reference_checkpoint(state, folder, num_labels=7)
    with pytest.raises(ValueError, match=r"does not fit.*adapter.down_proj.weight \(24, 48\), expected \(12, 48\)"):
        convert_reference_checkpoint(state, folder, adapter_dim=12)


def test_what_is_no_such_checkpoint_is_refused(state, folder, tmp_path):
    with pytest.raises(ValueError, match="no place in a ConceptHash model"):
        convert_reference_checkpoint({"fc.weight": torch.zeros(2, 2)}, folder)
    with pytest.raises(ValueError, match="no ConceptHash checkpoint"):
        convert_reference_checkpoint({}, folder)
    with pytest.raises(ValueError, match=r"not a state dict.*'model', 'epoch'.*inner one"):
        convert_reference_checkpoint({"model": state, "epoch": 3}, folder)
    torch.save({"model": state, "epoch": 3}, tmp_path / "last.pth")
    with pytest.raises(ValueError, match=r"not a state dict.*'model', 'epoch'.*inner one"):
        convert_reference_checkpoint(tmp_path / "last.pth", folder)


def test_a_pickle_is_not_executed(tmp_path, folder):
    torch.save(Surprise(tmp_path / "executed"), tmp_path / "last.pth")
    with pytest.raises(ValueError, match="last.pth cannot be read as weights alone.*[Ww]eights.only"):
        convert_reference_checkpoint(tmp_path / "last.pth", folder)
    assert not (tmp_path / "executed").exists()


class Surprise:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_folder_that_is_no_clip_is_refused(state, tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        convert_reference_checkpoint(state, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=tmp_path.name):
        convert_reference_checkpoint(state, tmp_path)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert' model"):
        convert_reference_checkpoint(state, tmp_path)
