"""examples/evaluate.py, as its users run it."""

import io
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPVisionModel

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.hashing import hash_dataset
from concepthash_hf.lettering import legible
from concepthash_hf.metrics import PrecisionRecallCurve, family_metrics, per_class_metrics, retrieval_metrics
from concepthash_hf.metrics.figures import retrieval_figure
from concepthash_hf.toy_clip import save_toy_clip

SCRIPT = Path(__file__).parents[2] / "examples" / "evaluate.py"
BIRDS = SPECIES[:3] + SPECIES[-2:]
NAMES = [species.name.replace(" ", "_") for species in BIRDS]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five photos to find and two to ask with, of each of five species."""
    folder = tmp_path_factory.mktemp("birds")
    for split, seeds in (("train", range(5)), ("test", range(100, 102))):
        for species, name in zip(BIRDS, NAMES, strict=True):
            (folder / split / name).mkdir(parents=True)
            for seed in seeds:
                draw_bird(species, seed, 32).image.save(folder / split / name / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An untrained model with its image processor."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_toy_clip(folder / "clip", NAMES, image_size=32)
    model = ConceptHashModel.from_clip(folder / "clip", class_names=NAMES, num_bits=12, num_concepts=3, adapter_dim=8)
    model.save_pretrained(folder / "model")
    model.image_processor.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def run(run_script):
    return partial(run_script, SCRIPT)


def test_table_json_and_figure(run, saved, photos, tmp_path):
    family_of = {name: species.family for name, species in zip(NAMES, BIRDS, strict=True)}
    (tmp_path / "families.json").write_text(json.dumps(family_of))
    printed = run(
        *("--model_name_or_path", saved, "--dataset", photos, "--top_k", 7, "--class_families", "families.json")
    )

    model = ConceptHashModel.from_pretrained(saved)
    splits = load_photos(photos)
    transform = eval_transform(AutoImageProcessor.from_pretrained(saved))
    task = [
        array
        for split in ("query", "database")
        for array in hash_dataset(model, splits.torch_dataset(split, transform))
    ]
    expected = retrieval_metrics(*task, top_k=7)
    (folder,) = (tmp_path / "outputs").iterdir()
    written = json.loads((folder / "evaluation.json").read_text())
    assert written["retrieval"] == pytest.approx(expected, abs=1e-12)
    assert (expected["num_queries"], expected["num_database"]) == (10, 25)
    per_class = per_class_metrics(*task, top_k=7)
    assert {int(label): values["map"] for label, values in written["per_class"].items()} == pytest.approx(
        {label: values["map"] for label, values in per_class.items()}
    )
    families = np.unique([family_of[name] for name in splits.class_names], return_inverse=True)[1]
    assert written["families"] == pytest.approx(family_metrics(*task, families))
    assert len(written["sub_codes"]["map_alone"]) == 3
    assert written["curve"]["recall"][-1] == pytest.approx(1)
    assert written["query_codes"]["distance_within_family"] is not None
    for name, value in (("map", expected["map"]), ("map@7_retrieved", expected["map@7_retrieved"])):
        assert [name, f"{value:.4f}"] in [line.split() for line in printed.splitlines()]
    lines = printed.splitlines()
    assert lines.index("retrieval") < lines.index(f"numbers: {folder.relative_to(tmp_path) / 'evaluation.json'}")
    assert (folder / "evaluation.pdf").read_bytes().startswith(b"%PDF")
    picture = Image.open(folder / "evaluation.png")
    assert picture.width == 1400 and np.asarray(picture.convert("L")).std() > 10


def test_in_bfloat16(run, saved, photos, tmp_path):
    run("--model_name_or_path", saved, "--dataset", photos, "--mixed_precision", "bf16", "--output_dir", "measured")
    written = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    assert written["environment"]["mixed_precision"] == "bf16" and 0 < written["retrieval"]["map"] <= 1


def test_what_the_codes_have_to_beat(run, saved, photos, tmp_path):
    """Chance, and the neighbours of the backbone as transformers itself runs it."""
    printed = run("--model_name_or_path", saved, "--dataset", photos, "--output_dir", "out")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    splits = load_photos(photos)
    processor = AutoImageProcessor.from_pretrained(saved)
    clip = CLIPVisionModel.from_pretrained(saved.with_name("clip")).eval()
    features, labels = [], []
    for split in ("query", "database"):
        items = list(splits.torch_dataset(split, eval_transform(processor)))
        with torch.no_grad():
            hidden = clip(torch.stack([item["pixel_values"] for item in items])).last_hidden_state
        features.append(clip.post_layernorm(hidden[:, 0]).detach().double().numpy())
        labels.append(np.array([int(item["labels"]) for item in items]))
    mean = features[1].mean(0)
    first, second = (each - mean for each in features)
    cosines = first @ second.T / np.linalg.norm(first, axis=1)[:, None] / np.linalg.norm(second, axis=1)
    nearest = labels[1][cosines.argmax(1)]
    assert written["backbone"]["precision@1"] == pytest.approx((nearest == labels[0]).mean())
    assert written["backbone"]["feature_dim"] == features[0].shape[1]
    assert written["chance"]["precision@1"] == pytest.approx(1 / 5)
    values = {name: written[group]["map"] for name, group in (("the bare backbone", "backbone"), ("chance", "chance"))}
    for name, value in {**values, "these codes, 12 bits": written["retrieval"]["map"]}.items():
        (line,) = [line for line in printed.splitlines() if line.startswith(name)]
        assert f" {value:.3f} " in line


def test_numbers_need_no_matplotlib(run, saved, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    printed = run("--model_name_or_path", saved, "--dataset", photos, "--output_dir", "out")
    assert "these codes, 12 bits" in printed and "no figure: " in printed.splitlines()[-1]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["evaluation.json"]


def test_a_trained_backbone_is_no_bare_one(run, saved, photos, tmp_path):
    model = ConceptHashModel.from_pretrained(saved)
    model.config.freeze_backbone = False
    model.save_pretrained(tmp_path / "from_scratch")
    AutoImageProcessor.from_pretrained(saved).save_pretrained(tmp_path / "from_scratch")
    printed = run("--model", tmp_path / "from_scratch", "--dataset", photos)
    assert "bare backbone" not in printed and "\nchance " in printed


def test_a_class_without_a_family(run, saved, photos, tmp_path):
    (tmp_path / "families.json").write_text(json.dumps(dict.fromkeys(NAMES[1:], "bird")))
    with pytest.raises(SystemExit, match=f"error: families.json has no family for 1 classes: {NAMES[0]}"):
        run("--model_name_or_path", saved, "--dataset", photos, "--class_families", "families.json")


class TestFamiliesThatPhotosName:
    @staticmethod
    def is_measured(run, saved, photos, tmp_path, families: dict[str, list[str | None]], label=str) -> bool:
        """Whether families are measured, of a table of photos for each split, one of each class."""
        (tmp_path / "birds").mkdir()
        for split, seed in (("train", 0), ("test", 100)):
            with open(tmp_path / "birds" / f"{split}.jsonl", "w") as table:
                for name, family in zip(NAMES, families[split], strict=True):
                    shutil.copy(photos / split / name / f"{seed}.png", tmp_path / "birds" / f"{split}-{name}.png")
                    row = {"image": f"{split}-{name}.png", "label": label(name), "family": family}
                    print(json.dumps(row), file=table)
        run("--model", saved, "--dataset", tmp_path / "birds", "--output_dir", "out")
        written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert written["retrieval"]["num_queries"] == 5
        return "families" in written

    @pytest.mark.parametrize(("last", "is_known"), [("gull", True), (None, False)])
    def test_with_gaps(self, run, saved, photos, tmp_path, last, is_known):
        """What one split does not say, another may."""
        families = {"train": [None] * 3 + ["gull", last], "test": ["finch"] * 3 + ["gull", None]}
        assert self.is_measured(run, saved, photos, tmp_path, families) == is_known

    def test_of_photos_with_several_classes(self, run, saved, photos, tmp_path):
        families = dict.fromkeys(("train", "test"), ["finch"] * 3 + ["gull"] * 2)
        assert not self.is_measured(run, saved, photos, tmp_path, families, lambda name: sorted({name, NAMES[0]}))


def test_a_tower_alone(run, saved, photos, tmp_path):
    """It hashes as the whole model does; whether its backbone is the bare one, it does not say."""
    ConceptHashModel.from_pretrained(saved).vision_model.save_pretrained(tmp_path / "tower")
    AutoImageProcessor.from_pretrained(saved).save_pretrained(tmp_path / "tower")
    printed = run("--model", tmp_path / "tower", "--dataset", photos, "--output_dir", "tower_out")
    assert "bare backbone" not in printed and "\nchance " in printed
    run("--model", saved, "--dataset", photos, "--output_dir", "whole_out")
    tower, whole = (
        json.loads((tmp_path / folder / "evaluation.json").read_text()) for folder in ("tower_out", "whole_out")
    )
    assert tower["retrieval"] == whole["retrieval"]


def test_no_such_photos(run, saved):
    with pytest.raises(SystemExit, match="^error: .*nowhere"):
        run("--model_name_or_path", saved, "--dataset", "./nowhere")


class TestFigure:
    CURVE = PrecisionRecallCurve(np.array([1, 2, 4]), np.array([0.9, 0.7, 0.3]), np.array([0.2, 0.5, 1.0]))

    def draw(self, num_classes):
        per_class = {label: {"map": label / num_classes} for label in range(num_classes)}
        names = [f"Bird_{label}" for label in range(num_classes)]
        return retrieval_figure(self.CURVE, per_class, names, 0.5)

    def test_shows_what_it_was_given(self):
        left, right = self.draw(4).axes
        assert left.lines[0].get_xydata() == pytest.approx(np.stack([self.CURVE.recall, self.CURVE.precision], axis=1))
        assert [bar.get_width() for bar in right.patches] == [0.75, 0.5, 0.25, 0]
        assert [label.get_text() for label in right.get_yticklabels()] == ["Bird 3", "Bird 2", "Bird 1", "Bird 0"]

    @pytest.mark.parametrize("name", ["\u9e6a\u9e69", "\u0436\u0443\u043a", "\U0001f426", "$5 and $6", "m\u00e9sange"])
    def test_names_of_any_script(self, name, recwarn):
        """A letter that no font has would be drawn as a box, with a warning; dollars would be a formula."""
        figure = retrieval_figure(self.CURVE, {0: {"map": 0.5}}, [name], 0.5)
        figure.savefig(io.BytesIO())
        assert [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)] == []
        assert figure.axes[1].get_yticklabels()[0].get_text() == legible(name)

    def test_names_the_best_and_the_worst_of_many(self):
        _, right = self.draw(200).axes
        assert [label.get_text() for label in right.get_yticklabels()] == ["Bird 199", "Bird 0"]
        assert len(right.patches) == 200
