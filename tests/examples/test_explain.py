"""examples/explain.py, as its users run it."""

import csv
import json
import re
import runpy
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium
from PIL import Image

import concepthash_hf.data.load
from concepthash_hf import ConceptHashModel
from concepthash_hf.data.toy_birds import SPECIES, draw_bird, toy_birds
from concepthash_hf.toy_clip import save_toy_clip

SCRIPT = Path(__file__).parents[2] / "examples" / "explain.py"
OTHER_FIELDS = {"num_photos": 6, "cosines": [[1, 0.123], [0.123, 1]], "patches_attended": [3, 2]}
NAMES = ["<script>alert(1)</script>", 'the "big" one', "it's & <b>bold</b>"]


def untrained(folder: Path, names: list[str]) -> Path:
    """A model with its image processor."""
    torch.manual_seed(0)
    save_toy_clip(folder / "clip", [species.name for species in SPECIES], image_size=32)
    model = ConceptHashModel.from_clip(folder / "clip", class_names=names, num_bits=12, num_concepts=3, adapter_dim=8)
    model.save_pretrained(folder / "model")
    model.image_processor.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Path, Path]:
    """A table of toy birds whose classes have bad names, and a model of them."""
    folder = tmp_path_factory.mktemp("hostile")
    with open(folder / "birds.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split"])
        for species, name in zip(SPECIES[:3], NAMES, strict=True):
            for seed in range(6):
                draw_bird(species, seed, 48).image.save(folder / f"{species.name}-{seed}.png")
                table.writerow([f"{species.name}-{seed}.png", name, "train" if seed < 4 else "test"])
    return folder / "birds.csv", untrained(folder, NAMES)


@pytest.fixture
def run(run_script):
    return partial(run_script, SCRIPT)


def test_a_report_that_a_browser_shows(run, hostile, tmp_path):
    photos, model = hostile
    printed = run("--model", model, "--dataset", photos, "--output_dir", "report", "--num_queries", 4)
    assert printed.startswith("birds: 3 classes: ") and "labels: column 'label' of birds.csv" in printed
    assert printed.splitlines()[-1] == "open report/report.html"
    assert Image.open(tmp_path / "report" / "gallery.png").width > 300
    with chromium(tmp_path / "profile") as browser:
        browser.open(tmp_path / "report" / "report.html")
        assert browser.complaints == []
        assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert browser.evaluate("document.scripts.length") == 0
        headings = browser.evaluate("[...document.querySelectorAll('h3')].map(heading => heading.innerText)")
        assert set(NAMES) <= set(headings)
        facts = browser.evaluate("document.querySelector('#model').innerText")
        assert "12 bits" in facts and str(model.parent) not in browser.evaluate("document.documentElement.outerHTML")
        assert len(browser.evaluate("[...document.querySelectorAll('.hit, .miss')].map(x => x.innerText)")) == 4 * 3
        # no parts, attributes or families are known of these photos
        tables = browser.evaluate("[...document.querySelectorAll('#measurements h3')].map(x => x.innerText)")
        assert [title.split(":")[0] for title in tables] == ["Diversity", "Faithfulness", "Region only"]


def test_all_that_is_known_of_toy_birds(run, tmp_path, monkeypatch):
    few = partial(toy_birds, train_per_species=3, test_per_species=2, size=48)
    monkeypatch.setattr(concepthash_hf.data.load, "toy_birds", few)
    model = untrained(tmp_path, [species.name for species in SPECIES])
    run("--model", model, "--dataset", "toy_birds", "--output_dir", "report", "--num_photos", 1, "--num_queries", 1)
    page = (tmp_path / "report" / "report.html").read_text()
    for title in ("Localisation", "Part discovery", "Diversity", "Faithfulness", "Region only", "Families"):
        assert f"<h3>{title}:" in page
    assert "tree of the classes" in page and "by chance" in page
    sentences = re.findall(r'<p class="sentence">Concept (\d) looks .*?; .*?\.</p>', page)
    assert sentences == ["1", "2", "3"] and page.count('<p class="judgement">') == 3


def test_measurements_from_a_file(run, hostile, tmp_path):
    photos, model = hostile
    cosines = {"cosine": 0.123, "overlap": 0.2, "same_peak": 0.3}
    measured = {"diversity": cosines | {f"{name}_chance": 0.987 for name in cosines} | OTHER_FIELDS}
    (tmp_path / "study.json").write_text(json.dumps({"models": {"outputs/model": measured, "other": {}}}))
    run("--model", model, "--dataset", photos, "--output_dir", "report", "--measurements", "study.json")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<td>0.123</td><td>0.987</td>" in page and "Faithfulness:" not in page
    (tmp_path / "study.json").write_text(json.dumps({"models": {"other": measured}}))
    with pytest.raises(
        SystemExit, match=r"error: study.json has measurements of \['other'\], not of one model 'model'"
    ):
        run("--model", model, "--dataset", photos, "--measurements", "study.json")


@pytest.mark.parametrize(
    ("option", "content", "complaint"),
    [
        (
            "--attributes",
            {"attributes": ["a"], "classes": ["x"], "percent": [[1]]},
            "attribute table of another dataset: it lacks 3 of 3 classes",
        ),
        ("--class_families", {NAMES[0]: "birds"}, "there is no family for 2 classes of the model"),
        ("--measurements", {"models": {"model": {"diversity": {}}}}, "'diversity' is not what this package measures"),
    ],
)
def test_files_of_something_else(run, hostile, tmp_path, option, content, complaint):
    photos, model = hostile
    (tmp_path / "file.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=f"^error: .*{complaint}"):
        run("--model", model, "--dataset", photos, option, "file.json", "--num_photos", 1, "--num_queries", 1)


def write_families(folder: Path, split: str, birds: Iterable[tuple[int, str]]) -> None:
    """A split of hostile birds, a photo for each of these classes, with its family."""
    with open(folder / f"{split}.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "family"])
        for label, family in birds:
            draw_bird(SPECIES[label], label, 48).image.save(folder / f"{split}-{label}.png")
            table.writerow([f"{split}-{label}.png", NAMES[label], family])


class TestFamiliesThatPhotosName:
    OPTIONS = ("--output_dir", "report", "--num_photos", 0, "--num_queries", 0)

    def report(self, run, hostile, folder: Path) -> tuple[str, str]:
        """What is printed, and the page."""
        printed = run("--model", hostile[1], "--dataset", folder / "birds", *self.OPTIONS)
        return printed, (folder / "report" / "report.html").read_text()

    def test_in_any_split(self, run, hostile, tmp_path):
        (tmp_path / "birds").mkdir()
        write_families(tmp_path / "birds", "train", [(0, "finch"), (1, "owl"), (2, "finch")])
        write_families(tmp_path / "birds", "test", [(0, "finch"), (2, "")])
        printed, page = self.report(run, hostile, tmp_path)
        assert "no tree" not in printed
        assert "tree of the classes" in page and "<h3>Families:" in page and "3 classes in 2 families" in page

    @pytest.mark.parametrize(
        ("families", "lack"),
        [
            (("finch", "owl", ""), f"there is no family for 1 classes of the model: {NAMES[2]}"),
            (("finch", "owl", "jay"), "3 families of 3 classes: it takes two or more"),
            (("finch", "finch", "finch"), "1 families of 3 classes: it takes two or more"),
        ],
    )
    def test_that_make_no_tree(self, run, hostile, tmp_path, families, lack):
        (tmp_path / "birds").mkdir()
        for split in ("train", "test"):
            write_families(tmp_path / "birds", split, enumerate(families))
        printed, page = self.report(run, hostile, tmp_path)
        assert f"no tree of the classes: {lack}" in printed
        assert "tree of the classes" not in page and "<h3>Families:" not in page and "<h3>Diversity:" in page


def test_no_such_model_or_photos(run, hostile):
    photos, model = hostile
    with pytest.raises(SystemExit, match="^error: .*nowhere"):
        run("--model", model, "--dataset", "./nowhere")
    with pytest.raises(SystemExit, match="^error: .*nothing_there"):
        run("--model", "./nothing_there", "--dataset", photos)
    with pytest.raises(SystemExit, match="^error: .*--num_neighbours 1 or more"):
        run("--model", "./nothing_there", "--dataset", photos, "--num_neighbours", 0)


def test_the_gallery_of_the_readme(tmp_path, monkeypatch):
    few = partial(toy_birds, train_per_species=1, test_per_species=1, size=48)
    monkeypatch.setattr(concepthash_hf.data.load, "toy_birds", few)
    model = untrained(tmp_path, [species.name for species in SPECIES])
    script = runpy.run_path(str(SCRIPT.with_name("toy_gallery.py")))
    script["main"](str(model), str(tmp_path / "gallery.png"), size=64)
    picture = np.asarray(Image.open(tmp_path / "gallery.png"))
    assert picture.shape[1] > 600 and picture.std() > 20
