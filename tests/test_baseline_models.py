"""Models of other methods: built, trained or fitted, saved, hashed with and exported as a ConceptHash is."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import save_backbone
from huggingface_hub.errors import StrictDataclassError
from runs import forget_accelerate, state_of
from transformers import AutoModel, CLIPVisionModel, Dinov2Model

from concepthash_hf import BaselineConfig, BaselineModel, BaselineVisionModel, ConceptHasher, ConceptHashModel
from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.encoding import code_spec
from concepthash_hf.fitting import fit
from concepthash_hf.frozen_states import keep_frozen_states
from concepthash_hf.hashing import hash_dataset
from concepthash_hf.index import HammingIndex
from concepthash_hf.linear_hashing import FITS
from concepthash_hf.methods import METHODS, TRAINED
from concepthash_hf.metrics import retrieval_metrics
from concepthash_hf.models import model_class
from concepthash_hf.toy_clip import save_toy_clip
from concepthash_hf.training import ConceptHashTrainingArguments, train

NAMES = ["blue", "jay", "gull", "wren", "blue jay", "blue gull", "blue wren", "jay gull", "gull wren"]
BITS = 8  # the words have no more components
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def _as_a_new_process():
    forget_accelerate()


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("backbones")
    return SimpleNamespace(
        clip=save_backbone(folder / "clip", "clip_vision_model"), dinov2=save_backbone(folder / "dinov2", "dinov2")
    )


def built(backbones: SimpleNamespace, method: str, kind: str = "dinov2", **kwargs) -> BaselineModel:
    """A model that is not trained, or is fitted to noise."""
    torch.manual_seed(0)
    options = {"num_bits": BITS} | kwargs
    model = BaselineModel.from_backbone(
        getattr(backbones, kind), NAMES, method=method, text=backbones.clip, **options
    ).eval()
    if model.objective is None:
        model.fit(model.vision_model(photos(12)).features)
    return model


def photos(number: int = 6) -> torch.Tensor:
    return torch.randn(number, 3, 40, 40, generator=torch.Generator().manual_seed(1))


# what is built


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_features_of_a_new_model_are_the_backbone_s(backbones, kind):
    """Adapters are nothing at first, whether there are any or not."""
    family, folder = {"clip": CLIPVisionModel, "dinov2": Dinov2Model}[kind], getattr(backbones, kind)
    wanted = family.from_pretrained(folder).eval()(photos()).pooler_output
    for method in ("csq", "itq"):
        model = built(backbones, method, kind)
        torch.testing.assert_close(model(photos()).features, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_it_has_the_adapters_of_a_concepthash(backbones, kind):
    ours = ConceptHashModel.from_backbone(getattr(backbones, kind), NAMES, text=backbones.clip, num_bits=8)
    theirs = built(backbones, "csq", kind)
    for name in ("first_adapted_layer", "adapter_dim", "apply_last_norm", "image_size"):
        assert getattr(theirs.config.vision_config, name) == getattr(ours.config.vision_config, name)
    adapters = [{name for name in model.state_dict() if "_adapter." in name} for model in (ours, theirs)]
    assert adapters[0] == adapters[1] and adapters[0]
    assert theirs.image_processor.to_dict() == ours.image_processor.to_dict()


@every_method
def test_what_is_trained(backbones, method):
    model = built(backbones, method)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    backbone = set(model.backbone_parameters())
    assert not any(p.requires_grad for p in backbone)
    if METHODS[method].objective is None:
        assert trained == set()
        return
    losses = model.train()(photos(), labels=torch.arange(6))
    losses.loss.backward()
    assert losses.loss.item() == pytest.approx(sum(term.item() for term in losses.loss_terms.values()), rel=1e-5)
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    adapted = any("_adapter." in name for name, p in model.named_parameters() if p.requires_grad)
    assert adapted == METHODS[method].adapters


def test_the_hash_function_starts_as_torch_does(backbones):
    """Neither the backbone's rules nor zeros: uniform in +-1 / sqrt(d)."""
    weight = built(backbones, "csq", num_bits=64).vision_model.hash_head.projection.weight
    assert 0.95 < weight.abs().max() * 32**0.5 <= 1


@pytest.mark.parametrize("method", ["csq", "dpn", "orthohash"])
def test_targets_are_of_the_seed_and_are_saved(backbones, method, tmp_path):
    first, second = built(backbones, method, num_bits=16), built(backbones, method, num_bits=16)
    assert torch.equal(first.objective.codebook, second.objective.codebook)
    first.save_pretrained(tmp_path)
    torch.manual_seed(99)
    assert torch.equal(BaselineModel.from_pretrained(tmp_path).objective.codebook, first.objective.codebook)


def test_words_that_are_read_make_the_targets(backbones):
    """Of a text tower, or as they are given."""
    embeddings = torch.randn(9, 16)
    given = built(backbones, "linear_language", class_embeddings=embeddings)
    assert torch.equal(given.objective.words, embeddings.sign())
    embedded = built(backbones, "orthohash_language").objective.codebook
    assert embedded.shape == (9, 8) and len(embedded.unique(dim=0)) == 9
    embeddings[1] = embeddings[0]
    with pytest.raises(ValueError, match=f"one and the same to the text model: '{NAMES[0]}' = '{NAMES[1]}'"):
        built(backbones, "linear_language", class_embeddings=embeddings)
    with pytest.raises(ValueError, match="linear_language reads language, and .* has no text tower: give text="):
        BaselineModel.from_backbone(backbones.dinov2, NAMES, method="linear_language")


# saving, hashing, searching


@every_method
def test_saved_and_loaded(backbones, method, tmp_path):
    model = built(backbones, method)
    codes = model.get_hash_codes(photos())
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "small", trained_only=True)
    small = BaselineModel.from_pretrained(tmp_path / "small")
    for loaded in (AutoModel.from_pretrained(tmp_path / "whole"), small):
        assert type(loaded) is BaselineModel
        one, other = state_of(model), state_of(loaded)
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    tower = BaselineVisionModel.from_pretrained(tmp_path / "whole")
    assert torch.equal(tower.get_hash_codes(photos()), codes)
    assert code_spec(tower) == code_spec(AutoModel.from_pretrained(tmp_path / "whole"))
    sizes = [sum(file.stat().st_size for file in (tmp_path / kind).iterdir()) for kind in ("whole", "small")]
    assert sizes[1] < sizes[0]


@every_method
def test_frozen_states_stand_for_photos(backbones, method):
    model = built(backbones, method)
    states = model.vision_model.frozen_states(photos())
    assert states.shape == (6, model.vision_model.num_frozen_tokens, 32)
    torch.testing.assert_close(model(frozen_states=states).code_logits, model(photos()).code_logits)


def test_the_front_door(backbones, tmp_path):
    """Photos in; codes, an index and hits out; no explanations."""
    model = built(backbones, "dpn", num_bits=16)
    model.save_pretrained(tmp_path / "model")
    model.image_processor.save_pretrained(tmp_path / "model")
    hasher = ConceptHasher(tmp_path / "model", device="cpu")
    birds = [draw_bird(SPECIES[i].name, 0, 48).image for i in range(5)]
    codes = hasher.encode(birds)
    assert codes.shape == (5, 2) and hasher.encode(birds, output="sub_codes").shape == (5, 1, 16)
    index = HammingIndex.from_codes(codes, num_bits=16, num_concepts=1)
    assert (index.search(codes, k=1).distances == 0).all()
    with pytest.raises(ValueError, match="trained by another method than ConceptHash: its codes have no concepts"):
        hasher.explain(birds[0])
    with pytest.raises(ValueError, match="reads no words"):
        hasher.encode_names("wren")


def test_onnx(backbones, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    from concepthash_hf.export import export_onnx

    for method in ("orthohash", "itq", "a2net", "semicon"):
        model = built(backbones, method)
        session = runtime.InferenceSession(str(export_onnx(model, tmp_path / f"{method}.onnx")))
        logits, codes = session.run(None, {"pixel_values": photos(5).numpy()})
        np.testing.assert_allclose(logits, model(photos(5)).code_logits.detach(), atol=1e-4)
        np.testing.assert_array_equal(codes, model.get_hash_codes(photos(5)))


# mistakes


def test_mistakes_say_so(backbones, tmp_path):
    with pytest.raises(ValueError, match="no method 'sgh'; there are lsh, pca"):
        built(backbones, "sgh")
    with pytest.raises(ValueError, match=r"BaselineConfig has no \['num_concepts'\]"):
        built(backbones, "csq", num_concepts=4)
    with pytest.raises(ValueError, match="itq is not trained: its hash function is fitted"):
        built(backbones, "itq")(photos(), labels=torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match="csq is trained, not fitted"):
        built(backbones, "csq").fit(torch.randn(9, 32))
    with pytest.raises(StrictDataclassError, match="hashes the CLS token, and a SigLIP has none"):
        BaselineConfig(vision_config={"backbone_config": {"model_type": "siglip_vision_model"}})
    with pytest.raises(ValueError, match="labels must lie in 0 ... 8, got 4 ... 9"):
        built(backbones, "csq")(photos(), labels=torch.arange(4, 10))
    with pytest.raises(ValueError, match="not made of parts: leave num_concepts out"):
        BaselineConfig(num_bits=8, num_concepts=3)
    with pytest.raises(ValueError, match="give either pixel_values or frozen_states"):
        built(backbones, "csq")(labels=torch.zeros(6, dtype=torch.long))
    built(backbones, "csq").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a 'hashing_baseline' model, not a ConceptHash"):
        ConceptHashModel.from_pretrained(tmp_path)
    assert model_class(tmp_path) is BaselineModel and model_class(tmp_path, tower=True) is BaselineVisionModel


@pytest.mark.parametrize(
    ("method", "constants", "message"),
    [
        (
            "orthohash",
            {"targets": "language"},
            "make another method of orthohash: whether language is read is in the name",
        ),
        ("orthohash_language", {}, "make another method of orthohash_language"),
        ("orthohash", {"targets": "foo"}, "targets must be random, hadamard or language, got 'foo'"),
        ("linear", {"language": True}, "centres from language need class embeddings"),
    ],
)
def test_language_is_read_by_methods_that_say_so(backbones, method, constants, message):
    with pytest.raises(ValueError, match=message):
        built(backbones, method, objective_kwargs=constants)


@pytest.mark.parametrize(
    ("names", "embeddings", "message"),
    [
        (["wren", "wren"], None, "class names must be distinct"),
        ("wren", None, "class names are a list, got the string 'wren'"),
        (NAMES, torch.randn(1, 16), r"9 class names need class embeddings of shape \(9, t\), got \(1, 16\)"),
        (NAMES, torch.full((len(NAMES), 16), torch.nan), "class embeddings must be finite"),
    ],
)
def test_classes_are_checked_as_those_of_a_concepthash(backbones, names, embeddings, message):
    for kind, more in ((BaselineModel, {"method": "orthohash_language"}), (ConceptHashModel, {})):
        with pytest.raises(ValueError, match=message):
            kind.from_backbone(
                backbones.dinov2, names, text=backbones.clip, class_embeddings=embeddings, num_bits=8, **more
            )


def test_several_names_of_a_class(backbones):
    names = [["blue", "wren blue"], *NAMES[1:]]
    for kind, more in ((BaselineModel, {"method": "orthohash_language"}), (ConceptHashModel, {})):
        model = kind.from_backbone(
            backbones.clip, names, text=backbones.clip, id2label=dict(enumerate(NAMES)), num_bits=8, **more
        )
        assert model.config.label2id == {name: number for number, name in enumerate(NAMES)}


# learning


class Birds(torch.utils.data.Dataset):
    """Four species of toy birds, 32 pixels wide."""

    species = [SPECIES[i].name for i in (0, 5, 10, 15)]

    def __init__(self, first: int, number: int):
        drawn = [
            (draw_bird(name, first + i, 32).image, c) for i in range(number) for c, name in enumerate(self.species)
        ]
        pixels = np.stack([np.asarray(image, dtype=np.float32) / 127.5 - 1 for image, _ in drawn])
        self.pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.tensor([label for _, label in drawn])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict:
        return {"pixel_values": self.pixels[row], "labels": self.labels[row]}


@pytest.fixture(scope="module")
def birds() -> tuple[Birds, Birds]:
    return Birds(0, 16), Birds(100, 6)


@pytest.fixture(scope="module")
def toy_clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "clip"
    save_toy_clip(folder, Birds.species, image_size=32)
    return folder


@pytest.mark.parametrize("method", TRAINED)
def test_it_learns_toy_birds(method, birds, toy_clip, tmp_path):
    """From scratch, in 100 steps; untrained it finds 0.3, trained it has found 0.53 to 0.81."""
    torch.manual_seed(0)
    bits = 3 if method == "orthohash_language" else 16  # of four names
    model = BaselineModel.from_backbone(
        toy_clip, Birds.species, method=method, num_bits=bits, adapter_dim=16, freeze_backbone=False
    )
    args = ConceptHashTrainingArguments(
        str(tmp_path), num_train_epochs=25, per_device_train_batch_size=16, optimizer="adamw", learning_rate=2e-3
    )
    before = retrieval(model, birds)
    results = train(model, birds[0], args, birds[1], birds[0])
    assert results["eval_map"] > max(0.45, before + 0.1)
    assert results["train_loss"] == pytest.approx(sum(results[f"train_{term}"] for term in losses_of(model, birds[0])))


def retrieval(model: BaselineModel, birds: tuple[Birds, Birds]) -> float:
    database, query = (hash_dataset(model, photos) for photos in birds)
    return retrieval_metrics(*query, *database)["map"]


def losses_of(model: BaselineModel, photos: Birds) -> list[str]:
    with torch.no_grad():
        return list(model(photos.pixels[:4], labels=photos.labels[:4]).loss_terms)


def test_continuation_reaches_the_objective(birds, toy_clip, tmp_path):
    """It is told before every epoch how many steps are done."""
    model = BaselineModel.from_backbone(toy_clip, Birds.species, method="hashnet", num_bits=16, adapter_dim=4)
    args = ConceptHashTrainingArguments(str(tmp_path), num_train_epochs=3, per_device_train_batch_size=32)
    train(model, birds[0], args)
    assert model.objective.beta == pytest.approx((1 + 0.005 * 4) ** 0.5)  # 64 photos, 2 steps an epoch


def test_a_hash_function_alone_trains_on_kept_states(birds, backbones, tmp_path):
    """One token a photo; and the codes of the photos are those of their states."""
    model = built(backbones, "linear", image_size=30)
    photos = birds[0]
    photos = SimpleNamespace(
        rows=[{"pixel_values": photos.pixels[row, :, :30, :30], "labels": photos.labels[row]} for row in range(32)]
    ).rows
    with keep_frozen_states(model, photos, tmp_path / "states") as states:
        assert states[0]["frozen_states"].shape == (1, 32)
        args = ConceptHashTrainingArguments(str(tmp_path / "run"), num_train_epochs=2, per_device_train_batch_size=8)
        train(model, states, args)
    codes, labels = hash_dataset(model, photos)
    assert codes.shape == (32, 1) and labels.tolist() == [row["labels"].item() for row in photos]


def test_a_hash_function_is_fitted_to_kept_states(backbones, tmp_path):
    some = [{"pixel_values": picture, "labels": row % 2} for row, picture in enumerate(photos(32))]
    codes = []
    for keeps in (False, True):
        model = built(backbones, "pca")
        if keeps:
            with keep_frozen_states(model, some, tmp_path / "states") as states:
                fit(model, states)
        else:
            fit(model, some)
        codes.append(hash_dataset(model, some)[0])
    assert np.array_equal(*codes) and not np.array_equal(codes[0], hash_dataset(built(backbones, "pca"), some)[0])


@pytest.mark.parametrize("method", [name for name in METHODS if name not in TRAINED])
def test_it_is_fitted_to_toy_birds(method, birds, toy_clip):
    """By what is fitted to the features of all photos, whatever the batches; nothing else changes."""
    torch.manual_seed(0)
    model = BaselineModel.from_backbone(toy_clip, Birds.species, method=method, num_bits=16)
    untouched = state_of(model)
    fit(model, birds[0], batch_size=10)
    changed = {name for name, tensor in state_of(model).items() if not torch.equal(tensor, untouched[name])}
    assert changed == {"vision_model.hash_head.projection.weight", "vision_model.hash_head.projection.bias"}
    with torch.no_grad():
        output = model.eval()(birds[0].pixels)
    if method == "lsh":
        assert not model.vision_model.hash_head.projection.bias.any()
        return
    weight, bias = FITS["pca"](output.features, 16)
    lengths = (output.features @ weight.T + bias).norm(dim=1)  # which rotations leave as they are
    torch.testing.assert_close(output.code_logits.norm(dim=1), lengths, rtol=1e-3, atol=1e-4)
