"""What a hash model promises on a backbone of any family: one contract, run once for each."""

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from common import stir
from families import FAMILIES, PREFIX_TOKENS, SIZES, TEXT_KINDS, save_backbone, save_text_model, word_tokenizer
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    BertModel,
    CLIPImageProcessor,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.activations import QuickGELUActivation

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionModel
from concepthash_hf import backbones as product
from concepthash_hf.base_models import load_vision_model, processed_size
from concepthash_hf.explain import explain_image
from concepthash_hf.export import export_onnx
from concepthash_hf.hub import add_code
from concepthash_hf.language import embed_class_names, load_text_model
from concepthash_hf.model_card import CardPhotos, model_card

NAMES = ["blue jay", "gull", "wren"]
PATCHES, LAYERS, CONCEPTS, BITS = 16, SIZES["num_hidden_layers"], 2, 12
OURS = {"num_bits": BITS, "num_concepts": CONCEPTS, "adapter_dim": 8, "prompt_dropout": 0.0}
# where the concept tokens join, and how they are read
DESIGNS = {
    "published": {"preset": "paper"},
    "late": {
        "first_adapted_layer": 1,
        "match_token_scale": True,
        "start_at_cls": True,
        "apply_last_norm": True,
        "shared_hash_function": False,
        "centroid_std": 0.05,
    },
}

each_design = pytest.mark.parametrize("design", DESIGNS)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folders(family, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp(family)
    return {"vision": save_backbone(folder / "vision", family), "text": save_text_model(folder / "text", "clip")}


def build(folders: dict[str, Path], design: str = "late", **kwargs) -> ConceptHashModel:
    torch.manual_seed(0)
    fields = {"text": folders["text"], "class_names": NAMES} | OURS | DESIGNS[design] | kwargs
    return ConceptHashModel.from_backbone(folders["vision"], **fields).eval()


def photos(number: int = 4, size: int = SIZES["image_size"]) -> torch.Tensor:
    return torch.randn(number, 3, size, size)


def trained(model: ConceptHashModel, steps: int = 3) -> ConceptHashModel:
    """Until all that is trained has moved."""
    optimizer = torch.optim.AdamW(model.trainable_parameters(), 0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(photos(6), labels=torch.arange(6) % len(NAMES)).loss.backward()
        optimizer.step()
    return model.eval()


# the backbone


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_fresh_adapters_the_tower_is_the_familys_own_model(folders, family, attention):
    """But for the concept tokens, which are kept out of its attention here: then CLS and patches are the same."""
    theirs = load_vision_model(folders["vision"]).eval()
    theirs.set_attn_implementation(attention)
    model = build(folders, "published")
    model.set_attn_implementation(attention)
    tower, pixel_values = model.vision_model, photos()
    with torch.no_grad():
        expected = theirs(pixel_values, output_hidden_states=True).hidden_states
        states = tower.frozen_states(pixel_values)
        torch.testing.assert_close(states, expected[0], rtol=0, atol=1e-6)
        for layer, after in zip(tower.encoder.layers, expected[1:], strict=True):
            states = layer(states, attention_mask=None)
            torch.testing.assert_close(states, after, rtol=1e-6, atol=1e-6)


@each_design
def test_the_forward_is_what_the_docstrings_say(folders, family, design):
    """Written again with the family's own layers, plain; fresh adapters add nothing."""
    model = build(folders, design)
    theirs = load_vision_model(folders["vision"]).eval()
    config, tower, pixel_values = model.config.vision_config, model.vision_model, photos()
    first, prefix = config.first_adapted_layer, PREFIX_TOKENS.get(family, 1)
    assert tower.num_prefix_tokens == prefix
    layers = theirs.encoder.layers if hasattr(theirs, "encoder") and hasattr(theirs.encoder, "layers") else None
    layers = layers or (theirs.encoder.layer if hasattr(theirs, "encoder") else theirs.layers)
    with torch.no_grad():
        states = theirs(pixel_values, output_hidden_states=True).hidden_states[first]
        assert states.shape == (4, prefix + PATCHES, SIZES["hidden_size"])
        concepts = tower.concept_prompt().expand(4, -1, -1)
        if design == "late":
            scale = torch.stack([photo[prefix:].pow(2).mean().sqrt() for photo in states]).view(4, 1, 1)
            concepts = F.layer_norm(concepts, concepts.shape[-1:]) * scale
            concepts = states[:, :1] + concepts if prefix else concepts
        elif family == "clip_vision_model":
            concepts = theirs.pre_layrnorm(concepts)
        states = torch.cat([states, concepts], 1)
        for layer in layers[first:]:
            states = layer(states, attention_mask=None)
        read = states[:, -CONCEPTS:]
        if design == "late":
            read = (theirs.layernorm if hasattr(theirs, "layernorm") else theirs.post_layernorm)(read)
        weight, per_concept = tower.hash_head.projection.weight, BITS // CONCEPTS
        functions = [weight[m * per_concept :][:per_concept] if design == "late" else weight for m in range(CONCEPTS)]
        logits = torch.cat(
            [(read[:, m] + tower.hash_head.specificity[m]) @ functions[m].T for m in range(CONCEPTS)], dim=1
        )
        output = tower(pixel_values, output_attentions=True)
    torch.testing.assert_close(output.concept_embeddings, read, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.code_logits, tower.hash_head.batch_norm(logits), rtol=1e-5, atol=1e-5)
    assert output.concept_attentions.shape == (4, CONCEPTS, PATCHES)


def test_concept_attentions_are_the_rows_of_eager_attention(folders, family):
    model = trained(build(folders))
    prefix, pixel_values = PREFIX_TOKENS.get(family, 1), photos()
    with torch.no_grad():
        by_sdpa = model(pixel_values, output_attentions=True).concept_attentions
        model.set_attn_implementation("eager")
        output = model(pixel_values, output_attentions=True, output_hidden_states=True)
    full = output.attentions[-1].mean(1)
    assert full.shape[-1] == prefix + PATCHES + CONCEPTS
    expected = full[:, -CONCEPTS:, prefix : prefix + PATCHES]
    torch.testing.assert_close(output.concept_attentions, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(by_sdpa, expected, rtol=0, atol=1e-5)
    assert (len(output.attentions), len(output.hidden_states)) == (LAYERS, LAYERS + 1)


def test_a_size_of_ones_own_interpolates_once_as_the_family_does(folders, tmp_path):
    model = build(folders, image_size=60)
    theirs = load_vision_model(folders["vision"]).eval()
    pixel_values = photos(2, 60)
    # DINOv2 interpolates by itself, the others have to be told
    told = {} if hasattr(theirs, "layernorm") and not hasattr(theirs, "layers") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        expected = theirs(pixel_values, output_hidden_states=True, **told).hidden_states[1]
        torch.testing.assert_close(model.vision_model.frozen_states(pixel_values), expected, rtol=0, atol=1e-5)
    assert model.config.vision_config.num_patches == 36
    assert model.image_processor.crop_size["height"] == 60
    model.save_pretrained(tmp_path)
    loaded = ConceptHashModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_hash_codes(pixel_values), model.get_hash_codes(pixel_values))


# learning


@each_design
def test_what_is_trained_gets_a_gradient_and_nothing_else(folders, design):
    model = stir(build(folders, design)).train()
    model(photos(6), labels=torch.arange(6) % len(NAMES)).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    own = ("_adapter.", "concept_prompt.", "hash_head.", "concept_classifier.", "text_projection.")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == any(part in name for part in own), name
    assert {id(p) for p in model.backbone_parameters()} == {id(p) for p in model.parameters() if not p.requires_grad}


def test_layers_before_the_concepts_join_have_no_adapters(folders):
    names = [name for name, _ in build(folders).named_parameters() if "_adapter." in name]
    assert {name.split(".")[3] for name in names} == {"1", "2"}


def test_concepts_attend_differently_at_the_start(folders):
    """Else the diversity loss has no gradient, and they stay alike."""
    with torch.no_grad():
        maps = F.normalize(build(folders)(photos(16), output_attentions=True).concept_attentions, dim=-1)
    assert (maps[:, 0] * maps[:, 1]).sum(-1).mean() < 0.999


def test_frozen_states_stand_for_the_photos(folders):
    model, pixel_values = trained(build(folders)), photos()
    labels = torch.arange(4) % len(NAMES)
    with torch.no_grad():
        from_photos = model(pixel_values, labels=labels)
        from_states = model(frozen_states=model.vision_model.frozen_states(pixel_values), labels=labels)
    assert torch.equal(from_states.code_logits, from_photos.code_logits)
    assert torch.equal(from_states.loss, from_photos.loss)
    with pytest.raises(ValueError, match="either pixel_values or frozen_states"):
        model.vision_model(pixel_values, frozen_states=model.vision_model.frozen_states(pixel_values))


def test_gradient_checkpointing_changes_nothing(folders):
    gradients = []
    for checkpointing in (False, True):
        model = build(folders).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(1)
        model(photos(6), labels=torch.arange(6) % len(NAMES)).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.trainable_parameters()]))
    torch.testing.assert_close(*gradients)


# files


def test_photos_of_any_precision(folders):
    some = photos(2)
    codes = [
        build(folders, dtype=weights).get_hash_codes(some.to(pixels))
        for weights, pixels in (
            *((torch.float32, torch.float64), (torch.float32, torch.float32)),
            *((torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16)),
        )
    ]
    assert torch.equal(codes[0], codes[1]) and torch.equal(codes[2], codes[3])


@each_design
def test_saved_and_loaded_it_is_the_same(folders, design, tmp_path):
    model, pixel_values = trained(build(folders, design)), photos()
    codes = model.get_hash_codes(pixel_values)
    for trained_only in (False, True):
        folder = tmp_path / str(trained_only)
        model.save_pretrained(folder, trained_only=trained_only)
        for kind in (ConceptHashModel, ConceptHashVisionModel, AutoModel):
            loaded, info = kind.from_pretrained(folder, output_loading_info=True)
            assert not any(info.values()), info
            assert torch.equal(loaded.get_hash_codes(pixel_values), codes)
        whole = ConceptHashModel.from_pretrained(folder)
        ours, theirs = model.state_dict(), whole.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        assert whole.config.to_dict().keys() == model.config.to_dict().keys()
        assert {id(p) for p in whole.trainable_parameters()}.isdisjoint(id(p) for p in whole.backbone_parameters())
    small = (tmp_path / "True" / "model.trained.safetensors").stat().st_size
    assert small < (tmp_path / "False" / "model.safetensors").stat().st_size / 2


def test_a_small_checkpoint_whose_text_tower_moved(folders, family, tmp_path):
    model = trained(build(folders))
    model.config.text_base_name_or_path = str(tmp_path / "text")
    (tmp_path / "text").symlink_to(folders["text"])
    model.save_pretrained(tmp_path / "small", trained_only=True)
    (tmp_path / "text").unlink()
    with pytest.raises(ValueError, match=r"text_model is from, .*text, cannot be loaded.*text_base_name_or_path="):
        ConceptHashModel.from_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="is not the model that .*fingerprint of its text_model"):
        other = save_backbone(tmp_path / "other", "clip_vision_model", seed=5)
        ConceptHashModel.from_pretrained(tmp_path / "small", text_base_name_or_path=other)
    loaded = ConceptHashModel.from_pretrained(tmp_path / "small", text_base_name_or_path=folders["text"])
    assert loaded.config.text_base_name_or_path == str(folders["text"])
    assert loaded.config.base_model_name_or_path == str(folders["vision"])
    # the tower alone does not need it
    tower = ConceptHashVisionModel.from_pretrained(tmp_path / "small")
    assert torch.equal(tower.get_hash_codes(photos(2) * 0), loaded.get_hash_codes(photos(2) * 0))


def test_weights_start_as_the_familys(folders):
    """A model from its config alone: spread like one of transformers' own, nothing left uninitialised."""
    config = build(folders).config.vision_config
    torch.manual_seed(0)
    ours = ConceptHashVisionModel(config).state_dict()
    family = product.family_of(config.backbone_config)
    torch.manual_seed(0)
    theirs = product.weights_by_our_names(family.model(config.backbone_config, **(family.model_kwargs or {})))
    compared = 0
    for name, tensor in theirs.items():
        if tensor.numel() > 500 and name in ours:
            assert ours[name].std().item() == pytest.approx(tensor.std().item(), rel=0.15, abs=1e-4), name
            compared += 1
    assert compared > 2 * LAYERS
    assert all(tensor.isfinite().all() for tensor in ours.values())


def test_onnx_gives_the_same_codes(folders, tmp_path):
    model, pixel_values = trained(build(folders)), photos(3)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    logits, codes = session.run(None, {"pixel_values": pixel_values.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(pixel_values).code_logits, rtol=1e-4, atol=1e-4)
    assert codes.tolist() == model.get_hash_codes(pixel_values).tolist()


def test_torch_export(folders):
    tower, pixel_values = trained(build(folders)).vision_model, photos(3)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(tower, (photos(2),), dynamic_shapes={"pixel_values": {0: batch}})
    with torch.no_grad():
        torch.testing.assert_close(program.module()(pixel_values).code_logits, tower(pixel_values).code_logits)


def test_code_beside_the_weights_loads_without_the_package(folders, tmp_path):
    model, pixel_values = trained(build(folders)), photos(2)
    model.save_pretrained(tmp_path / "model")
    add_code(tmp_path / "model")
    torch.save(pixel_values, tmp_path / "photos.pt")
    script = """
import sys, torch
sys.modules["concepthash_hf"] = None  # not to be had
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1] + "/model", trust_remote_code=True)
print(model.get_hash_codes(torch.load(sys.argv[1] + "/photos.pt")).tolist())
"""
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PATH": "", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr[-2000:]
    assert json.loads(run.stdout.splitlines()[-1]) == model.get_hash_codes(pixel_values).tolist()


# what stands around it


def test_explanations_cards_pipeline_and_trainer(folders, family, tmp_path):
    model = trained(build(folders))
    model.save_pretrained(tmp_path)
    model.image_processor.save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    picture = Image.effect_noise((80, 60), 90).convert("RGB")

    explained = explain_image(model, processor, picture)
    assert [concept.attention.shape for concept in explained.concepts] == [(4, 4)] * CONCEPTS

    card = str(model_card(model.config, CardPhotos.from_benchmark("cub200"), "someone/model"))
    assert "| **built on** | vision, its vision tower frozen |" in card and str(folders["vision"].parent) not in card

    (features,) = pipeline("image-feature-extraction", model=str(tmp_path), image_processor=processor)(picture)
    assert torch.tensor(features).isfinite().all()

    data = [{"pixel_values": pixels, "labels": i % 3} for i, pixels in enumerate(photos(8))]
    arguments = TrainingArguments(
        str(tmp_path / "trainer"), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True
    )
    result = Trainer(model, arguments, train_dataset=data).train()
    assert result.training_loss > 0


# words


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"size": {"shortest_edge": 50}, "crop_size": 40}, 40),
        ({"size": {"height": 50, "width": 50}, "do_center_crop": False}, 50),
        ({"size": {"height": 50, "width": 40}, "do_center_crop": False}, None),
        ({"size": {"shortest_edge": 50}, "do_center_crop": False}, None),
    ],
)
def test_the_size_that_an_image_processor_makes(fields, side):
    assert processed_size(CLIPImageProcessor(**fields)) == side


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_any_text_tower(kind, tmp_path):
    vision, text = save_backbone(tmp_path / "vision", "dinov2"), save_text_model(tmp_path / "text", kind)
    model = ConceptHashModel.from_backbone(vision, NAMES, text=text, template="photo of {}", **OURS)
    assert model.config.text_config.model_type == {"bert": "bert"}.get(kind, f"{kind}_text_model")
    assert model.config.prompt_template == "photo of {}"
    assert model.class_embeddings.shape == (3, 16)
    assert torch.cdist(model.class_embeddings, model.class_embeddings).fill_diagonal_(9).min() > 1e-3
    model.save_pretrained(tmp_path / "model")
    loaded = ConceptHashModel.from_pretrained(tmp_path / "model")
    assert loaded.config.prompt_template == "photo of {}"

    # new words, tokenized as the tower wants them, have the codes of the classes of that name
    padding = "max_length" if kind == "siglip" else True
    tokens = word_tokenizer()([f"photo of {name}" for name in NAMES], padding=padding, return_tensors="pt")
    codes = loaded.get_text_hash_codes(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    assert torch.equal(codes, model.get_text_hash_codes(model.class_embeddings))


def test_a_sentence_encoder_is_read_by_the_mean_of_its_tokens(tmp_path):
    folder = save_text_model(tmp_path, "bert")
    theirs = BertModel.from_pretrained(folder).eval()
    expected = []
    for name in NAMES:  # one at a time: no padding
        tokens = word_tokenizer()([f"a photo of a {name}"], return_tensors="pt")
        with torch.no_grad():
            expected.append(theirs(tokens["input_ids"], tokens["attention_mask"]).last_hidden_state[0].mean(0))
    found = embed_class_names(load_text_model(folder).eval(), word_tokenizer(), NAMES)
    torch.testing.assert_close(found, torch.stack(expected))


# bad input


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("dinov3_vit", "its positions are rotary"),
        ("siglip2_vision_model", "native resolution"),
        ("convnext", "Families that can: clip_vision_model, dinov2"),
    ],
)
def test_families_that_cannot_work_are_refused_by_name(model_type, reason, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError, match=f"'{model_type}' cannot be built on.*{reason}") as error:
        ConceptHashModel.from_backbone(tmp_path, NAMES, class_embeddings=torch.randn(3, 4))
    assert str(tmp_path) in str(error.value)


def test_a_backbone_without_words_asks_for_them(tmp_path):
    vision = save_backbone(tmp_path / "vision", "dinov2")
    with pytest.raises(ValueError, match="has no text tower.*text=.*'openai/clip-vit-base-patch32'"):
        ConceptHashModel.from_backbone(vision, NAMES)
    with pytest.raises(ValueError, match="has no text tower; give a text model"):
        ConceptHashModel.from_backbone(vision, NAMES, text=vision)
    model = ConceptHashModel.from_backbone(vision, NAMES, class_embeddings=torch.randn(3, 7), **OURS)
    assert (model.text_model, model.config.class_embedding_dim) == (None, 7)


def test_a_text_model_without_tokenizer(tmp_path):
    text = save_text_model(tmp_path / "text", "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (text / name).unlink()
    with pytest.raises(ValueError, match="no tokenizer in .*text, which words need"):
        ConceptHashModel.from_backbone(save_backbone(tmp_path / "vision", "vit"), NAMES, text=text, **OURS)


def test_class_embeddings_of_another_width(folders):
    with pytest.raises(ValueError, match="takes class embeddings of width 16, got 7"):
        build(folders, class_embeddings=torch.randn(3, 7))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 45}, "multiple of the backbone's patch size, 10; got 45, near it are 40 and 50"),
        ({"num_concepts": 17, "num_bits": 34}, "17 concepts are more than the 16 patches"),
        ({"first_adapted_layer": 3}, "first_adapted_layer must lie in 0 ... 2"),
        ({"backbone_config": {"model_type": "no_such"}}, "'no_such', which transformers does not know"),
        ({"centroid_std": 0}, "centroid_std must be finite and positive"),
    ],
)
def test_shapes_that_do_not_fit(fields, message):
    sizes = {name: value for name, value in SIZES.items() if name not in fields}
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        ConceptHashConfig(vision_config=sizes, **fields)


# a real one


def test_dinov2_small_on_real_photos(shared_dir, tmp_path):
    """Its float features find the right species far above chance: weights, positions and pixels are right."""
    bench = shared_dir / "bench"
    model = ConceptHashModel.from_backbone(
        bench / "dinov2-small", NAMES, text=bench / "tiny-clip", image_size=112, **OURS | {"first_adapted_layer": 8}
    )
    paths = sorted((shared_dir / "data" / "cub100" / "train").glob("*/*"))[::10][:160]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pixel_values = model.image_processor(pictures, return_tensors="pt")["pixel_values"]
    assert pixel_values.shape[-1] == 112
    theirs = load_vision_model(bench / "dinov2-small").eval()
    with torch.no_grad():
        states = model.vision_model.frozen_states(pixel_values[:4])
        expected = theirs(pixel_values[:4], output_hidden_states=True).hidden_states[8]
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
    assert list(model.image_processor.image_mean) == [0.485, 0.456, 0.406]
    model.save_pretrained(tmp_path, trained_only=True)
    assert torch.equal(
        ConceptHashVisionModel.from_pretrained(tmp_path).get_hash_codes(pixel_values[:8]),
        model.get_hash_codes(pixel_values[:8]),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_features_of_the_bare_backbone(family, tmp_path):
    """Adapters that have learned something and concepts have no part in them: they are transformers' own."""
    save_backbone(tmp_path, family)
    model = ConceptHashModel.from_backbone(tmp_path, ["a", "b"], class_embeddings=torch.randn(2, 16), num_bits=8)
    for name, parameter in model.named_parameters():
        if "adapter" in name:
            torch.nn.init.normal_(parameter)
    pixels = torch.randn(2, 3, 40, 40)
    tower = product.family_of(model.config.vision_config.backbone_config).model.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        features = model.eval().vision_model.backbone_features(pixels)
        theirs = tower(pixels).last_hidden_state
    if family == "clip_vision_model":  # whose last norm is for the CLS token alone
        theirs = tower.post_layernorm(theirs)
    expected = theirs.mean(1) if family == "siglip_vision_model" else theirs[:, 0]
    assert torch.allclose(features, expected, atol=1e-5)
    with torch.no_grad():
        in_half = model.bfloat16().vision_model.backbone_features(pixels)
    assert in_half.dtype == torch.float32 and torch.allclose(in_half, features, atol=0.1)


def test_the_activation_of_clip_keeps_one_tensor():
    def keeping(kept):
        def pack(tensor):
            kept.append(tensor)
            return tensor

        return pack

    pixels = torch.randn(3, 50, dtype=torch.float64, requires_grad=True)
    found = {}
    for activation in (product.QuickGELU(), QuickGELUActivation()):
        kept: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(keeping(kept), lambda tensor: tensor):
            value = activation(pixels * 2)  # a layer's output, which nothing else keeps
        (gradient,) = torch.autograd.grad(value.sin().sum(), pixels)
        kept = [tensor for tensor in kept if tensor.shape == pixels.shape]
        found[type(activation)] = value, gradient, len({tensor.data_ptr() for tensor in kept})
    ours, theirs = found[product.QuickGELU], found[QuickGELUActivation]
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])
    assert (ours[2], theirs[2]) == (1, 2)
