"""Does a process that trains, hashes and searches for hours grow? Memory, files and threads after every round.

    python examples/benchmarks/soak.py --minutes 60

A round is what people do with photos, in small: load them, train a model with a data worker, save it, load it, encode
a collection, index, search with photos and words, explain, and throw all of it away. After each one the resident
memory of the process, its open files, threads and children, and what lies in its temporary folder are written down.
Exits with status 1 if, over the second half of the rounds, memory surely rises by more than `MOST_GROWTH`, or anything
else rises at all. What safetensors forgets with every tensor that it reads is measured and told apart: it is not ours
to give back.

Writes everything as JSON.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import faiss
import numpy as np
import torch
import transformers
from hashing_cost import cpu_name
from safetensors import safe_open
from scipy.stats import theilslopes
from search_speed import resident_bytes
from tqdm.auto import tqdm

import concepthash_hf
from concepthash_hf import ConceptHasher, ConceptHashModel
from concepthash_hf.data import eval_transform, load_collection, load_photos, train_transform
from concepthash_hf.data.toy_birds import SPECIES, save_toy_birds
from concepthash_hf.encoding import add_codes, encode_collection
from concepthash_hf.hasher import open_photo_index
from concepthash_hf.index import HammingIndex
from concepthash_hf.language import load_tokenizer
from concepthash_hf.toy_clip import save_toy_clip
from concepthash_hf.training import ConceptHashTrainingArguments, train

# malloc takes and gives back some MiB, which looks like growth in a few rounds
LEAST_ROUNDS = 50
# MiB in a hundred rounds: one forgotten batch of 24 photos of 32 pixels a round would be 28, one forgotten model 120
MOST_GROWTH = 1.0
SIZE, BATCH = 32, 24
COUNTED = ("open_files", "threads", "children", "temporary_files")


def main() -> None:
    """Work, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("outputs/soak.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {
        "command": shlex.join(["python", Path(sys.argv[0]).name, "--minutes", f"{args.minutes:g}"]),
        "threads": args.threads,
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "datasets": datasets.__version__,
        "faiss": faiss.__version__,
        "concepthash_hf": concepthash_hf.__version__,
    }
    rounds, forgotten = soak(60 * args.minutes)
    found = summary(rounds, forgotten)
    results |= found | {"rounds": rounds}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results) + "\n")
    print(json.dumps(found, indent=2))
    sys.exit("it grows: " + ", ".join(results["grows"]) if results["grows"] else 0)


def soak(seconds: float) -> tuple[list[dict[str, Any]], float]:
    """Work for so long, and for `LEAST_ROUNDS` at the least, in a temporary folder of its own.

    Returns:
        For each round `seconds` since the start, resident `memory` in MiB, and the numbers of `COUNTED`; and what
        safetensors forgets in a round, in MiB.
    """
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            clip, photos = Path(folder) / "clip", Path(folder) / "photos"
            save_toy_clip(clip, [species.name for species in SPECIES], image_size=SIZE)
            save_toy_birds(photos, per_species=5, size=SIZE)
            started = time.perf_counter()
            with tqdm(total=round(seconds), unit="s") as bar:
                while bar.n < bar.total or len(rounds) < LEAST_ROUNDS:
                    with tempfile.TemporaryDirectory() as place:
                        work(clip, photos, Path(place), seed=len(rounds))
                    gc.collect()
                    rounds.append({"seconds": round(time.perf_counter() - started), **measured(Path(folder))})
                    bar.update(rounds[-1]["seconds"] - bar.n)
            last = Path(folder) / "last"
            work(clip, photos, last, seed=len(rounds))
            # a round reads the CLIP for its picture tower and for its text tower, and the model to encode and to index
            forgotten = sum(forgotten_by_safetensors(read) for read in (clip, clip, last / "model", last / "model"))
        finally:
            tempfile.tempdir = None
    return rounds, forgotten / 2**20


def work(clip: Path, photos: Path, place: Path, seed: int) -> None:
    """One round."""
    splits = load_photos(photos, seed=seed)
    model = ConceptHashModel.from_clip(clip, splits.class_names, num_bits=16, num_concepts=4, adapter_dim=8)
    processor = model.image_processor
    args = ConceptHashTrainingArguments(
        str(place / "model"),
        num_train_epochs=2,
        per_device_train_batch_size=BATCH,
        dataloader_num_workers=1,
        optimizer="adamw",
        save_epochs=1,
        seed=seed,
    )
    asked, searched = (splits.torch_dataset(split, eval_transform(processor)) for split in ("query", "database"))
    birds = splits.torch_dataset("train", train_transform("paper", processor))
    train(model, birds, args, asked, searched, saved_beside=[processor, load_tokenizer(clip)])

    hasher = ConceptHasher(place / "model", batch_size=BATCH)
    collection, codes = load_collection(photos), place / "codes"
    encode_collection(hasher.model, collection, eval_transform(hasher.image_processor), codes, batch_size=BATCH)
    encoded = HammingIndex(hasher.spec)
    add_codes(encoded, codes)
    encoded.save(place / "encoded")
    loaded = HammingIndex.load(place / "encoded")
    loaded.search(np.asarray(loaded.get_codes(loaded.ids[:BATCH])), 5)

    hasher.index(photos).save(place / "index")
    index = open_photo_index(place / "index")
    bird = next(photos.rglob("*.png"))
    index.search([bird, SPECIES[0].name], 5)
    hasher.explain(bird)


def forgotten_by_safetensors(folder: Path, repeats: int = 50) -> float:
    """Bytes that stay allocated after each reading of `model.safetensors`, and that nobody refers to.

    Two whole numbers for every tensor (the ends of its slice of the file), in all versions from 0.4 to 0.8:
    `PySlice::new` of its Python bindings gives them to a slice, which counts itself as one more owner.
    """
    bytes_of_an_int = 32

    def read() -> None:
        with safe_open(folder / "model.safetensors", framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 it has no iterator
                tensors.get_tensor(name)

    read()
    before = sys.getallocatedblocks()
    for _ in range(repeats):
        read()
    return (sys.getallocatedblocks() - before) * bytes_of_an_int / repeats


def measured(folder: Path) -> dict[str, Any]:
    """What this process holds."""
    return {
        "memory": round(resident_bytes() / 2**20, 2),
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": len(multiprocessing.active_children()),
        "temporary_files": sum(1 for _ in folder.rglob("*")),
    }


def summary(rounds: list[dict[str, Any]], forgotten: float = 0.0) -> dict[str, Any]:
    """What rose over the second half.

    Memory by the median of all slopes between two rounds (Theil and Sen), which what malloc keeps for a while does not
    move, in MiB a hundred rounds; it grows where the lower end of the 95 % confidence interval says so, less what
    safetensors has `forgotten` (MiB a round).
    """
    half = rounds[len(rounds) // 2 :]
    fit = theilslopes([one["memory"] for one in half], alpha=0.95)
    slope, low, high = (round(100 * float(value), 3) for value in (fit.slope, fit.low_slope, fit.high_slope))
    by_safetensors = 100 * forgotten
    grows = ["memory"] if low - by_safetensors > MOST_GROWTH else []
    grows += [name for name in COUNTED if half[-1][name] > half[0][name]]
    return {
        "number_of_rounds": len(rounds),
        "memory_after_first": rounds[0]["memory"],
        "memory_at_half": half[0]["memory"],
        "memory_at_end": half[-1]["memory"],
        "memory_per_hundred_rounds": slope,
        "memory_per_hundred_rounds_between": [low, high],
        "memory_per_hundred_rounds_of_safetensors": round(by_safetensors, 3),
        "grows": grows,
    }


if __name__ == "__main__":
    main()
