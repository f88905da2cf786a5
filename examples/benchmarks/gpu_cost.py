"""What hashing and training give on a GPU, in photos per second, beside the bare backbone: as it is, and compiled.

    python examples/benchmarks/gpu_cost.py --output examples/benchmarks/gpu_cost.json

In bfloat16 (hashing with such weights, training under autocast), 64 bits, 4 concepts, random weights. A bare backbone
has nothing to train: its step is forward, and backward to the photos. All is measured as it is first, and compiled
afterwards; the file is written after every number. Compiling takes minutes; torch keeps what it has compiled, so that
several processes may do that side by side (`--what compiled`, a shape each) before one measures all.
"""

import argparse
import copy
import gc
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from hashing_cost import SHAPES, bare
from torch import Tensor, nn
from training_cost import CLASSES, new_model

import concepthash_hf

MODELS = ("bare", "fast", "paper")
DEFAULT = ("clip-vit-b-32", "vit-b-16", "clip-vit-l-14", "dinov2-small")
DEVICE = "cuda"
BUSY = 1.5  # seconds of training over which the utilisation is asked for
Step = Callable[[Tensor], object]


def main() -> None:
    """Compile, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(DEFAULT))
    parser.add_argument("--what", nargs="+", choices=("plain", "compiled"), default=["plain", "compiled"])
    parser.add_argument("--batch_size", type=int, default=256, help="a small one measures how fast Python calls")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu_cost.json"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: there is no GPU; hashing_cost.py and training_cost.py measure on a CPU")
    results = {
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "batch_size": args.batch_size,
        "repeats": args.repeats,
        "seed": 0,
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "concepthash_hf": concepthash_hf.__version__,
        "rows": [],
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for what, shape, name in product(args.what, args.shapes, MODELS):
        row: dict[str, Any] = {"shape": shape, "model": name, "what": what}
        results["rows"].append(row)
        for found in measure_model(shape, name, args.batch_size, args.repeats, compiled=what == "compiled"):
            row |= found
            args.output.write_text(json.dumps(results, indent=2) + "\n")
        print(row, flush=True)


def measure_model(
    shape: str, name: str, batch_size: int, repeats: int, *, compiled: bool
) -> Iterator[dict[str, float | None]]:
    """Seconds of the first steps, photos per second; as it is also how busy the GPU is, and the largest batch."""
    torch.compiler.reset()
    gc.collect()  # a compiled model refers to itself
    torch.cuda.empty_cache()
    photos = pixels(shape, batch_size)
    steps = steps_of(new(shape, name).to(DEVICE), compiled=compiled)
    for doing, step in steps.items():
        yield {f"{doing}_first_seconds": round(seconds(step, photos, 1, warm_up=0), 1)}
        yield {f"{doing}_photos_per_second": round(batch_size / seconds(step, photos, repeats), 1)}
    if not compiled:
        yield {"utilisation_in_training": utilisation(steps["training"], photos)}
        yield {"largest_training_batch": largest_batch(steps["training"], shape, batch_size)}


def steps_of(model: nn.Module, *, compiled: bool) -> dict[str, Step]:
    """What is measured of a model."""
    tower = copy.deepcopy(model.vision_model if trained_of(model) else model).bfloat16().eval()
    if trained_of(model):
        tower.hash_head.batch_norm.float()
    made = torch.compile if compiled else lambda module: module
    return {"hashing": hashing(made(tower)), "training": training(made(model))}


def hashing(tower: nn.Module) -> Step:
    """A forward pass in evaluation mode, weights in bfloat16."""

    def run(photos: Tensor) -> None:
        with torch.inference_mode():
            tower(photos.bfloat16())

    return run


def training(model: nn.Module) -> Step:
    """Forward, losses, backward and AdamW; of a bare backbone, forward and backward to the photos."""
    trained = trained_of(model)
    optimizer = torch.optim.AdamW(trained, 1e-4, fused=True) if trained else None
    model.train(bool(trained))

    def run(photos: Tensor) -> None:
        with torch.autocast(DEVICE, torch.bfloat16):
            if optimizer is None:
                loss = model(photos.requires_grad_()).last_hidden_state.sum()
            else:
                loss = model(photos, labels=torch.arange(len(photos), device=DEVICE) % CLASSES).loss
        loss.backward()
        photos.grad = None
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return run


def trained_of(model: nn.Module) -> list[nn.Parameter]:
    """All that a training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def new(shape: str, name: str) -> nn.Module:
    """The bare backbone, frozen; or a model by a preset."""
    torch.manual_seed(0)
    return bare(SHAPES[shape]).requires_grad_(False) if name == "bare" else new_model(name, SHAPES[shape])


def pixels(shape: str, number: int) -> Tensor:
    """Noise in place of photos."""
    size = SHAPES[shape].image_size
    return torch.randn(number, 3, size, size, device=DEVICE)


def seconds(step: Step, photos: Tensor, repeats: int, warm_up: int = 3) -> float:
    """The median, after some calls that do not count."""
    times = []
    for repeat in range(-warm_up, repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        step(photos)
        torch.cuda.synchronize()
        if repeat >= 0:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def utilisation(step: Step, photos: Tensor) -> int | None:
    """Per cent of the time in which the GPU computes anything, as it says itself; None without nvidia-ml-py."""
    until = time.perf_counter() + BUSY
    while time.perf_counter() < until:
        step(photos)
        torch.cuda.synchronize()
    try:
        return torch.cuda.utilization()
    except ModuleNotFoundError:
        return None


def largest_batch(step: Step, shape: str, batch_size: int) -> int:
    """How many photos a training step takes: the batch size, doubled for as long as memory lasts."""
    while True:
        torch.cuda.empty_cache()
        try:
            step(pixels(shape, 2 * batch_size))
        except torch.OutOfMemoryError:
            return batch_size
        batch_size *= 2


if __name__ == "__main__":
    main()
