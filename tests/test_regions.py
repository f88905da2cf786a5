"""The read-out by regions: what it guarantees, on every family, and how it is kept, trained and learned."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from families import FAMILIES, PREFIX_TOKENS, SIZES, save_backbone, save_text_model
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch.utils.data import Dataset

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionModel
from concepthash_hf.base_models import load_vision_model
from concepthash_hf.explain import explain_image
from concepthash_hf.explain.measures.hiding import hide_patches
from concepthash_hf.export import export_onnx
from concepthash_hf.frozen_states import FrozenStates, frozen_states_size, keep_frozen_states
from concepthash_hf.hub import add_code
from concepthash_hf.region_clusters import find_parts, mirrored_patches
from concepthash_hf.region_learning import learn_regions
from concepthash_hf.regions import RegionStates, seen_patches
from concepthash_hf.training import ConceptHashTrainingArguments, train

NAMES = ["blue jay", "gull", "wren"]
CONCEPTS, BITS, SIDE, SIZE = 3, 12, 4, SIZES["image_size"]
PATCHES = SIDE * SIDE
OURS = {
    **{"num_bits": BITS, "num_concepts": CONCEPTS, "adapter_dim": 8},
    **{"read_out": "regions", "first_adapted_layer": 1},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return save_text_model(tmp_path_factory.mktemp("text"), "clip")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def vision(family, tmp_path_factory):
    return save_backbone(tmp_path_factory.mktemp(family) / "vision", family)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    return save_backbone(tmp_path_factory.mktemp("one") / "vision", "dinov2")


def build(vision, text, **kwargs) -> ConceptHashModel:
    """With regions that are random, and differ from photo to photo; all that is trained has moved."""
    torch.manual_seed(0)
    model = ConceptHashModel.from_backbone(vision, text=text, **{"class_names": NAMES} | OURS | kwargs).eval()
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    if model.config.vision_config.read_out == "regions":
        torch.nn.init.normal_(model.vision_model.read_out.head.up_proj.weight)
    return model


def photos(number: int = 6, size: int = SIZE) -> torch.Tensor:
    return torch.randn(number, 3, size, size)


def masks(regions: torch.Tensor, num_patches: int = PATCHES) -> torch.Tensor:
    """bool (B, M, N): which patches each concept sees."""
    one_more = torch.where(regions < 0, num_patches, regions)
    return torch.zeros(*regions.shape[:2], num_patches + 1).scatter(2, one_more, 1.0).bool()[..., :-1]


PATTERNS = {
    "noise": lambda pixels: torch.randn_like(pixels) * 5,
    "nothing": torch.zeros_like,
    "another photo": lambda pixels: pixels.roll(1, 0),
    "upside down": lambda pixels: pixels.flip(-2),
    "blinding": lambda pixels: torch.full_like(pixels, 1e4),
}


# the guarantee


@pytest.mark.parametrize("attention", ["sdpa", "eager", "sdpa, bfloat16"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_lies_outside_of_a_region_cannot_change_its_sub_code(vision, text, pattern, attention):
    """Exactly: not one bit of a float differs, whatever stands in all other pixels."""
    model = build(vision, text)
    model.set_attn_implementation(attention.split(",")[0])
    tower, pixel_values = model.vision_model, photos()
    changed_elsewhere = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in attention):
        regions = tower.find_regions(pixel_values)
        read = tower(frozen_states=tower.frozen_states(pixel_values), output_concept_attentions=True)
        assert torch.equal(read.code_logits, tower(pixel_values).code_logits)
        for concept, own in enumerate(masks(regions).unbind(1)):
            changed = hide_patches(pixel_values, ~own.view(-1, SIDE, SIDE), PATTERNS[pattern](pixel_values))
            states = tower.frozen_states(changed, regions=regions)
            again = tower(frozen_states=states, output_concept_attentions=True)
            ours, theirs = (each.code_logits.unflatten(1, (CONCEPTS, -1)) for each in (again, read))
            assert torch.equal(ours[:, concept], theirs[:, concept])
            assert torch.equal(again.concept_attentions[:, concept], read.concept_attentions[:, concept])
            changed_elsewhere += int((ours != theirs).any(-1).sum())
    assert changed_elsewhere > CONCEPTS  # the test can fail: others do change


def test_what_lies_inside_matters_and_attention_stays_inside(vision, text):
    tower, pixel_values = build(vision, text).vision_model, photos()
    with torch.no_grad():
        regions = tower.find_regions(pixel_values)
        output = tower(pixel_values, output_attentions=True)
        seen = masks(regions)
        assert output.concept_attentions.shape == (6, CONCEPTS, PATCHES)
        assert torch.equal(output.concept_attentions > 0, seen)
        assert 1 <= seen.sum(-1).min() and seen.sum(-1).max() <= tower.config.region_patches
        for concept in range(CONCEPTS):
            inside = hide_patches(pixel_values, seen[:, concept].view(-1, SIDE, SIDE), photos())
            again = tower(frozen_states=tower.frozen_states(inside, regions=regions)).code_logits
            differs = (again != output.code_logits).unflatten(1, (CONCEPTS, -1))[:, concept]
            assert differs.any(-1).all()


def test_the_attention_read_out_gives_no_such_guarantee(vision, text):
    """The same change reaches every sub-code there: what the tests above show is no accident of the tiny model."""
    model = build(vision, text, read_out="attention")
    pixel_values = photos()
    corner = torch.zeros(6, SIDE, SIDE, dtype=torch.bool)
    corner[:, 0, 0] = True
    with torch.no_grad():
        before, after = (
            model(pixels).code_logits for pixels in (pixel_values, hide_patches(pixel_values, corner, photos()))
        )
    assert (before != after).all()


def test_the_forward_is_what_the_docstring_says(vision, text, family):
    """Written again, a region at a time, without masks, by the family's own layers; fresh adapters add nothing."""
    torch.manual_seed(0)
    model = ConceptHashModel.from_backbone(vision, NAMES, text=text, **OURS).eval()
    torch.nn.init.normal_(model.vision_model.read_out.head.up_proj.weight)
    theirs, tower, pixel_values = load_vision_model(vision).eval(), model.vision_model, photos(2)
    prefix = PREFIX_TOKENS.get(family, 1)
    layers = theirs.encoder.layers if hasattr(theirs, "encoder") and hasattr(theirs.encoder, "layers") else None
    layers = layers or (theirs.encoder.layer if hasattr(theirs, "encoder") else theirs.layers)
    norm = theirs.layernorm if hasattr(theirs, "layernorm") else theirs.post_layernorm
    with torch.no_grad():
        hidden = theirs(pixel_values, output_hidden_states=True).hidden_states
        features = torch.cat(
            [torch.nn.functional.layer_norm(hidden[depth][:, prefix:], (32,)) for depth in (2, 3)], dim=-1
        )
        torch.testing.assert_close(tower.region_features(pixel_values), features, rtol=1e-4, atol=1e-4)
        regions = tower.find_regions(pixel_values)
        assert torch.equal(regions, seen_patches(tower.read_out.head(tower.region_features(pixel_values)), 6))
        embeddings = []
        for photo, of_photo in zip(hidden[0], regions, strict=True):
            for concept, patches in enumerate(of_photo):
                states = torch.cat([photo[:prefix], photo[prefix:][patches[patches >= 0]]])[None]
                states = layers[0](states, attention_mask=None)
                token = tower.concept_prompt.queries[concept]
                token = torch.nn.functional.layer_norm(token, (32,)) * states.pow(2).mean().sqrt()
                token = token + states[0, 0] if prefix else token
                states = torch.cat([states[:, 1:] if prefix else states, token.view(1, 1, -1)], dim=1)
                for layer in layers[1:]:
                    states = layer(states, attention_mask=None)
                embeddings.append(norm(states[0, -1]))
        output = tower(pixel_values)
    torch.testing.assert_close(output.concept_embeddings.flatten(0, 1), torch.stack(embeddings), rtol=1e-3, atol=1e-4)


def test_dinov2_small_on_real_photos(shared_dir):
    bench = shared_dir / "bench"
    model = build(bench / "dinov2-small", bench / "tiny-clip", image_size=112, first_adapted_layer=8)
    paths = sorted((shared_dir / "data" / "cub100" / "test").glob("*/*"))[::40][:8]
    pixels = model.image_processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
    pixel_values, tower = pixels["pixel_values"], model.vision_model
    with torch.no_grad():
        regions = tower.find_regions(pixel_values)
        before = tower(pixel_values).code_logits.unflatten(1, (CONCEPTS, -1))
        for concept, own in enumerate(masks(regions, 64).unbind(1)):
            changed = hide_patches(pixel_values, ~own.view(-1, 8, 8), pixel_values.roll(1, 0))
            after = tower(frozen_states=tower.frozen_states(changed, regions=regions)).code_logits
            assert torch.equal(after.unflatten(1, (CONCEPTS, -1))[:, concept], before[:, concept])


# which patches


def test_a_concept_sees_its_patches_the_surest_first():
    logits = torch.full((1, 5, 3), -5.0)
    for patch, (region, value) in enumerate([(0, 1.0), (0, 3.0), (2, 9.0), (0, 2.0), (2, 4.0)]):
        logits[0, patch, region] = value
    logits[0, 4, 1] = 0.0
    # concept 1 has none, and sees the likeliest
    assert seen_patches(logits, 4).tolist() == [[[1, 3, 0, -1], [4, -1, -1, -1]]]
    assert seen_patches(logits, 2).tolist() == [[[1, 3], [4, -1]]]


def test_photos_of_another_size(dinov2, text):
    tower, pixel_values = build(dinov2, text).vision_model, photos(2, 60)
    with torch.no_grad():
        assert tower.find_regions(pixel_values, interpolate_pos_encoding=True).shape == (2, CONCEPTS, 14)
        output = tower(pixel_values, interpolate_pos_encoding=True, output_attentions=True)
    assert output.concept_attentions.shape == (2, CONCEPTS, 36)


# training


class Photos(Dataset):
    """Squares of two colours, at places of their own, before noise."""

    def __init__(self, number: int = 48):
        generator = torch.Generator().manual_seed(0)
        self.pixels = 0.3 * torch.randn(number, 3, SIZE, SIZE, generator=generator)
        for row, pixels in enumerate(self.pixels):
            at = 10 * (row % 2)
            pixels[:, 10:20, at + 5 : at + 25] += torch.tensor([3.0, -2.0, 0.0]).view(3, 1, 1)
            pixels[:, 20:30, at + 5 : at + 25] += torch.tensor([-2.0, 3.0, 1.0]).view(3, 1, 1)
        self.labels = torch.arange(number) % len(NAMES)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> dict:
        return {"pixel_values": self.pixels[row], "labels": int(self.labels[row])}


def test_frozen_states_stand_for_the_photos_and_are_kept(dinov2, text, tmp_path):
    model, data = build(dinov2, text), Photos()
    with keep_frozen_states(model, data, tmp_path / "states", batch_size=20) as kept:
        assert isinstance(kept, FrozenStates) and len(kept) == len(data)
        items = [kept[row] for row in (0, 25, 47)]
        size = sum(file.stat().st_size for file in tmp_path.iterdir())
        assert size == pytest.approx(frozen_states_size(model, len(data)), abs=400)
        batch = torch.utils.data.default_collate(items)
        assert isinstance(batch["frozen_states"], RegionStates)
    assert not list(tmp_path.iterdir())
    pixel_values = data.pixels[[0, 25, 47]]
    with torch.no_grad():
        expected, found = model(pixel_values, labels=batch["labels"]), model(**batch)
    assert torch.equal(batch["frozen_states"].regions, model.vision_model.find_regions(pixel_values))
    torch.testing.assert_close(found.code_logits, expected.code_logits, rtol=0.02, atol=0.02)  # of float16


def test_it_trains_and_what_is_frozen_stays(dinov2, text, tmp_path):
    model, data = build(dinov2, text), Photos()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    arguments = ConceptHashTrainingArguments(
        output_dir=str(tmp_path / "out"), num_train_epochs=4, per_device_train_batch_size=12,
        per_device_eval_batch_size=12, learning_rate=5e-3, optimizer="adamw", report_to=None,
    )  # fmt: skip
    with keep_frozen_states(model, data, tmp_path / "states") as states:
        results = train(model, states, arguments, data, data)
    assert results["eval_map"] > 0.3
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != torch.equal(parameter, before[name]), name
        assert not (".read_out." in name and parameter.requires_grad)
    assert "diversity" not in model(**{"pixel_values": data.pixels[:4], "labels": data.labels[:4]}).loss_terms


def test_gradient_checkpointing_changes_nothing(dinov2, text):
    gradients = []
    for checkpointing in (False, True):
        model = build(dinov2, text).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(1)
        model(photos(), labels=torch.arange(6) % len(NAMES)).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.trainable_parameters()]))
    torch.testing.assert_close(*gradients)


# files


@pytest.mark.parametrize("trained_only", [False, True])
def test_saved_and_loaded_it_is_the_same(vision, text, trained_only, tmp_path):
    model, pixel_values = build(vision, text), photos()
    model.save_pretrained(tmp_path, trained_only=trained_only)
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"]["region_layers"] == [2, 3]
    for kind in (ConceptHashModel, ConceptHashVisionModel):
        loaded, info = kind.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values()), info
        assert torch.equal(loaded.get_hash_codes(pixel_values), model.get_hash_codes(pixel_values))
    loaded = ConceptHashModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.vision_model.find_regions(pixel_values), model.vision_model.find_regions(pixel_values))
    assert not any(parameter.requires_grad for parameter in loaded.vision_model.read_out.parameters())


@pytest.mark.parametrize(("saved", "asked"), [("attention", "regions"), ("regions", "attention")])
@pytest.mark.parametrize("kind", [ConceptHashModel, ConceptHashVisionModel])
def test_a_checkpoint_of_the_other_read_out_is_refused(dinov2, text, saved, asked, kind, tmp_path):
    model = build(dinov2, text, read_out=saved)
    model.save_pretrained(tmp_path)
    config = model.vision_model.config if kind is ConceptHashVisionModel else model.config
    fields = config.to_dict()
    (fields if kind is ConceptHashVisionModel else fields["vision_config"]).update(
        read_out=asked, region_layers=None, region_patches=None
    )
    with pytest.raises(ValueError, match=f"was trained with read_out='{saved}'.*read_out='{asked}'"):
        kind.from_pretrained(tmp_path, config=type(config)(**fields))


@pytest.mark.parametrize("backbone", ["dinov2", "siglip_vision_model"])
def test_torch_export_and_onnx_give_the_same_codes(backbone, text, tmp_path):
    model, pixel_values = build(save_backbone(tmp_path / "vision", backbone), text), photos(5)
    tower, batch = model.vision_model, torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(tower, (photos(2),), dynamic_shapes={"pixel_values": {0: batch}})
    with torch.no_grad():
        expected = tower(pixel_values).code_logits
        torch.testing.assert_close(program.module()(pixel_values).code_logits, expected)
    session = onnxruntime.InferenceSession(export_onnx(model, tmp_path / "model.onnx"))
    logits, codes = session.run(None, {"pixel_values": pixel_values.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-4)
    assert codes.tolist() == model.get_hash_codes(pixel_values).tolist()


def test_code_beside_the_weights_loads_without_the_package(dinov2, text, tmp_path):
    model, pixel_values = build(dinov2, text), photos(2)
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


# bad input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"read_out": "patches"}, "read_out"),
        ({"region_layers": [3, 2]}, "ascending numbers in 1 ... 3.*got .3, 2."),
        ({"region_layers": [0, 2]}, "ascending numbers in 1 ... 3"),
        ({"region_layers": [2, 4]}, "ascending numbers in 1 ... 3"),
        ({"region_patches": 17}, "region_patches must lie in 1 ... 16.*got 17"),
        ({"read_out": "attention", "region_patches": 3}, "are of read_out='regions'"),
        ({"freeze_backbone": False}, "needs freeze_backbone=True"),
    ],
)
def test_shapes_that_do_not_fit(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        ConceptHashConfig(vision_config=SIZES, **{"read_out": "regions", "num_bits": 12, "num_concepts": 3} | fields)


def test_regions_that_were_not_learned(dinov2, text, tmp_path):
    model = ConceptHashModel.from_backbone(dinov2, NAMES, text=text, **OURS)
    with pytest.raises(ValueError, match=r"have not been learned: call learn_regions\(model, photos\)"):
        train(model, Photos(), ConceptHashTrainingArguments(output_dir=str(tmp_path / "out")))
    with (
        pytest.raises(ValueError, match="have not been learned"),
        keep_frozen_states(model, Photos(), tmp_path / "states"),
    ):
        pass


def test_regions_that_are_none(dinov2, text):
    tower, pixel_values = build(dinov2, text).vision_model, photos(2)
    regions = tower.find_regions(pixel_values)
    for wrong in (regions[:1], regions[:, :2], regions.int(), regions[0]):
        with pytest.raises(ValueError, match=r"regions must be int64 of shape \(2, 3, patches\)"):
            tower.frozen_states(pixel_values, regions=wrong)
    beyond, below, nothing = regions.clone(), torch.cat([regions, regions], -1), regions.clone()
    beyond[0, 1, 0], below[1, 0, -1], nothing[1, 2] = 16, -2, -1
    for wrong in (regions + 16, regions - 99, torch.full_like(regions, -1), beyond, below, nothing):
        with pytest.raises(ValueError, match="numbers of patches, 0 ... 15, or -1 for none"):
            tower.frozen_states(pixel_values, regions=wrong)


def test_an_attention_model_has_no_regions(dinov2, text):
    model, other = build(dinov2, text, read_out="attention"), build(dinov2, text)
    with pytest.raises(ValueError, match="has no regions: its concepts see the whole photo"):
        model.vision_model.find_regions(photos(2))
    with pytest.raises(ValueError, match="has no regions"):
        model.vision_model.frozen_states(photos(2), regions=torch.zeros(2, CONCEPTS, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="read_out='attention', which has no regions to learn"):
        learn_regions(model, Photos())
    for one, two in ((model, other), (other, model)):
        with pytest.raises(ValueError, match="these frozen states are of read_out="):
            one(frozen_states=two.vision_model.frozen_states(photos(2)))


# learning regions


def test_parts_of_things_are_found():
    """Tokens made by hand: background, and a thing of two parts that moves, each photo with a direction of its own."""
    generator = torch.Generator().manual_seed(0)
    number, side, width = 40, 8, 24
    axes = torch.eye(width)
    truth = torch.full((number, side, side), 2)
    for row in range(number):
        top, left = 1 + row % 4, 1 + row // 4 % 4
        truth[row, top : top + 2, left : left + 3] = 0
        truth[row, top + 2 : top + 4, left : left + 3] = 1
    truth = truth.flatten(1)
    noise = 0.1 * torch.randn(number, side * side, width, generator=generator)
    middle = axes[(truth == 2).long()] + noise
    of_photo = 2 * torch.randn(number, 1, width, generator=generator) * (torch.arange(width) > 12)
    late = axes[2 + truth] + of_photo * (truth < 2)[..., None] + noise.flip(0)
    views = [(tokens, mirrored_patches(tokens)) for tokens in (middle, late)]
    found = find_parts(*views, 2, torch.Generator().manual_seed(1))
    agreement = max(
        float((found == truth).double().mean()), float((torch.tensor([1, 0, 2])[found] == truth).double().mean())
    )
    # of 9 clusters of the foreground one is left out as surroundings: here there are none
    assert agreement > 0.9
    assert torch.equal(found, find_parts(*views, 2, torch.Generator().manual_seed(1)))


def ringed_things() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten times the same photo: a thing of two parts in a ring that is half like it, half like the background.

    In the later layer the background looks like the first part.
    """
    side, axes = 8, torch.eye(6)
    truth = torch.full((side, side), 3)
    truth[1:-1, 1:-1] = 2
    truth[2:4, 2:-2], truth[4:6, 2:-2] = 0, 1
    truth = truth.flatten().expand(10, -1)
    middle = torch.stack([axes[0], axes[0], 0.8 * axes[0] + 0.6 * axes[1], axes[1]])[truth]
    late = torch.stack([axes[2], axes[3], axes[4], 0.8 * axes[2] + 0.6 * axes[5]])[truth]
    return truth, middle, late


def check_parts(found: torch.Tensor, truth: torch.Tensor) -> None:
    assert (found[truth == 3] == 2).all() and not (found[truth < 2] == 2).any()
    first, second = found[truth == 0].unique(), found[truth == 1].unique()
    assert len(first) == len(second) == 1 and first != second


@pytest.mark.parametrize("seed", range(5))
def test_what_surrounds_the_things_is_background(seed):
    truth, *layers = ringed_things()
    views = [(tokens, mirrored_patches(tokens)) for tokens in layers]
    found = find_parts(*views, 2, torch.Generator().manual_seed(seed))
    check_parts(found, truth)
    assert (found[truth == 2] == 2).any()


@pytest.mark.parametrize("seed", range(5))
def test_of_a_patch_that_looks_like_another_part_the_mirrored_photo_decides(seed):
    """In the photo another patch does so than in the mirrored one, whose place in the photo is beside it."""
    truth, middle, late = ringed_things()
    seen, mirrored = late.clone(), mirrored_patches(late)
    place = 2 * 8 + 3  # in the first part, left of the middle
    for view in (seen, mirrored):
        view[:, place] = 0.6 * torch.eye(6)[2] + 0.8 * torch.eye(6)[3]
    views = (middle, mirrored_patches(middle)), (seen, mirrored)
    check_parts(find_parts(*views, 2, torch.Generator().manual_seed(seed)), truth)


def test_patches_of_mirrored_photos_are_put_back():
    grid = torch.arange(2 * 9 * 4).view(2, 3, 3, 4)
    mirrored = torch.stack([grid[:, :, 2], grid[:, :, 1], grid[:, :, 0]], 2)
    assert torch.equal(mirrored_patches(mirrored.flatten(1, 2)), grid.flatten(1, 2))


def test_regions_are_learned_without_labels_the_same_every_time(dinov2, text):
    model = ConceptHashModel.from_backbone(dinov2, NAMES, text=text, **OURS).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    facts = [learn_regions(model, Photos(), steps=60, seed=seed) for seed in (0, 0, 1)]
    assert facts[0] == facts[1] and facts[0] != facts[2]
    assert facts[0]["num_photos"] == 48
    assert sum(facts[0]["areas"]) + facts[0]["background"] == pytest.approx(1)
    assert facts[0]["loss"] < np.log(CONCEPTS + 1) and json.dumps(facts)
    assert model.training and model.vision_model.read_out.head.is_learned
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("vision_model.read_out.head."), name


def test_regions_of_no_photos(dinov2, text):
    with pytest.raises(ValueError, match="no photos to learn regions from"):
        learn_regions(build(dinov2, text), torch.utils.data.Subset(Photos(), []))


def test_more_regions_than_patches_in_the_foreground():
    tokens = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    views = (tokens, mirrored_patches(tokens))
    with pytest.raises(ValueError, match=". patches in the foreground are too few for 9 clusters; give more photos"):
        find_parts(views, views, 9, torch.Generator().manual_seed(1))


# explanations


def test_explanations_say_what_they_prove(dinov2, text):
    picture = Image.effect_noise((80, 60), 90).convert("RGB")
    by_regions, by_attention = (
        explain_image(model, model.image_processor, picture)
        for model in (build(dinov2, text), build(dinov2, text, read_out="attention"))
    )
    assert "a guarantee, with its limit" in by_regions.what_it_proves
    assert "a picture of attention, not a proof" in by_attention.what_it_proves
    for explained in by_regions.concepts:
        assert 0 < (explained.attention > 0).sum() <= 6
    assert by_regions.figure().size == by_attention.figure().size
