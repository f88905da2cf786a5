"""Search of 10 and 100 million codes: in memory, mapped, sharded and by inverted lists, beside bare faiss.

python examples/benchmarks/search_scale.py                    # 2 threads; writes search_scale.json
python examples/benchmarks/search_scale.py --sizes 1000000    # small
python examples/benchmarks/search_scale.py --kinds mapped --output search_scale_mapped.json

Codes are noisy class prototypes, as in search_speed.py. Every kind is measured in a process of its own, taking turns
with bare faiss on the same memory: `IndexBinaryFlat` over a copy for the index in memory, `knn_hamming` over the same
mapped file for the others. The least time of each side counts: what else the machine does only ever adds to it.
Recall is that of distances, the share of the k nearest distances that are reached. Memory is told apart: what belongs
to the process (anonymous pages), and what the system keeps of mapped files and may give up. 100 million codes take
4 GB in the temporary folder.
"""

import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from search_speed import ROWS_PER_CHUNK, Search, apart, make_codes, take_turns, timed
from transformers import HfArgumentParser

from concepthash_hf.index import CodeIndex, CodeSpec, HammingIndex, open_index
from concepthash_hf.index.mapped import map_codes

KINDS = ("memory", "mapped", "sharded", "ivf")


@dataclass
class Arguments:
    """What to measure."""

    sizes: list[int] = field(default_factory=lambda: [10_000_000, 100_000_000], metadata={"help": "Numbers of codes."})
    kinds: list[str] = field(default_factory=lambda: list(KINDS), metadata={"help": "Kinds of index."})
    num_bits: int = field(default=64, metadata={"help": "Length of a code."})
    num_concepts: int = field(default=4, metadata={"help": "Concepts."})
    num_classes: int = field(default=1000, metadata={"help": "Prototypes; a quarter of the bits of an item differ."})
    num_shards: int = field(default=4, metadata={"help": "Folders of the sharded index."})
    k: int = field(default=10, metadata={"help": "Neighbours per query."})
    batch_size: int = field(default=64, metadata={"help": "Queries at a time."})
    rounds: int = field(default=9, metadata={"help": "Rounds of each batch search."})
    singles: int = field(default=30, metadata={"help": "Single queries of each kind of search."})
    num_threads: int = field(default=2, metadata={"help": "Threads of faiss."})
    seed: int = field(default=0, metadata={"help": "Of codes and queries."})
    output: Path = field(default=Path(__file__).with_suffix(".json"), metadata={"help": "JSON file for the numbers."})


def blocks_of(args: Arguments, n: int) -> Iterator[np.ndarray]:
    """The codes of a size as a stream, always the same."""
    generator = np.random.default_rng(args.seed + 1)
    for start in range(0, n, ROWS_PER_CHUNK):
        yield make_codes(args, min(ROWS_PER_CHUNK, n - start), generator)


def queries_of(args: Arguments) -> np.ndarray:
    """The queries, which are none of the codes."""
    return make_codes(args, max(args.rounds * args.batch_size, args.singles), np.random.default_rng(args.seed + 2))


def build(args: Arguments, n: int, kind: str) -> HammingIndex:
    """An index made from the stream."""
    index = HammingIndex(CodeSpec(args.num_bits, args.num_concepts), kind)
    for block in blocks_of(args, n):
        index.add(block)
    if n:
        index.search(np.zeros((1, args.num_bits // 8), dtype=np.uint8), 1)  # builds the lists
    return index


def write_indexes(args: Arguments, n: int, folder: Path) -> dict[str, Any]:
    """Write all that is searched, and what the exact distances of the queries are."""
    faiss.omp_set_num_threads(args.num_threads)
    exact, build_seconds = timed(build, args, n, "flat")
    _, save_seconds = timed(exact.save, folder / "whole")
    np.save(folder / "truth.npy", exact.search(queries_of(args), args.k).distances)
    codes = mapped_codes(folder)
    for shard, ids in enumerate(np.array_split(np.arange(n), args.num_shards)):
        part = HammingIndex(exact.spec)
        part.add(codes[ids[0] : ids[-1] + 1], ids)
        part.save(folder / f"shard-{shard}")
    return {"build_seconds": build_seconds, "save_seconds": save_seconds, "memory": memory()}


def write_lists(args: Arguments, n: int, folder: Path) -> dict[str, Any]:
    """Write the index with inverted lists."""
    faiss.omp_set_num_threads(args.num_threads)
    lists, build_seconds = timed(build, args, n, "ivf")
    _, save_seconds = timed(lists.save, folder / "ivf")
    return {"build_seconds": build_seconds, "save_seconds": save_seconds, "memory": memory()}


def open_kind(args: Arguments, folder: Path, kind: str) -> CodeIndex:
    """One of the indexes that were written."""
    if kind == "sharded":
        return open_index([str(folder / f"shard-{shard}") for shard in range(args.num_shards)], mapped=True)
    return open_index(str(folder / ("ivf" if kind == "ivf" else "whole")), mapped=kind == "mapped")


def mapped_codes(folder: Path) -> np.ndarray:
    """All codes, in the file of the index that is whole."""
    return map_codes(next((folder / "whole").glob("codes-*.safetensors")))


def bare_search(args: Arguments, folder: Path, kind: str) -> Search:
    """Bare faiss: distances and positions only."""
    codes = mapped_codes(folder)
    if kind == "memory":
        flat = faiss.IndexBinaryFlat(args.num_bits)
        flat.add(codes)
        return lambda batch: flat.search(batch, args.k)
    return lambda batch: faiss.knn_hamming(batch, codes, args.k)


def measure(args: Arguments, n: int, folder: Path, kind: str) -> dict[str, Any]:
    """Open one index, and search it beside bare faiss."""
    faiss.omp_set_num_threads(args.num_threads)
    before = memory()
    index, load_seconds = timed(open_kind, args, folder, kind)
    queries, truth = queries_of(args), np.load(folder / "truth.npy")
    reached = index.search(queries, args.k).distances == truth
    after = memory()
    searches = {"bare": bare_search(args, folder, kind), "ours": lambda batch: index.search(batch, args.k)}
    batches = take_turns(searches, queries[: args.rounds * args.batch_size], args.batch_size)
    singles = take_turns(searches, queries[: args.singles], 1)
    return {
        "load_seconds": load_seconds,
        "recall": float(reached.mean()),
        "memory": {name: after[name] - before[name] for name in ("own", "mapped")} | {"most": memory()["most"]},
        "batch": beside(batches),
        "single": beside(singles),
    }


def beside(seconds: dict[str, np.ndarray]) -> dict[str, float]:
    """The least times of both sides in milliseconds, and ours by that of bare faiss."""
    bare, ours = (1000 * float(seconds[name].min()) for name in ("bare", "ours"))
    return {"bare_ms": bare, "ours_ms": ours, "ours_over_bare": ours / bare, "rounds": len(seconds["ours"])}


def memory() -> dict[str, int]:
    """Bytes of this process: its own, of mapped files, and the most that both were (Linux)."""
    status = Path("/proc/self/status").read_text()
    names = {"own": "RssAnon", "mapped": "RssFile", "most": "VmHWM"}
    return {
        name: 1024 * int(re.search(rf"{line}:\s+(\d+) kB", status).group(1))  # type: ignore[union-attr]
        for name, line in names.items()
    }


def slopes(sizes: list[dict[str, Any]], kinds: list[str]) -> dict[str, dict[str, float]]:
    """What a million codes more cost, by the two largest sizes: milliseconds of a search, bytes, seconds."""
    smaller, larger = sizes[-2:]
    millions = (larger["num_codes"] - smaller["num_codes"]) / 1e6
    costs: dict[str, Callable[[dict[str, Any]], float]] = {
        "single_ms": lambda found: found["single"]["ours_ms"],
        "batch_ms": lambda found: found["batch"]["ours_ms"],
        "load_seconds": lambda found: found["load_seconds"],
        "own_megabytes": lambda found: found["memory"]["own"] / 1e6,
    }
    return {
        kind: {name: (cost(larger[kind]) - cost(smaller[kind])) / millions for name, cost in costs.items()}
        for kind in kinds
    }


def main() -> None:
    """Measure, print tables, write the numbers."""
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
    results: dict[str, Any] = {"sizes": [], "load_average": [os.getloadavg()[0]]}
    for n in sorted(args.sizes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            found = {"num_codes": n, "written": apart(write_indexes, args, n, folder)}
            if "ivf" in args.kinds:
                found["written_lists"] = apart(write_lists, args, n, folder)
            for kind in args.kinds:
                found[kind] = apart(measure, args, n, folder, kind)
        results["sizes"].append(found)
        print_table(found, args.kinds)
    if len(args.sizes) > 1:
        results["per_million_codes"] = slopes(results["sizes"], args.kinds)
    results["load_average"].append(os.getloadavg()[0])
    results["arguments"] = {key: value for key, value in asdict(args).items() if key != "output"}
    results["environment"] = {
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "faiss": f"{faiss.__version__} ({faiss.get_compile_options().strip()})",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def print_table(found: dict[str, Any], kinds: list[str]) -> None:
    """Kinds of index at one size."""
    print(f"\n{found['num_codes']:,} codes; built in {found['written']['build_seconds']:.1f} s", end="")
    print(f", with lists in {found['written_lists']['build_seconds']:.1f} s\n" if "ivf" in kinds else "\n")
    print("| kind | load s | own MB | one query ms (bare) | batch ms (bare) | ours / bare | recall |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in kinds:
        of = found[kind]
        one, batch = of["single"], of["batch"]
        print(
            f"| {kind} | {of['load_seconds']:.1f} | {of['memory']['own'] / 1e6:.0f} | {one['ours_ms']:.2f} "
            f"({one['bare_ms']:.2f}) | {batch['ours_ms']:.1f} ({batch['bare_ms']:.1f}) | "
            f"{one['ours_over_bare']:.3f}, {batch['ours_over_bare']:.3f} | {of['recall']:.4f} |"
        )


if __name__ == "__main__":
    main()
