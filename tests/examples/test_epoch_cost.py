"""examples/benchmarks/epoch_cost.py, on a model of toy size."""

from pathlib import Path

import pytest
import torch
from transformers import Dinov2Config

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
TINY = Dinov2Config(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=8
)


def test_both_kinds_of_epoch_run(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import epoch_cost

    monkeypatch.setitem(epoch_cost.SHAPES, "tiny", TINY)
    photos = [{"pixel_values": torch.randn(3, 16, 16), "labels": label} for label in range(64)]
    later = epoch_cost.compare("tiny", photos, 1, "float32", repeats=1)
    row = epoch_cost.compare("tiny", photos, None, "float32", repeats=2)
    assert (later["first_adapted_layer"], row["first_adapted_layer"]) == (1, 2)
    assert row["seconds"] > 0 and row["seconds_against"] > 0
    assert row["ratio"] == pytest.approx(row["seconds"] / row["seconds_against"], rel=0.05)
