"""Where does the time of a training step go?

    python examples/benchmarks/step_profile.py --output examples/benchmarks/step_profile.json

One step of the preset `fast` (AdamW, bfloat16, 32 photos, random weights in the shape of dinov2-small) on kept frozen
layers, as small sets are trained, and from pixels, as large ones are; torch's profiler adds up what each kind of
operation takes by itself, over `--steps` steps after two that are not counted.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from hashing_cost import SHAPES, circumstances
from torch.profiler import ProfilerActivity, profile
from training_cost import BATCH, CLASSES, new_model, step

SHAPE = "dinov2-small"
# the first kind that has a word of an operation's name; in bfloat16 attention is batched products and a softmax
KINDS = {
    "attention": ("attention", "softmax", "bmm"),
    "matrix products": ("mm", "linear", "matmul", "convolution"),
    "GELU": ("gelu",),
    "norms": ("norm",),
    "optimizer": ("adam", "optimizer"),
    "copies and casts": ("copy", "_to", "cat", "clone", "contiguous", "fill", "zero", "index", "stack"),
    "sums and products by element": ("add", "mul", "sum", "div", "sub", "mean", "sigmoid", "tanh", "relu"),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/step_profile.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    backbone = SHAPES[SHAPE]
    model = new_model("fast", backbone)
    pixels = torch.randn(BATCH, 3, backbone.image_size, backbone.image_size)
    labels = torch.arange(BATCH) % CLASSES
    with torch.no_grad():
        states = model.vision_model.frozen_states(pixels).clone()
    results: dict[str, Any] = {
        **circumstances(),
        **{"shape": SHAPE, "batch_size": BATCH, "steps": args.steps, "threads": args.threads, "seed": 0},
    }
    for name, photos in (("kept frozen layers", {"frozen_states": states}), ("pixels", {"pixel_values": pixels})):
        results[name] = profiled(model, labels, photos, args.steps)
        print(name, results[name], flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def profiled(model: Any, labels: torch.Tensor, photos: dict[str, torch.Tensor], steps: int) -> dict[str, Any]:
    """Seconds of a step without a profiler, and the share of each kind of operation with it."""
    one = step(model, labels, bfloat16=True, **photos)
    for _ in range(2):
        one()
    started = time.perf_counter()
    for _ in range(steps):
        one()
    seconds = (time.perf_counter() - started) / steps
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            one()
    time_of: Counter[str] = Counter()
    for event in profiler.key_averages():
        time_of[kind_of(event.key)] += event.self_cpu_time_total
    total = sum(time_of.values())
    return {
        "seconds_a_step": round(seconds, 3),
        "share": {kind: round(spent / total, 3) for kind, spent in time_of.most_common()},
    }


def kind_of(operation: str) -> str:
    """What kind of work an operation is, by its name."""
    name = operation.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")


if __name__ == "__main__":
    main()
