"""Do two processes of one thread each hash nearly twice as fast as one? Beside two that run the bare backbone.

    python examples/benchmarks/two_processes.py --photos my_photos --output examples/benchmarks/two_processes.json

From JPEG files to codes, as `examples/encode.py` does it under torchrun, with random weights in the shape of
dinov2-small, 64 bits, 4 concepts. The bare backbone reads the same files through the same loader in as many processes,
which share them out and wait for each other at the end. All four take turns; `gain` is the time of one process over
that of two, medians of the repeats, and `share` is the gain of hashing over that of the bare backbone.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from hashing_cost import SHAPES, circumstances
from torch.utils.data import DataLoader
from training_cost import new_model
from transformers import BitImageProcessor

from concepthash_hf.backbones import family_of
from concepthash_hf.data import eval_transform
from concepthash_hf.hasher import load_image_processor
from concepthash_hf.hashing import Pictures, apart

SHAPE, BATCH = "dinov2-small", 32
ENCODE = Path(__file__).parents[1] / "encode.py"
TIME = re.compile(r" in ([\d.]+) s on \d process")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEG files, also below it")
    parser.add_argument("--num_photos", type=int, default=192, help="of them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bare", type=Path, help="do just this: the bare backbone, with the processor of a folder")
    parser.add_argument("--output", type=Path, default=Path("outputs/two_processes.json"))
    args = parser.parse_args()
    if args.bare:
        run_bare(args.bare, sorted(args.photos.glob("*.jpg")))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        photos = scratch / "photos"
        photos.mkdir()
        found = sorted(args.photos.rglob("*.jpg"))
        for number, file in enumerate(found[:: max(1, len(found) // args.num_photos)][: args.num_photos]):
            shutil.copy(file, photos / f"{number:05}.jpg")
        model = new_model("fast", SHAPES[SHAPE])
        model.save_pretrained(scratch / "model")
        BitImageProcessor(size={"shortest_edge": 256}, crop_size=224).save_pretrained(scratch / "model")
        seconds: dict[str, list[float]] = {
            f"{what}, {n} processes": [] for what in ("hashing", "bare") for n in (1, 2)
        }
        for repeat in range(args.repeats):
            for processes in (1, 2):
                codes = scratch / f"codes-{repeat}-{processes}"
                words = ["--model", scratch / "model", "--dataset", photos, "--output_dir", codes]
                words += ["--batch_size", BATCH, "--photos_per_file", BATCH]
                seconds[f"hashing, {processes} processes"].append(launch(processes, ENCODE, *words))
                words = ["--photos", photos, "--bare", scratch / "model"]
                seconds[f"bare, {processes} processes"].append(launch(processes, Path(__file__), *words))
            print({what: times[-1] for what, times in seconds.items()}, flush=True)
    ours, bare = (
        statistics.median(seconds[f"{what}, 1 processes"]) / statistics.median(seconds[f"{what}, 2 processes"])
        for what in ("hashing", "bare")
    )
    results = {
        **circumstances(),
        "shape": SHAPE,
        **{"batch_size": BATCH, "num_photos": args.num_photos, "repeats": args.repeats, "threads": 1},
        "seconds": seconds,
        **{"gain": round(ours, 3), "gain_bare": round(bare, 3), "share": round(ours / bare, 3)},
    }
    print(results["gain"], results["gain_bare"], results["share"])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def launch(processes: int, script: Path, *words: object) -> float:
    """Seconds that a script says it took, on some processes of a thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*command, str(script), *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or (said := TIME.search(done.stdout)) is None:
        raise RuntimeError(f"{script.name} failed:\n{done.stdout}\n{done.stderr}")
    return float(said[1])


def run_bare(model: Path, files: list[Path]) -> None:
    """Photos through the backbone alone, each process its share; the first says how long it took."""
    torch.set_num_threads(1)
    backbone = SHAPES[SHAPE]
    family = family_of(backbone)
    tower = family.model(backbone, **(family.model_kwargs or {})).eval().requires_grad_(False)
    transform = eval_transform(load_image_processor(str(model)))
    accelerator = Accelerator(cpu=True)
    started = time.perf_counter()
    mine = files[accelerator.process_index :: accelerator.num_processes]
    with torch.inference_mode():
        for pixel_values, _ in DataLoader(Pictures(list(map(str, mine)), transform), BATCH, collate_fn=apart):
            tower(*pixel_values)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        print(f"{len(files)} photos in {time.perf_counter() - started:.1f} s on {accelerator.num_processes} processes")
    accelerator.end_training()


if __name__ == "__main__":
    main()
