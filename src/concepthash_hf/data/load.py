"""One door for photos: `load_photos`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from .archives import read_inat_birds
from .assemble import assemble
from .bad_images import OnBadImage
from .benchmarks import BENCHMARKS, Benchmark, check_counts
from .decode import set_max_image_pixels
from .disk import Reading, read_disk
from .hub_tables import read_hub
from .options import LoadOptions, ReadOptions
from .places import Places, hub_places
from .splits import SPLIT_NAMES, PhotoSplits
from .toy_birds import PARTS, toy_birds

TOY_BIRDS = "toy_birds"


def known_names() -> list[str]:
    """Short names that `load_photos` understands."""
    return [TOY_BIRDS, *BENCHMARKS]


def load_photos(name_or_path: str | Path, **options: Any) -> PhotoSplits:
    """Load photos to train on, ask with and search, from wherever they are.

    Args:
        name_or_path: one of

            - "toy_birds", drawn on the spot;
            - a benchmark's short name (`BENCHMARKS`), from the Hub, or from `data_dir`;
            - an unpacked official archive of CUB, NABirds, Aircraft or Cars;
            - a folder of class folders, with or without `train/`, `test/`, `database/`, `validation/` around them, and
              part locations in `parts.jsonl` (see `read_class_folders`);
            - a folder with the reference's index files `train.txt`, `test.txt`, `database.txt`, `class_names.txt`;
            - a `.csv`, `.tsv`, `.jsonl` or `.parquet` file with a row a photo, which a column of splits may divide, or
              a folder with one for each split (`train.csv`, `test.csv`; also `train/metadata.csv`, as `datasets` has
              it). Which columns are taken: see `data.columns`;
            - a folder that `datasets` saved, or parquet files as they lie on the Hub;
            - any dataset id on the Hub.
        **options: the fields of `LoadOptions`: `label_column=...`, `train_split=...`, `on_bad_image="skip"` and more.

    Returns:
        The splits. `source` says where they are from, `describe_photos` what was understood.

    Raises:
        TypeError: for an option that is not among them.
        ValueError: if the name is unknown, a benchmark's counts differ, a table names a picture that is not below
            its folder or would have to be fetched, photos are not understood or could be in two ways, there are fewer
            than two classes, or queries have classes that the database lacks.
        BadImageError: for a symbolic link that leaves the folder, and a picture that no installed package can read.

    Example:
        >>> splits = load_photos("photos/of/birds")  # doctest: +SKIP
        >>> splits.counts  # doctest: +SKIP
        {'classes': 24, 'train': 1152, 'query': 288, 'database': 1152}
    """
    chosen = LoadOptions(**options)
    return load_with_options(name_or_path, chosen, chosen.on_bad_image)


def load_with_options(
    name_or_path: str | Path, options: LoadOptions, on_unreadable: OnBadImage | Literal["keep"]
) -> PhotoSplits:
    """`load_photos`, which may also keep pictures that no installed package can read, to list them later."""
    if options.max_image_pixels is not None:
        set_max_image_pixels(options.max_image_pixels)
    name = str(name_or_path)
    facts: dict[str, Any] = {} if options.template is None else {"template": options.template}
    if name == TOY_BIRDS:
        reading, source = _toy_birds(options.seed)
    elif name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        reading, source = _benchmark(name, benchmark, options)
        facts = {"template": benchmark.template, **facts, "name": name, "citation": benchmark.citation}
    elif (path := Path(name_or_path)).is_dir() or path.is_file():
        reading, source = read_disk(path, options), str(path)
        facts = {"name": path.resolve().name if path.is_dir() else path.stem, **facts}
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        try:
            tables = read_hub(name, options.splits, **_hub_options(options))
        except ValueError as error:
            raise ValueError(f"{error}. Known datasets: {', '.join(known_names())}") from error
        reading = Reading(tables, takes_splits=True, places=hub_places(name))
        source = _hub_source(name, options.revision)
        facts = {"name": name.split("/")[1], **facts}
    else:
        raise ValueError(
            f"{name!r} is neither a known dataset nor a file or folder. Known datasets: {', '.join(known_names())}; a "
            "Hub id has the form owner/name"
        )
    if options.splits and not reading.takes_splits:
        raise ValueError(f"{source} says itself what is to be trained on: leave out train_split=... and such")
    if options.class_level is not None and not reading.takes_level:
        raise ValueError(f"{source} is no folder of class folders: leave out class_level=...")
    splits = assemble(
        reading.tables,
        image_column=options.image_column or reading.image_column,
        label_column=options.label_column or reading.label_column,
        label_separator=options.label_separator,
        class_names=options.class_names or reading.class_names,
        query_fraction=options.query_fraction,
        seed=options.seed,
        on_unreadable=on_unreadable,
        notes=reading.notes,
        places=reading.places,
        **{**facts, **reading.facts, "source": source},
    )
    if name in BENCHMARKS and not options.splits and options.label_column is None:
        check_counts(splits, BENCHMARKS[name])
    named = named_splits(name, options)
    if both := named["query"] & (named["database"] or named["train"]):
        note = f"asked with and searched: {', '.join(sorted(both))}, so that each of these photos finds itself"
        splits = replace(splits, notes=(*splits.notes, note))
    return splits


def named_splits(name: str, options: ReadOptions) -> dict[str, set[str]]:
    """What of the photos was named as which split: theirs by ours, by the options or by a benchmark on the Hub.

    Args:
        name: of the photos.
        options: how they are to be read.
    """
    named = options.splits
    if name in BENCHMARKS and options.data_dir is None:
        named = {"train": BENCHMARKS[name].train_split, "query": BENCHMARKS[name].query_split} | named
    return {split: set(named[split].split("+")) if split in named else set() for split in SPLIT_NAMES}


def _toy_birds(seed: int) -> tuple[Reading, str]:
    birds = toy_birds(seed=seed)
    facts = {"parts_column": "parts", "part_names": tuple(PARTS), "name": TOY_BIRDS}
    tables = {"train": birds["train"], "query": birds["test"]}
    return Reading(tables, "image", "label", facts=facts), f"toy birds drawn by this package (seed {seed})"


def _benchmark(name: str, benchmark: Benchmark, options: LoadOptions) -> tuple[Reading, str]:
    if options.data_dir is not None:
        folder = Path(options.data_dir)
        if name == "inat_birds":
            tables, names = read_inat_birds(folder)
            return Reading(tables, class_names=names, places=Places(folder)), str(folder)
        return read_disk(folder, options), str(folder)
    by_hand = (
        f"get {benchmark.title} from {benchmark.homepage}, unpack it, and give as data_dir the folder: "
        f"{benchmark.data_dir}"
    )
    if benchmark.hub_id is None:
        raise ValueError(f"no copy of {benchmark.title} on the Hugging Face Hub is known: {by_hand}")
    revision = options.revision or benchmark.revision
    splits = {"train": benchmark.train_split, "query": benchmark.query_split} | options.splits
    try:
        tables = read_hub(benchmark.hub_id, splits, **_hub_options(replace(options, revision=revision)))
    except ValueError as error:
        raise ValueError(f"{error}. Or {by_hand}") from error
    columns, places = (benchmark.image_column, benchmark.label_column), hub_places(benchmark.hub_id)
    reading = Reading(tables, *columns, takes_splits=True, places=places)
    return reading, _hub_source(benchmark.hub_id, revision)


def _hub_options(options: LoadOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("config_name", "revision", "streaming")}


def _hub_source(name: str, revision: str | None) -> str:
    return f"https://huggingface.co/datasets/{name}" + (f" at {revision}" if revision else "")
