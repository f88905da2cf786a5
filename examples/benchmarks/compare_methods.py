"""Other methods beside ConceptHash, on equal terms: the same backbone, photos, adapters, steps, optimizer and metric.

    OMP_NUM_THREADS=1 python examples/benchmarks/compare_methods.py --dataset path/to/cub100 path/to/flowers102 \
        --model_name_or_path path/to/dinov2-small --text_model_name_or_path path/to/clip --image_size 112

Every run adds a JSON row to `method_rows.jsonl`; runs that are there already are left out, so that the same command
goes on where it was stopped. The same command may run several times at once, as a GPU takes: each leaves out what
another is at. `method_tables.py` makes tables and a picture of the rows. What training does not change, the layers
before the adapters, is computed once for each set of photos and shared by all runs, for training and evaluation alike:
no photo is augmented.

Protocols: `seen`, trained on all classes, asked with the test photos, found in the training photos; `unseen`, trained
on a half of the classes, asked with test photos of the other half, found among training photos of that half, and among
those of all classes. The last model is measured; nothing is selected.

Families, of which similar classes are, are classes whose names end in the same word.
"""

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from filelock import FileLock, Timeout
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from concepthash_hf import BaselineModel, ConceptHashModel
from concepthash_hf.building import A_TEXT_MODEL
from concepthash_hf.codes import binarize, pack_bits
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.fitting import fit
from concepthash_hf.hashing import fast_in_bfloat16, on_cpu
from concepthash_hf.language import clean_class_name, embed_class_names, load_text_model, load_tokenizer
from concepthash_hf.methods import METHODS
from concepthash_hf.metrics import family_metrics, retrieval_metrics, sub_code_metrics
from concepthash_hf.modes import evaluating
from concepthash_hf.presets import training_fields
from concepthash_hf.training import ConceptHashTrainingArguments, environment, train
from concepthash_hf.whole_files import replacing

ROWS = Path(__file__).with_name("method_rows.jsonl")
LOCKS = "locks"  # in the cache: a file for each run that was begun
BATCH_SIZE, EVAL_BATCH_SIZE = 32, 64
CONCEPTHASH, PUBLISHED = "concepthash", "concepthash_paper"
# the first say most, early
FIRST = (CONCEPTHASH, "linear_language", "orthohash_language", "csq", "dpn", "hashnet", "pca_rotation", "itq")
OTHERS = (PUBLISHED, *(name for name in METHODS if name not in FIRST))
# what is changed of ConceptHash; words that mean nothing are drawn, see `build`
ABLATIONS: dict[str, dict[str, Any]] = {
    "random_words": {},
    "raw_words": {"binarize_class_embeddings": False},
    **{f"no_{loss}": {f"{loss}_weight": 0.0} for loss in ("classification", "quantization", "concept", "diversity")},
    **{f"{number}_concepts": {"num_concepts": number} for number in (1, 2, 8)},
    "tokens_alone": {"start_at_cls": False},
    "shared_hash_function": {"shared_hash_function": True},
    "narrow_adapters": {"adapter_dim": 48},
    "wide_adapters": {"adapter_dim": 384},
    "early_adapters": {"first_adapted_layer": 6},
    "late_adapters": {"first_adapted_layer": 10},
    "fine_tuned": {"freeze_backbone": False},
}
ABLATED = tuple(f"{CONCEPTHASH}-{name}" for name in ABLATIONS)

Model = ConceptHashModel | BaselineModel
Metrics = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a row is of."""

    photos: str
    backbone: str
    size: int | None
    steps: int
    num_bits: int
    method: str
    seed: int
    protocol: str


class Kept(Dataset):
    """What was computed once, of some photos.

    Args:
        name: "frozen_states" or "pixel_values".
        values: float16 `(n, ...)`, mapped from a file.
        labels: int64 `(n,)`, of all n.
        rows: of the photos that are meant.
    """

    def __init__(self, name: str, values: np.ndarray, labels: np.ndarray, rows: np.ndarray):
        self.name, self.values, self.rows, self.labels = name, values, rows, torch.from_numpy(labels[rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        value = torch.from_numpy(self.values[self.rows[index]].copy())  # float16, which a model casts where it joins
        return {self.name: value if self.name == "frozen_states" else value.float(), "labels": self.labels[index]}


class Bench:
    """A set of photos, with what its runs share.

    Args:
        dataset: what `load_photos` takes.
        args: of the command line.
    """

    def __init__(self, dataset: str, args: argparse.Namespace):
        self.args = args
        self.splits = load_photos(dataset)
        self.name, self.names = self.splits.name, self.splits.class_names
        if self.splits.multi_label or self.splits.streaming:
            raise ValueError(f"methods are compared on photos with one label each, and no stream: {dataset}")
        column = self.splits.label_column
        self.labels = {split: np.asarray(getattr(self.splits, split)[column]) for split in ("train", "query")}
        families = [clean_class_name(name).split()[-1].lower() for name in self.names]
        self.families = np.unique(families, return_inverse=True)[1]

    @cached_property
    def is_seen(self) -> np.ndarray:
        """Which classes are trained on where others are not, bool `(C,)`."""
        seen = set(self.splits.class_disjoint(0.5).class_names)
        return np.array([name in seen for name in self.names])

    @cached_property
    def words(self) -> torch.Tensor:
        """Class embeddings `(C, t)`."""
        text = self.args.text_model_name_or_path
        file = self.args.cache / f"{self.name}-{Path(text).name}-words.npy"
        if not file.is_file():
            words = embed_class_names(load_text_model(text), load_tokenizer(text), self.names, self.splits.template)
            keep(file, words.numpy())
        return torch.from_numpy(np.load(file))

    def trained_on(self, run: Run) -> np.ndarray:
        """Numbers of the classes that a run is trained on."""
        return np.arange(len(self.names)) if run.protocol == "seen" else np.flatnonzero(self.is_seen)

    def untrained(self, run: Run) -> Model:
        """The model that a run begins with, from its seed.

        Raises:
            ValueError: if there is none, such as more bits than a method can make of so few classes.
        """
        set_seed(run.seed)
        classes = self.trained_on(run)
        return build(run, [self.names[c] for c in classes], self.words[classes], self.args)

    def measure(self, run: Run, model: Model) -> dict[str, Any]:
        """Train or fit, hash, measure; give what there is to know."""
        started, accelerator = (
            time.perf_counter(),
            Accelerator(cpu=on_cpu(), mixed_precision=self.args.mixed_precision),
        )
        model.to(accelerator.device)
        photos = {split: self.kept(model, split, accelerator) for split in ("train", "query")}
        seconds = {"cache_runtime": time.perf_counter() - started}
        if accelerator.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        facts = learn(model, self.of_classes(photos["train"], self.trained_on(run)), run, self.args)
        seconds["train_runtime"] = time.perf_counter() - started
        started = time.perf_counter()
        codes = {split: hash_kept(model, kept) for split, kept in photos.items()}
        seconds["hash_runtime"] = time.perf_counter() - started
        return {"measured": self.measured(run, model, codes)} | facts | seconds | peak_memory()

    def measured(self, run: Run, model: Model, codes: dict[str, np.ndarray]) -> dict[str, Metrics]:
        """Metrics by queries@database."""
        found = {}
        everything = np.arange(len(self.names))
        sides = {"seen@seen": (everything, everything)}
        if run.protocol == "unseen":
            unseen = np.flatnonzero(~self.is_seen)
            sides = {"unseen@unseen": (unseen, unseen), "unseen@all": (unseen, everything)}
        for side, (queries, database) in sides.items():
            task: list[np.ndarray] = []
            for split, classes in (("query", queries), ("train", database)):
                rows = np.isin(self.labels[split], classes)
                task += [codes[split][rows], self.labels[split][rows]]
            found[side] = metrics(task, model, self.families)
        return found

    def of_classes(self, photos: Kept, classes: np.ndarray) -> Kept:
        """Those of some classes, whose labels are numbered anew."""
        number = np.full(len(self.names), -1)
        number[classes] = np.arange(len(classes))
        labels = number[photos.labels.numpy()]
        return Kept(photos.name, photos.values, labels, np.flatnonzero(labels >= 0))

    def kept(self, model: Model, split: str, accelerator: Accelerator) -> Kept:
        """What training does not change of the photos of a split, computed where no run has done it yet."""
        vision = model.config.vision_config
        depth = vision.first_adapted_layer if model.config.freeze_backbone else 0
        backbone = Path(self.args.model_name_or_path).name
        file = self.args.cache / f"{self.name}-{backbone}-{vision.image_size}-{depth}-{split}.npy"
        if not file.is_file():
            keep(file, self._computed(model, split, depth, accelerator))
        values = np.load(file, mmap_mode="r")
        name = "frozen_states" if depth else "pixel_values"
        return Kept(name, values, self.labels[split], np.arange(len(values)))

    @torch.no_grad()
    def _computed(self, model: Model, split: str, depth: int, accelerator: Accelerator) -> np.ndarray:
        loader: DataLoader = DataLoader(
            self.splits.torch_dataset(split, eval_transform(model.image_processor)),
            EVAL_BATCH_SIZE,
            num_workers=self.args.num_workers,
        )
        parts = []
        for batch in tqdm(loader, desc=f"{self.name}, {split}: layers before {depth}"):
            values = batch["pixel_values"]
            if depth:
                with evaluating(model), accelerator.autocast():
                    values = model.vision_model.frozen_states(values.to(accelerator.device))
            parts.append(values.half().cpu().numpy())
        return np.concatenate(parts)


def main() -> None:
    """Go through the runs that have no row yet."""
    args = parse_arguments()
    (args.cache / LOCKS).mkdir(parents=True, exist_ok=True)
    benches = [Bench(dataset, args) for dataset in args.dataset]
    for bench, run in planned(benches, args):
        with nobody_else_at(run, args) as is_free:
            if is_free and run not in done(args.output):
                add_row(bench, run, args)


def done(output: Path) -> set[Run]:
    """The runs that have a row."""
    return {run_of(json.loads(line)) for line in output.read_text().splitlines()} if output.exists() else set()


@contextmanager
def nobody_else_at(run: Run, args: argparse.Namespace) -> Iterator[bool]:
    """Whether no other process has begun this run; while the context lasts, none will."""
    name = "-".join(str(value) for value in asdict(run).values())
    try:
        with FileLock(args.cache / LOCKS / name, timeout=0):
            yield True
    except Timeout:
        yield False


def add_row(bench: Bench, run: Run, args: argparse.Namespace) -> None:
    """Do a run, print how it went, and write its row."""
    about = f"{run.photos} {run.num_bits} bits, {run.method}, seed {run.seed}"
    try:
        model = bench.untrained(run)
    except ValueError as error:
        print(f"{about}: left out, {error}", flush=True)
        return
    found = bench.measure(run, model)
    with args.output.open("a") as file:
        file.write(json.dumps(asdict(run) | found | circumstances(args)) + "\n")
    maps = ", ".join(f"{side} {values['map']:.3f}" for side, values in found["measured"].items())
    seconds = found["train_runtime"] + found["hash_runtime"]
    print(f"{about}: mAP {maps}; {seconds:.0f} s", flush=True)


def keep(file: Path, values: np.ndarray) -> None:
    """Write what all runs share, whole or not at all."""
    with replacing(file) as part, part.open("wb") as opened:
        np.save(opened, values)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = (*FIRST, *OTHERS, *ABLATED)
    parser.add_argument("--dataset", nargs="+", required=True, help="as examples/train.py takes it; several")
    parser.add_argument("--model_name_or_path", required=True, help="CLIP, DINOv2 or ViT")
    parser.add_argument("--text_model_name_or_path", default=A_TEXT_MODEL)
    parser.add_argument("--image_size", type=int, help="in pixels; default what the backbone takes")
    parser.add_argument("--num_bits", type=int, nargs="+", default=[32, 64, 16])
    parser.add_argument("--method", nargs="+", choices=known, metavar="METHOD", help=f"of {', '.join(known)}")
    parser.add_argument("--seed", type=int, nargs="+", default=[42])
    parser.add_argument("--protocol", nargs="+", choices=("seen", "unseen"), default=["seen"])
    parser.add_argument("--num_steps", type=int, default=370, help="of all that is trained, to the nearest epoch")
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="bf16" if fast_in_bfloat16() else "no")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that decode photos")
    parser.add_argument("--cache", type=Path, default=Path("outputs/compare_methods"), help="of what all runs share")
    parser.add_argument("--output", type=Path, default=ROWS)
    return parser.parse_args()


def planned(benches: list[Bench], args: argparse.Namespace) -> Iterator[tuple[Bench, Run]]:
    """All runs, in the order in which they say something."""
    tiers = [args.method] if args.method else [FIRST, OTHERS]
    backbone = Path(args.model_name_or_path).name
    for seed, tier, num_bits, protocol in product(args.seed, tiers, args.num_bits, args.protocol):
        for bench, method in product(benches, tier):
            setting = (bench.name, backbone, args.image_size, args.num_steps)
            yield bench, Run(*setting, num_bits, method, seed, protocol)


def run_of(row: dict[str, Any]) -> Run:
    """What a row is of."""
    return Run(**{name: row[name] for name in Run.__annotations__})


def build(run: Run, class_names: list[str], words: torch.Tensor, args: argparse.Namespace) -> Model:
    """An untrained model."""
    fields: dict[str, Any] = {"num_bits": run.num_bits, "class_embeddings": words}
    if run.size is not None:
        fields["image_size"] = run.size
    if run.method in METHODS:
        return BaselineModel.from_backbone(args.model_name_or_path, class_names, method=run.method, **fields)
    if run.method == f"{CONCEPTHASH}-random_words":
        fields["class_embeddings"] = torch.randn_like(words)
    changed = ABLATIONS.get(run.method.partition("-")[2], {})
    preset = "paper" if run.method == PUBLISHED else "fast"
    return ConceptHashModel.from_backbone(args.model_name_or_path, class_names, preset=preset, **fields | changed)


def learn(model: Model, photos: Kept, run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Train or fit, in place; give how much of it there was."""
    if run.method in METHODS and METHODS[run.method].objective is None:
        fit(model, photos, EVAL_BATCH_SIZE)
        return {"trainable_parameters": sum(p.numel() for p in model.vision_model.hash_head.parameters())}
    has_adapters = run.method not in METHODS or METHODS[run.method].adapters
    first = model.config.vision_config.first_adapted_layer
    recipe = training_fields("paper" if run.method == PUBLISHED else "fast", first, adapters=has_adapters)
    batch_size = min(BATCH_SIZE, len(photos))
    with tempfile.TemporaryDirectory() as folder:
        arguments = ConceptHashTrainingArguments(
            f"{folder}/model",
            num_train_epochs=max(1, round(run.steps / (len(photos) // batch_size))),
            per_device_train_batch_size=batch_size,
            seed=run.seed,
            mixed_precision=args.mixed_precision,
            **recipe,
        )
        found = train(model, photos, arguments)
    return {name: found[name] for name in ("train_loss", "train_steps", "trainable_parameters")}


@torch.no_grad()
def hash_kept(model: Model, photos: Kept) -> np.ndarray:
    """Packed codes, uint8 `(n, ceil(K / 8))`, computed in float32."""
    codes = []
    with evaluating(model):
        for batch in DataLoader(photos, EVAL_BATCH_SIZE):
            values = {photos.name: batch[photos.name].to(model.device)}
            codes.append(pack_bits(binarize(model.base_model(**values).code_logits)).cpu().numpy())
    return np.concatenate(codes)


def metrics(task: list[np.ndarray], model: Model, families: np.ndarray) -> Metrics:
    """How well codes retrieve, as a whole, by concept, and among similar classes."""
    found = retrieval_metrics(*task)
    values: Metrics = {name: found[name] for name in ("map", "precision@1", "num_queries", "num_database")}
    values["wrong_top1_in_family"] = family_metrics(*task, families)["wrong_top1_in_family"]
    values["map_in_family"] = map_in_family(task, families)
    if model.num_concepts > 1:
        by_concept = sub_code_metrics(*task, model.num_bits, model.num_concepts)
        values |= {name: by_concept[name] for name in ("map_alone", "map_left_out")}
    return values


def map_in_family(task: list[np.ndarray], families: np.ndarray) -> float | None:
    """The mAP of queries that have similar classes, among photos of these alone; None if there are none."""
    query_codes, query_labels, database_codes, database_labels = task
    total, number = 0.0, 0
    for family in np.unique(families):
        asked, there = families[query_labels] == family, families[database_labels] == family
        if asked.any() and len(np.unique(database_labels[there])) > 1:
            inside = (query_codes[asked], query_labels[asked], database_codes[there], database_labels[there])
            total, number = total + retrieval_metrics(*inside)["map"] * asked.sum(), number + int(asked.sum())
    return float(total / number) if number else None


def peak_memory() -> dict[str, float]:
    """In MB: of this process since it began, and of the GPU in this run."""
    found = {"peak_memory_of_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
    if torch.cuda.is_available():
        found["peak_memory_of_gpu"] = torch.cuda.max_memory_allocated() / 1e6
    return found


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """How it was run: versions, hardware, command without paths, commit."""
    words = [Path(word).name if "/" in word else word for word in sys.argv]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    about = environment(Accelerator(cpu=on_cpu(), mixed_precision=args.mixed_precision))
    return about | {"command": shlex.join(["python", *words]), "commit": commit.stdout.strip() or None}


if __name__ == "__main__":
    main()
