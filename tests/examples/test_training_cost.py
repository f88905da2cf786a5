"""examples/benchmarks/training_cost.py, on a model of toy size."""

from pathlib import Path

import pytest
from transformers import CLIPVisionConfig, Dinov2Config

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16}


@pytest.mark.parametrize("shape", [CLIPVisionConfig(**TINY, patch_size=8), Dinov2Config(**TINY, patch_size=8)])
def test_all_that_is_compared_runs(shape, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training_cost

    rows = training_cost.rows(shape)
    assert len({(row.ours, row.against) for row in rows}) == len(rows) == 14
    for row in rows:
        ours, theirs = (min(times) for times in training_cost.measure(list(row.functions), 1))
        assert ours > 0 and theirs > 0
