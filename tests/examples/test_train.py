"""examples/train.py, as its users run it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from families import save_backbone
from PIL import Image
from runs import WRITTEN, files_in, state_of
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BertConfig

import concepthash_hf.data.load
import concepthash_hf.presets as presets
from concepthash_hf import BaselineModel, ConceptHashModel
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.data.toy_birds import SPECIES, draw_bird, toy_birds
from concepthash_hf.hashing import hash_dataset
from concepthash_hf.language import embed_class_names
from concepthash_hf.metrics import retrieval_metrics
from concepthash_hf.scripts.arguments import ArgumentReader
from concepthash_hf.scripts.train import ModelArguments, TrainingPhotoArguments, parse_arguments
from concepthash_hf.toy_clip import save_toy_clip
from concepthash_hf.training import ConceptHashTrainingArguments

SCRIPT = Path(__file__).parents[2] / "examples" / "train.py"
NAMES = [species.name for species in SPECIES]
# a few seconds instead of minutes
SMALL = ["--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--num_bits", "16", "--adapter_dim", "8"]

Run = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    """The drawn birds leave nothing behind in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture
def run(run_script) -> Run:
    return partial(run_script, SCRIPT)


@pytest.fixture
def few_toy_birds(monkeypatch) -> None:
    """Two to train on and one to ask with, of each species."""
    few = partial(toy_birds, train_per_species=2, test_per_species=1)
    monkeypatch.setattr(concepthash_hf.data.load, "toy_birds", few)


def draw_photos(folder: Path, names: list[str], train: int = 6, test: int = 2, size: int = 32) -> Path:
    """`train/` and `test/` with a folder for each class."""
    for split, first, number in (("train", 0, train), ("test", 100, test)):
        for name in names:
            (folder / split / name.replace(" ", "_")).mkdir(parents=True)
            for seed in range(first, first + number):
                draw_bird(name, seed, size).image.save(folder / split / name.replace(" ", "_") / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos") / "birds", NAMES[:3])


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "tiny-clip"
    save_toy_clip(folder, NAMES, image_size=32)
    return folder


def only_output(folder: Path) -> Path:
    (output,) = (folder / "outputs").iterdir()
    return output


# --- the toy birds


def test_the_default_command(tmp_path):
    """`accelerate launch examples/train.py` with fewer birds and epochs; nobody asks the network for anything."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.setblocking(False)
        address = f"http://127.0.0.1:{hub.getsockname()[1]}"
        offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
        environment = {name: value for name, value in os.environ.items() if name not in offline}
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
        script = Path(__file__).with_name("train_on_few_toy_birds.py")
        launch = [sys.executable, "-m", "accelerate.commands.launch", str(script), "--num_train_epochs", "12"]
        ran = subprocess.run(
            launch, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        with pytest.raises(BlockingIOError):
            hub.accept()
    output = only_output(tmp_path)
    assert output.name.startswith("toy_birds-32-")
    assert {path.name for path in output.iterdir()} == WRITTEN | {"checkpoint-12"}
    results = json.loads((output / "all_results.json").read_text())
    assert results["photos"] == {"name": "toy_birds", "classes": 24, "train": 192, "query": 48, "database": 192}
    assert results["eval_map"] > 2 / 24  # twice what chance gives, after 72 steps (0.16 measured)
    assert results["arguments"]["optimizer"] == "adamw"
    assert f"mAP {results['eval_map']:.4f} (48 queries)" in ran.stdout
    assert str(output.relative_to(tmp_path)) in ran.stdout


def test_a_second_run_takes_a_new_folder_and_both_load_again(run, few_toy_birds, tmp_path):
    for _ in range(2):
        run("--num_train_epochs", 1)
    first, second = sorted((tmp_path / "outputs").iterdir())
    for output in (first, second):
        assert {path.name for path in output.iterdir()} == WRITTEN | {"checkpoint-1"}
    # the same seed, the same model; and the folder gives the codes that were measured
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    model, processor = AutoModel.from_pretrained(first), AutoImageProcessor.from_pretrained(first)
    assert isinstance(model, ConceptHashModel)
    assert (model.config.num_bits, model.config.freeze_backbone) == (32, False)
    assert model.config.base_model_name_or_path is None
    splits = load_photos("toy_birds")
    assert [model.config.id2label[label] for label in range(24)] == list(splits.class_names)
    hashed = [hash_dataset(model, splits.torch_dataset(s, eval_transform(processor))) for s in ("query", "database")]
    results = json.loads((first / "all_results.json").read_text())
    assert retrieval_metrics(*hashed[0], *hashed[1])["map"] == results["eval_map"]
    tokens = AutoTokenizer.from_pretrained(first)("a photo of a red-crowned barred finch", return_tensors="pt")
    text_codes = model.get_text_hash_codes(input_ids=tokens["input_ids"])
    assert torch.equal(text_codes, model.get_text_hash_codes(class_embeddings=model.class_embeddings[:1]))

    card = (first / "README.md").read_text()
    assert f"**mAP {results['eval_map']:.4f}** over the whole ranking" in card
    assert "license: apache-2.0" in card and "Toy birds, drawn by concepthash_hf: 24 classes." in card
    assert str(tmp_path) not in card
    with Image.open(first / "concepts.png") as sheet:
        assert sheet.width > 5 * 100  # a photo and four concepts
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(("number", "launcher"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_keeps_what_is_done(tmp_path, number, launcher):
    """Also one that only `accelerate launch` gets; then `--resume_from_checkpoint` goes on to the end."""
    script = [str(Path(__file__).with_name("train_on_few_toy_birds.py")), "--output_dir", "run", "--num_train_epochs"]
    command = [sys.executable, *(["-m", "accelerate.commands.launch"] if launcher else []), *script]
    options = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "500"], **options)
    printed = ""
    while "epoch 3/500" not in printed:
        printed += (more := process.stderr.read(20))
        assert more, printed
    process.send_signal(number)
    printed += process.stderr.read()  # until nobody, no orphan either, holds it open
    if not launcher:  # which has an exit status of its own
        assert process.wait() == 128 + number
    else:
        process.wait()
    found = re.search(
        rf"stopped by {number.name}: (\d+) epochs are kept in run; go on with --resume_from_checkpoint run", printed
    )
    assert found and "Traceback" not in printed.split("stopped by")[0], printed[-3000:]
    assert [path.name for path in (tmp_path / "run").iterdir()] == [f"checkpoint-{found[1]}"]
    resumed = subprocess.run([*command, found[1], "--resume_from_checkpoint", "run"], **options, check=False)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert {path.name for path in (tmp_path / "run").iterdir()} == WRITTEN | {f"checkpoint-{found[1]}"}


# --- another method


def test_another_method(run, few_toy_birds, tmp_path):
    """The default run with one; its folder is measured by evaluate.py, and knows what it is."""
    printed = run("--method", "csq", "--num_train_epochs", 1, "--output_dir", "csq")
    of_concepts_and_words = {"concepts.png", "tokenizer.json", "tokenizer_config.json"}
    written = {path.name for path in (tmp_path / "csq").iterdir()}
    assert written == (WRITTEN | {"checkpoint-1"}) - of_concepts_and_words
    results = json.loads((tmp_path / "csq" / "all_results.json").read_text())
    assert results["method"] == "csq" and {"train_centre", "train_quantization"} <= results.keys()
    assert f"mAP {results['eval_map']:.4f}" in printed
    assert "# CSQ, 32 bits, toy birds" in (tmp_path / "csq" / "README.md").read_text()
    model = AutoModel.from_pretrained(tmp_path / "csq")
    assert isinstance(model, BaselineModel) and model.config.base_model_name_or_path is None
    evaluate = SCRIPT.with_name("evaluate.py")
    run.func(evaluate, "--model_name_or_path", "csq", "--output_dir", "measured")
    found = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    assert found["retrieval"]["map"] == results["eval_map"]


def test_another_method_on_a_frozen_backbone(run, photos, clip, tmp_path):
    """Without adapters: the CLS token is kept in place of photos."""
    save_backbone(tmp_path / "dinov2", "dinov2")
    words = ["--dataset", photos, "--model_name_or_path", "dinov2", "--text_model_name_or_path", clip, "--num_bits", 2]
    run(*words, "--method", "linear_language", "--per_device_train_batch_size", 8, "--output_dir", "run")
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["cached_views"] == 1 and results["arguments"]["learning_rate"] == 1e-2
    for options, message in (
        (["--method", "csq", "--num_concepts", 2], r"BaselineConfig has no \['num_concepts'\]"),
        (["--method", "csq", "--model_name_or_path", "run"], "run is a trained model, which only a ConceptHash is"),
        (["--method", "orthohash_language", "--num_bits", 8], "3 class embeddings have 2 principal components, not 8"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(*words, *options)


# --- photos in folders


@pytest.fixture
def saved(run, photos, clip, tmp_path) -> Path:
    """A model trained on three classes."""
    run("--dataset", photos, "--model_name_or_path", clip, *SMALL, "--output_dir", "saved")
    return tmp_path / "saved"


def test_class_folders_and_a_clip(saved, photos, clip):
    assert {path.name for path in saved.iterdir()} == WRITTEN | {"checkpoint-1"}
    model = AutoModel.from_pretrained(saved)
    assert (model.config.num_bits, model.config.num_concepts, model.config.adapter_dim) == (16, 4, 8)
    assert sorted(model.config.label2id) == sorted(name.replace(" ", "_") for name in NAMES[:3])
    untouched = ConceptHashModel.from_clip(clip).vision_model.embeddings.patch_embedding.weight
    assert torch.equal(model.vision_model.embeddings.patch_embedding.weight, untouched)
    results = json.loads((saved / "all_results.json").read_text())
    assert results["photos"] == {"name": "birds", "classes": 3, "train": 18, "query": 6, "database": 18}
    assert results["train_steps"] == 2  # 18 photos, batches of 8
    assert (results["preset"], results["augmentation"]) == ("fast", "none")
    card = (saved / "README.md").read_text()
    assert "| **built on** | tiny-clip, its vision tower frozen |" in card
    assert "| **trained on** | birds, 3 classes |" in card
    assert "license" not in card.split("---")[1] and "No licence was chosen" in card
    for file in ("README.md", "all_results.json"):
        assert str(photos.parent) not in (saved / file).read_text()


def test_a_dinov2_with_the_words_of_a_clip(run, photos, clip, tmp_path):
    """The preset fast: tokens join late, and the layers before are computed once."""
    vision = save_backbone(tmp_path / "dinov2", "dinov2")
    words = ["--model_name_or_path", vision, "--text_model_name_or_path", clip, "--output_dir", "out", *SMALL]
    run("--dataset", photos, *words, "--cached_views", 2, "--augmentation", "gentle")
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert (results["preset"], results["augmentation"], results["cached_views"]) == ("fast", "gentle", 2)
    assert results["cache_runtime"] > 0
    assert (results["arguments"]["optimizer"], results["arguments"]["lr_schedule"]) == ("adamw", "step")
    assert {path.name for path in tmp_path.iterdir()} == {"dinov2", "out"}  # what was kept is gone
    model = ConceptHashModel.from_pretrained(tmp_path / "out")
    assert model.config.vision_config.backbone_config.model_type == "dinov2"
    assert model.config.vision_config.first_adapted_layer == 2
    assert model.text_model.config.model_type == "clip_text_model"
    assert model.config.text_base_name_or_path == str(clip)
    # and again in the published way, from the photos
    run("--dataset", photos, *words, "--preset", "paper", "--overwrite_output_dir")
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert (results["preset"], results["augmentation"], results["cached_views"]) == ("paper", "paper", None)
    assert results["arguments"]["optimizer"] == "sgd"


def test_regions_are_learned_first_kept_in_checkpoints_and_by_fine_tuning(run, photos, clip, tmp_path):
    vision = save_backbone(tmp_path / "dinov2", "dinov2")
    words = ["--model_name_or_path", vision, "--text_model_name_or_path", clip, "--output_dir", "out", *SMALL]
    words += ["--read_out", "regions", "--num_train_epochs", 3, "--save_epochs", 2]
    run("--dataset", photos, *words)
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results["regions"]["num_photos"] == 18 and len(results["regions"]["areas"]) == 4
    assert results["cache_runtime"] > 0
    model = ConceptHashModel.from_pretrained(tmp_path / "out")
    assert model.config.vision_config.read_out == "regions" and model.vision_model.read_out.head.is_learned

    run("--dataset", photos, *words, "--resume_from_checkpoint", "out/checkpoint-2")
    assert "regions" not in json.loads((tmp_path / "out" / "all_results.json").read_text())
    resumed = ConceptHashModel.from_pretrained(tmp_path / "out")
    assert all(torch.equal(tensor, state_of(model)[name]) for name, tensor in state_of(resumed).items())

    others = draw_photos(tmp_path / "others", NAMES[10:12])
    fine_tune = ["--model_name_or_path", "out", "--output_dir", "tuned", *SMALL[:4]]
    run("--dataset", others, *fine_tune)
    head = ConceptHashModel.from_pretrained(tmp_path / "tuned").vision_model.read_out.head.state_dict()
    assert all(
        torch.equal(tensor, head[name]) for name, tensor in model.vision_model.read_out.head.state_dict().items()
    )
    with pytest.raises(SystemExit, match="--read_out attention: the saved model out has regions"):
        run("--dataset", others, *fine_tune, "--read_out", "attention", "--overwrite_output_dir")


def test_fine_tuning_keeps_what_was_learned(saved, run, tmp_path):
    others = draw_photos(tmp_path / "others", NAMES[10:12])
    words = ["--num_train_epochs", 1, "--per_device_train_batch_size", 4, "--learning_rate", 0]
    run("--dataset", others, "--model_name_or_path", saved, *words)
    output = only_output(tmp_path)
    assert output.name.startswith("others-16-")  # the bits of the saved model
    old, new = ConceptHashModel.from_pretrained(saved), ConceptHashModel.from_pretrained(output)

    before, after = state_of(old), state_of(new)
    assert before.keys() == after.keys()
    rebuilt = {"class_embeddings", "concept_classifier.centroids"}
    statistics = {name for name in before if ".batch_norm." in name and name.rsplit(".")[-1] not in ("weight", "bias")}
    for name in before.keys() - rebuilt - statistics:
        assert torch.equal(before[name], after[name]), name
    names = [name.replace(" ", "_") for name in NAMES[10:12]]
    assert sorted(new.config.id2label.values()) == sorted(names)
    ordered = [new.config.id2label[label] for label in range(2)]
    tokenizer = AutoTokenizer.from_pretrained(output)
    torch.testing.assert_close(new.class_embeddings, embed_class_names(old.text_model, tokenizer, ordered))
    assert new.concept_classifier.centroids.shape[0] == 2
    assert not torch.equal(new.concept_classifier.centroids, old.concept_classifier.centroids[:2])

    recipe = json.loads((output / "all_results.json").read_text())["arguments"]
    assert (recipe["optimizer"], recipe["lr_schedule"], recipe["weight_decay"]) == ("adamw", "step", 1e-4)

    with pytest.raises(SystemExit, match="error: --num_bits 64: the saved model .* has 16"):
        run("--dataset", others, "--model_name_or_path", saved, "--num_bits", 64)


def test_resuming_goes_on_where_it_was(run, photos, clip, tmp_path):
    words = ["--dataset", photos, "--model_name_or_path", clip, *SMALL[2:], "--num_train_epochs"]
    run(*words, 4, "--save_epochs", 2, "--output_dir", "whole", "--warmup_epochs", 1)
    (tmp_path / "whole" / "all_results.json").unlink()
    run(*words, 4, "--resume_from_checkpoint", "whole", "--warmup_epochs", 1)  # without --output_dir: the same folder
    results = json.loads((tmp_path / "whole" / "all_results.json").read_text())
    assert results["train_steps"] == 8
    assert (tmp_path / "whole" / "checkpoint-4").is_dir()


def test_unreadable_photos_can_be_skipped(run, clip, tmp_path):
    folder = draw_photos(tmp_path / "birds", NAMES[:2], train=9)
    for split, number in (("train", 3), ("test", 100)):
        (folder / split / NAMES[0].replace(" ", "_") / f"{number}.png").write_bytes(b"no picture")
    run("--dataset", folder, "--model_name_or_path", clip, *SMALL, "--on_bad_image", "skip", "--output_dir", "out")
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert (results["eval_num_queries"], results["eval_num_database"]) == (3, 17)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN | {"checkpoint-1"}


def test_skewed_classes_can_be_balanced(run, photos, clip, tmp_path):
    run("--dataset", photos, "--model_name_or_path", clip, *SMALL, "--class_balanced", "--output_dir", "out")
    assert json.loads((tmp_path / "out" / "all_results.json").read_text())["train_steps"] == 2


# --- a file of arguments


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_file_of_arguments(run, photos, clip, tmp_path, suffix):
    if suffix == "json":
        values = {
            "dataset": str(photos),
            "model_name_or_path": str(clip),
            "num_train_epochs": 1,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-05,  # which YAML takes for a text
            "freeze_backbone": False,
            "max_grad_norm": None,
            "mixed_precision": "no",
        }
        text = json.dumps(values)
    else:
        text = (
            f"dataset: {photos}\nmodel_name_or_path: {clip}\nnum_train_epochs: 1\nper_device_train_batch_size: 8\n"
            "learning_rate: 1e-5\nfreeze_backbone: false\nmax_grad_norm: null\nmixed_precision: no\n"
        )
    (tmp_path / f"arguments.{suffix}").write_text(text)
    run(f"arguments.{suffix}", "--seed", 7, "--num_bits", 16)
    output = only_output(tmp_path)
    results = json.loads((output / "all_results.json").read_text())
    expected = {"learning_rate": 1e-5, "seed": 7, "max_grad_norm": None, "mixed_precision": "no", "optimizer": "adamw"}
    assert results["arguments"].items() >= expected.items()
    assert results["train_steps"] == 2
    model = ConceptHashModel.from_pretrained(output)
    assert (model.config.freeze_backbone, model.config.num_bits) == (False, 16)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(8, 1), (4, 2)])
def test_the_preset_takes_as_many_steps_however_a_batch_is_divided(
    run, photos, clip, tmp_path, monkeypatch, batch_size, accumulation
):
    monkeypatch.setattr(presets, "FAST_STEPS", 6)
    monkeypatch.setattr(presets, "FAST_EPOCHS", 1)
    words = ["--per_device_train_batch_size", batch_size, "--gradient_accumulation_steps", accumulation]
    run("--dataset", photos, "--model_name_or_path", clip, *SMALL[4:], *words, "--output_dir", "out")
    assert json.loads((tmp_path / "out" / "all_results.json").read_text())["train_steps"] == 6


def test_a_file_keeps_the_recipe_of_the_toy_birds(run, few_toy_birds, tmp_path):
    (tmp_path / "few.yaml").write_text("num_train_epochs: 1\nweight_decay: 0.25\n")
    run("few.yaml")
    used = json.loads((only_output(tmp_path) / "all_results.json").read_text())["arguments"]
    assert (used["optimizer"], used["num_train_epochs"], used["weight_decay"]) == ("adamw", 1, 0.25)


# --- mistakes


def test_a_mistake_ends_in_one_clear_line(tmp_path):
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--dataset", "no_such_birds"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    for known in ("no_such_birds", "toy_birds", "cub200", "nabirds", "aircraft", "cars"):
        assert known in line
    assert list(tmp_path.iterdir()) == []


def empty(folder: Path) -> None:
    folder.mkdir()


def one_class(folder: Path) -> None:
    draw_photos(folder, NAMES[:1])


def unknown_test_class(folder: Path) -> None:
    draw_photos(folder, NAMES[:2])
    (folder / "test" / "dodo").mkdir()
    draw_bird(NAMES[2], 0, 32).image.save(folder / "test" / "dodo" / "1.png")


def broken_picture(folder: Path) -> None:
    draw_photos(folder, NAMES[:2])
    (folder / "train" / NAMES[1].replace(" ", "_") / "3.png").write_bytes(b"no picture")


def broken_test_picture(folder: Path) -> None:
    draw_photos(folder, NAMES[:2])
    (folder / "test" / NAMES[1].replace(" ", "_") / "101.png").write_bytes(b"no picture")


def one_each(folder: Path) -> None:
    """Without a split, and one photo of most classes."""
    for name in NAMES[:12]:
        (folder / name).mkdir(parents=True)
        draw_bird(name, 0, 32).image.save(folder / name / "0.png")


def good(folder: Path) -> None:
    draw_photos(folder, NAMES[:2])


def one_without_tags(folder: Path) -> None:
    """Several labels a photo, and one that has none of them."""
    draw_photos(folder, NAMES[:2])
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    tags = [[], *(["finch", "red"] for _ in files[1:])]
    rows = [json.dumps({"image": file, "tags": names}) for file, names in zip(files, tags, strict=True)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    (folder / "test.jsonl").write_text(rows[1])


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (empty, [], "no pictures in .*birds: expected a folder for each class"),
        (one_class, [], "birds has only the class 'red-crowned_barred_finch' to train on.*two classes"),
        (unknown_test_class, [], "1 classes of the query photos have no photo in train.*: dodo"),
        (broken_picture, [], "train/red-crowned_spotted_finch/3.png.*not a picture"),
        (broken_test_picture, [], r"1 of the photos cannot be read \(.*101.png: not a picture.*--on_bad_image skip"),
        (one_each, [], "photos to ask with|query photos"),
        (one_without_tags, [], "1 of the photos to train on have no label, the first in row 0: give them one, or"),
        (good, ["--train_split", "train", "--query_split", "test+train"], "train is to be trained on and asked with"),
        (good, ["--per_device_train_batch_size", "1"], "normalises over a batch, which takes two photos"),
        (good, ["--learning_rate", "nan"], "learning_rate must be a finite number, got nan"),
        (good, ["--num_bits", "30"], "num_bits must be a multiple of num_concepts.*num_bits=30, num_concepts=4"),
        (good, ["--num_train_epochs", "0"], "num_train_epochs must be at least 1, got 0"),
        (
            good,
            ["--learning_rate", "1e30", "--num_train_epochs", "2", "--save_epochs", "0"],
            "the loss is not finite since step 2",
        ),
        (good, ["--resume_from_checkpoint", "nowhere"], "no checkpoint to resume from in nowhere"),
        (
            good,
            ["--output_dir", "birds"],
            "output_dir birds is not empty.*--resume_from_checkpoint.*--overwrite_output",
        ),
        (good, ["--model_name_or_path", "nowhere/clip"], "--model_name_or_path nowhere/clip cannot be loaded"),
        (good, ["--model_name_or_path", "bert"], "bert: a vision model of type 'bert' cannot be built on"),
        (
            good,
            ["--cache_frozen_layers", "yes", "--augmentation", "paper"],
            "keeps one view of every photo, and --augmentation paper draws a new one each epoch.*--cached_views",
        ),
        (good, ["--cache_frozen_layers", "yes"], "no frozen layers to keep: adapters begin at layer 0"),
        (good, ["--model_name_or_path", "birds"], "--model_name_or_path birds cannot be loaded"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "_".join(value) if isinstance(value, list) else "",
)
def test_mistakes(run, clip, tmp_path, make, words, message):
    make(tmp_path / "birds")
    BertConfig().save_pretrained(tmp_path / "bert")
    before = files_in(tmp_path)
    with pytest.raises(SystemExit, match=f"(?s)^error: .*{message}"):
        run("--dataset", "birds", "--model_name_or_path", clip, *SMALL, *words)
    assert files_in(tmp_path) == before


def test_without_a_model_it_says_what_it_takes_and_where_to_get_it(run, photos, capsys):
    message = "facebook/dinov2-small cannot be loaded.*--model_name_or_path with a DINOv2.*--text_model_name_or_path"
    with pytest.raises(SystemExit, match=message):
        run("--dataset", photos)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "building on facebook/dinov2-small, with the words of openai/clip-vit-base-patch32"


@pytest.mark.parametrize(
    "content", ["num_bit: 32\n", "- 1\n", "{", "lr_schedule: steps\n", "method: csqq\n", "cached_views: 0\n"]
)
def test_a_file_of_arguments_that_is_wrong(run, tmp_path, content):
    (tmp_path / "wrong.yaml").write_text(content)
    with pytest.raises(SystemExit, match="error: .*(num_bit|wrong.yaml|lr_schedule.*steps|csqq|cached_views.*0)"):
        run("wrong.yaml")


def test_help_names_no_default_that_a_run_does_not_have():
    """argparse adds "(default: ...)" by itself, of the dataclasses; the preset has others."""
    reader = ArgumentReader((TrainingPhotoArguments, ModelArguments, ConceptHashTrainingArguments))
    taken = {name: value for part in parse_arguments(["--dataset", "photos"]) for name, value in vars(part).items()}
    added = [action for action in reader._actions if action.dest in taken and "%(default)" not in action.help]
    others = ("dataset", "output_dir")
    said = {each.dest: each.default for each in added if each.default is not None and each.dest not in others}
    assert len(said) > 15
    assert said.keys().isdisjoint(presets.training_fields("fast", 8))
    assert {name: taken[name] for name in said} == said


def test_a_file_of_arguments_that_is_not_there(run):
    with pytest.raises(SystemExit, match="error: .*missing.json"):
        run("missing.json")
