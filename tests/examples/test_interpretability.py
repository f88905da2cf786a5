"""examples/benchmarks/interpretability.py, as its users run it."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from common import stir
from PIL import Image
from transformers import AutoImageProcessor

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.data.toy_birds import PARTS, SPECIES, draw_bird
from concepthash_hf.explain.attention import read_concepts
from concepthash_hf.explain.measures.faithfulness import faithfulness
from concepthash_hf.explain.measures.keypoint_regression import keypoint_regression
from concepthash_hf.explain.measures.localisation import localisation
from concepthash_hf.toy_clip import save_toy_clip

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "interpretability.py"
NAMES = [species.name.replace(" ", "_") for species in SPECIES[:2]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A few photos of two species, with the middle of each part as its location."""
    folder = tmp_path_factory.mktemp("birds")
    rows = []
    for split, seeds in (("train", range(5)), ("test", range(100, 106))):
        for species, name in zip(SPECIES, NAMES, strict=False):
            (folder / split / name).mkdir(parents=True)
            for seed in seeds:
                bird = draw_bird(species, seed, 32)
                bird.image.save(folder / split / name / f"{seed}.png")
                where = {part: (bird.parts == number).nonzero() for number, part in enumerate(PARTS, 1)}
                parts = {part: [float(x.mean()), float(y.mean())] for part, (y, x) in where.items() if len(x)}
                rows.append(json.dumps({"file": f"{split}/{name}/{seed}.png", "parts": parts}))
    (folder / "parts.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A model of random weights with its image processor."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_toy_clip(folder / "clip", NAMES, image_size=32)
    # codes of random weights hardly tell photos apart where concepts start at the CLS token
    sizes = {"num_bits": 12, "num_concepts": 3, "adapter_dim": 8, "start_at_cls": False}
    model = ConceptHashModel.from_clip(folder / "clip", class_names=NAMES, **sizes)
    stir(model).save_pretrained(folder / "model")
    model.image_processor.save_pretrained(folder / "model")
    (folder / "model" / "all_results.json").write_text('{"eval_map": 0.125}')
    return folder / "model"


@pytest.fixture
def run(run_script):
    return partial(run_script, SCRIPT)


def test_table_and_numbers(run, saved, photos, tmp_path):
    printed = run("--models", saved, "--dataset", photos, "--output", "table.json", "--max_photos_curves", 4)
    header, _, first, *others = printed.strip().splitlines()
    assert header == "| measure (chance) | model |"
    assert first == "| mAP | 0.12 |"
    assert len(others) > 15 and all(row.count("|") == 3 for row in others)
    assert not any("change of a part" in row for row in others)  # only toy birds can be changed

    written = json.loads((tmp_path / "table.json").read_text())
    (found,) = written["models"].values()
    model = ConceptHashModel.from_pretrained(saved)
    splits = load_photos(photos)
    transform = eval_transform(AutoImageProcessor.from_pretrained(saved))
    dataset = splits.torch_dataset("query", transform, with_parts=True)
    expected = localisation(read_concepts(model, dataset), splits.part_names)
    assert found["localisation"] == expected.to_dict()
    assert found["faithfulness_grey_20"]["flips"] == faithfulness(model, dataset, "grey", 0.2).flips
    assert found["curves"]["num_photos"] == 4
    train = splits.torch_dataset("train", transform, with_parts=True)
    regressed = keypoint_regression(read_concepts(model, dataset), read_concepts(model, train), splits.part_names)
    assert found["keypoint_regression"] == json.loads(json.dumps(regressed.to_dict()))
    assert f"error (shuffled) | {regressed.error:.2f} ({regressed.shuffled_error:.2g}) |" in printed
    for row in ("NMI of concept and part", "ARI of concept and part", "show nothing but the concept's region"):
        assert f"| {row}" in printed
    assert f"| localisation: own part, times chance | {expected.times_chance:.2f} (1) |" in printed
    assert written["photos"]["query"] == 12 and written["arguments"]["seed"] == 0


def test_changed_parts_of_toy_birds(run, saved, tmp_path):
    options = ("--max_photos", 4, "--max_photos_curves", 2, "--max_photos_maps", 9, "--output", "table.json")
    printed = run("--models", saved, *options)
    assert "| change of a part in one sub-code | " in printed and "keypoint regression" not in printed  # masks
    (found,) = json.loads((tmp_path / "table.json").read_text())["models"].values()
    assert found["localisation"]["num_photos"] == 9 and found["region_only"]["num_photos"] == 4


def test_photos_without_parts(run, saved, tmp_path):
    for split in ("train", "test"):
        for name in NAMES:
            (tmp_path / "plain" / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / "plain" / split / name / "0.png")
    with pytest.raises(SystemExit, match="error: plain has no part annotations"):
        run("--models", saved, "--dataset", "plain")
