"""Seconds and memory of `retrieval_metrics`, beside the usual way, on codes as many as NABirds has photos.

python examples/benchmarks/metrics_speed.py          # 24,633 queries, 23,929 items; writes metrics_speed.json

The usual way: the matrix of float distances in chunks of queries, a full sort of every row, and the average precision
of what comes out. Both sides compute mAP and nothing else, one after the other, each in a process of its own, with the
same number of threads; ours, which is over in a moment, a few times, of which the median counts. On a machine that
others use as well, core seconds compare better than seconds. Memory is the resident set: its highest point, and how
far that is above what stood there before the first distance. The codes are noisy class prototypes; ties are
everywhere, so the usual mAP only has to lie between our bounds.
"""

import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import HfArgumentParser

from concepthash_hf.metrics import retrieval_metrics

CHUNK = 256
MEBIBYTE = 2**20


@dataclass
class Arguments:
    """What to measure."""

    num_queries: int = field(default=24_633, metadata={"help": "Queries."})
    num_database: int = field(default=23_929, metadata={"help": "Items of the database."})
    num_bits: int = field(default=64, metadata={"help": "Length of a code."})
    num_classes: int = field(default=555, metadata={"help": "Classes."})
    flip: float = field(default=0.25, metadata={"help": "Share of a prototype's bits that differ in an item."})
    rounds: int = field(default=5, metadata={"help": "Runs of our side; the median counts."})
    num_threads: int = field(default=2, metadata={"help": "Threads of either side."})
    seed: int = field(default=0, metadata={"help": "Of codes and labels."})
    output: Path = field(default=Path(__file__).with_suffix(".json"), metadata={"help": "JSON file for the numbers."})


Task = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Way = Callable[[Task], Callable[[], dict[str, float]]]


def make_task(args: Arguments) -> Task:
    """Bits and labels of queries and database."""
    generator = np.random.default_rng(args.seed)
    prototypes = generator.random((args.num_classes, args.num_bits)) < 0.5
    task: list[np.ndarray] = []
    for size in (args.num_queries, args.num_database):
        labels = generator.integers(0, args.num_classes, size)
        task += [prototypes[labels] ^ (generator.random((size, args.num_bits)) < args.flip), labels]
    return tuple(task)


def our_way(task: Task) -> Callable[[], dict[str, float]]:
    """The function of this package, from packed codes."""
    queries, query_labels, database, labels = task
    packed = np.packbits(queries, axis=1), query_labels, np.packbits(database, axis=1), labels
    return lambda: {"map": retrieval_metrics(*packed, at=())["map"]}


def usual_way(task: Task) -> Callable[[], dict[str, float]]:
    """Float distances, full sort, average precision; from codes of -1 and +1."""
    queries, query_labels, database, labels = (torch.from_numpy(array) for array in task)
    queries, database = queries.float() * 2 - 1, database.float() * 2 - 1

    def mean_average_precision() -> dict[str, float]:
        ranks = torch.arange(1, len(database) + 1)
        total = 0.0
        for codes, wanted in zip(queries.split(CHUNK), query_labels.split(CHUNK), strict=True):
            distances = (database.shape[1] - codes @ database.T) / 2
            relevant = (labels[distances.argsort(dim=1)] == wanted[:, None]).float()
            precisions = relevant.cumsum(dim=1) / ranks
            total += float(((precisions * relevant).sum(dim=1) / relevant.sum(dim=1).clamp(min=1)).sum())
        return {"map": total / len(queries)}

    return mean_average_precision


def bounds(task: Task) -> Callable[[], dict[str, float]]:
    """What the order of ties can do to mAP."""
    queries, query_labels, database, labels = task
    packed = np.packbits(queries, axis=1), query_labels, np.packbits(database, axis=1), labels
    return lambda: {
        ties: retrieval_metrics(*packed, at=(), ties=ties)["map"] for ties in ("pessimistic", "optimistic")
    }


def measure(way: Way, args: Arguments, rounds: int) -> dict[str, Any]:
    """Run one side in this process."""
    torch.set_num_threads(args.num_threads)
    run = way(make_task(args))
    before = _peak_memory()
    wall, cores = [], []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        values = run()
        wall.append(time.perf_counter() - start[0])
        cores.append(time.process_time() - start[1])
    return {
        **values,
        "seconds": statistics.median(wall),
        "core_seconds": statistics.median(cores),
        "seconds_of_each_round": wall,
        "peak_memory_mib": _peak_memory(),
        "memory_growth_mib": _peak_memory() - before,
    }


def measure_apart(way: Way, args: Arguments, rounds: int = 1) -> dict[str, Any]:
    """Run one side in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (way, args, rounds))


def main() -> None:
    """Measure, print a table, write the numbers."""
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
    load_before = os.getloadavg()[0]
    sides = {"usual way": measure_apart(usual_way, args), "ours": measure_apart(our_way, args, args.rounds)}
    limits = measure_apart(bounds, args)
    usual, ours = sides["usual way"], sides["ours"]
    if not limits["pessimistic"] - 1e-6 <= usual["map"] <= limits["optimistic"] + 1e-6:
        sys.exit(f"the two sides measure different things: {usual['map']} is not within {limits}")
    results: dict[str, Any] = {
        "times_faster": usual["seconds"] / ours["seconds"],
        "times_faster_in_core_seconds": usual["core_seconds"] / ours["core_seconds"],
        "sides": sides,
        "map_bounds": [limits["pessimistic"], limits["optimistic"]],
    }

    print("| | mAP | seconds | core seconds | peak MiB | of it for the metric |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, side in sides.items():
        print(
            f"| {name} | {side['map']:.6f} | {side['seconds']:.2f} | {side['core_seconds']:.2f} "
            f"| {side['peak_memory_mib']:.0f} | {side['memory_growth_mib']:.0f} |"
        )
    print(
        f"\n{results['times_faster']:.1f} times faster, {results['times_faster_in_core_seconds']:.1f} times fewer "
        f"core seconds; ties alone can move mAP within {results['map_bounds']}"
    )
    results["arguments"] = {key: value for key, value in asdict(args).items() if key != "output"}
    results["environment"] = {
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average_before": load_before,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def _peak_memory() -> float:
    """Highest resident set of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MEBIBYTE if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    main()
