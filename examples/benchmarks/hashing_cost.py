"""What does hashing cost beside the CLIP it is built on?

    python examples/benchmarks/hashing_cost.py --output outputs/hashing_cost.json

Hashes a batch of photos (`get_hash_codes`) and runs a plain `CLIPVisionModel` over the same batch, both at ViT-B/32
geometry with random weights, one after the other in every repeat so that a busy machine slows both. Prints and writes
the medians and their ratio.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import CLIPVisionConfig, CLIPVisionModel

import concepthash_hf
from concepthash_hf import ConceptHashVisionConfig, ConceptHashVisionModel


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=32, help="photos hashed at a time")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/hashing_cost.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    clip = CLIPVisionModel(CLIPVisionConfig()).eval()
    model = ConceptHashVisionModel(ConceptHashVisionConfig()).eval()
    size = model.config.image_size
    pixel_values = torch.randn(arguments.batch_size, model.config.num_channels, size, size)
    with torch.no_grad():
        clip_seconds, hashing_seconds = measure(
            [lambda: clip(pixel_values), lambda: model.get_hash_codes(pixel_values)], arguments.repeats
        )

    results = {
        "command": shlex.join(["python", *sys.argv]),
        "geometry": f"ViT-B/32, random weights, {model.config.num_bits} bits, {model.config.num_concepts} concepts, "
        f"adapter width {model.config.adapter_dim}",
        "batch_size": arguments.batch_size,
        "repeats": arguments.repeats,
        "threads": arguments.threads,
        "seed": 0,
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "concepthash_hf": concepthash_hf.__version__,
        "clip_seconds": statistics.median(clip_seconds),
        "hashing_seconds": statistics.median(hashing_seconds),
        # repeat by repeat: what slows the machine for a while slows both
        "ratio": statistics.median(ours / clips for ours, clips in zip(hashing_seconds, clip_seconds, strict=True)),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def measure(functions: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of every repeat of every function, interleaved, after one call that does not count."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repeat in range(-1, repeats):
        for function, measured in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if repeat >= 0:
                measured.append(time.perf_counter() - start)
    return seconds


def cpu_name() -> str:
    """As the system calls it, where it does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
