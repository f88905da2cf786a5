"""Real photos: keep what training runs measured, beside what the backbone gives without them, and print the table.

    python examples/benchmarks/real_photos.py outputs/run-a outputs/run-b     # adds these runs of examples/train.py
    python examples/benchmarks/real_photos.py                                 # prints the table of real_photos.jsonl

`linear_hash.py` adds the rows of the bare backbone.
"""

import argparse
import json
import statistics
from itertools import groupby
from pathlib import Path
from typing import Any

from concepthash_hf import ConceptHashConfig

ROWS = Path(__file__).with_name("real_photos.jsonl")
# the first adapted layer of the preset on a DINOv2-S; the first rows do not say: all were so
_PRESETS = 8


def record(run: Path) -> dict[str, Any]:
    """What of a run of examples/train.py goes on record: settings, metrics, times, versions; no paths."""
    results = json.loads((run / "all_results.json").read_text())
    config, arguments = ConceptHashConfig.from_pretrained(run), results["arguments"]
    return {
        "method": results["preset"],
        "photos": results["photos"]["name"],
        "backbone": Path(config.base_model_name_or_path or "from scratch").name,
        "size": config.vision_config.image_size,
        "start_at_cls": config.vision_config.start_at_cls,
        "first_adapted_layer": config.vision_config.first_adapted_layer,
        **{name: getattr(config, name) for name in ("num_bits", "num_concepts", "diversity_weight")},
        **{name: arguments[name] for name in ("seed", "num_train_epochs", "learning_rate", "optimizer")},
        **{name: results[name] for name in ("augmentation", "cached_views", "train_steps", "train_runtime")},
        "cache_runtime": results.get("cache_runtime", 0.0),
        "eval_runtime": results["eval_runtime"],
        "map": results["eval_map"],
        "precision@1": results["eval_precision@1"],
        **results["environment"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; a line for each setting, the mean over its seeds."""
    lines = [
        "| photos | backbone, px | method | bits | mAP@all (seeds) | P@1 | training, min (on) |",
        "|" + " --- |" * 7,
    ]
    for _, group in groupby(sorted(rows, key=setting), key=setting):
        runs = list(group)
        first = runs[0]
        maps = [run["map"] for run in runs if "map" in run]  # a linear probe hashes nothing
        seeds = f" ({', '.join(f'{value:.3f}' for value in maps)})" if len(maps) > 1 else ""
        method = first["method"] if maps else f"{first['method']}, accuracy"
        if first.get("num_concepts", 4) != 4:
            method += f", {first['num_concepts']} concepts"
        if first["method"] == "fast" and not first.get("start_at_cls"):  # the first rows do not say: all were so
            method += ", tokens alone"
        if first.get("first_adapted_layer", _PRESETS) not in (0, _PRESETS):
            method += f", layers from {first['first_adapted_layer']} on"
        if first["method"] == "fast" and first["augmentation"] != "none":
            method += f", crops as in {first['augmentation']}"
        minutes = [(run["train_runtime"] + run.get("cache_runtime", 0)) / 60 for run in runs if "train_runtime" in run]
        threads = first.get("threads", 2)
        where = "H100" if "H100" in first["device"] else f"{threads} thread{'s' if threads > 1 else ''}"
        where += ", shared" if "shared" in first.get("note", "") else ""
        lines.append(
            f"| {first['photos']} | {first['backbone']}, {first['size']} "
            f"| {method} | {first.get('num_bits', 'float')} "
            f"| {f'**{statistics.mean(maps):.3f}**{seeds}' if maps else ''} "
            f"| {statistics.mean(run.get('precision@1', run.get('accuracy')) for run in runs):.3f} "
            f"| {f'{statistics.mean(minutes):.1f} ({where})' if minutes else ''} |"
        )
    return "\n".join(lines)


def setting(row: dict[str, Any]) -> tuple:
    """What is the same for the runs of one line."""
    order = ["float neighbours", "linear probe", "linear hash", "paper", "fast"]
    names = ("photos", "backbone", "size", "num_bits", "num_concepts", "device", "num_train_epochs", "start_at_cls")
    names += ("augmentation", "first_adapted_layer")
    return (*(str(row.get(name)) for name in names[:3]), order.index(row["method"]), *(str(row.get(n)) for n in names))


def main() -> None:
    """Add the runs that are given; print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="output folder of examples/train.py")
    parser.add_argument("--note", help="what to know of their times, such as: shared with other work")
    args = parser.parse_args()
    note = {} if args.note is None else {"note": args.note}
    with ROWS.open("a") as file:
        for run in args.runs:
            file.write(json.dumps(record(run) | note) + "\n")
    print(table([json.loads(line) for line in ROWS.read_text().splitlines()]))


if __name__ == "__main__":
    main()
