"""Show what a ConceptHash model's concepts see: a page to open in a browser, and the concept gallery as a picture."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BaseImageProcessor

from .. import ConceptHashModel
from ..data import PhotoSplits, class_families, decode_image, describe_photos, eval_transform
from ..explain import (
    ConceptGallery,
    MatchExplanation,
    Report,
    concept_gallery,
    explain_images,
    measure_concepts,
    read_concepts,
)
from ..explain.attributes import AttributeLift, attribute_lifts, load_attributes, photo_attributes
from ..explain.class_tree import class_codes, class_tree
from ..explain.crops import photo_as_seen
from ..explain.figure_parts import zeros_and_ones
from ..explain.measures import Measurement, read_measurements
from ..explain.measures.families import family_agreement
from ..explain.report import ConceptSummary, Fact, Neighbour, QueryResult
from ..explain.tree_figure import draw_tree
from ..explain.verdict import concept_verdict
from ..hasher import load_image_processor
from ..hashing import hash_dataset, on_cpu
from ..index import HammingIndex
from ..json_files import read_mapping
from ..language import clean_class_name
from ..launch import keep_freed_memory, use_own_cores
from ..metrics import chance_metrics, sub_code_metrics
from ..quoting import printable
from .arguments import read_arguments
from .hashing_arguments import LoadingArguments
from .picture_files import save_picture


@dataclass(frozen=True, kw_only=True)
class Arguments(LoadingArguments):
    """Which model, on which photos."""

    model_name_or_path: str = field(
        metadata={"help": "A saved ConceptHash model: a folder or a Hub id.", "aliases": ["--model"]}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Where the files go; default outputs/explain-<dataset>-<bits>-<time>."}
    )
    num_photos: int = field(default=4, metadata={"help": "Photos explained one by one."})
    num_queries: int = field(default=6, metadata={"help": "Queries explained with what they find."})
    num_neighbours: int = field(default=3, metadata={"help": "Photos shown of what a query finds."})
    measurements: str | None = field(
        default=None,
        metadata={"help": "JSON file from benchmarks/interpretability.py; default: what is quick to measure."},
    )
    attributes: str | None = field(
        default=None,
        metadata={"help": 'JSON file of class attributes, as CUB has them; default the column "attributes".'},
    )
    class_families: str | None = field(
        default=None,
        metadata={"help": 'JSON file {"class name": "family"}; default the column "family", if all have one.'},
    )
    on_bad_image: Literal["raise", "skip"] = field(
        default="raise", metadata={"help": "What to do with unreadable photos."}
    )


def main(words: Sequence[str] | None = None) -> None:
    """Load, look, write."""
    args: Arguments = read_arguments(Arguments, words)
    args = args.with_photos_of(args.model_name_or_path)
    keep_freed_memory()
    if on_cpu():
        use_own_cores()
    if min(args.num_photos, args.num_queries) < 0 or args.num_neighbours < 1:
        raise ValueError("--num_photos and --num_queries are 0 or more, --num_neighbours 1 or more")
    splits = args.load_photos(args.on_bad_image)
    print(describe_photos(splits), flush=True)
    if args.on_bad_image == "skip":
        splits, _ = splits.without_bad_images(args.dataloader_num_workers)
    model = ConceptHashModel.from_pretrained(args.model_name_or_path)
    model.to("cpu" if on_cpu() else torch.accelerator.current_accelerator())
    processor = load_image_processor(args.model_name_or_path)
    report = Explainer(args, splits, model, processor).report()
    now = time.strftime("%Y%m%d-%H%M%S")
    folder = Path(args.output_dir or f"outputs/explain-{splits.name}-{model.config.num_bits}-{now}")
    folder.mkdir(parents=True, exist_ok=True)
    report.save(folder / "report.html")
    save_picture(report.gallery.figure(), folder / "gallery.png")
    print(f"open {folder / 'report.html'}")


class Explainer:
    """A model, photos, and what the model makes of them."""

    def __init__(
        self, args: Arguments, splits: PhotoSplits, model: ConceptHashModel, processor: BaseImageProcessor
    ) -> None:
        self.args, self.splits, self.model, self.processor = args, splits, model, processor
        transform, loading = eval_transform(processor), (args.per_device_eval_batch_size, args.dataloader_num_workers)
        self.query_photos = splits.torch_dataset("query", transform, with_parts=splits.parts_column is not None)
        self.readings = read_concepts(model, self.query_photos, *loading)
        self.database_codes, self.database_labels = hash_dataset(
            model, splits.torch_dataset("database", transform), None, *loading
        )

    def report(self) -> Report:
        """All that there is to show."""
        nearest = self.nearest_neighbours()
        captions = [self.caption("query", row) for row in range(len(self.readings))]
        shown = spread(self.by_class(), self.args.num_photos)
        explanations = explain_images(self.model, self.processor, [self.picture("query", row) for row in shown])
        return Report(
            title=Path(self.args.model_name_or_path).name,
            photos=f"{self.splits.name}, test photos; what is found: photos of the database",
            facts=self.facts(),
            concepts=self.concepts(),
            gallery=self.gallery,
            gallery_captions=captions,
            gallery_words=self.words(),
            explained=[(captions[row], explanation) for row, explanation in zip(shown, explanations, strict=True)],
            queries=[self.explain_query(row, nearest[row]) for row in self.chosen_queries(nearest)],
            tables=[measured.table() for measured in self.measurements.values()],
            tree=draw_tree(self.tree, *self.classes) if self.classes is not None else None,
            read_out=self.model.config.vision_config.read_out,
        )

    def caption(self, split: str, row: int) -> str:
        """The names of a photo's classes."""
        names = self.splits.query_class_names
        labels = getattr(self.splits, split)[row][self.splits.label_column]
        return ", ".join(clean_class_name(names[label]) for label in ([labels] if isinstance(labels, int) else labels))

    def by_class(self) -> list[int]:
        """All queries, those of a class together."""
        assert self.readings.labels is not None
        return sorted(range(len(self.readings)), key=lambda row: self.readings.labels[row].tolist())

    def picture(self, split: str, row: int) -> Any:
        """A photo that is not decoded yet."""
        return getattr(self.splits, split)[row][self.splits.image_column]

    def nearest_neighbours(self) -> np.ndarray:
        """Rows of the database by distance, for every query, int64 `(Q, k)`."""
        vision = self.model.config.vision_config
        index = HammingIndex.from_codes(
            self.database_codes, num_bits=vision.num_bits, num_concepts=vision.num_concepts
        )
        return index.search(self.readings.codes, min(self.args.num_neighbours, len(index))).ids

    def relevant(self, query: int, found: int) -> bool:
        """Whether two photos share a class."""
        one, other = self.readings.labels[query], self.database_labels[found]
        return bool(np.any(one * other > 0) if np.ndim(one) else one == other)

    def chosen_queries(self, nearest: np.ndarray) -> list[int]:
        """Queries from all over, the second half of them among those that find a wrong photo first."""
        rows = self.by_class()
        wrong = [row for row in rows if not self.relevant(row, nearest[row, 0])]
        mistakes = spread(wrong, self.args.num_queries // 2)
        others = spread([row for row in rows if row not in mistakes], self.args.num_queries - len(mistakes))
        return others + mistakes

    def explain_query(self, query: int, found: np.ndarray) -> QueryResult:
        """One search, photo by photo."""
        pictures = [self.picture("query", query), *(self.picture("database", row) for row in found.tolist())]
        asked, *answers = explain_images(self.model, self.processor, pictures)
        neighbours = [
            Neighbour(self.caption("database", row), self.relevant(query, row), MatchExplanation(asked, answer))
            for row, answer in zip(found.tolist(), answers, strict=True)
        ]
        return QueryResult(self.caption("query", query), asked, neighbours)

    def facts(self) -> list[Fact]:
        """The model, and how well it retrieves these photos."""
        config, vision = self.model.config, self.model.config.vision_config
        grid = vision.image_size // vision.patch_size
        return [
            Fact("code", f"{vision.num_bits} bits"),
            Fact("concepts", vision.num_concepts),
            Fact("concepts read a photo by", vision.read_out),
            Fact("photo as seen", f"{vision.image_size} x {vision.image_size} pixels, {grid} x {grid} patches"),
            Fact("backbone", Path(config.base_model_name_or_path or "from scratch").name),
            Fact("parameters", self.model.num_parameters()),
            Fact("classes trained on", config.num_labels),
            Fact("queries", len(self.readings), "test photos, each asked with once"),
            Fact("database", len(self.database_codes), "photos that are searched"),
            Fact(
                "mAP over the whole ranking",
                self.alone["map"],
                "Mean average precision: the database ranked by distance to a query, 1 where all photos of its "
                f"class come first. In random order: {self.chance:.3f}.",
            ),
        ]

    def concepts(self) -> list[ConceptSummary]:
        """What is known of each concept."""
        return [
            ConceptSummary(
                attention=self.readings.attentions[:, concept].mean(0),
                facts=[
                    Fact("mAP with its bits alone", self.alone["map_alone"][concept], f"by chance {self.chance:.3f}"),
                    Fact(
                        "mAP without its bits",
                        self.alone["map_left_out"][concept],
                        f"with them {self.alone['map']:.3f}",
                    ),
                    Fact(
                        "attention on the photo",
                        f"{self.readings.attentions[:, concept].sum((1, 2)).mean():.0%}",
                        "the rest of it is on tokens that are no patch of the photo",
                    ),
                ],
                verdict=concept_verdict(concept, self.measurements),
                words=[
                    f"where bit {lift.bit + 1} is {lift.value}: {in_words(lift)}, {lift.lift:.1f} times as often"
                    for lift in sorted(self.lifts, key=lambda lift: lift.p_value)
                    if lift.concept == concept and lift.bit is not None
                ][:3],
            )
            for concept in range(self.readings.num_concepts)
        ]

    @cached_property
    def chance(self) -> float:
        """The mAP of a ranking in random order."""
        return chance_metrics(self.readings.labels, self.database_labels)["map"]

    @cached_property
    def alone(self) -> dict[str, Any]:
        """Retrieval with the whole code, with single concepts, and without them."""
        vision = self.model.config.vision_config
        codes = (self.readings.codes, self.readings.labels, self.database_codes, self.database_labels)
        return sub_code_metrics(*codes, vision.num_bits, vision.num_concepts)

    @cached_property
    def attributes(self) -> tuple[np.ndarray, Sequence[str]] | None:
        """What the test photos have, bool `(n, A)`, and A names, if that is known."""
        labels, query = self.readings.labels, self.splits.query
        if self.args.attributes is not None:
            if labels.ndim > 1:
                raise ValueError("attributes of classes say nothing about photos of several classes")
            table = load_attributes(self.args.attributes, self.splits.query_class_names)
            return table.of_photos(labels), table.names
        if isinstance(query.features.get("attributes"), dict):
            names, attributes = photo_attributes(query["attributes"][:])
            return attributes, names
        return None

    @cached_property
    def lifts(self) -> list[AttributeLift]:
        """What photos with the same bits have in common."""
        return attribute_lifts(self.readings, *self.attributes) if self.attributes is not None else []

    @cached_property
    def gallery(self) -> ConceptGallery:
        """Test photos by sub-code."""
        return concept_gallery(
            self.readings, lambda row: photo_as_seen(decode_image(self.picture("query", row)), self.processor)
        )

    def words(self) -> dict[tuple[int, str], list[str]]:
        """What the photos of a row of the gallery have in common, by concept and sub-code."""
        if self.attributes is None:
            return {}
        every_photo = np.arange(len(self.readings))
        groups = [
            (group.concept, None, zeros_and_ones(group.bits), np.isin(every_photo, group.rows))
            for groups in self.gallery.groups
            for group in groups
        ]
        found: dict[tuple[int, str], list[str]] = {}
        for lift in attribute_lifts(self.readings, *self.attributes, groups=groups):
            found.setdefault((lift.concept, lift.value), []).append(
                f"{in_words(lift)} \N{MULTIPLICATION SIGN}{lift.lift:.1f}"
            )
        return found

    @cached_property
    def classes(self) -> tuple[list[str], list[str]] | None:
        """The classes that the model was trained on and their families, if these are known.

        Raises:
            ValueError: if the file that was given lacks something; where photos do, a line says so.
        """
        given = self.args.class_families
        family_of = class_families(self.splits) if given is None else read_mapping(given)
        if given is None and not family_of:
            return None
        classes = [self.model.config.id2label[label] for label in range(self.model.config.num_labels)]
        lack = what_families_lack(family_of, classes)
        if lack and given is not None:
            raise ValueError(lack)
        if lack:
            print(printable(f"no tree of the classes: {lack}"), flush=True)
            return None
        return classes, [family_of[name] for name in classes]

    @cached_property
    def tree(self) -> np.ndarray:
        """The tree of the model's classes by their codes."""
        return class_tree(class_codes(self.model))

    @cached_property
    def measurements(self) -> dict[str, Measurement]:
        """From the file, or what can be measured in short time."""
        if self.args.measurements is not None:
            measured = self.measured_before(Path(self.args.measurements))
        else:
            measured = measure_concepts(
                self.model,
                self.query_photos,
                self.splits.part_names if self.readings.parts is not None else None,
                self.train_photos() if self.readings.has_points else None,
                self.readings,
                batch_size=self.args.per_device_eval_batch_size,
                num_workers=self.args.dataloader_num_workers,
            )
        if self.classes is not None:
            measured.setdefault("families", family_agreement(self.tree, self.classes[1]))
        return measured

    def train_photos(self) -> Dataset | None:
        """Photos with parts that keypoint regression is fitted to; None where they are a stream."""
        if self.splits.streaming:
            return None
        return self.splits.torch_dataset("train", eval_transform(self.processor), with_parts=True)

    def measured_before(self, file: Path) -> dict[str, Measurement]:
        """What the file says of this model."""
        models = read_mapping(file).get("models")
        if not isinstance(models, dict):
            raise ValueError(f'{file} has no measurements: expected an object "models" in it')
        name = Path(self.args.model_name_or_path).name
        found = [values for path, values in models.items() if Path(path).name == name]
        if len(found) != 1:
            raise ValueError(f"{file} has measurements of {sorted(models)}, not of one model {name!r}")
        return read_measurements(found[0])


def what_families_lack(family_of: Mapping[str, str], classes: Sequence[str]) -> str:
    """Why a tree of these classes cannot be held against their families; empty if it can."""
    if missing := [name for name in classes if name not in family_of]:
        return f"there is no family for {len(missing)} classes of the model: {', '.join(missing[:5])}"
    number = len({family_of[name] for name in classes})
    if number in (1, len(classes)):
        return f"{number} families of {len(classes)} classes: it takes two or more, one of them with two classes"
    return ""


def in_words(lift: AttributeLift) -> str:
    """An attribute as people would write it."""
    return lift.attribute.removeprefix("has_").replace("::", ": ").replace("_", " ")


def spread(rows: Sequence[int], number: int) -> list[int]:
    """Some of the rows, evenly."""
    number = min(number, len(rows))
    return [rows[int((place + 0.5) * len(rows) / number)] for place in range(number)]
