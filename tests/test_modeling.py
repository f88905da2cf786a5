"""The model against METHOD's formulas, and what users do with it: hashing, classes, text, CLIPs, mistakes."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from common import (
    NUM_CLASSES,
    TINY_TEXT,
    TINY_VISION,
    integer_labels,
    photos,
    save_tiny_clip,
    tiny_clip_config,
    tiny_config,
    tiny_model,
    tiny_tower,
)
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BertConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionModel,
)

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionConfig, ConceptHashVisionModel
from concepthash_hf.codes import pack_bits, unpack_bits
from concepthash_hf.language import embed_class_names

BITS, CONCEPTS, WIDTH = TINY_VISION["num_bits"], TINY_VISION["num_concepts"], TINY_VISION["hidden_size"]
TEXT_WIDTH = TINY_TEXT["hidden_size"]


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# METHOD section 2 and 3, written once more from the formulas


def by_the_formulas(model: ConceptHashModel, pixel_values: Tensor) -> dict[str, Tensor]:
    """The outputs, from nothing but tensors and section 2 of METHOD."""
    w = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    vision = model.config.vision_config
    patch, d, p, m = vision.patch_size, vision.hidden_size, vision.prompt_dim, vision.num_concepts

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(-3, -2) for x in (q, k, v))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return (weights @ v).transpose(-3, -2).flatten(-2), weights

    def adapter(x: Tensor, name: str) -> Tensor:
        hidden = linear(norm(x, f"{name}.layer_norm"), f"{name}.down_proj")
        gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return w[f"{name}.scale"] * linear(gelu, f"{name}.up_proj")

    # 1. concept tokens
    prompt = "vision_model.concept_prompt"
    heads = vision.prompt_num_heads
    while p % heads:
        heads //= 2
    query = w[f"{prompt}.queries"]
    in_proj = zip(
        w[f"{prompt}.self_attn.in_proj_weight"].chunk(3), w[f"{prompt}.self_attn.in_proj_bias"].chunk(3), strict=True
    )
    attended, _ = attention(*(query @ weight.T + bias for weight, bias in in_proj), heads)
    x = norm(query, f"{prompt}.layer_norm1") + linear(attended, f"{prompt}.self_attn.out_proj")
    x = norm(x, f"{prompt}.layer_norm2") + linear(linear(x, f"{prompt}.fc1").relu(), f"{prompt}.fc2")
    concepts = linear(x, f"{prompt}.projection")

    # 2. input sequence
    embeddings = "vision_model.embeddings"
    patches = (
        pixel_values.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    )
    patches = patches @ w[f"{embeddings}.patch_embedding.weight"].flatten(1).T
    cls = w[f"{embeddings}.class_embedding"].expand(len(patches), 1, d)
    sequence = torch.cat([cls, patches], 1) + w[f"{embeddings}.position_embedding.weight"]
    sequence = torch.cat([sequence, concepts.expand(len(patches), m, d)], 1)
    sequence = norm(sequence, "vision_model.pre_layrnorm")

    # 3. encoder
    for i in range(vision.num_hidden_layers):
        layer = f"vision_model.encoder.layers.{i}"
        normed = norm(sequence, f"{layer}.layer_norm1")
        projected = (linear(normed, f"{layer}.self_attn.{name}_proj") for name in "qkv")
        attended, weights = attention(*projected, vision.num_attention_heads)
        attended = linear(attended, f"{layer}.self_attn.out_proj")
        sequence = sequence + attended + adapter(attended, f"{layer}.attention_adapter")
        hidden = linear(norm(sequence, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        hidden = linear(hidden * torch.sigmoid(1.702 * hidden), f"{layer}.mlp.fc2")
        sequence = sequence + hidden + adapter(hidden, f"{layer}.mlp_adapter")

    # 4. and 5. concept embeddings, sub-codes
    head = "vision_model.hash_head"
    z = sequence[:, -m:]
    v = torch.cat([(z[:, i] + w[f"{head}.specificity"][i]) @ w[f"{head}.projection.weight"].T for i in range(m)], 1)
    mean, variance = w[f"{head}.batch_norm.running_mean"], w[f"{head}.batch_norm.running_var"]
    if model.training:
        mean, variance = v.mean(0), v.var(0, unbiased=False)
    b = (v - mean) / (variance + 1e-5).sqrt() * w[f"{head}.batch_norm.weight"] + w[f"{head}.batch_norm.bias"]

    # 6. and 7. class centres, concept classifier
    embedded = w["class_embeddings"].sign() if model.config.binarize_class_embeddings else w["class_embeddings"]
    centres = linear(linear(embedded, "text_projection.fc1").relu(), "text_projection.fc2")

    def cosine(x: Tensor, y: Tensor) -> Tensor:
        return (x / x.norm(dim=-1, keepdim=True)) @ (y / y.norm(dim=-1, keepdim=True)).T

    signs = centres.sign() / math.sqrt(centres.shape[1])
    return {
        "concept_embeddings": z,
        "code_logits": b,
        "concept_attentions": weights.mean(1)[:, -m:, 1:-m],
        "class_logits": cosine(b, centres),
        "binary_class_logits": b / b.norm(dim=-1, keepdim=True) @ signs.T,
        "concept_logits": cosine(z + w["concept_classifier.position"], w["concept_classifier.centroids"]),
    }


GEOMETRIES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "one concept": {"num_concepts": 1, "num_bits": 7},
    "sub-codes of one bit": {"num_concepts": 5, "num_bits": 5},
    "as many concepts as patches": {"num_concepts": 9, "num_bits": 18},
    "one layer, one head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "one patch": {"image_size": 10, "num_concepts": 1},
    "odd projection": {"projection_dim": 15},
    "other heads": {"prompt_num_heads": 3, "num_attention_heads": 8},
    "projection wider than the tower": {"projection_dim": 48, "adapter_dim": 64},
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("vision", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_the_forward_is_the_formulas(vision, training, attention):
    model = tiny_model(vision).train(training)
    model.set_attn_implementation(attention)
    pixel_values = photos(6, model.config.vision_config.image_size)
    expected = by_the_formulas(model, pixel_values)
    with torch.no_grad():
        output = model(pixel_values, output_attentions=True)
    for name, tensor in expected.items():
        # BatchNorm over few photos makes small differences large
        torch.testing.assert_close(output[name], tensor, rtol=1e-4, atol=1e-4 if training else 1e-5, msg=name)


@pytest.mark.parametrize("binarize", [True, False])
def test_class_centres_read_signs_or_values(binarize):
    model, pixel_values = tiny_model(binarize_class_embeddings=binarize), photos()
    before = model(pixel_values).class_logits
    model.class_embeddings *= torch.rand_like(model.class_embeddings) + 0.5  # same signs
    assert torch.equal(model(pixel_values).class_logits, before) == binarize


def test_specificity_has_no_effect_in_training():
    """BatchNorm takes a constant away (METHOD section 6); in evaluation it is in the statistics."""
    model, pixel_values = tiny_model().train(), photos(8)
    logits = model(pixel_values).code_logits
    with torch.no_grad():
        model.vision_model.hash_head.specificity.normal_()
    close(model(pixel_values).code_logits, logits, 1e-4)
    model.eval()
    assert (model(pixel_values).code_logits - logits).abs().max() > 0.1


# what is trained


def clip_b32(**kwargs: Any) -> ConceptHashConfig:
    return ConceptHashConfig(num_labels=200, class_embedding_dim=512, **kwargs)


def test_the_numbers_of_the_real_geometry():
    with torch.device("meta"):
        model = ConceptHashModel(clip_b32())
    trained = list(model.trainable_parameters())
    assert sum(parameter.numel() for parameter in trained) == 16_661_976
    assert len(trained) == 193
    # the reference counts 88,111,361 with what it never reads: CLIP's last layer norm, both projections, temperature
    unread = 2 * 768 + 768 * 512 + 512 * 512 + 1
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == 88_111_361 - unread


@pytest.mark.parametrize(
    ("vision", "tokens"),
    [
        ({}, 50),
        ({"patch_size": 16}, 197),
        (
            {
                "patch_size": 14,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_attention_heads": 16,
                "projection_dim": 768,
                "image_size": 336,
            },
            577,
        ),
    ],
    ids=["B/32", "B/16", "L/14 at 336"],
)
def test_all_sizes_come_from_the_config(vision, tokens):
    with torch.device("meta"):
        tower = ConceptHashVisionModel(ConceptHashVisionConfig(**vision | {"num_hidden_layers": 2}))
        size = tower.config.image_size
        output = tower(torch.zeros(2, 3, size, size), output_attentions=True)
    assert output.code_logits.shape == (2, 64)
    assert output.concept_attentions.shape == (2, 4, tokens - 1)
    assert tower.concept_prompt.queries.shape == (4, vision.get("projection_dim", 512))


def check_requires_grad(model: ConceptHashModel, frozen_backbone: bool = True) -> None:
    added = ("adapter", "concept_prompt", "hash_head", "text_projection", "concept_classifier")
    for name, parameter in model.named_parameters():
        if name.startswith("text_model."):
            expected = False
        else:
            expected = any(part in name for part in added) or not frozen_backbone
        assert parameter.requires_grad == expected, name
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in model.trainable_parameters()} == trained


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("text", [True, False], ids=["text tower", "no text tower"])
def test_what_requires_gradients(frozen, text, tmp_path):
    model = ConceptHashModel(tiny_config(text=text, freeze_backbone=frozen))
    check_requires_grad(model, frozen)
    model.save_pretrained(tmp_path)
    check_requires_grad(ConceptHashModel.from_pretrained(tmp_path), frozen)
    loaded, _ = ConceptHashModel.from_pretrained(tmp_path, output_loading_info=True)
    check_requires_grad(loaded, frozen)
    check_requires_grad(ConceptHashModel.from_pretrained(tmp_path, freeze_backbone=not frozen), not frozen)
    check_requires_grad(ConceptHashModel.from_pretrained(tmp_path, dtype=torch.bfloat16), frozen)


def test_an_optimizer_step_changes_what_is_trained_alone():
    model = tiny_model().train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=0.1, weight_decay=0.1)
    model(photos(), labels=integer_labels()).loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


# initialisation (METHOD section 2)


@pytest.fixture(scope="module")
def fresh() -> ConceptHashModel:
    """Wide enough for statistics."""
    torch.manual_seed(0)
    vision = {"hidden_size": 128, "intermediate_size": 160, "projection_dim": 96, "adapter_dim": 64, "num_bits": 48}
    return ConceptHashModel(tiny_config(vision, class_embedding_dim=80, num_labels=60, text=False))


def check_normal(tensor: Tensor, std: float) -> None:
    assert tensor.mean().abs() < 4 * std / tensor.numel() ** 0.5
    assert tensor.std().item() == pytest.approx(std, rel=4 / tensor.numel() ** 0.5)
    assert tensor.abs().max() > 2 * std


def check_uniform(tensor: Tensor, bound: float) -> None:
    assert tensor.abs().max() <= bound
    assert tensor.abs().max() > 0.9 * bound
    assert tensor.std().item() == pytest.approx(bound / 3**0.5, rel=4 / tensor.numel() ** 0.5)


def check_default_linear(linear: nn.Linear) -> None:
    """What torch does: uniform in 1/sqrt(fan in), which is kaiming_uniform(a = sqrt 5)."""
    check_uniform(linear.weight, linear.in_features**-0.5)
    if linear.bias is not None:
        check_uniform(linear.bias, linear.in_features**-0.5)


def test_initialisation_of_concepts_and_classifier(fresh):
    check_normal(fresh.vision_model.concept_prompt.queries, 1.0)
    check_normal(fresh.vision_model.hash_head.specificity, 1.0)
    check_normal(fresh.concept_classifier.position, 0.02)
    check_normal(fresh.concept_classifier.centroids, 1.0)


def test_centroids_start_as_large_as_the_config_says_also_those_of_new_classes():
    model = ConceptHashModel(tiny_config(num_labels=200, centroid_std=0.05))
    check_normal(model.concept_classifier.centroids, 0.05)
    model.set_classes([f"bird {number}" for number in range(300)], torch.randn(300, TEXT_WIDTH))
    assert model.concept_classifier.centroids.shape == (300, WIDTH)
    check_normal(model.concept_classifier.centroids, 0.05)


@pytest.mark.parametrize("silent", ["self_attn.out_proj", "fc2"])
def test_dropout_of_the_prompt_block_is_in_its_attention_and_in_its_mlp(silent):
    """Where one of the two adds nothing, it is the other that varies; in training alone."""
    prompt = tiny_model({"prompt_dropout": 0.5}).vision_model.concept_prompt
    assert torch.equal(prompt(), prompt())
    torch.nn.init.zeros_(prompt.get_submodule(silent).weight)
    prompt.train()
    assert not torch.allclose(prompt(), prompt())


def test_initialisation_of_adapters(fresh):
    for layer in fresh.vision_model.encoder.layers:
        for adapter in (layer.attention_adapter, layer.mlp_adapter):
            check_uniform(adapter.down_proj.weight, adapter.down_proj.in_features**-0.5)
            for zero in (adapter.up_proj.weight, adapter.up_proj.bias, adapter.down_proj.bias):
                assert (zero == 0).all()
            assert adapter.scale.tolist() == [1.0]
            assert (adapter.layer_norm.weight == 1).all()
            assert (adapter.layer_norm.bias == 0).all()
            assert adapter.layer_norm.eps == 1e-5
            assert (adapter(torch.randn(2, 128)) == 0).all()
    first, second = fresh.vision_model.encoder.layers
    assert not torch.equal(first.mlp_adapter.down_proj.weight, second.mlp_adapter.down_proj.weight)
    assert not torch.equal(first.mlp_adapter.down_proj.weight, first.attention_adapter.down_proj.weight)


def test_initialisation_of_the_prompt_block(fresh):
    prompt = fresh.vision_model.concept_prompt
    for linear in (prompt.fc1, prompt.fc2, prompt.projection):
        check_default_linear(linear)
    check_uniform(prompt.self_attn.in_proj_weight, (6 / (96 + 3 * 96)) ** 0.5)  # xavier
    check_uniform(prompt.self_attn.out_proj.weight, 96**-0.5)
    assert (prompt.self_attn.in_proj_bias == 0).all()
    assert (prompt.self_attn.out_proj.bias == 0).all()
    for norm in (prompt.layer_norm1, prompt.layer_norm2):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()


def test_initialisation_of_hash_head_and_text_projection(fresh):
    head = fresh.vision_model.hash_head
    check_default_linear(head.projection)
    assert head.projection.bias is None
    batch_norm = head.batch_norm
    assert (batch_norm.weight == 1).all()
    assert (batch_norm.bias == 0).all()
    assert (batch_norm.running_mean == 0).all()
    assert (batch_norm.running_var == 1).all()
    assert (batch_norm.eps, batch_norm.momentum) == (1e-5, 0.1)
    check_default_linear(fresh.text_projection.fc1)
    check_default_linear(fresh.text_projection.fc2)


def test_clips_own_parts_are_initialised_as_clip_does(fresh):
    torch.manual_seed(0)
    clip = CLIPVisionModel(fresh.config.vision_config.backbone_config).state_dict()
    ours = fresh.vision_model.state_dict()
    compared = 0
    for name, tensor in ours.items():
        if name in clip and tensor.numel() > 1000:
            assert tensor.std().item() == pytest.approx(clip[name].std().item(), rel=0.1), name
            compared += 1
    assert compared > 10


def test_prompt_heads_are_halved_until_they_divide():
    for width, heads in {24: 8, 40: 8, 36: 4, 6: 2, 5: 1}.items():
        assert tiny_tower(projection_dim=width).concept_prompt.self_attn.num_heads == heads


# hashing


@pytest.mark.parametrize("build", [tiny_model, tiny_tower], ids=["whole", "tower"])
def test_hash_codes_are_the_signs_of_the_logits(build):
    model, pixel_values = build(), photos(6)
    codes = model.get_hash_codes(pixel_values)
    with torch.no_grad():
        logits = model(pixel_values).code_logits
    assert codes.dtype == torch.uint8
    assert codes.shape == (6, 2)  # 12 bits
    assert torch.equal(unpack_bits(codes, BITS), logits > 0)
    assert codes.tolist() == np.packbits(logits.numpy() > 0, axis=1).tolist()
    assert (codes[:, 1] & 0b1111 == 0).all()  # unused
    assert 0.2 < (logits > 0).float().mean() < 0.8


@pytest.mark.parametrize("build", [tiny_model, tiny_tower], ids=["whole", "tower"])
def test_hashing_does_not_depend_on_modes_and_leaves_them_alone(build):
    model, pixel_values = (
        build({"prompt_dropout": 0.5}) if build is tiny_model else build(prompt_dropout=0.5),
        photos(),
    )
    codes = model.get_hash_codes(pixel_values)
    model.train()
    (model.vision_model if build is tiny_model else model).hash_head.eval()  # a mixture, as when fine-tuning
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    assert True in modes
    assert False in modes
    assert torch.equal(model.get_hash_codes(pixel_values), codes)
    assert torch.equal(model.get_hash_codes(pixel_values[:1]), codes[:1])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="pixel_values"):
        model.get_hash_codes(pixel_values[0])
    assert [module.training for module in model.modules()] == modes  # also when it fails
    assert torch.is_grad_enabled()


def test_hashing_takes_what_the_image_processor_gives():
    model = tiny_model()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    inputs = CLIPImageProcessor(size={"shortest_edge": 34}, crop_size=30)(picture, return_tensors="pt")
    assert model.get_hash_codes(**inputs).shape == (1, 2)


@pytest.mark.parametrize("build", [tiny_model, tiny_tower], ids=["whole", "tower"])
def test_other_image_sizes_on_request(build):
    model = build()
    pixel_values = photos(2)
    codes = model.get_hash_codes(pixel_values)
    assert torch.equal(model.get_hash_codes(pixel_values, interpolate_pos_encoding=True), codes)
    wide = torch.randn(2, 3, 40, 65)
    assert model.get_hash_codes(wide, interpolate_pos_encoding=True).shape == (2, 2)
    output = model(wide, interpolate_pos_encoding=True, output_attentions=True)
    assert output.concept_attentions.shape == (2, CONCEPTS, 4 * 6)
    assert output.code_logits.isfinite().all()


def test_grey_photos_for_a_tower_of_one_channel():
    tower = tiny_tower(num_channels=1)
    assert tower.get_hash_codes(torch.randn(2, 1, 30, 30)).shape == (2, 2)
    with pytest.raises(ValueError, match=r"\(batch, 1, height, width\).*got .*\(2, 3, 30, 30\)"):
        tower.get_hash_codes(photos(2))


# objectives


def test_the_loss_is_the_weighted_sum_of_its_terms():
    weights = {"classification": 0.5, "quantization": 2.0, "concept": 0.25, "diversity": 3.0}
    model = tiny_model(**{f"{name}_weight": weight for name, weight in weights.items()}).train()
    output = model(photos(), labels=integer_labels())
    assert output.loss_terms.keys() == weights.keys()
    expected = sum(weight * output.loss_terms[name] for name, weight in weights.items())
    close(output.loss, expected, 1e-6)
    assert all(term.shape == () and term > 0 for term in output.loss_terms.values())


def test_margin_and_scale_come_from_the_config():
    pixel_values, labels = photos(), integer_labels()
    model = tiny_model()
    for margin, scale in [(0.0, 1.0), (0.3, 16.0)]:
        model.config.margin, model.config.scale = margin, scale
        output = model(pixel_values, labels=labels)
        rows = torch.arange(4)
        shifted = output.class_logits.clone()
        shifted[rows, labels] -= margin
        close(output.loss_terms["classification"], F.cross_entropy(scale * shifted, labels))


def test_without_labels_there_is_no_loss():
    output = tiny_model()(photos())
    assert output.loss is None
    assert output.loss_terms is None
    assert output.concept_attentions is None


def test_diversity_alone_needs_attention_maps():
    pixel_values, labels = photos(), integer_labels()
    model = tiny_model()
    assert model(pixel_values, labels=labels).concept_attentions is not None
    model.config.diversity_weight = 0.0
    output = model(pixel_values, labels=labels)
    assert output.concept_attentions is None
    assert "diversity" not in output.loss_terms
    asked = model(pixel_values, labels=labels, output_attentions=True)
    close(asked.loss, output.loss, 1e-6)  # looking at the maps does not change the loss
    assert asked.loss_terms.keys() == output.loss_terms.keys()


def test_integer_and_one_hot_labels_give_one_loss():
    model, pixel_values, labels = tiny_model(), photos(), integer_labels()
    expected = model(pixel_values, labels=labels).loss
    for dtype in (torch.int32, torch.uint8):
        close(model(pixel_values, labels=labels.to(dtype)).loss, expected)
    for dtype in (torch.float32, torch.int64, torch.bool):
        close(model(pixel_values, labels=F.one_hot(labels, NUM_CLASSES).to(dtype)).loss, expected)


def test_several_labels_a_photo():
    model, pixel_values = tiny_model(), photos(2)
    labels = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 1, 0]])
    output = model(pixel_values, labels=labels)
    logits = 8 * (output.class_logits - 0.2 * labels)
    expected = F.cross_entropy(logits, labels / labels.sum(1, keepdim=True))
    close(output.loss_terms["classification"], expected)


def test_a_few_steps_of_the_papers_recipe_lower_the_loss():
    model = ConceptHashModel(tiny_config())
    pixel_values, labels = photos(10), integer_labels(10)
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(40):
        loss = model.train()(pixel_values, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


# classes


def test_set_classes():
    model, pixel_values = tiny_model(), photos()
    before, codes = copy.deepcopy(model.state_dict()), model.get_hash_codes(pixel_values)
    embeddings = torch.randn(3, TEXT_WIDTH)
    model.set_classes(["gull", "tern", "skua"], embeddings)
    assert model.config.num_labels == 3
    assert model.config.id2label == {0: "gull", 1: "tern", 2: "skua"}
    assert model.config.label2id == {"gull": 0, "tern": 1, "skua": 2}
    assert torch.equal(model.class_embeddings, embeddings)
    assert model.class_embeddings.data_ptr() != embeddings.data_ptr()
    assert model.concept_classifier.centroids.shape == (3, WIDTH)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) or name in ("class_embeddings", "concept_classifier.centroids"), name
    assert torch.equal(model.get_hash_codes(pixel_values), codes)
    output = model(pixel_values, labels=torch.tensor([0, 1, 2, 0]))
    assert output.class_logits.shape == (4, 3)
    assert output.concept_logits.shape == (4, CONCEPTS, 3)
    assert output.loss.isfinite()
    check_requires_grad(model)


def test_set_classes_survives_saving(tmp_path):
    model = tiny_model()
    model.set_classes(["gull", "tern"], torch.randn(2, TEXT_WIDTH))
    model.save_pretrained(tmp_path)
    loaded = ConceptHashModel.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "gull", 1: "tern"}
    close(loaded(photos(1) * 0).class_logits, model(photos(1) * 0).class_logits)


def test_a_model_without_classes_hashes_and_can_be_given_some():
    model, pixel_values = tiny_model(class_embedding_dim=None), photos()
    assert model.text_projection is None
    assert model.class_embeddings is None
    output = model(pixel_values)
    assert output.class_logits is None
    assert output.binary_class_logits is None
    codes = model.get_hash_codes(pixel_values)
    model.set_classes(["gull", "tern"], torch.randn(2, TEXT_WIDTH))
    assert model.config.class_embedding_dim == TEXT_WIDTH
    assert model(pixel_values).class_logits.shape == (4, 2)
    assert torch.equal(model.get_hash_codes(pixel_values), codes)
    check_requires_grad(model)


def test_class_embeddings_follow_the_model_and_are_not_trained(tmp_path):
    model = tiny_model()
    assert "class_embeddings" in dict(model.named_buffers())
    assert "class_embeddings" in model.state_dict()
    assert "class_embeddings" not in dict(model.named_parameters())
    assert model.to("meta").class_embeddings.device.type == "meta"


# words


def prompts(count: int = 3) -> dict[str, Tensor]:
    """Token ids with a start and an end, of different lengths."""
    ids = torch.randint(4, 60, (count, 8))
    ids[:, 0] = TINY_TEXT["bos_token_id"]
    mask = torch.ones_like(ids)
    for row in range(count):
        end = 3 + row
        ids[row, end:] = TINY_TEXT["eos_token_id"]
        mask[row, end + 1 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_text_codes_from_ids_are_those_of_their_embeddings():
    model, inputs = tiny_model(), prompts()
    codes = model.get_text_hash_codes(**inputs)
    embeddings = model.text_model(**inputs).pooler_output
    assert codes.dtype == torch.uint8
    assert codes.shape == (3, 2)
    assert torch.equal(codes, model.get_text_hash_codes(class_embeddings=embeddings))
    assert torch.equal(codes, pack_bits(model.class_centres(embeddings) > 0))
    assert not torch.equal(codes[0], codes[1])


def test_the_text_code_of_a_class_is_the_sign_of_its_centre():
    model = tiny_model()
    codes = model.get_text_hash_codes(model.class_embeddings)
    assert torch.equal(unpack_bits(codes, BITS), model.class_centres() > 0)
    assert model.class_centres().shape == (NUM_CLASSES, BITS)


def test_text_codes_need_no_text_tower_for_embeddings():
    model = tiny_model(text=False)
    assert model.get_text_hash_codes(torch.randn(2, TEXT_WIDTH)).shape == (2, 2)
    with pytest.raises(ValueError, match="without its text tower; give class_embeddings"):
        model.get_text_hash_codes(input_ids=prompts()["input_ids"])


def test_text_codes_take_embeddings_or_ids():
    model = tiny_model()
    with pytest.raises(ValueError, match="either class_embeddings or input_ids"):
        model.get_text_hash_codes()
    with pytest.raises(ValueError, match="either class_embeddings or input_ids"):
        model.get_text_hash_codes(torch.randn(2, TEXT_WIDTH), prompts()["input_ids"])


# from_clip


@pytest.fixture(scope="module", params=["reference/tiny-clip", "bench/tiny-clip"], ids=["reference", "bench"])
def clip_folder(request, shared_dir) -> Path:
    return shared_dir / request.param


@pytest.fixture
def small_clip(shared_dir) -> Path:
    return shared_dir / "reference" / "tiny-clip"


NAMES = ["001.Black_footed_Albatross", "blue jay", "737-300"]


def test_from_clip(clip_folder, tmp_path):
    model = ConceptHashModel.from_clip(clip_folder, NAMES, num_bits=24, num_concepts=3, adapter_dim=8)
    clip = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32)
    config = model.config
    assert (config.num_bits, config.num_concepts, config.adapter_dim) == (24, 3, 8)
    assert config.vision_config.prompt_dim == clip.config.projection_dim
    assert config.id2label == dict(enumerate(NAMES))
    assert config.label2id["737-300"] == 2
    assert config.base_model_name_or_path == str(clip_folder)
    check_requires_grad(model)

    # CLIP's weights, to the bit
    for tower in ("vision_model", "text_model"):
        ours, theirs = getattr(model, tower).state_dict(), getattr(clip, tower).state_dict()
        shared = ours.keys() & theirs.keys()
        assert theirs.keys() - shared <= {"post_layernorm.weight", "post_layernorm.bias"}
        assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32, torch.int64}

    embeddings = embed_class_names(clip.text_model, AutoTokenizer.from_pretrained(clip_folder), NAMES)
    close(model.class_embeddings, embeddings)

    # once saved, both classes hash alike
    pixel_values = photos(3, config.vision_config.image_size)
    codes = model.get_hash_codes(pixel_values)
    model.save_pretrained(tmp_path)
    whole, tower = ConceptHashModel.from_pretrained(tmp_path), ConceptHashVisionModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in (*whole.parameters(), *tower.parameters())} == {torch.float32}
    assert torch.equal(whole.get_hash_codes(pixel_values), codes)
    assert torch.equal(tower.get_hash_codes(pixel_values), codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_from_clip_in_16_bits(small_clip, tmp_path, dtype):
    model = ConceptHashModel.from_clip(small_clip, NAMES, num_bits=16, adapter_dim=8, dtype=dtype)
    for name, tensor in model.state_dict().items():
        kept = "batch_norm" in name or name == "class_embeddings"
        assert tensor.dtype in ((torch.float32, torch.int64) if kept else (dtype,)), name
    pixel_values = photos(3, 64)
    assert model(pixel_values).code_logits.dtype == torch.float32
    codes = model.get_hash_codes(pixel_values)
    model.save_pretrained(tmp_path)
    for kind in (ConceptHashModel, ConceptHashVisionModel):
        loaded = kind.from_pretrained(tmp_path)
        for name, tensor in loaded.state_dict().items():
            ours = model.state_dict()[name if kind is ConceptHashModel else f"vision_model.{name}"]
            assert tensor.dtype == ours.dtype, name
            assert torch.equal(tensor, ours), name
        assert torch.equal(loaded.get_hash_codes(pixel_values), codes)


def test_from_clip_without_the_text_tower(small_clip, tmp_path):
    full = ConceptHashModel.from_clip(small_clip, NAMES, num_bits=16, adapter_dim=8)
    lean = ConceptHashModel.from_clip(small_clip, NAMES, num_bits=16, adapter_dim=8, keep_text_model=False)
    assert lean.text_model is None
    assert lean.config.text_config is None
    close(lean.class_embeddings, full.class_embeddings)
    lean.save_pretrained(tmp_path)
    loaded, info = ConceptHashModel.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.text_model is None
    assert not any(info.values())


def test_from_clip_with_templates_and_synonyms(small_clip):
    names = [["blue jay", "Cyanocitta cristata"], "gull"]
    model = ConceptHashModel.from_clip(small_clip, names, template=["a {}", "one {}"], num_bits=16, adapter_dim=8)
    assert model.config.id2label == {0: "blue jay", 1: "gull"}
    clip = CLIPModel.from_pretrained(small_clip, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(small_clip)
    close(model.class_embeddings, embed_class_names(clip.text_model, tokenizer, names, ["a {}", "one {}"]))


def test_from_clip_with_precomputed_embeddings(small_clip):
    embeddings = torch.randn(3, 32)
    model = ConceptHashModel.from_clip(small_clip, NAMES, class_embeddings=embeddings, num_bits=16, adapter_dim=8)
    assert torch.equal(model.class_embeddings, embeddings)
    assert model.config.id2label[1] == "blue jay"
    # of another text encoder, where CLIP's own is not kept
    other = torch.randn(3, 20)
    model = ConceptHashModel.from_clip(
        small_clip, NAMES, class_embeddings=other, keep_text_model=False, num_bits=16, adapter_dim=8
    )
    assert model.config.class_embedding_dim == 20
    assert model.get_text_hash_codes(other).shape == (3, 2)
    # without names
    model = ConceptHashModel.from_clip(small_clip, class_embeddings=embeddings, num_labels=3, adapter_dim=8)
    assert model.config.num_labels == 3


def test_from_clip_without_classes(small_clip):
    model = ConceptHashModel.from_clip(small_clip, num_bits=16, adapter_dim=8)
    assert model.class_embeddings is None
    assert model(photos(2, 64)).class_logits is None
    assert model.get_hash_codes(photos(2, 64)).shape == (2, 2)


def test_from_clip_passes_config_fields_on(small_clip):
    model = ConceptHashModel.from_clip(
        small_clip,
        NAMES,
        **{"num_bits": 16, "adapter_dim": 8, "diversity_weight": 0.0, "freeze_backbone": False},
        **{"prompt_block": True, "prompt_dropout": 0.3},
    )
    assert model.config.diversity_weight == 0.0
    assert model.vision_model.concept_prompt.dropout.p == 0.3
    check_requires_grad(model, frozen_backbone=False)


def test_the_image_processor_of_from_clip(clip_folder, tmp_path):
    model = ConceptHashModel.from_clip(clip_folder, num_bits=16, adapter_dim=8)
    processor, size = model.image_processor, model.config.vision_config.image_size
    clip_processor = AutoImageProcessor.from_pretrained(clip_folder)
    assert processor.size["shortest_edge"] == round(size * 8 / 7)
    assert (processor.crop_size["height"], processor.crop_size["width"]) == (size, size)
    assert processor.image_mean == clip_processor.image_mean
    assert processor.image_std == clip_processor.image_std
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    picture = Image.new("RGB", (size * 2, size * 3), "teal")
    inputs = processor(picture, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, size, size)
    assert torch.equal(loaded(picture, return_tensors="pt")["pixel_values"], inputs["pixel_values"])


def test_from_clip_for_a_clip_without_processor(tmp_path):
    model = ConceptHashModel.from_clip(save_tiny_clip(tmp_path), num_bits=16, adapter_dim=8)
    assert list(model.image_processor.image_mean) == [0.48145466, 0.4578275, 0.40821073]


def test_real_photos(shared_dir):
    """The processor's pixels are those of PIL: shorter side to 256, bicubic, the middle 224 x 224."""
    model = ConceptHashModel.from_clip(shared_dir / "bench" / "tiny-clip", num_bits=32, adapter_dim=8, preset="paper")
    paths = sorted((shared_dir / "data" / "cub100" / "test").glob("*/*"))[:300:60]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pixel_values = model.image_processor(pictures, return_tensors="pt")["pixel_values"]
    mean, std = np.array(model.image_processor.image_mean), np.array(model.image_processor.image_std)
    for picture, pixels in zip(pictures, pixel_values, strict=True):
        scale = 256 / min(picture.size)
        width, height = (int(side * scale) for side in picture.size)
        resized = picture.resize((max(width, 256), max(height, 256)), Image.Resampling.BICUBIC)
        left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
        expected = np.asarray(resized.crop((left, top, left + 224, top + 224))) / 255
        ours = pixels.permute(1, 2, 0).numpy() * std + mean
        assert np.abs(ours - expected).mean() < 2 / 255
    codes = model.get_hash_codes(pixel_values)
    assert len(codes.unique(dim=0)) == len(paths)


# bad input


@pytest.mark.parametrize("build", [tiny_model, tiny_tower], ids=["whole", "tower"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 30, 30), r"\(batch, 3, height, width\).*got torch.float32 of shape \(3, 30, 30\)"),
        ((2, 1, 30, 30), r"\(batch, 3, height, width\).*got .*\(2, 1, 30, 30\)"),
        ((2, 4, 30, 30), r"\(batch, 3, height, width\).*got .*\(2, 4, 30, 30\)"),
        ((2, 30, 30, 3), r"\(batch, 3, height, width\).*got .*\(2, 30, 30, 3\)"),
        ((0, 3, 30, 30), r"at least one photo.*\(0, 3, 30, 30\)"),
        ((1, 2, 3, 30, 30), r"got .*\(1, 2, 3, 30, 30\); the image processor"),
        ((2, 3, 40, 40), "photos of 30x30 pixels, got 40x40.*interpolate_pos_encoding=True"),
        ((2, 3, 30, 31), "photos of 30x30 pixels, got 30x31"),
    ],
)
def test_photos_of_the_wrong_shape(build, shape, message):
    model = build()
    for call in (model, model.get_hash_codes):
        with pytest.raises(ValueError, match=message):
            call(torch.zeros(shape))


def test_photos_smaller_than_a_patch():
    with pytest.raises(ValueError, match=r"at least one patch \(10 pixels\).*got 9x40"):
        tiny_model().get_hash_codes(torch.zeros(1, 3, 9, 40), interpolate_pos_encoding=True)


def test_photos_that_were_not_normalised():
    with pytest.raises(ValueError, match="floating point.*torch.uint8.*image processor"):
        tiny_model().get_hash_codes(torch.zeros(1, 3, 30, 30, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 5]), r"0 \.\.\. 4, got 0 \.\.\. 5"),
        (torch.tensor([0, 1, 2, -100]), r"0 \.\.\. 4, got -100 \.\.\. 2"),
        (torch.tensor([0, 1, 2]), r"shape \(4,\).*\(4, 5\), got torch.int64 of shape \(3,\)"),
        (torch.tensor([[0], [1], [2], [3]]), r"got torch.int64 of shape \(4, 1\)"),
        (torch.tensor(3), r"got torch.int64 of shape \(\)"),
        (torch.rand(4), r"integers.*got torch.float32 of shape \(4,\)"),
        (torch.tensor([True, False, True, True]), r"got torch.bool of shape \(4,\)"),
        (torch.ones(4, 6), r"multi-hot.*\(4, 5\), got torch.float32 of shape \(4, 6\)"),
        (torch.ones(3, 5), r"multi-hot.*\(4, 5\), got torch.float32 of shape \(3, 5\)"),
        (torch.ones(4, 3, 5), r"got torch.float32 of shape \(4, 3, 5\)"),
        (torch.zeros(4, 5), "multi-hot labels are 0 or 1, with at least one 1"),
        (torch.eye(4, 5) - torch.eye(4, 5).flip(1), "multi-hot labels are 0 or 1"),
        (3 * torch.eye(4, 5), "multi-hot labels are 0 or 1"),
        (torch.full((4, 5), float("nan")), "multi-hot labels are 0 or 1"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(photos(), labels=labels)


def test_labels_as_a_list_are_refused():
    with pytest.raises(ValueError, match="labels must be a tensor, got list"):
        tiny_model()(photos(), labels=[0, 1, 2, 3])


def test_asking_for_classes_where_there_are_none():
    model = tiny_model(class_embedding_dim=None)
    message = r"class embeddings.*from_backbone\(class_names=.*set_classes"
    with pytest.raises(ValueError, match=message):
        model(photos(), labels=integer_labels())
    with pytest.raises(ValueError, match=message):
        model.class_centres()
    with pytest.raises(ValueError, match=message):
        model.get_text_hash_codes(torch.randn(2, TEXT_WIDTH))


@pytest.mark.parametrize("shape", [(2, TEXT_WIDTH + 1), (TEXT_WIDTH,), (1, 2, TEXT_WIDTH)])
def test_embeddings_of_the_wrong_width(shape):
    with pytest.raises(ValueError, match=re.escape(f"must be (C, {TEXT_WIDTH}), got {shape}")):
        tiny_model().get_text_hash_codes(torch.zeros(shape))


@pytest.mark.parametrize(
    ("names", "embeddings", "message"),
    [
        (["a", "b"], torch.randn(3, TEXT_WIDTH), r"2 class names need .*\(2, t\), got \(3, 16\)"),
        (["a", "b"], torch.randn(TEXT_WIDTH), r"2 class names need .*got \(16,\)"),
        (["a", "b"], torch.randn(2, 17), "width 16, got 17"),
        (["a", "a"], torch.randn(2, TEXT_WIDTH), "distinct.*got 2, 1 distinct"),
        ([], torch.randn(0, TEXT_WIDTH), "at least one"),
        ("ab", torch.randn(2, TEXT_WIDTH), "are a list, got the string 'ab'"),
        (["a", "b"], torch.full((2, TEXT_WIDTH), float("nan")), "finite"),
    ],
)
def test_classes_that_do_not_fit(names, embeddings, message):
    model = tiny_model()
    before = copy.deepcopy(model.state_dict()), model.config.to_dict()
    with pytest.raises(ValueError, match=message):
        model.set_classes(names, embeddings)
    assert model.config.to_dict() == before[1]
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": "blue jay"}, "are a list, got the string 'blue jay'"),
        ({"class_names": []}, "class names"),
        ({"class_names": ["a", "a"]}, "distinct"),
        ({"class_names": ["a", ""]}, "not empty"),
        ({"class_names": ["a", "b"], "num_labels": 3}, "2 class names do not fit num_labels=3"),
        ({"class_names": ["a", "b"], "id2label": {0: "x", 1: "b"}}, "2 class names do not fit.*id2label={0: 'x'"),
        ({"class_names": ["a", "b"], "template": "a photo"}, "template"),
        ({"class_names": ["a", "b"], "class_embeddings": torch.randn(3, 32)}, r"2 class names need .*got \(3, 32\)"),
        ({"class_names": ["a", "b"], "class_embeddings": torch.randn(2, 31)}, "width 32, got 31"),
        ({"class_embeddings": torch.randn(7, 32)}, r"class names need .*got \(7, 32\)"),
    ],
)
def test_from_clip_with_classes_that_do_not_fit(small_clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        ConceptHashModel.from_clip(small_clip, num_bits=16, adapter_dim=8, **arguments)


def test_from_clip_with_bits_that_do_not_divide(small_clip):
    with pytest.raises(StrictDataclassError, match="num_bits=30, num_concepts=4"):
        ConceptHashModel.from_clip(small_clip, ["a", "b"], num_bits=30)


def test_what_is_no_clip(tmp_path):
    def refused(folder: Path | str, message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            ConceptHashModel.from_clip(folder, ["a", "b"])
        assert str(folder) in str(error.value)

    refused(tmp_path / "nowhere", "no model that can be loaded")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no model that can be loaded")
    refused("no-such-person/no-such-clip", "no model that can be loaded")
    BertConfig().save_pretrained(tmp_path / "bert")
    refused(tmp_path / "bert", "a vision model of type 'bert' cannot be built on. Families that can: clip_vision_mod")
    tiny_clip_config().vision_config.save_pretrained(tmp_path / "tower")
    refused(tmp_path / "tower", "has no text tower; give a text model")
    tiny_model().save_pretrained(tmp_path / "ours")
    refused(tmp_path / "ours", "'concepthash_vision' cannot be built on: it is a hash model already.*set_classes")
    tiny_clip_config().save_pretrained(tmp_path / "config alone")
    with pytest.raises(OSError, match="no file named model.safetensors.*config alone"):
        ConceptHashModel.from_clip(tmp_path / "config alone")


def test_from_clip_without_a_tokenizer_says_so(tmp_path):
    folder = save_tiny_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match="tokenizer"):
        ConceptHashModel.from_clip(folder, ["a", "b"], num_bits=16, adapter_dim=8)
    model = ConceptHashModel.from_clip(
        folder, ["a", "b"], class_embeddings=torch.randn(2, TEXT_WIDTH), num_bits=16, adapter_dim=8
    )
    assert model.config.num_labels == 2
