"""A process that trains, hashes and searches again and again does not grow: examples/benchmarks/soak.py."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soak

    return soak


def rounds_of(soak, number, memory_a_round=0.0, **a_round):
    """Memory that goes up and down by some MiB, as malloc gives and takes, and what rises beside it."""
    noise = np.random.default_rng(0).normal(0, 1.5, number)
    return [
        {"memory": 960 + memory_a_round * one + noise[one]}
        | {name: 5 + int(a_round.get(name, 0) * one) for name in soak.COUNTED}
        for one in range(number)
    ]


@pytest.mark.parametrize("number", [20, 200])
def test_what_goes_up_and_down_does_not_grow(soak, number):
    assert soak.summary(rounds_of(soak, number))["grows"] == []


def test_a_forgotten_batch_a_round_is_seen(soak):
    found = soak.summary(rounds_of(soak, 100, memory_a_round=0.28))
    assert found["grows"] == ["memory"] and 20 < found["memory_per_hundred_rounds"] < 36


def test_what_safetensors_forgets_is_told_apart(soak):
    grown = rounds_of(soak, 100, memory_a_round=0.28)
    assert soak.summary(grown, forgotten=0.28)["grows"] == []
    assert soak.summary(grown, forgotten=0.02)["grows"] == ["memory"]


def test_what_safetensors_forgets_is_measured(soak, tmp_path):
    """No tensor, nothing; otherwise as much for each, whatever its size."""
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, number in ((few, 10), (many, 100)):
        folder.mkdir()
        save_file({f"w{one}": torch.zeros(one + 1, 300) for one in range(number)}, folder / "model.safetensors")
    found = [soak.forgotten_by_safetensors(folder) for folder in (few, many)]
    assert found[1] <= 64 * 100 * 1.2 and found[1] == pytest.approx(10 * found[0], rel=0.25, abs=400)


@pytest.mark.parametrize("name", ["open_files", "threads", "children", "temporary_files"])
def test_whatever_rises_is_named(soak, name):
    assert soak.summary(rounds_of(soak, 100, **{name: 0.04}))["grows"] == [name]


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident set from /proc, as Linux has it")
def test_five_minutes_do_not_grow(tmp_path):
    ran = subprocess.run(
        [sys.executable, BENCHMARKS / "soak.py", "--minutes", "5", "--output", tmp_path / "soak.json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3600,  # a busy machine takes longer than five minutes for the least number of rounds
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
