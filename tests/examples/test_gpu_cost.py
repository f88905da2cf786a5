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
@pytest.mark.parametrize("compiled", [False, True])
def test_all_that_is_measured_runs(gpu_cost, shape, name, compiled):
    model = gpu_cost.new(shape, name)
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    steps = gpu_cost.steps_of(model, compiled=compiled)
    assert list(steps) == ["hashing", "training"]
    for doing, step in steps.items():
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        step(gpu_cost.pixels(shape, 6))
        changed = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
        assert bool(changed) == (name != "bare" and "training" in doing)
        assert changed <= trained


def test_rows(gpu_cost, monkeypatch):
    """Memory for 64 photos, in place of a GPU's."""
    pixels = gpu_cost.pixels

    def pixels_that_fit(shape, number):
        if number > 64:
            raise torch.OutOfMemoryError
        return pixels(shape, number)

    monkeypatch.setattr(gpu_cost, "pixels", pixels_that_fit)
    monkeypatch.setattr(gpu_cost, "BUSY", 0.01)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    plain = {}
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 97)
    for found in gpu_cost.measure_model("clip", "fast", 16, 2, compiled=False):
        plain |= found
    assert plain.pop("largest_training_batch") == 64 and plain.pop("utilisation_in_training") == 97
    rates = {f"{doing}_{what}" for doing in ("hashing", "training") for what in ("first_seconds", "photos_per_second")}
    assert plain.keys() == rates and all(value >= 0 for value in plain.values())
    compiled = {}
    for found in gpu_cost.measure_model("clip", "fast", 16, 2, compiled=True):
        compiled |= found
    assert compiled.keys() == rates
    assert compiled["hashing_first_seconds"] > plain["hashing_first_seconds"]


def test_a_gpu_that_does_not_say_how_busy_it_is(gpu_cost, monkeypatch):
    def utilization():
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(gpu_cost, "BUSY", 0)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    assert gpu_cost.utilisation(lambda photos: None, gpu_cost.pixels("clip", 1)) is None


def test_without_a_gpu_it_says_so(run_script, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="there is no GPU"):
        run_script(BENCHMARKS / "gpu_cost.py")
