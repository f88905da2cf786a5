"""What does a training step hold of memory at most? That of a fresh process, which does three, imports and all.

    python examples/benchmarks/training_memory.py --output examples/benchmarks/training_memory.json

ViT-B/32, batches of 32 photos, 64 bits, 4 concepts, random weights, AdamW, on a CPU: both presets, in float32 and in
bfloat16, without and with gradient checkpointing. Freed memory is kept for what comes next, as scripts keep it, or
glibc does with it what it does by itself, or it is given back at once. Beside it stand the 3.2 GiB that the authors'
code holds in such a step.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from hashing_cost import SHAPES, circumstances, measure
from training_cost import BATCH, new_model, step

from concepthash_hf.launch import keep_freed_memory

SHAPE, GIB_OF_AUTHORS = "clip-vit-b-32", 3.2
# what is told to glibc; "kept" by this program
FREED_MEMORY: dict[str, dict[str, str]] = {
    "kept": {},
    "as glibc does": {},
    "given back over 1 MB": {"MALLOC_MMAP_THRESHOLD_": "1000000"},
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--just", nargs="*", help="do one of the measurements in this process: its preset, its options"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/training_memory.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.just:
        if "kept" in args.just:
            keep_freed_memory()
        print(do_steps(args.just[0], "bfloat16" in args.just, "checkpointing" in args.just), peak_memory())
        return
    rows = []
    options = (("fast", "paper"), ("float32", "bfloat16"), ("", "checkpointing"), FREED_MEMORY)
    for preset, precision, checkpointing, freed in product(*options):
        command = [sys.executable, __file__, "--threads", str(args.threads)]
        command += ["--just", preset, precision, *filter(None, [checkpointing, freed])]
        environment = os.environ | FREED_MEMORY[freed]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        seconds, gib = map(float, done.stdout.split())
        row: dict[str, Any] = {"preset": preset, "precision": precision, "checkpointing": bool(checkpointing)}
        row |= {"freed_memory": freed, "seconds": round(seconds, 2), "gib": round(gib, 2)}
        rows.append(row | {"of_authors": round(gib / GIB_OF_AUTHORS, 3)})
        print(rows[-1], flush=True)
    results = {
        **circumstances(),
        "shape": SHAPE,
        "batch_size": BATCH,
        "threads": args.threads,
        "rows": rows,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def peak_memory() -> float:
    """GiB that this program has held at most; `getrusage` would count what held the process before it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def do_steps(preset: str, bfloat16: bool, checkpointing: bool) -> float:
    """Three training steps; seconds of the fastest."""
    backbone = SHAPES[SHAPE]
    model = new_model(preset, backbone)
    if checkpointing:
        model.activation_checkpointing_enable()
    pixels = torch.randn(BATCH, 3, backbone.image_size, backbone.image_size)
    one = step(model, torch.arange(BATCH), bfloat16, pixel_values=pixels)
    return min(measure([one], 2)[0])


if __name__ == "__main__":
    main()
