"""What transformers' own tests ask of every model, asked of ours (tiny, on the CPU)."""

import copy
import json
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from common import (
    NUM_CLASSES,
    TINY_VISION,
    forget_checksums,
    integer_labels,
    photos,
    stir,
    tiny_config,
    tiny_model,
    tiny_tower,
)
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModel,
    CLIPImageProcessor,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionConfig, ConceptHashVisionModel
from concepthash_hf._version import LOWEST_TRANSFORMERS
from concepthash_hf.modes import checkpointing

MODELS = {ConceptHashModel: tiny_model, ConceptHashVisionModel: tiny_tower}
LAYERS, HEADS, WIDTH, CONCEPTS = (
    TINY_VISION[name] for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "num_concepts")
)
PATCHES = (TINY_VISION["image_size"] // TINY_VISION["patch_size"]) ** 2
TOKENS = 1 + PATCHES + CONCEPTS

both = pytest.mark.parametrize("kind", MODELS, ids=["whole", "tower"])


def config_of(kind: type) -> ConceptHashConfig | ConceptHashVisionConfig:
    return tiny_config() if kind is ConceptHashModel else tiny_config().vision_config


def vision_of(model: nn.Module) -> ConceptHashVisionModel:
    return model.vision_model if isinstance(model, ConceptHashModel) else model


def same_state(model: nn.Module, other: nn.Module) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype, name
        assert torch.equal(ours[name], theirs[name]), name


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# saving and loading


@both
def test_save_and_load_are_bit_exact(kind, tmp_path):
    model, pixel_values = MODELS[kind](), photos()
    model.save_pretrained(tmp_path)
    loaded, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    same_state(model, loaded)
    assert not any(info.values()), info
    assert not loaded.training
    with torch.no_grad():
        # memory read from a file is aligned otherwise, which may round otherwise
        close(loaded(pixel_values).code_logits, model(pixel_values).code_logits, 1e-6)


@both
def test_a_checkpoint_holds_exactly_the_state_and_no_pickle(kind, tmp_path):
    model = MODELS[kind]()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert safetensors.torch.load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    assert not any("position_ids" in name for name in model.state_dict())


def test_sharded_checkpoints(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="50kB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same_state(ConceptHashModel.from_pretrained(tmp_path), model)
    same_state(ConceptHashVisionModel.from_pretrained(tmp_path), model.vision_model)


@pytest.mark.parametrize("text", [True, False], ids=["text tower", "no text tower"])
def test_one_checkpoint_loads_into_both_classes(text, tmp_path):
    model, pixel_values = tiny_model(text=text), photos()
    model.save_pretrained(tmp_path)
    whole, whole_info = ConceptHashModel.from_pretrained(tmp_path, output_loading_info=True)
    tower, tower_info = ConceptHashVisionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(whole_info.values()), whole_info
    assert not any(tower_info.values()), tower_info
    assert (whole.text_model is not None) == text
    same_state(tower, whole.vision_model)
    codes = model.get_hash_codes(pixel_values)
    assert torch.equal(whole.get_hash_codes(pixel_values), codes)
    assert torch.equal(tower.get_hash_codes(pixel_values), codes)


@both
def test_from_pretrained_without_a_checkpoint(kind):
    model = MODELS[kind]()
    loaded = kind.from_pretrained(None, config=model.config, state_dict=model.state_dict())
    same_state(model, loaded)


def test_a_checkpoint_with_other_classes_loads_only_on_request(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit its config, such as .*: its shape is \(5, .*, not \(42, "):
        ConceptHashModel.from_pretrained(tmp_path, num_labels=42)
    loaded = ConceptHashModel.from_pretrained(tmp_path, num_labels=42, ignore_mismatched_sizes=True)
    assert loaded.config.num_labels == 42
    assert loaded.concept_classifier.centroids.shape == (42, WIDTH)
    assert loaded.class_embeddings.shape == (42, model.config.class_embedding_dim)
    assert 0.9 < loaded.concept_classifier.centroids.std() < 1.1
    same_state(loaded.vision_model, model.vision_model)
    same_state(loaded.text_projection, model.text_projection)
    assert torch.equal(loaded.concept_classifier.position, model.concept_classifier.position)
    assert loaded(photos()).class_logits.isfinite().all()


def test_a_hash_function_of_another_length_is_never_loaded(tmp_path):
    """It would be a random one."""
    tiny_model().save_pretrained(tmp_path)
    config = tiny_config({"num_bits": 24})
    with pytest.raises(ValueError, match=r"5 weights of .* do not fit its config, such as vision_model\.hash_head"):
        ConceptHashModel.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)


# initialisation


@both
def test_all_missing_weights_are_initialised(kind):
    """A checkpoint without any tensor, loaded on the meta device as always."""
    loaded, info = kind.from_pretrained(None, config=config_of(kind), state_dict={}, output_loading_info=True)
    assert info["missing_keys"]
    fresh = kind(config_of(kind)).state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.device.type == "cpu"
        assert tensor.isfinite().all(), name
        constant = fresh[name].unique().numel() == 1
        assert (tensor.unique().numel() == 1) == constant, name
        if constant:
            assert torch.equal(tensor, fresh[name]), name
        elif tensor.numel() > 50:
            assert tensor.std() == pytest.approx(fresh[name].std().item(), rel=0.35), name


@pytest.mark.parametrize(
    "lost",
    [
        ("vision_model.concept_prompt.queries",),
        ("vision_model.concept_prompt.self_attn.out_proj.bias",),
        ("vision_model.concept_prompt.fc2.bias", "vision_model.concept_prompt.projection.weight"),
        ("vision_model.encoder.layers.1.mlp_adapter.scale",),
        ("vision_model.encoder.layers.0.attention_adapter.down_proj.weight",),
        ("vision_model.hash_head.specificity",),
        ("vision_model.hash_head.batch_norm.running_var", "vision_model.hash_head.batch_norm.num_batches_tracked"),
        ("text_projection.fc1.bias",),
        ("concept_classifier.centroids",),
        ("class_embeddings",),
    ],
)
def test_initialising_what_is_missing_leaves_the_rest_alone(lost, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    safetensors.torch.save_file(
        {name: tensor for name, tensor in state.items() if name not in lost}, tmp_path / "model.safetensors"
    )
    forget_checksums(tmp_path)
    if any(name.startswith("vision_model.") for name in lost):
        with pytest.raises(ValueError, match=f"{len(lost)} weights of the backbone or the hash function are missing"):
            ConceptHashModel.from_pretrained(tmp_path)
        return
    loaded, info = ConceptHashModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(lost)
    for name, tensor in loaded.state_dict().items():
        assert tensor.isfinite().all(), name
        assert torch.equal(tensor, state[name]) == (name not in lost), name


@both
def test_buffers_are_initialised(kind):
    loaded = kind.from_pretrained(None, config=config_of(kind), state_dict={})
    vision = vision_of(loaded)
    assert vision.embeddings.position_ids.tolist() == [list(range(1 + PATCHES))]
    batch_norm = vision.hash_head.batch_norm
    assert (batch_norm.running_mean == 0).all()
    assert (batch_norm.running_var == 1).all()
    assert batch_norm.num_batches_tracked == 0
    if kind is ConceptHashModel:
        assert 0.7 < loaded.class_embeddings.std() < 1.3
        assert loaded.text_model.embeddings.position_ids.tolist() == [list(range(20))]


@both
def test_construction_on_the_meta_device(kind):
    with torch.device("meta"):
        model = kind(config_of(kind))
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    assert model.state_dict().keys() == kind(config_of(kind)).state_dict().keys()


@both
def test_all_tensors_are_parameters_or_buffers(kind):
    for module in MODELS[kind]().modules():
        assert not [name for name, value in vars(module).items() if isinstance(value, Tensor)]


@both
def test_models_of_one_seed_are_equal(kind):
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(kind(config_of(kind)))
    same_state(*models)


# outputs


@both
def test_determinism_and_independence_of_the_batch(kind):
    model, pixel_values = MODELS[kind](), photos(5)
    with torch.no_grad():
        together = model(pixel_values, output_attentions=True)
        again = model(pixel_values, output_attentions=True)
        for name, value in together.items():
            if isinstance(value, Tensor):
                assert torch.equal(value, again[name]), name
        for i in range(5):
            alone = model(pixel_values[i : i + 1], output_attentions=True)
            for name, value in together.items():
                if isinstance(value, Tensor):
                    close(alone[name][0], value[i])


@both
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_hidden_states(kind, attention):
    model, pixel_values = MODELS[kind](), photos()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        assert model(pixel_values).hidden_states is None
        output = model(pixel_values, output_hidden_states=True)
    assert len(output.hidden_states) == LAYERS + 1
    assert {tuple(state.shape) for state in output.hidden_states} == {(4, TOKENS, WIDTH)}
    assert torch.equal(output.hidden_states[-1][:, -CONCEPTS:], output.concept_embeddings)
    vision = vision_of(model)
    patches = torch.cat([vision.embeddings(pixel_values), vision.concept_prompt().expand(4, -1, -1)], dim=1)
    close(output.hidden_states[0], vision.pre_layrnorm(patches))


@both
@pytest.mark.parametrize("selection", [1, [0], [0, -1], [2]])
def test_selected_hidden_states(kind, selection):
    model, pixel_values = MODELS[kind](), photos()
    with torch.no_grad():
        every = model(pixel_values, output_hidden_states=True).hidden_states
        some = model(pixel_values, output_hidden_states=selection).hidden_states
    wanted = {index % (LAYERS + 1) for index in ([selection] if isinstance(selection, int) else selection)}
    assert [state is not None for state in some] == [index in wanted for index in range(len(some))]
    for index in wanted:
        assert torch.equal(some[index], every[index])


@both
def test_eager_attentions(kind):
    model, pixel_values = MODELS[kind](), photos()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        assert model(pixel_values).attentions is None
        output = model(pixel_values, output_attentions=True)
    assert len(output.attentions) == LAYERS
    assert {tuple(attention.shape) for attention in output.attentions} == {(4, HEADS, TOKENS, TOKENS)}
    for attention in output.attentions:
        close(attention.sum(-1), torch.ones(4, HEADS, TOKENS))
    close(output.concept_attentions, output.attentions[-1].mean(1)[:, -CONCEPTS:, 1:-CONCEPTS])


@both
def test_concept_attentions_under_sdpa_are_those_of_eager(kind):
    model, pixel_values = MODELS[kind](), photos()
    logger = logging.get_logger("transformers")
    with torch.no_grad(), CaptureLogger(logger) as captured:
        assert model(pixel_values).concept_attentions is None
        output = model(pixel_values, output_attentions=True)
        assert not output.attentions  # sdpa has none to give
        assert model.config._attn_implementation == "sdpa"  # and was not changed to get them
        model.set_attn_implementation("eager")
        eager = model(pixel_values, output_attentions=True)
    assert captured.out == ""
    assert output.concept_attentions.shape == (4, CONCEPTS, PATCHES)
    close(output.concept_attentions, eager.concept_attentions)


@both
def test_asking_through_the_config(kind):
    model, pixel_values = MODELS[kind](), photos()
    model.set_attn_implementation("eager")
    vision = vision_of(model)
    vision.config.output_attentions = vision.config.output_hidden_states = True
    with torch.no_grad():
        output = model(pixel_values)
    assert len(output.attentions) == LAYERS
    assert len(output.hidden_states) == LAYERS + 1
    assert output.concept_attentions.shape == (4, CONCEPTS, PATCHES)


@both
def test_gradients_reach_hidden_states_and_attentions(kind):
    model = MODELS[kind]().train()
    model.set_attn_implementation("eager")
    output = model(photos(), output_hidden_states=True, output_attentions=True)
    kept = [output.hidden_states[0], output.attentions[0], output.concept_attentions]
    for tensor in kept:
        tensor.retain_grad()
    (output.code_logits.square().sum() + output.concept_attentions.square().sum()).backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in kept)


@both
@pytest.mark.parametrize("extra", [{}, {"output_hidden_states": True, "output_attentions": True}], ids=["", "all"])
def test_tuples_hold_what_the_outputs_hold(kind, extra):
    model, inputs = MODELS[kind](), {"pixel_values": photos()} | extra
    model.set_attn_implementation("eager")
    if kind is ConceptHashModel:
        inputs["labels"] = integer_labels()
    with torch.no_grad():
        output = model(**inputs)
        as_tuple = model(**inputs, return_dict=False)
    assert isinstance(as_tuple, tuple)
    equal(as_tuple, output.to_tuple())
    if kind is ConceptHashModel:
        assert torch.equal(as_tuple[0], output.loss)
    model.config.return_dict = False
    with torch.no_grad():
        equal(model(**inputs), as_tuple)


def equal(a: object, b: object) -> None:
    """Nested tuples and dicts of equal tensors."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        equal(tuple(a.values()), tuple(b.values()))
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            equal(left, right)
    else:
        assert a is None


@both
def test_what_can_be_recorded(kind):
    model = MODELS[kind]()
    assert set(kind._can_record_outputs) == {"hidden_states", "attentions"}
    for recorded in kind._can_record_outputs.values():
        assert sum(isinstance(module, tuple(recorded)) for module in vision_of(model).modules()) == LAYERS


@both
def test_input_embeddings(kind):
    assert isinstance(MODELS[kind]().get_input_embeddings(), nn.Conv2d)


# attention implementations


@both
def test_sdpa_is_the_default_at_every_level(kind):
    model = MODELS[kind]()
    levels = [model.config, vision_of(model).config]
    if kind is ConceptHashModel:
        levels.append(model.text_model.config)
    assert [level._attn_implementation for level in levels] == ["sdpa"] * len(levels)


@both
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_implementation_can_be_chosen_at_construction_and_loading(kind, attention, tmp_path):
    model, pixel_values = MODELS[kind](), photos()
    codes = model.get_hash_codes(pixel_values)
    model.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path, attn_implementation=attention)
    built = kind._from_config(copy.deepcopy(model.config), attn_implementation=attention)
    for chosen in (loaded, built):
        assert chosen.config._attn_implementation == attention
        assert vision_of(chosen).config._attn_implementation == attention
        output = chosen(pixel_values, output_attentions=True)
        assert bool(output.attentions) == (attention == "eager")
    assert torch.equal(loaded.get_hash_codes(pixel_values), codes)
    # it is a matter of the machine, not of the model
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()


@both
def test_the_implementation_can_be_changed_at_any_time(kind):
    model, pixel_values = MODELS[kind](), photos()
    codes = model.get_hash_codes(pixel_values)
    logger = logging.get_logger("transformers")
    with CaptureLogger(logger) as captured:
        for attention in ("eager", "sdpa", "eager"):
            model.set_attn_implementation(attention)
            assert vision_of(model).config._attn_implementation == attention
            assert torch.equal(model.get_hash_codes(pixel_values), codes)
    assert captured.out == ""
    with pytest.raises(ValueError, match="nonsense"):
        model.set_attn_implementation("nonsense")


@pytest.mark.parametrize("text", [True, False], ids=["text tower", "no text tower"])
def test_a_composite_dispatches_to_its_towers(text):
    model = tiny_model(text=text)
    model.set_attn_implementation({"vision_config": "eager"})
    assert model.vision_model.config._attn_implementation == "eager"
    if text:
        assert model.text_model.config._attn_implementation == "sdpa"


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_eager_equals_sdpa(kind, dtype):
    model, pixel_values = MODELS[kind](), photos()
    batch_norm = vision_of(model).hash_head.batch_norm
    model.to(dtype)
    batch_norm.float()
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    with torch.no_grad():
        sdpa = model(pixel_values, output_attentions=True)
        model.set_attn_implementation("eager")
        eager = model(pixel_values, output_attentions=True)
    for name in ("code_logits", "concept_embeddings", "concept_attentions"):
        close(sdpa[name].float(), eager[name].float(), tolerance)


# dtypes


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_loading_keeps_batch_norm_in_float32(kind, dtype, tmp_path):
    model, pixel_values = MODELS[kind](), photos()
    model.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path, dtype=dtype)
    for name, tensor in loaded.state_dict().items():
        kept = "batch_norm" in name or name == "class_embeddings"
        expected = model.state_dict()[name].dtype if kept else dtype
        assert tensor.dtype == expected, name
        assert torch.equal(tensor, model.state_dict()[name].to(expected)), name
    with torch.no_grad():
        output = loaded(pixel_values, output_attentions=True)
    assert output.code_logits.dtype == torch.float32
    assert output.concept_embeddings.dtype == dtype
    close(output.code_logits, model(pixel_values).code_logits, 0.3)
    # again, from what was saved in 16 bits
    loaded.save_pretrained(tmp_path / "half")
    again = kind.from_pretrained(tmp_path / "half")
    same_state(again, loaded)
    tower = ConceptHashVisionModel.from_pretrained(tmp_path / "half")
    same_state(tower, vision_of(loaded))
    assert torch.equal(tower.get_hash_codes(pixel_values), loaded.get_hash_codes(pixel_values))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_16_bit_model_gives_losses_in_float32(dtype, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    output = ConceptHashModel.from_pretrained(tmp_path, dtype=dtype)(photos(), labels=integer_labels())
    assert output.loss.dtype == torch.float32
    assert {term.dtype for term in output.loss_terms.values()} == {torch.float32}
    assert output.class_logits.dtype == output.concept_logits.dtype == torch.float32
    assert output.loss.isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_training_under_autocast(dtype):
    model = tiny_model().train()
    plain = model(photos(), labels=integer_labels()).loss
    torch.manual_seed(0)
    model = tiny_model().train()
    with torch.autocast("cpu", dtype=dtype):
        output = model(photos(), labels=integer_labels())
    assert output.loss.dtype == output.code_logits.dtype == torch.float32
    close(output.loss, plain, 0.3)
    output.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.trainable_parameters())


# training


def gradients(model: ConceptHashModel, attention: str = "sdpa") -> dict[str, Tensor]:
    model.set_attn_implementation(attention)
    torch.manual_seed(1)
    model.train().zero_grad()
    model(photos(), labels=integer_labels()).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_training_reaches_all_that_is_trained_and_nothing_else(attention):
    model = tiny_model()
    for name, gradient in gradients(model, attention).items():
        assert (gradient is not None) == model.get_parameter(name).requires_grad, name
        if gradient is not None:
            assert gradient.isfinite().all(), name
            assert "specificity" in name or gradient.abs().sum() > 0, name


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # renamed in 5.23; we support 5.20
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant, attention, dropout):
    model = tiny_model({"prompt_dropout": dropout})
    calls = []
    for layer in model.vision_model.encoder.layers:
        layer.mlp.register_forward_hook(lambda *_: calls.append(1))
    expected = gradients(model, attention)
    assert len(calls) == LAYERS
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    assert model.is_gradient_checkpointing
    calls.clear()
    checkpointed = gradients(model, attention)
    assert len(calls) == 2 * LAYERS  # the backward pass computed every layer again
    assert checkpointed.keys() == expected.keys()
    for name, gradient in checkpointed.items():
        assert (gradient is None) == (expected[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_checkpointing_for_a_while_is_afterwards_as_it_was(before, wanted):
    model = tiny_model()
    if before:
        model.activation_checkpointing_enable()
    with checkpointing(model, wanted):
        assert model.is_activation_checkpointing == (before or wanted)
    assert model.is_activation_checkpointing == before


@both
def test_photos_are_hashed_in_evaluation_and_every_module_keeps_its_mode(kind):
    model, pixel_values = MODELS[kind]().train(), photos()
    model.base_model.hash_head.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert set(modes.values()) == {False, True}
    codes = model.get_hash_codes(pixel_values)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(codes, model.eval().get_hash_codes(pixel_values))


class Photos(torch.utils.data.Dataset):
    """Noise with a class-dependent colour."""

    def __init__(self, count: int):
        self.labels = torch.arange(count) % NUM_CLASSES
        colours = torch.randn(NUM_CLASSES, 3, 1, 1, generator=torch.Generator().manual_seed(0))
        self.photos = 0.1 * photos(count) + colours[self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.photos[index], "labels": self.labels[index]}


def make_trainer(folder: Path, **arguments: object) -> Trainer:
    defaults = {
        "output_dir": str(folder),
        "max_steps": 24,
        "per_device_train_batch_size": 10,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 4,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 0,
    }
    model = ConceptHashModel(tiny_config())
    return Trainer(
        model, TrainingArguments(**(defaults | arguments)), train_dataset=Photos(20), eval_dataset=Photos(10)
    )


def test_transformers_trainer(tmp_path):
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=24)
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    # the mean over what was accumulated, not its sum
    assert losses[0] == pytest.approx(before["eval_loss"], rel=0.5)
    assert losses[-1] < 0.6 * losses[0]
    assert after["eval_loss"] < 0.8 * before["eval_loss"]
    for name, parameter in frozen.items():
        assert torch.equal(trainer.model.get_parameter(name), parameter), name

    prediction = trainer.predict(Photos(10))
    names = ("code_logits", "class_logits", "binary_class_logits", "concept_logits", "concept_embeddings")
    outputs = dict(zip(names, prediction.predictions, strict=True))
    assert outputs["code_logits"].shape == (10, TINY_VISION["num_bits"])
    assert (outputs["class_logits"].argmax(1) == prediction.label_ids).mean() == 1.0

    saved = ConceptHashModel.from_pretrained(tmp_path / "checkpoint-24")
    same_state(saved, trainer.model)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_trainer_with_gradient_checkpointing(tmp_path):
    trainer = make_trainer(tmp_path, gradient_checkpointing=True, max_steps=1)
    calls = []
    trainer.model.vision_model.encoder.layers[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    trainer.train()
    assert len(calls) == 2 * 2  # two batches are accumulated, and every layer is computed twice
    assert np.isfinite(trainer.state.log_history[-1]["train_loss"])


# export and compilation


@both
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic batch"])
def test_torch_export(kind, dynamic):
    model, pixel_values = MODELS[kind](), photos()
    shapes = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=64)}} if dynamic else None
    program = torch.export.export(model, (), {"pixel_values": pixel_values}, dynamic_shapes=shapes)
    other = photos(7) if dynamic else photos()
    with torch.no_grad():
        close(program.module()(pixel_values=other).code_logits, model(other).code_logits)


@both
@pytest.mark.parametrize("extra", [{}, {"output_attentions": True}], ids=["plain", "maps"])
def test_compiling_the_forward_without_graph_breaks(kind, extra):
    model, pixel_values = MODELS[kind](), photos()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        # the first call with maps puts transformers' hooks in place, under a lock that cannot be compiled
        expected = model(pixel_values, **extra)
        output = compiled(pixel_values, **extra)
    close(output.code_logits, expected.code_logits)
    if extra:
        close(output.concept_attentions, expected.concept_attentions)


def test_compiling_a_training_step_without_graph_breaks():
    model = tiny_model()
    expected = gradients(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for name, gradient in gradients(compiled).items():
        ours = expected[name.removeprefix("_orig_mod.")]
        assert (gradient is None) == (ours is None), name
        if gradient is not None:
            close(gradient, ours)


# Auto classes, processor, pipeline


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as users have it: model and image processor."""
    tiny_model().save_pretrained(tmp_path)
    size = TINY_VISION["image_size"]
    CLIPImageProcessor(size={"shortest_edge": size + 4}, crop_size=size).save_pretrained(tmp_path)
    return tmp_path


def test_auto_model_and_auto_image_processor(published, tmp_path):
    model = AutoModel.from_pretrained(published)
    assert type(model) is ConceptHashModel
    assert type(AutoModel.from_config(tiny_config())) is ConceptHashModel
    assert type(AutoModel.from_config(tiny_config().vision_config)) is ConceptHashVisionModel
    model.vision_model.save_pretrained(tmp_path / "tower")
    assert type(AutoModel.from_pretrained(tmp_path / "tower")) is ConceptHashVisionModel
    processor = AutoImageProcessor.from_pretrained(published)
    assert isinstance(processor, CLIPImageProcessor)
    assert processor.crop_size["height"] == TINY_VISION["image_size"]


def test_the_image_processor_is_found_by_the_config_alone(published):
    """As with a folder whose processor's config does not name its class."""
    path = published / "preprocessor_config.json"
    content = json.loads(path.read_text())
    del content["image_processor_type"]
    path.write_text(json.dumps(content))
    assert isinstance(AutoImageProcessor.from_pretrained(published), CLIPImageProcessor)
    pil = AutoImageProcessor.from_pretrained(published, backend="pil")
    assert pil.crop_size["height"] == TINY_VISION["image_size"]


def test_pipeline_gives_code_logits(published):
    extractor = pipeline("image-feature-extraction", model=str(published))
    pictures = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (50, 40, 3), np.uint8)) for i in range(3)]
    features = torch.tensor(extractor(pictures, batch_size=2)).squeeze(1)
    model, processor = AutoModel.from_pretrained(published), AutoImageProcessor.from_pretrained(published)
    with torch.no_grad():
        expected = model(**processor(pictures, return_tensors="pt")).code_logits
    assert features.shape == (3, TINY_VISION["num_bits"])
    close(features, expected)


# conduct


def test_importing_says_nothing_and_changes_nothing():
    """No warning, no "[ERROR] ... not documented" of auto_docstring; no class of CLIP patched."""
    code = """
import transformers.models.clip.modeling_clip as clip
def methods(): return {(c, n): m for c, k in vars(clip).items() if isinstance(k, type) for n, m in vars(k).items()}
before = methods()
import concepthash_hf, concepthash_hf.convert
after = methods()
assert after.keys() == before.keys()
assert all(after[name] is method for name, method in before.items())
"""
    run = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert [line for line in run.stderr.splitlines() if "concepthash" in line or "ERROR" in line] == []


def test_an_older_transformers_is_refused_in_one_line():
    """Where pip was not asked: it comes with some GPU images."""
    code = "import transformers; transformers.__version__ = '5.17.0'; from concepthash_hf import ConceptHashModel"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    needed = f"transformers>={LOWEST_TRANSFORMERS}"
    said = f"ImportError: concepthash_hf needs {needed}, but 5.17.0 is installed; pip install '{needed}'"
    assert run.stderr.splitlines()[-1] == said


def test_the_lowest_transformers_is_the_one_that_pip_asks_for():
    setup = ConfigParser(interpolation=None)
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    assert f"transformers>={LOWEST_TRANSFORMERS}," in setup["options"]["install_requires"]


@both
def test_use_warns_of_nothing(kind, tmp_path, recwarn):
    model = kind(config_of(kind))
    model.save_pretrained(tmp_path)
    logger = logging.get_logger("transformers")
    with CaptureLogger(logger) as captured:
        loaded = stir(kind.from_pretrained(tmp_path))
        loaded.get_hash_codes(photos())
        if kind is ConceptHashModel:
            loaded.train()(photos(), labels=integer_labels()).loss.backward()
    assert captured.out == ""
    assert [str(warning.message) for warning in recwarn] == []


def test_models_here_are_small():
    for build in MODELS.values():
        assert sum(parameter.numel() for parameter in build().parameters()) < 100_000
