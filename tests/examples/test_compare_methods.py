"""examples/benchmarks/compare_methods.py and method_tables.py, as their users run them."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data.conftest import draw  # noqa: F401
from data.test_archives import aircraft, cars, cub, nabirds  # noqa: F401
from families import save_backbone
from filelock import FileLock
from PIL import Image

from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.methods import METHODS
from concepthash_hf.toy_clip import save_toy_clip

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
NAMES = [SPECIES[i].name.replace(" ", "_") for i in (0, 1, 2, 5, 6, 7, 9, 10, 11)]  # three of each of three families
ALL = ("concepthash", "concepthash_paper", *METHODS)


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> Path:
    """Photos, a backbone that is frozen to two thirds, and one with adapters everywhere, which also reads words."""
    folder = tmp_path_factory.mktemp("toys")
    for split, first, number in (("train", 0, 12), ("test", 100, 2)):
        for name in NAMES:
            (folder / "birds" / split / name).mkdir(parents=True)
            for seed in range(first, first + number):
                bird = draw_bird(name.replace("_", " "), seed, 40).image
                bird.save(folder / "birds" / split / name / f"{seed}.png")
    save_backbone(folder / "dinov2", "dinov2")
    save_toy_clip(folder / "clip", NAMES, image_size=32)
    return folder


@pytest.fixture
def compare(run_script, toys, tmp_path):
    """Runs the script on the photos, three steps a run."""
    words = ["--dataset", toys / "birds", "--text_model_name_or_path", toys / "clip", "--num_steps", 3]
    words += [
        "--cache",
        tmp_path / "cache",
        "--output",
        tmp_path / "rows.jsonl",
        "--num_bits",
        8,
    ]  # the fewest that SEMICON takes
    return partial(run_script, BENCHMARKS / "compare_methods.py", *words)


def rows_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_every_method_has_its_row(compare, toys, run_script, tmp_path):
    """Once: the same command goes on where it was stopped, and the rows make tables and a picture."""
    printed = compare("--model_name_or_path", toys / "dinov2")
    rows = rows_in(tmp_path)
    assert {row["method"] for row in rows} == set(ALL) and len(rows) == len(ALL)
    assert printed.count("mAP seen@seen") == len(ALL)
    for row in rows:
        (found,) = row["measured"].values()
        assert (found["num_queries"], found["num_database"]) == (18, 108)
        assert 0.1 < found["map"] <= 1 and 0 <= found["precision@1"] <= 1 and 0 < found["map_in_family"] <= 1
        assert ("map_alone" in found) == row["method"].startswith("concepthash")
        assert row["peak_memory_of_process"] > 50 and row["hash_runtime"] > 0
        assert row.get("train_steps", 3) == 3  # 108 photos, one epoch
        assert str(toys) not in json.dumps(row)
    trained = {row["method"] for row in rows if "train_steps" in row}
    assert trained == {name for name in ALL if name not in METHODS or METHODS[name].objective}
    # pixels for the published recipe, which adapts all layers; tokens where adapters begin; the CLS token
    assert {file.name for file in (tmp_path / "cache").glob("*.npy")} == {
        "birds-clip-words.npy",
        *(f"birds-dinov2-40-{depth}-{split}.npy" for depth in (0, 2, 3) for split in ("train", "query")),
    }
    caches = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.npy")}

    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    again = compare("--model_name_or_path", toys / "dinov2")
    assert again.count("mAP seen@seen") == 1
    redone, before = rows_in(tmp_path)[-1], json.loads(lines[-1])
    assert redone["method"] == before["method"] and redone["measured"] == before["measured"]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.npy")} == caches

    printed = run_script(BENCHMARKS / "method_tables.py", tmp_path / "rows.jsonl", "--figure", tmp_path / "table.png")
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ALL) and len({line.count("|") for line in lines}) == 1
    maps = [float(line.split("|")[2]) for line in lines[2:]]
    assert maps == sorted(maps, reverse=True)
    assert maps[0] == round(max(row["measured"]["seen@seen"]["map"] for row in rows), 3)
    assert "| **ConceptHash** |" in printed and "| OrthoHash, Hadamard |" in printed
    with Image.open(tmp_path / "table.png") as drawn:
        assert len(np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0)) > 200


def test_classes_never_seen(compare, toys, tmp_path):
    """Trained on four classes, asked with the other five, found among these and among all."""
    methods = ("orthohash_language", "concepthash", "csq", "itq")
    printed = compare(
        "--model_name_or_path", toys / "dinov2", "--protocol", "unseen", "--seed", 1, 2, "--method", *methods
    )
    rows = rows_in(tmp_path)
    assert len(rows) == 6
    # the words of four classes have three principal components
    assert printed.count("left out, 4 class embeddings have 3 principal components") == 2
    for row in rows:
        assert {side: found["num_database"] for side, found in row["measured"].items()} == {
            "unseen@unseen": 60,
            "unseen@all": 108,
        }
        assert {found["num_queries"] for found in row["measured"].values()} == {10}
        # more to be found among: never easier
        assert row["measured"]["unseen@all"]["map"] <= row["measured"]["unseen@unseen"]["map"] + 1e-9
    losses = [row["train_loss"] for row in rows if row["method"] == "csq"]
    assert losses[0] != losses[1]  # another seed


def test_a_clip_and_ablations(compare, toys, run_script, tmp_path):
    """CLIP's adapters begin at its first layer: pixels are kept, and its own words read."""
    ablations = [f"concepthash-{name}" for name in ("random_words", "no_concept", "2_concepts", "fine_tuned")]
    compare("--model_name_or_path", toys / "clip", "--method", "concepthash", "hashnet", *ablations)
    rows = {row["method"]: row for row in rows_in(tmp_path)}
    assert set(rows) == {"concepthash", "hashnet", *ablations}
    assert len(rows["concepthash-2_concepts"]["measured"]["seen@seen"]["map_alone"]) == 2
    printed = run_script(BENCHMARKS / "method_tables.py", tmp_path / "rows.jsonl")
    of_methods, of_ablations = (table.splitlines() for table in printed.strip().split("\n\n")[1::2])
    assert {line.split(" | ")[0] for line in of_methods[2:]} == {"| **ConceptHash**", "| HashNet"}
    assert {line.split(" | ")[0] for line in of_ablations[2:]} == {
        "| **ConceptHash**",
        *(f"| ConceptHash, {name}" for name in ("random words", "no concept", "2 concepts", "fine tuned")),
    }
    assert rows["concepthash-fine_tuned"]["trainable_parameters"] > rows["concepthash"]["trainable_parameters"]
    assert {file.name for file in (tmp_path / "cache").glob("*.npy")} == {
        "birds-clip-words.npy",
        "birds-clip-32-0-train.npy",
        "birds-clip-32-0-query.npy",
    }


@pytest.mark.parametrize(
    ("archive", "name"), [("cub", "cub200"), ("nabirds", "nabirds"), ("aircraft", "aircraft"), ("cars", "cars196")]
)
def test_official_archives(compare, toys, request, archive, name, tmp_path):
    """The four benchmarks, as they are unpacked, with a few drawn photos."""
    folder = request.getfixturevalue(archive)
    compare("--dataset", folder, "--model_name_or_path", toys / "clip", "--method", "concepthash", "csq")
    assert [(row["photos"], row["method"]) for row in rows_in(tmp_path)] == [
        (name, "concepthash"),
        (name, "csq"),
    ]


def test_several_at_once(compare, toys, tmp_path):
    """A run that another process is at is left to it, and done later if it had no row in the end."""
    words = ["--model_name_or_path", toys / "dinov2", "--method", "pca", "itq"]
    compare(*words, "--method", "lsh")
    with FileLock(tmp_path / "cache" / "locks" / "birds-dinov2-None-3-8-pca-42-seen"):
        compare(*words)
    assert [row["method"] for row in rows_in(tmp_path)] == ["lsh", "itq"]
    compare(*words)
    assert [row["method"] for row in rows_in(tmp_path)] == ["lsh", "itq", "pca"]


def test_an_unknown_method(compare, toys):
    with pytest.raises(SystemExit, match="invalid choice: 'sgh'"):
        compare("--model_name_or_path", toys / "dinov2", "--method", "sgh")
