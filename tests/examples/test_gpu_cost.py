"""examples/benchmarks/gpu_cost.py without a GPU, on a model of toy size."""

from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, Dinov2Config

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16}


@pytest.fixture
def gpu_cost(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_cost

    shapes = {"clip": CLIPVisionConfig(**TINY, patch_size=8), "dinov2": Dinov2Config(**TINY, patch_size=8)}
    monkeypatch.setattr(gpu_cost, "SHAPES", shapes)
    monkeypatch.setattr(gpu_cost, "DEVICE", "cpu")
    # a compiler is not what is tested
    monkeypatch.setattr(gpu_cost.torch, "compile", partial(torch.compile, backend="eager"))
    return gpu_cost


@pytest.mark.parametrize("shape", ["clip", "dinov2"])
@pytest.mark.parametrize("name", ["bare", "fast", "paper"])
def test_all_that_is_measured_runs(gpu_cost, shape, name):
    model = gpu_cost.new(shape, name)
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    steps = gpu_cost.steps_of(model)
    assert list(steps) == ["hashing", "training", "compiled_hashing", "compiled_training"]
    for doing, step in steps.items():
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        step(gpu_cost.pixels(shape, 6))
        changed = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
        assert bool(changed) == (name != "bare" and "training" in doing)
        assert changed <= trained


def test_a_row(gpu_cost, monkeypatch):
    """Memory for 64 photos, in place of a GPU's."""
    pixels = gpu_cost.pixels

    def pixels_that_fit(shape, number):
        if number > 64:
            raise torch.OutOfMemoryError
        return pixels(shape, number)

    monkeypatch.setattr(gpu_cost, "pixels", pixels_that_fit)
    monkeypatch.setattr(gpu_cost, "BUSY", 0.01)
    for name, gives in (("synchronize", None), ("empty_cache", None), ("utilization", 97)):
        monkeypatch.setattr(torch.cuda, name, lambda gives=gives: gives)
    row = gpu_cost.measure_model("clip", "fast", 16, 2)
    assert row.pop("largest_training_batch") == 64 and row.pop("utilisation_in_training") == 97
    assert (row.pop("shape"), row.pop("model")) == ("clip", "fast")
    assert all(value >= 0 for value in row.values()) and len(row) == 8
    assert row["compiled_hashing_first_seconds"] > row["hashing_first_seconds"]


def test_without_a_gpu_it_says_so(run_script, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="there is no GPU"):
        run_script(BENCHMARKS / "gpu_cost.py")
