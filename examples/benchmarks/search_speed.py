"""Speed and memory of `HammingIndex` at 1 and 10 million codes, beside bare faiss in the same run.

python examples/benchmarks/search_speed.py           # 2 threads; writes search_speed.json

Every size is measured in a process of its own. The two sides take turns, round by round, so that whatever else the
machine does meets both; medians count. Whole-code search is held against `faiss.IndexBinaryFlat`, which gives
distances and positions only: ours gives ids and the distance of every concept as well. Weighted searches are held
against whole-code search. Memory is what the resident set grows by, in bytes per code. The codes are noisy class
prototypes; with `--approximate` the kinds "hnsw" and "ivf" are measured at the first size, with their distance-recall:
the share of the k nearest distances that they reach.
"""

import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from transformers import HfArgumentParser

from concepthash_hf.index import HammingIndex

ROWS_PER_CHUNK = 2**20


@dataclass
class Arguments:
    """What to measure."""

    sizes: list[int] = field(default_factory=lambda: [1_000_000, 10_000_000], metadata={"help": "Numbers of codes."})
    num_bits: int = field(default=64, metadata={"help": "Length of a code."})
    num_concepts: int = field(default=4, metadata={"help": "Concepts."})
    num_classes: int = field(default=1000, metadata={"help": "Prototypes; a quarter of the bits of an item differ."})
    k: int = field(default=10, metadata={"help": "Neighbours per query."})
    batch_size: int = field(default=64, metadata={"help": "Queries at a time."})
    rounds: int = field(default=9, metadata={"help": "Rounds of each batch search."})
    singles: int = field(default=300, metadata={"help": "Single queries of each kind of search."})
    approximate: bool = field(default=True, metadata={"help": "Measure hnsw and ivf at the first size."})
    num_threads: int = field(default=2, metadata={"help": "Threads of faiss."})
    seed: int = field(default=0, metadata={"help": "Of codes and queries."})
    output: Path = field(default=Path(__file__).with_suffix(".json"), metadata={"help": "JSON file for the numbers."})


def make_codes(args: Arguments, n: int, generator: np.random.Generator) -> np.ndarray:
    """Packed codes: prototypes, in which a bit is flipped where two random bits are set."""
    width = args.num_bits // 8
    prototypes = np.random.default_rng(args.seed).integers(0, 256, (args.num_classes, width), dtype=np.uint8)
    codes = np.empty((n, width), dtype=np.uint8)
    for start in range(0, n, ROWS_PER_CHUNK):
        part = codes[start : start + ROWS_PER_CHUNK]
        flips = generator.integers(0, 256, (2, *part.shape), dtype=np.uint8)
        part[:] = prototypes[generator.integers(0, args.num_classes, len(part))] ^ (flips[0] & flips[1])
    return codes


Search = Callable[[np.ndarray], Any]


def take_turns(searches: dict[str, Search], queries: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Seconds of every search for every batch of queries, one search after the other on each batch."""
    batches = [queries[start : start + batch_size] for start in range(0, len(queries), batch_size)]
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for search in searches.values():
        search(batches[0])
    for turn, batch in enumerate(batches):
        # nobody always comes first
        for name in sorted(searches, reverse=bool(turn % 2)):
            start = time.perf_counter()
            searches[name](batch)
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def measure_size(args: Arguments, n: int, folder: Path) -> dict[str, Any]:
    """Build, search and save one exact index, in this process."""
    faiss.omp_set_num_threads(args.num_threads)
    generator = np.random.default_rng(args.seed + 1)
    codes = make_codes(args, n, generator)
    queries = make_codes(args, max(args.rounds * args.batch_size, args.singles), generator)
    logits = generator.normal(size=(args.batch_size, args.num_bits)).astype(np.float32)
    geometry = {"num_bits": args.num_bits, "num_concepts": args.num_concepts}
    # what libraries take once is no part of the memory
    HammingIndex.from_codes(codes[:10_000], **geometry).search_by_logits(logits, args.k)

    before = resident_bytes()
    index, build_seconds = timed(HammingIndex.from_codes, codes, **geometry)
    index.search(queries[:1], args.k)
    with_index = resident_bytes()
    bare = faiss.IndexBinaryFlat(args.num_bits)
    _, bare_build_seconds = timed(bare.add, codes)
    del codes

    weights = np.random.default_rng(args.seed).random(args.num_concepts) + 0.1
    one_concept = {0: 1.0}
    before_scan = resident_bytes()
    _, first_weighted_seconds = timed(index.search, queries[:1], args.k, concept_weights=weights)
    with_scan = resident_bytes()

    searches: dict[str, Search] = {
        "bare faiss": lambda batch: bare.search(batch, args.k),
        "whole codes": lambda batch: index.search(batch, args.k),
        "one concept": lambda batch: index.search(batch, args.k, concept_weights=one_concept),
        "weighted": lambda batch: index.search(batch, args.k, concept_weights=weights),
        "logits": lambda batch: index.search_by_logits(logits[: len(batch)], args.k),
    }
    batches = take_turns(searches, queries[: args.rounds * args.batch_size], args.batch_size)
    singles = take_turns(searches, queries[: args.singles], 1)

    _, save_seconds = timed(index.save, folder)
    size_on_disk = sum(path.stat().st_size for path in folder.iterdir())
    code_bytes = args.num_bits // 8
    return {
        "num_codes": n,
        "build_seconds": build_seconds,
        "bare_build_seconds": bare_build_seconds,
        "save_seconds": save_seconds,
        "first_weighted_seconds": first_weighted_seconds,
        "bytes_per_code": {
            "code itself": code_bytes,
            "index with integer ids": (with_index - before) / n,
            "added by the first weighted search": (with_scan - before_scan) / n,
            "on disk": size_on_disk / n,
        },
        "memory_without_ids_over_codes": ((with_index - before) / n - 8) / code_bytes,
        "batch": {name: describe(seconds, args.batch_size) for name, seconds in batches.items()},
        "single": {name: describe(seconds, 1) for name, seconds in singles.items()},
        "rate_over_bare_faiss": {
            name: float(np.median(times["bare faiss"]) / np.median(times["whole codes"]))
            for name, times in (("batch", batches), ("single", singles))
        },
        "times_of_whole_code_search": {
            name: {
                kind: float(np.median(times[kind]) / np.median(times["whole codes"]))
                for kind in ("one concept", "weighted", "logits")
            }
            for name, times in (("batch", batches), ("single", singles))
        },
    }


def measure_load(args: Arguments, n: int, folder: Path) -> dict[str, float]:
    """Load a saved index, in this process."""
    query = np.zeros((1, args.num_bits // 8), dtype=np.uint8)
    geometry = {"num_bits": args.num_bits, "num_concepts": args.num_concepts}
    with tempfile.TemporaryDirectory() as small:  # what libraries take once is no part of the memory
        HammingIndex.from_codes(np.repeat(query, 10_000, axis=0), **geometry).save(small)
        HammingIndex.load(small).search(query, 1)
    before = resident_bytes()
    loaded, seconds = timed(HammingIndex.load, folder)
    loaded.search(query, args.k)
    return {"seconds": seconds, "bytes_per_code": (resident_bytes() - before) / n}


def measure_approximate(args: Arguments, n: int, kind: str) -> dict[str, Any]:
    """Build and search one approximate index, in this process."""
    faiss.omp_set_num_threads(args.num_threads)
    generator = np.random.default_rng(args.seed + 1)
    codes = make_codes(args, n, generator)
    queries = make_codes(args, args.rounds * args.batch_size, generator)
    geometry = {"num_bits": args.num_bits, "num_concepts": args.num_concepts}
    exact = HammingIndex.from_codes(codes, **geometry)
    index = HammingIndex.from_codes(codes, kind=kind, **geometry)
    _, build_seconds = timed(index.search, queries[:1], args.k)
    searches: dict[str, Search] = {"exact": lambda batch: exact.search(batch, args.k)}
    searches[kind] = lambda batch: index.search(batch, args.k)
    batches = take_turns(searches, queries, args.batch_size)
    singles = take_turns(searches, queries[: args.singles], 1)
    reached = index.search(queries, args.k).distances == exact.search(queries, args.k).distances
    return {
        "num_codes": n,
        "build_seconds": build_seconds,
        "distance_recall": float(reached.mean()),
        "batch": {name: describe(seconds, args.batch_size) for name, seconds in batches.items()},
        "single": {name: describe(seconds, 1) for name, seconds in singles.items()},
    }


def describe(seconds: np.ndarray, batch_size: int) -> dict[str, float]:
    """Median rate, and latency of a call in milliseconds."""
    return {
        "queries_per_second": batch_size / float(np.median(seconds)),
        "p50_ms": 1000 * float(np.percentile(seconds, 50)),
        "p99_ms": 1000 * float(np.percentile(seconds, 99)),
    }


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """What a function returns, and its seconds."""
    start = time.perf_counter()
    value = function(*args, **kwargs)
    return value, time.perf_counter() - start


def resident_bytes() -> int:
    """Memory of this process that is in use now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a measurement in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def print_table(result: dict[str, Any]) -> None:
    """The searches of one measurement."""
    print(f"\n{result['num_codes']:,} codes, built in {result['build_seconds']:.2f} s\n")
    print("| search | queries/s in batches | p50 ms of one | p99 ms of one |")
    print("| --- | --- | --- | --- |")
    for name, batch in result["batch"].items():
        single = result["single"][name]
        print(f"| {name} | {batch['queries_per_second']:.0f} | {single['p50_ms']:.2f} | {single['p99_ms']:.2f} |")


def main() -> None:
    """Measure, print tables, write the numbers."""
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
    load_before = os.getloadavg()[0]
    results: dict[str, Any] = {"exact": [], "approximate": {}}
    for n in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            result = apart(measure_size, args, n, Path(folder))
            result["load"] = apart(measure_load, args, n, Path(folder))
        results["exact"].append(result)
        print_table(result)
        names = "rate_over_bare_faiss", "times_of_whole_code_search", "bytes_per_code", "memory_without_ids_over_codes"
        for name in (*names, "load"):
            print(f"{name}: {json.dumps(result[name])}")
    for kind in ("hnsw", "ivf") if args.approximate else ():
        result = apart(measure_approximate, args, args.sizes[0], kind)
        results["approximate"][kind] = result
        print_table(result)
        print(f"distance-recall@{args.k}: {result['distance_recall']:.4f}")
    results["arguments"] = {key: value for key, value in asdict(args).items() if key != "output"}
    results["environment"] = {
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average_before": load_before,
        "faiss": f"{faiss.__version__} ({faiss.get_compile_options().strip()})",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    args.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
