"""Keep what training runs measured, and print the table of docs/results.md from it.

python examples/benchmarks/results_table.py outputs/run-a outputs/run-b     # adds these runs to results.json
python examples/benchmarks/results_table.py                                 # prints the table alone
"""

import json
import sys
from pathlib import Path
from typing import Any

from concepthash_hf import ConceptHashConfig

RECORDS = Path(__file__).with_name("results.json")


def record(run: Path) -> dict[str, Any]:
    """What of a run goes on record: settings, metrics, times, versions; no paths."""
    results = json.loads((run / "all_results.json").read_text())
    config = ConceptHashConfig.from_pretrained(run)
    arguments = results["arguments"]
    return {
        "photos": results["photos"]["name"],
        "backbone": Path(config.base_model_name_or_path or "from scratch").name,
        **{
            name: getattr(config, name)
            for name in ("num_bits", "num_concepts", "binarize_class_embeddings", "diversity_weight")
        },
        "augmentation": results["augmentation"],
        "mixed_precision": results["environment"]["mixed_precision"],
        **{
            name: arguments[name]
            for name in (
                *("optimizer", "learning_rate", "weight_decay", "num_train_epochs", "per_device_train_batch_size"),
                "seed",
            )
        },
        **{
            name: results[name]
            for name in (
                *("eval_map", "eval_precision@1", "eval_precision@10", "eval_runtime"),
                *("train_runtime", "train_steps"),
            )
        },
        "environment": results["environment"],
    }


def settings(entry: dict[str, Any]) -> tuple:
    """Runs that differ in the seed alone stand in one row."""
    measured = ("eval_", "train_", "seed", "environment")
    return tuple(value for name, value in entry.items() if not name.startswith(measured))


def table(records: list[dict[str, Any]]) -> str:
    """Markdown, a row for each setting; mean metrics over seeds, and the times of every run."""
    rows = [
        "| photos | backbone | bits | class embeddings | diversity | precision | mAP@all (seeds) | P@1 | P@10 "
        "| s per step (threads) | training + evaluation, min |",
        "|" + " --- |" * 11,
    ]
    for key in dict.fromkeys(settings(entry) for entry in records):
        runs = [entry for entry in records if settings(entry) == key]
        first = runs[0]

        def mean(name: str, runs: list[dict[str, Any]] = runs) -> float:
            return sum(run[name] for run in runs) / len(runs)

        steps = ", ".join(
            f"{run['train_runtime'] / run['train_steps']:.2f} ({run['environment']['threads']})" for run in runs
        )
        minutes = ", ".join(f"{run['train_runtime'] / 60:.1f} + {run['eval_runtime'] / 60:.1f}" for run in runs)
        seeds = ", ".join(f"{run['seed']}: {run['eval_map']:.4f}" for run in runs)
        rows.append(
            f"| {first['photos']} | {first['backbone']} | {first['num_bits']} "
            f"| {'sign' if first['binarize_class_embeddings'] else 'values'} | {first['diversity_weight']:g} "
            f"| {'float32' if first['mixed_precision'] == 'no' else first['mixed_precision']} "
            f"| **{mean('eval_map'):.4f}** ({seeds}) | {mean('eval_precision@1'):.3f} "
            f"| {mean('eval_precision@10'):.3f} | {steps} | {minutes} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Add the runs given, print the table of all."""
    records = json.loads(RECORDS.read_text()) if RECORDS.is_file() else []
    for run in map(Path, sys.argv[1:]):
        new = record(run)
        same = [old for old in records if settings(old) == settings(new) and old["seed"] == new["seed"]]
        records = [old for old in records if old not in same] + [new]
    records.sort(key=lambda entry: (str(settings(entry)), entry["seed"]))
    if sys.argv[1:]:
        RECORDS.write_text(json.dumps(records, indent=2) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
