"""What an index of real photos finds: by whole codes, single concepts, logits, and words.

python examples/benchmarks/search_quality.py --model_name_or_path outputs/cub \
    --held_out_model_name_or_path outputs/half_of_cub --dataset my_photos

The database is the training photos, queries are the test photos. The index's own ranking must have the mAP that
`metrics` computes from the same codes. With a second model, trained on some of the classes only, it also measures what
new classes get: class names that nobody trained on, and telling strangers from members of a catalogue. Chance is the
mAP of a random order, exactly: that of codes which are all equal. Writes search_quality.json.

The numbers there are of photos of 100 species of birds (a part of CUB-200-2011). The second model was trained on the
photos of 50 of them, `numpy.random.default_rng(0).permutation` of the sorted names, as the JSON tells.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, AutoTokenizer, HfArgumentParser

from concepthash_hf import ConceptHashConfig, ConceptHashModel
from concepthash_hf.codes import binarize, pack_bits
from concepthash_hf.data import PhotoSplits, eval_transform, load_photos
from concepthash_hf.hashing import on_cpu
from concepthash_hf.index import HammingIndex, calibrate_radius, neighbour_vote
from concepthash_hf.language import embed_class_names
from concepthash_hf.metrics import retrieval_metrics, sub_code_metrics
from concepthash_hf.training import environment
from concepthash_hf.whole_files import write_json

TIES = "stable"  # what an index does: equal distances by position
PRECISION_AT = 10
FALSE_ACCEPT_RATE = 0.05


@dataclass
class Arguments:
    """Which models, on which photos."""

    model_name_or_path: str = field(metadata={"help": "A ConceptHash model trained on all classes."})
    dataset: str = field(metadata={"help": "The photos: see examples/train.py."})
    held_out_model_name_or_path: str | None = field(
        default=None, metadata={"help": "A model trained on some of the classes; the others are held out."}
    )
    batch_size: int = field(default=64, metadata={"help": "Photos at a time."})
    output: Path = field(default=Path(__file__).with_suffix(".json"), metadata={"help": "JSON file for the numbers."})


@dataclass(frozen=True)
class Photos:
    """Hashed photos: logits `(n, K)`, packed codes `(n, W)`, labels `(n,)`."""

    logits: np.ndarray
    codes: np.ndarray
    labels: np.ndarray

    def of_classes(self, classes: Sequence[int]) -> "Photos":
        """The photos of some classes."""
        kept = np.isin(self.labels, classes)
        return Photos(self.logits[kept], self.codes[kept], self.labels[kept])


@torch.no_grad()
def hash_photos(model: ConceptHashModel, photos: Any, batch_size: int, device: torch.device) -> Photos:
    """Hash a split, keeping the logits."""
    logits, labels = [], []
    for batch in tqdm(DataLoader(photos, batch_size), desc="hashing", leave=False):
        logits.append(model.vision_model(batch["pixel_values"].to(device)).code_logits.float().cpu())
        labels.append(batch["labels"])
    joined = torch.cat(logits)
    return Photos(joined.numpy(), pack_bits(binarize(joined)).numpy(), torch.cat(labels).numpy())


def mean_average_precision(ranked: np.ndarray, query_labels: np.ndarray, labels: np.ndarray) -> float:
    """Of whole rankings, positions `(Q, n)`; straight from the definition."""
    relevant = labels[ranked] == query_labels[:, None]
    precision = relevant.cumsum(axis=1) / np.arange(1, ranked.shape[1] + 1)
    return float(((precision * relevant).sum(axis=1) / relevant.sum(axis=1)).mean())


def precision(ranked: np.ndarray, query_labels: np.ndarray, labels: np.ndarray) -> float:
    """The share of the first 10 that is relevant."""
    return float((labels[ranked[:, :PRECISION_AT]] == query_labels[:, None]).mean())


def measure_ranking(index: HammingIndex, queries: Photos, database: Photos) -> dict[str, Any]:
    """The index's rankings beside `metrics`, and what logits add to bits."""
    n, num_concepts = len(index), index.num_concepts
    task = queries.codes, queries.labels, database.codes, database.labels

    def map_of(ranked: np.ndarray) -> float:
        return mean_average_precision(ranked, queries.labels, database.labels)

    by_bits = index.search(queries.codes, n).ids
    by_logits = index.search_by_logits(queries.logits, n).ids
    alone = [map_of(index.search(queries.codes, n, concept_weights={m: 1}).ids) for m in range(num_concepts)]
    return {
        "whole_codes": {
            "map_of_index": map_of(by_bits),
            "map_of_metrics": retrieval_metrics(*task, ties=TIES, at=())["map"],
            "map_of_metrics_expected_over_ties": retrieval_metrics(*task, at=())["map"],
        },
        "one_concept_alone": {
            "map_of_index": alone,
            "map_of_metrics": sub_code_metrics(*task, index.num_bits, num_concepts, ties=TIES)["map_alone"],
            "map_of_metrics_expected_over_ties": sub_code_metrics(*task, index.num_bits, num_concepts)["map_alone"],
        },
        "logits_of_the_query": {
            "map": map_of(by_logits),
            "gain_in_map": map_of(by_logits) - map_of(by_bits),
            f"precision@{PRECISION_AT}": precision(by_logits, queries.labels, database.labels),
            f"precision@{PRECISION_AT}_by_bits": precision(by_bits, queries.labels, database.labels),
        },
    }


def measure_words(codes_of_names: np.ndarray, classes: Sequence[int], photos: Photos) -> dict[str, float]:
    """Class names asked for photos, and photos asked for their class name; among these classes only."""
    photos = photos.of_classes(classes)
    names = codes_of_names[classes]
    nothing = np.zeros_like(names), np.asarray(classes), np.zeros_like(photos.codes), photos.labels
    index = HammingIndex.from_codes(
        names, num_bits=8 * names.shape[1], num_concepts=1, metadata={"label": list(classes)}
    )
    votes = np.array([vote.label for vote in neighbour_vote(index, photos.codes, 1, "label")])
    return {
        "num_classes": len(classes),
        "num_photos": len(photos.codes),
        "map": retrieval_metrics(names, np.asarray(classes), photos.codes, photos.labels, at=())["map"],
        "map_by_chance": retrieval_metrics(*nothing, at=())["map"],
        "photos_nearest_to_their_name": float((votes == photos.labels).mean()),
        "photos_nearest_to_their_name_by_chance": 1 / len(classes),
    }


def measure_catalogue(
    database: Photos, queries: Photos, trained: Sequence[int], held_out: Sequence[int], num_bits: int
) -> dict[str, Any]:
    """A catalogue of the trained classes; half of the others' photos calibrate the radius, half test it."""
    index = HammingIndex.from_codes(database.of_classes(trained).codes, num_bits=num_bits, num_concepts=1)
    strangers, members = queries.of_classes(held_out).codes, queries.of_classes(trained).codes
    found = calibrate_radius(index, strangers[::2], FALSE_ACCEPT_RATE, members)
    others = index.search(strangers[1::2], 1).distances[:, 0]
    return {
        "wanted_false_accept_rate": FALSE_ACCEPT_RATE,
        **asdict(found),
        "false_accept_rate_of_other_strangers": float((others <= found.radius).mean()),
        "num_other_strangers": len(others),
    }


class Bench:
    """A model with the photos it hashed."""

    def __init__(self, path: str, splits: PhotoSplits, batch_size: int, device: torch.device) -> None:
        self.model = ConceptHashModel.from_pretrained(path).to(device).eval()
        transform = eval_transform(AutoImageProcessor.from_pretrained(path))
        self.queries, self.database = (
            hash_photos(self.model, splits.torch_dataset(split, transform), batch_size, device)
            for split in ("query", "database")
        )
        tokenizer = AutoTokenizer.from_pretrained(path)
        embeddings = embed_class_names(self.model.text_model, tokenizer, splits.class_names, splits.template)
        self.codes_of_names = self.model.get_text_hash_codes(embeddings).cpu().numpy()
        self.num_bits = self.model.config.vision_config.num_bits
        self.num_concepts = self.model.config.vision_config.num_concepts


def describe_model(path: str) -> dict[str, Any]:
    """Its name and classes, and how it was trained, where examples/train.py has written that down."""
    config = ConceptHashConfig.from_pretrained(path)
    file = Path(path) / "all_results.json"
    record = json.loads(file.read_text()) if file.is_file() else {}
    return {
        "name": Path(path).name,
        "classes": [config.id2label[i] for i in range(config.num_labels)],
        "arguments": record.get("arguments"),
        "train_runtime": record.get("train_runtime"),
    }


def main() -> None:
    """Hash, measure, write."""
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
    accelerator = Accelerator(cpu=on_cpu())
    splits = load_photos(args.dataset)
    names = list(splits.class_names)
    everything = list(range(len(names)))

    bench = Bench(args.model_name_or_path, splits, args.batch_size, accelerator.device)
    index = HammingIndex.from_codes(bench.database.codes, num_bits=bench.num_bits, num_concepts=bench.num_concepts)
    results: dict[str, Any] = {
        "ranking": measure_ranking(index, bench.queries, bench.database),
        "words": {"trained_names": measure_words(bench.codes_of_names, everything, bench.queries)},
    }
    held_out_model = args.held_out_model_name_or_path
    if held_out_model:
        bench = Bench(held_out_model, splits, args.batch_size, accelerator.device)
        known = set(bench.model.config.id2label.values())
        trained, held_out = ([i for i in everything if (names[i] in known) == wanted] for wanted in (True, False))
        results["words"]["trained_names_of_second_model"] = measure_words(bench.codes_of_names, trained, bench.queries)
        results["words"]["held_out_names"] = measure_words(bench.codes_of_names, held_out, bench.queries)
        unseen = bench.queries.of_classes(held_out), bench.database.of_classes(held_out)
        results["photos_of_held_out_classes_map"] = retrieval_metrics(
            unseen[0].codes, unseen[0].labels, unseen[1].codes, unseen[1].labels, at=()
        )["map"]
        results["catalogue"] = measure_catalogue(bench.database, bench.queries, trained, held_out, bench.num_bits)
    results["photos"] = {"name": splits.name, **splits.counts}
    results["models"] = [describe_model(path) for path in (args.model_name_or_path, held_out_model) if path]
    results["environment"] = environment(accelerator)
    write_json(args.output, results)
    print(json.dumps({name: results[name] for name in results if name not in ("models", "environment")}, indent=2))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
