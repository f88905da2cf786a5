"""examples/benchmarks/training_memory.py, on a model of toy size."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import CLIPVisionConfig

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
TINY = CLIPVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=8
)


def test_memory_is_that_of_this_program_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    held = b"x" * 2**30  # what starts a program does not count as held by it
    code = "import training_memory; print(training_memory.peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    import training_memory

    assert 0.1 < float(done.stdout) < 1 < training_memory.peak_memory()
    assert len(held) == 2**30


@pytest.mark.parametrize("preset", ["fast", "paper"])
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_steps_are_done(preset, bfloat16, checkpointing, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training_memory

    monkeypatch.setitem(training_memory.SHAPES, training_memory.SHAPE, TINY)
    assert training_memory.do_steps(preset, bfloat16, checkpointing) > 0
