"""Measure a saved ConceptHash model on photos: a table, JSON and, where matplotlib is there, a figure."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from transformers import BaseImageProcessor

from ..data import PhotoSplits, class_families, describe_photos, eval_transform
from ..hasher import load_image_processor
from ..hashing import Hasher, hash_dataset, on_cpu, read_dataset
from ..json_files import read_mapping
from ..launch import keep_freed_memory, use_own_cores
from ..metrics import (
    chance_metrics,
    code_quality,
    family_metrics,
    feature_metrics,
    knn_accuracy,
    per_class_metrics,
    precision_recall_curve,
    radius_metrics,
    retrieval_metrics,
    sub_code_metrics,
)
from ..metrics.figures import retrieval_figure
from ..models import model_class
from ..quoting import printable
from ..training import environment
from ..whole_files import replacing, write_json
from .arguments import read_arguments
from .hashing_arguments import HashingArguments

_COMPARED = {"map": "mAP", "precision@1": "P@1", "precision@5": "P@5", "precision@10": "P@10"}
_WHAT_THEY_ARE = (
    "mAP: the database is ranked by distance to a query, and 1 where all photos of its class come first.\n"
    "P@k: the share of the k nearest that is of its class. Both are means over all queries."
)


@dataclass(frozen=True, kw_only=True)
class Arguments(HashingArguments):
    """Which model, on which photos, measured how."""

    model_name_or_path: str = field(
        metadata={"help": "A saved ConceptHash model: a folder or a Hub id.", "aliases": ["--model"]}
    )
    class_families: str | None = field(
        default=None,
        metadata={"help": 'JSON file {"class name": "family"}; default the column "family", if all have one.'},
    )
    top_k: int | None = field(default=None, metadata={"help": "R: also report map@R and map@R_retrieved."})
    ties: Literal["expected", "stable", "optimistic", "pessimistic"] = field(
        default="expected", metadata={"help": "What becomes of items at equal distance."}
    )
    on_bad_image: Literal["raise", "skip"] = field(
        default="raise", metadata={"help": "What to do with unreadable photos."}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Where the files go; default outputs/evaluate-<dataset>-<bits>-<time>."}
    )


def main(words: Sequence[str] | None = None) -> None:
    """Load, hash, measure, write."""
    args: Arguments = read_arguments(Arguments, words)
    args = args.with_photos_of(args.model_name_or_path)
    accelerator = Accelerator(cpu=on_cpu(), mixed_precision=args.mixed_precision)
    keep_freed_memory()
    if on_cpu() and accelerator.num_processes == 1:
        use_own_cores()
    with accelerator.main_process_first():  # the others find what the first has prepared in the cache
        splits = args.load_photos(args.on_bad_image)
    if accelerator.is_main_process:
        print(describe_photos(splits), flush=True)
    families = family_numbers(args, splits)
    model = model_class(args.model_name_or_path).from_pretrained(args.model_name_or_path).to(accelerator.device)
    processor = load_image_processor(args.model_name_or_path)
    features = None
    with accelerator.autocast():
        task = read_splits(args, splits, processor, accelerator, partial(hash_dataset, model))
        if getattr(model.config, "freeze_backbone", False):  # a tower alone does not say whether it was trained
            bare = torch.no_grad()(model.vision_model.backbone_features)
            features = read_splits(
                args, splits, processor, accelerator, partial(read_dataset, bare, doing="bare backbone")
            )
    if accelerator.is_main_process:
        report(args, splits, model, task, features, families, environment(accelerator))
    accelerator.end_training()


def report(
    args: Arguments,
    splits: PhotoSplits,
    model: Hasher,
    task: tuple[np.ndarray, ...],
    features: tuple[np.ndarray, ...] | None,
    families: list[int] | None,
    circumstances: dict[str, Any],
) -> None:
    """Measure; write and print the numbers; then draw the figure, if that is possible."""
    results = measure(args, task, model, families) | baselines(task, features)
    curve = precision_recall_curve(*task, ties=args.ties)
    now = time.strftime("%Y%m%d-%H%M%S")
    folder = Path(args.output_dir or f"outputs/evaluate-{splits.name}-{model.num_bits}-{now}")
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        **results,
        "curve": {name: values.tolist() for name, values in asdict(curve).items()},
        "class_names": list(splits.query_class_names),
        "arguments": asdict(args),
        "photos": {"name": splits.name, **splits.counts},
        "environment": circumstances,
    }
    write_json(folder / "evaluation.json", record)
    print(printable(f"\n{comparison(results, model.num_bits)}\n\n{table(results)}"))
    print(f"\nnumbers: {folder / 'evaluation.json'}", flush=True)
    try:
        figure = retrieval_figure(curve, results["per_class"], splits.query_class_names, results["retrieval"]["map"])
    except ImportError as error:
        print(f'no figure: {error}. It takes pip install "concepthash_hf[viz]"')
        return
    for suffix in ("png", "pdf"):
        with replacing(folder / f"evaluation.{suffix}") as part:
            figure.savefig(part, dpi=200)
    print(f"figure: {folder / 'evaluation.png'}, and as .pdf")


def family_numbers(args: Arguments, splits: PhotoSplits) -> list[int] | None:
    """The family of every class, as a number, from a file or the photos; None where photos do not name that of all."""
    names = splits.query_class_names
    if args.class_families:
        family_of = read_mapping(args.class_families)
        if missing := [name for name in names if name not in family_of]:
            raise ValueError(
                f"{args.class_families} has no family for {len(missing)} classes: {', '.join(missing[:5])}"
            )
    else:
        family_of = class_families(splits)
        if not set(names) <= set(family_of):
            return None
    return np.unique([family_of[name] for name in names], return_inverse=True)[1].tolist()


def read_splits(
    args: Arguments,
    splits: PhotoSplits,
    processor: BaseImageProcessor,
    accelerator: Accelerator,
    reading: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, ...]:
    """What is read of the queries and their labels, then of the database."""
    transform, read = eval_transform(processor), []
    for split in ("query", "database"):
        photos = splits.torch_dataset(split, transform, on_bad_image=args.on_bad_image)
        read += reading(photos, accelerator, args.per_device_eval_batch_size, args.dataloader_num_workers)
    return tuple(read)


def baselines(task: tuple[np.ndarray, ...], features: tuple[np.ndarray, ...] | None) -> dict[str, dict[str, Any]]:
    """What the codes have to beat: chance, and the features of the bare backbone, if that is there."""
    found: dict[str, dict[str, Any]] = {"chance": chance_metrics(task[1], task[3])}
    if features is not None:
        found["backbone"] = {**feature_metrics(*features), "feature_dim": features[0].shape[1]}
    return found


def measure(
    args: Arguments, task: tuple[np.ndarray, ...], model: Hasher, families: list[int] | None
) -> dict[str, Any]:
    """Everything there is to know, by group; what needs one class per photo is left out for photos of several."""
    num_bits, num_concepts = model.num_bits, model.num_concepts
    results: dict[str, Any] = {
        "retrieval": retrieval_metrics(*task, top_k=args.top_k, ties=args.ties),
        "radius": radius_metrics(*task),
        "sub_codes": sub_code_metrics(*task, num_bits, num_concepts, ties=args.ties),
    }
    query_codes, query_labels = task[:2]
    if query_labels.ndim == 1:
        results["neighbours"] = knn_accuracy(*task)
        results["query_codes"] = code_quality(query_codes, query_labels, num_bits, num_concepts, families)
        if families is not None:
            results["families"] = family_metrics(*task, families)
    return results | {"per_class": per_class_metrics(*task, top_k=args.top_k, ties=args.ties)}


def comparison(results: dict[str, Any], num_bits: int) -> str:
    """The codes beside what they have to beat, and what the numbers mean."""
    rows = {f"these codes, {num_bits} bits": results["retrieval"]}
    if bare := results.get("backbone"):
        rows[f"the bare backbone, {bare['feature_dim']} floats"] = bare
    rows["chance"] = results["chance"]
    lines = [f"{'':<34}" + "".join(f"{name:>8}" for name in _COMPARED.values())]
    lines += [f"{name:<34}" + "".join(f"{row[key]:>8.3f}" for key in _COMPARED) for name, row in rows.items()]
    return "\n".join([*lines, _WHAT_THEY_ARE])


def table(results: dict[str, Any]) -> str:
    """Single numbers and numbers per concept, a line each; what is per bit or per class is in the JSON."""
    lines = []
    for group, values in results.items():
        if group in ("per_class", "chance", "backbone"):
            continue
        lines += ["", group.replace("_", " ")]
        for name, value in values.items():
            if isinstance(value, int | float):
                lines.append(f"  {name:<46}{value:>10.4f}" if isinstance(value, float) else f"  {name:<46}{value:>10}")
            elif isinstance(value, list) and name.startswith(("map_", "sub_code_entropies", "distance_")):
                lines.append(f"  {name:<46}" + " ".join(f"{v:>10.4f}" for v in value if v is not None))
    return "\n".join(lines[1:])
