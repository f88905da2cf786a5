"""What two CPU processes (gloo) make of the photos that one process would have."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import TinyPhotos, arguments, forget_accelerate, largest_difference, state_of, untrained
from safetensors.torch import load_file

from concepthash_hf.metrics import retrieval_metrics
from concepthash_hf.training import train

FOLDER = Path(__file__).parent


def run_two(script: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess:
    """Two CPU processes, as `torchrun --nproc_per_node 2` starts them."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HOME": str(cwd / "cache")}
    return subprocess.run(
        [*launch, str(script), *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """The folder that two processes have written into."""
    folder = tmp_path_factory.mktemp("two")
    result = run_two(FOLDER / "two_processes.py", folder, cwd=folder)
    assert result.returncode == 0, result.stderr[-5000:]
    return folder


def found(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


def test_there_are_two(ran):
    for one in found(ran):
        assert (one["environment"]["num_processes"], one["environment"]["device"]) == (2, "cpu")


def test_two_times_16_photos_are_once_32(ran, tmp_path):
    forget_accelerate()
    model, photos = untrained(dropout=0.0, freeze_batch_norm=True), TinyPhotos(64)
    results = train(model, photos, arguments(tmp_path, num_train_epochs=10, per_device_train_batch_size=32))
    assert results["train_steps"] == 20
    orders = [np.array(f["order"]).reshape(20, 16) for f in found(ran)]
    np.testing.assert_array_equal(np.concatenate(orders, axis=1), np.array(photos.asked_for).reshape(20, 32))

    alone = state_of(model)
    assert largest_difference(alone, state_of(untrained(dropout=0.0, freeze_batch_norm=True))) > 0.1
    for rank in range(2):
        assert largest_difference(alone, torch.load(ran / f"plain-{rank}.pt")) < 1e-5
    assert largest_difference(alone, load_file(ran / "plain" / "model.safetensors")) < 1e-5


@pytest.mark.parametrize("number", [1, 3, 8, 37])
def test_every_photo_is_hashed_once_and_in_order(ran, number):
    for rank in range(2):
        hashed = np.load(ran / f"hashed-{number}-{rank}.npz")
        np.testing.assert_array_equal(hashed["codes"][:, 0], np.arange(number))
        np.testing.assert_array_equal(hashed["labels"], 1000 + np.arange(number))


def test_metrics_count_every_photo(ran):
    model = untrained()
    model.load_state_dict(torch.load(ran / "plain-0.pt"))
    queries, database = TinyPhotos(37), TinyPhotos(29)
    expected = retrieval_metrics(
        model.get_hash_codes(queries.photos), queries.labels, model.get_hash_codes(database.photos), database.labels
    )
    for one in found(ran):
        assert one["queries"] == 37
        assert one["map"] == pytest.approx(expected["map"], abs=1e-12)
    results = json.loads((ran / "plain" / "all_results.json").read_text())
    assert results["eval_map"] == pytest.approx(expected["map"], abs=1e-12)
    assert results["eval_num_database"] == 29


def test_both_have_the_weights_and_statistics_that_are_saved(ran):
    first, second = (torch.load(ran / f"whole-{rank}.pt") for rank in range(2))
    assert largest_difference(first, second) == 0
    assert largest_difference(first, load_file(ran / "whole" / "model.safetensors")) == 0
    assert any("running_mean" in name for name in first)


def test_a_checkpoint_is_whole_though_one_process_is_slow(ran):
    for one in found(ran):
        names = one["left_by_kill"]
        assert "killed/checkpoint-1/random_states_0.pkl" in names
        assert "killed/checkpoint-1/random_states_1.pkl" in names
        assert not any("partial" in name for name in names)
    assert {path.name for path in (ran / "whole").iterdir() if path.is_dir()} == {"checkpoint-3"}


def test_a_resumed_run_gives_the_same_weights(ran):
    for rank in range(2):
        whole, resumed = torch.load(ran / f"whole-{rank}.pt"), torch.load(ran / f"resumed-{rank}.pt")
        assert largest_difference(whole, resumed) == 0


def test_mistakes_are_told_by_both(ran):
    for one in found(ran):
        assert "3 photos to train on are too few for 2 process(es): each needs two for a batch" in one["too_few"]
        assert "is not empty" in one["not_empty"]


@pytest.mark.parametrize(("how", "told"), [("killed", "Signal 9 (SIGKILL)"), ("raises", "the second card is on fire")])
def test_a_process_that_dies_ends_the_other(tmp_path, how, told):
    """Within a minute, and its error is shown; the other one does not wait for it for ever."""
    result = run_two(FOLDER / "dying_rank.py", tmp_path / "run", how, cwd=tmp_path)
    assert result.returncode != 0 and told in result.stderr, result.stderr[-5000:]
    assert time.time() - (tmp_path / "died").stat().st_mtime < 60
    assert not list(tmp_path.glob("run/model.safetensors"))


def test_the_whole_script(tmp_path):
    """examples/train.py: one new output folder, one model, every photo measured once."""
    script = FOLDER.parent / "examples" / "train_on_few_toy_birds.py"
    result = run_two(script, "--num_train_epochs", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-5000:]
    (output,) = (tmp_path / "outputs").iterdir()
    results = json.loads((output / "all_results.json").read_text())
    assert results["environment"]["num_processes"] == 2
    assert (results["eval_num_queries"], results["eval_num_database"]) == (48, 192)
    assert {"README.md", "concepts.png", "model.safetensors", "preprocessor_config.json", "tokenizer.json"} <= {
        path.name for path in output.iterdir()
    }
    assert result.stdout.count("mAP ") == 1
