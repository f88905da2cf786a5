"""The benchmark of checkpoint sizes measures what it says."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from common import TINY_VISION, photos, save_tiny_clip

from concepthash_hf.small_checkpoints import WEIGHTS_NAME

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("checkpoint_sizes")
    del sys.modules["checkpoint_sizes"]


def test_every_form_is_measured(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "BITS", TINY_VISION["num_bits"])
    model = benchmark.build_model(str(save_tiny_clip(tmp_path / "clip")))
    rows = {
        row["form"]: row
        for row in benchmark.measure_forms("tiny", model, photos(8), tmp_path / "forms", repeats=1, threads=1)
    }
    assert list(rows) == ["whole", "whole, no text tower", "small", "small, tower alone", "onnx"]
    assert all(row["same_codes"] and row["largest_difference"] < 1e-4 for row in rows.values())
    assert rows["small"]["bytes"] == (tmp_path / "forms" / "small" / WEIGHTS_NAME).stat().st_size
    assert rows["small"]["bytes"] < rows["whole, no text tower"]["bytes"] < rows["whole"]["bytes"]
    lines = benchmark.table({"rows": list(rows.values()), "batch_size": 8}).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1


def test_a_form_that_hashes_otherwise_is_seen(benchmark, tmp_path, monkeypatch):
    export = benchmark.export_onnx

    def export_another(model, path):
        with torch.no_grad():
            model.vision_model.hash_head.batch_norm.bias += 1
        return export(model, path)

    monkeypatch.setattr(benchmark, "BITS", TINY_VISION["num_bits"])
    monkeypatch.setattr(benchmark, "export_onnx", export_another)
    model = benchmark.build_model(str(save_tiny_clip(tmp_path / "clip")))
    *checkpoints, onnx = benchmark.measure_forms("tiny", model, photos(8), tmp_path / "forms", repeats=1, threads=1)
    assert all(row["same_codes"] for row in checkpoints)
    assert not onnx["same_codes"]
    assert onnx["largest_difference"] == pytest.approx(1, abs=1e-3)


def test_the_kept_results_are_those_of_real_geometry():
    results = json.loads((BENCHMARKS / "checkpoint_sizes.json").read_text())
    rows = {(row["model"], row["form"]): row for row in results["rows"]}
    assert all(row["same_codes"] and row["largest_difference"] < 1e-4 for row in rows.values())
    # 16,661,976 trained numbers, 200 class embeddings of width 512, running statistics of 64 bits
    small = rows["ViT-B/32, random weights", "small"]["bytes"]
    assert small == pytest.approx(4 * (16_661_976 + 200 * 512 + 2 * 64), rel=1e-3)
