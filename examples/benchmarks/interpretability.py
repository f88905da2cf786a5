"""Is what the concepts show true? Parts, diversity, faithfulness, selectivity, stability of saved models.

    python examples/benchmarks/interpretability.py --models outputs/toy_birds-32-20260101-120000
    python examples/benchmarks/interpretability.py --models with without --dataset my_birds --output table.json

All is measured on the test photos. Every measure stands beside its chance level; what they mean is in the docstrings
of `concepthash_hf.explain.measures`. Prints a table, a column for each model, and writes JSON.
"""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch.utils.data import Dataset, Subset
from transformers import AutoImageProcessor, HfArgumentParser

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import PhotoSplits, eval_transform, load_photos
from concepthash_hf.data.changed_birds import CHANGED_PARTS, ChangedBirds
from concepthash_hf.explain import read_concepts
from concepthash_hf.explain.measures import Measurement
from concepthash_hf.explain.measures.curves import deletion_insertion
from concepthash_hf.explain.measures.diversity import diversity
from concepthash_hf.explain.measures.faithfulness import faithfulness
from concepthash_hf.explain.measures.keypoint_regression import keypoint_regression
from concepthash_hf.explain.measures.localisation import localisation
from concepthash_hf.explain.measures.part_discovery import part_discovery
from concepthash_hf.explain.measures.region_only import region_only
from concepthash_hf.explain.measures.selectivity import agreement_with_localisation, selectivity
from concepthash_hf.explain.measures.stability import stability
from concepthash_hf.hashing import on_cpu
from concepthash_hf.training import environment
from concepthash_hf.whole_files import write_json

#: Row of the table, where its value and its chance level are.
ROWS = {
    "mAP": ("retrieval.eval_map", None),
    "localisation: own part, times chance": ("localisation.times_chance", 1),
    "localisation: own part, times other photos": ("localisation.times_other_photos", 1),
    "peak on or beside any part (masks: attention inside), by concept": (
        "localisation.any_part",
        "localisation.any_part_chance",
    ),
    "consistency of the part, by concept": ("localisation.consistency", "localisation.consistency_chance"),
    "NMI of concept and part": ("part_discovery.nmi", "part_discovery.nmi_chance"),
    "ARI of concept and part": ("part_discovery.ari", "part_discovery.ari_chance"),
    "keypoint regression from concept centres, error (shuffled)": (
        "keypoint_regression.error",
        "keypoint_regression.shuffled_error",
    ),
    "... from the mean position": ("keypoint_regression.mean_position_error", None),
    "overlap of attentions, cosine": ("diversity.cosine", "diversity.cosine_chance"),
    "same patch attended most": ("diversity.same_peak", "diversity.same_peak_chance"),
    "hide 10 % by blur: own sub-code, flipped bits": ("faithfulness_blur_10.diagonal", "faithfulness_blur_10.random"),
    "hide 10 % by blur: own / other sub-codes": ("faithfulness_blur_10.diagonal_over_off_diagonal", 1),
    "hide 20 % by blur: own sub-code, flipped bits": ("faithfulness_blur_20.diagonal", "faithfulness_blur_20.random"),
    "hide 20 % by blur: own / other sub-codes": ("faithfulness_blur_20.diagonal_over_off_diagonal", 1),
    "hide 10 % by grey: own sub-code, flipped bits": ("faithfulness_grey_10.diagonal", "faithfulness_grey_10.random"),
    "hide 10 % by grey: own / other sub-codes": ("faithfulness_grey_10.diagonal_over_off_diagonal", 1),
    "hide 20 % by grey: own sub-code, flipped bits": ("faithfulness_grey_20.diagonal", "faithfulness_grey_20.random"),
    "hide 20 % by grey: own / other sub-codes": ("faithfulness_grey_20.diagonal_over_off_diagonal", 1),
    "show nothing but the concept's region: own bits kept (region at random)": (
        "region_only.own_kept",
        "region_only.random_kept",
    ),
    "... other sub-codes' bits kept (all hidden)": ("region_only.other_kept", "region_only.nothing_kept"),
    "... share of the photo in the region, by concept": ("region_only.region_share", None),
    "deletion area (lower is better)": ("curves.deletion_area", "curves.random_deletion_area"),
    "insertion area (higher is better)": ("curves.insertion_area", "curves.random_insertion_area"),
    "change of a part in one sub-code": ("selectivity.mean_concentration", "selectivity.concentration_chance"),
    "a changed part flips the concepts that look at it (rank correlation)": ("selectivity.agreement", 0),
    "same bits when mirrored": ("stability.flip.same_bits", "stability.chance"),
    "same bits when cropped": ("stability.crop.same_bits", "stability.chance"),
    "same bits as JPEG": ("stability.jpeg.same_bits", "stability.chance"),
}


@dataclass
class Arguments:
    """Which models, on which photos."""

    models: list[str] = field(metadata={"help": "Saved ConceptHash models: folders or Hub ids."})
    dataset: str = field(default="toy_birds", metadata={"help": "Photos with part annotations, as for evaluate.py."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Where a benchmark's unpacked official archive is, instead of the Hub."}
    )
    max_photos_maps: int | None = field(
        default=None, metadata={"help": "Test photos to look at, drawn at random; default all."}
    )
    max_photos_train: int = field(
        default=1000, metadata={"help": "Training photos to fit keypoint regression to, drawn at random."}
    )
    max_photos: int = field(default=480, metadata={"help": "Test photos to hide parts of, drawn at random."})
    max_photos_curves: int = field(
        default=96, metadata={"help": "Of those, for curves and changed parts; 0 leaves them out."}
    )
    hiding: list[str] = field(
        default_factory=lambda: ["blur_10", "blur_20", "grey_10", "grey_20"],
        metadata={"help": "How to hide what a concept attends to: blur or grey, and percent of the patches."},
    )
    seed: int = field(default=0, metadata={"help": "Of all that is drawn at random."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode photos."})
    output: str | None = field(default=None, metadata={"help": "JSON file to write."})


def main() -> None:
    """Measure every model, print the table, write the numbers."""
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    accelerator = Accelerator(cpu=on_cpu())
    try:
        splits = load_photos(args.dataset, data_dir=args.data_dir)
        results = {label: measure(name, splits, args, accelerator) for label, name in labels(args.models).items()}
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(results))
    if args.output:
        of_here = ("models", "dataset", "data_dir", "output")  # paths that mean nothing elsewhere
        arguments = {name: value for name, value in asdict(args).items() if name not in of_here}
        record = {"models": results, "photos": {"name": splits.name, **splits.counts}, "arguments": arguments}
        write_json(Path(args.output), record | {"environment": environment(accelerator)})


def labels(models: list[str]) -> dict[str, str]:
    """What to call each model: its folder's name, or all of the path where two have the same."""
    short = {Path(name).name: name for name in models}
    return short if len(short) == len(models) else {name: name for name in models}


def measure(name: str, splits: PhotoSplits, args: Arguments, accelerator: Accelerator) -> dict[str, Any]:
    """All measurements of one model."""
    model = ConceptHashModel.from_pretrained(name).to(accelerator.device)
    processor = AutoImageProcessor.from_pretrained(name)
    transform = eval_transform(processor)
    photos = splits.torch_dataset("query", transform, with_parts=True)
    order = np.random.default_rng(args.seed).permutation(len(photos)).tolist()
    seen, some, few = order[: args.max_photos_maps], order[: args.max_photos], order[: args.max_photos_curves]
    plain = splits.torch_dataset("query", transform)
    loading = {"num_workers": args.num_workers}

    readings = read_concepts(model, Subset(photos, sorted(seen)), **loading)
    located = localisation(readings, splits.part_names, args.seed)
    found: dict[str, Measurement] = {
        "localisation": located,
        "part_discovery": part_discovery(readings, splits.part_names, args.seed),
        "diversity": diversity(readings),
        "region_only": region_only(model, Subset(plain, some), seed=args.seed, **loading),
        "stability": stability(model, Subset(plain, some), processor, **loading),
    }
    if few:
        found["curves"] = deletion_insertion(model, Subset(plain, few), "blur", seed=args.seed, **loading)
    if readings.has_points:
        train = splits.torch_dataset("train", transform, with_parts=True)
        rows = np.random.default_rng(args.seed).permutation(len(train))[: args.max_photos_train]
        to_fit = read_concepts(model, Subset(train, sorted(rows.tolist())), **loading)
        found["keypoint_regression"] = keypoint_regression(readings, to_fit, splits.part_names, args.seed)
    for way in args.hiding:
        hide, _, percent = way.partition("_")
        share = int(percent) / 100 if percent.isdecimal() else 0  # which is refused
        found[f"faithfulness_{way}"] = faithfulness(model, Subset(plain, some), hide, share, args.seed, **loading)
    if few and splits.name == "toy_birds":
        changed: Dataset = ChangedBirds(splits.query.select(sorted(few)), transform, args.seed)
        selective = selectivity(model, changed, CHANGED_PARTS, args.seed, **loading)
        found["selectivity"] = replace(selective, agreement=agreement_with_localisation(selective, located))
    vision = model.config.vision_config
    of_vision = {"num_bits": vision.num_bits, "num_concepts": vision.num_concepts, "read_out": vision.read_out}
    return {
        "config": of_vision | {"diversity_weight": model.config.diversity_weight},
        "retrieval": saved_results(name),
        **{kind: measured.to_dict() for kind, measured in found.items()},
    }


def saved_results(name: str) -> dict[str, Any]:
    """The mAP that training has written beside the model, if it is there."""
    file = Path(name) / "all_results.json"
    return {"eval_map": json.loads(file.read_text()).get("eval_map")} if file.is_file() else {}


def table(results: dict[str, dict[str, Any]]) -> str:
    """A markdown table: a row for each measure, a column for each model, chance in brackets."""
    lines = [
        "| measure (chance) | " + " | ".join(results) + " |",
        "| --- |" + " --- |" * len(results),
    ]
    for row, (path, chance_path) in ROWS.items():
        cells = [cell(found, path, chance_path) for found in results.values()]
        if any(cells):
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(found: dict[str, Any], path: str, chance_path: str | int | None) -> str:
    """A number, or one for each concept, and its chance level."""
    value = look_up(found, path)
    if value is None:
        return ""
    chance = look_up(found, chance_path) if isinstance(chance_path, str) else chance_path
    return written(value, ".2f") if chance is None else f"{written(value, '.2f')} ({written(chance, '.2g')})"


def written(value: float | list[float], form: str) -> str:
    """A number, or numbers beside each other."""
    return " ".join(f"{number:{form}}" for number in (value if isinstance(value, list) else [value]))


def look_up(found: Any, path: str) -> Any:
    """The value at a path of keys, or None."""
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


if __name__ == "__main__":
    main()
