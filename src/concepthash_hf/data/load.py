"""One door for photos: `load_photos`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from .archives import ARCHIVES, find_archive, read_inat_birds
from .assemble import assemble
from .bad_images import OnBadImage
from .benchmarks import BENCHMARKS, Benchmark, check_counts
from .columns import split_of
from .folders import read_class_folders
from .labels import Photos
from .splits import PhotoSplits
from .tables import TABLE_READERS, has_index_files, read_index_files, read_table
from .toy_birds import PARTS, toy_birds

TOY_BIRDS = "toy_birds"


def known_names() -> list[str]:
    """Short names that `load_photos` understands."""
    return [TOY_BIRDS, *BENCHMARKS]


def load_photos(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    class_names: Sequence[str] | None = None,
    train_split: str | None = None,
    query_split: str | None = None,
    database_split: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    template: str | None = None,
    query_fraction: float = 0.2,
    seed: int = 0,
    streaming: bool = False,
    follow_symlinks: bool = False,
    on_bad_image: OnBadImage = "raise",
) -> PhotoSplits:
    """Load photos to train on, ask with and search, from wherever they are.

    Args:
        name_or_path: one of

            - "toy_birds", drawn on the spot;
            - a benchmark's short name (`BENCHMARKS`), from the Hub, or from `data_dir`;
            - an unpacked official archive of CUB, NABirds, Aircraft or Cars;
            - a folder of class folders, with or without `train/`, `test/`, `database/`, `validation/` around them, and
              part locations in `parts.jsonl` (see `read_class_folders`);
            - a folder with the reference's index files `train.txt`, `test.txt`, `database.txt`, `class_names.txt`;
            - a `.csv`, `.tsv`, `.jsonl` or `.parquet` file with a row a photo, whose column "split" may divide it, or
              a folder with one for each split (`train.csv`, `test.csv`; also `train/metadata.csv`, as `datasets` has
              it);
            - a folder that `datasets` saved, or parquet files as they lie on the Hub;
            - any dataset id on the Hub.
        data_dir: where a benchmark's unpacked archive, class folders or index files are, instead of the Hub.
        image_column: name of the image column; found by feature type if None.
        label_column: name of the label column; found by feature type if None.
        label_separator: what stands between several labels in one text, e.g. "|".
        class_names: names by label, where labels are numbers, or a stream's labels are texts.
        train_split: split(s) of the Hub dataset to train on, joined by "+".
        query_split: split(s) of the Hub dataset to ask with.
        database_split: split(s) of the Hub dataset to search; those to train on if None.
        config_name: configuration of the Hub dataset.
        revision: of the Hub dataset.
        template: the text a class name is put into; the benchmark's, or "a photo of a {}".
        query_fraction: part of each class to ask with where there is no test split.
        seed: which photos those are, and which toy birds are drawn.
        streaming: read as they come, for what is too large to download (Hub datasets, tables). Folders list their
            paths only and are as good as streams.
        follow_symlinks: follow symbolic links out of a folder.
        on_bad_image: what to do about links out of a folder otherwise: "raise", or "skip" and report. Pictures are not
            opened
            here: for the unreadable ones see `PhotoSplits.torch_dataset`.

    Returns:
        The splits. `source` says where they are from.

    Raises:
        ValueError: if the name is unknown, a benchmark's counts differ, a table is not understood, there are fewer
            than two classes, or queries have classes that the database lacks.
        BadImageError: for a symbolic link that leaves the folder.

    Example:
        >>> splits = load_photos("photos/of/birds")  # doctest: +SKIP
        >>> splits.counts  # doctest: +SKIP
        {'classes': 24, 'train': 1152, 'query': 288, 'database': 1152}
    """
    options: dict[str, Any] = {"image_column": image_column, "label_column": label_column, "class_names": class_names}
    options |= {"query_fraction": query_fraction, "seed": seed}
    if template is not None:
        options["template"] = template
    hub: dict[str, Any] = {"config_name": config_name, "revision": revision, "streaming": streaming}
    chosen = {"train": train_split, "query": query_split, "database": database_split}
    hub_splits = {split: names for split, names in chosen.items() if names is not None}
    on_disk: dict[str, Any] = {"follow_symlinks": follow_symlinks, "on_bad_image": on_bad_image}
    on_disk |= {"streaming": streaming, "label_separator": label_separator, "splits": hub_splits}

    name = str(name_or_path)
    if name == TOY_BIRDS:
        return _toy_birds(seed)
    if name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        options = {"template": benchmark.template, **options, "name": name, "citation": benchmark.citation}
        if data_dir is not None:
            splits = _from_disk(Path(data_dir), options, on_disk, name)
        else:
            splits = _benchmark_from_hub(benchmark, options, hub_splits, hub)
        if not hub_splits and label_column is None:
            check_counts(splits, benchmark)
        return splits
    path = Path(name_or_path)
    if path.exists():
        return _from_disk(path, {"name": path.resolve().stem, **options}, on_disk)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        tables = read_hub(name, hub_splits, **hub)
        return assemble(tables, **options, name=name.split("/")[1], source=_hub_source(name, revision))
    raise ValueError(
        f"{name!r} is neither a known dataset nor a file or folder. Known datasets: {', '.join(known_names())}; a Hub "
        "id has the form owner/name"
    )


def read_hub(
    name_or_path: str,
    splits: Mapping[str, str] | None = None,
    *,
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> dict[str, Photos]:
    """Read a dataset of the Hub, or a local copy of one.

    Args:
        name_or_path: dataset id, or folder.
        splits: ours -> theirs, several joined by "+"; by their names if None.
        config_name: configuration.
        revision: commit, branch or tag.
        streaming: read it as it goes.

    Raises:
        ValueError: if it cannot be had, or none of its splits is to be trained on.
    """
    try:
        found = datasets.load_dataset(name_or_path, config_name, revision=revision, streaming=streaming)
    except Exception as error:  # offline, not there, gated, a script ...: each has its own exception
        raise ValueError(
            f"cannot load {name_or_path!r} from the Hugging Face Hub: {type(error).__name__}: {error}. Known "
            f"datasets: {', '.join(known_names())}"
        ) from error
    return _pick_splits(found, splits, name_or_path)


def _pick_splits(found: Mapping[Any, Photos], splits: Mapping[str, str] | None, source: str) -> dict[str, Photos]:
    available = [str(name) for name in found]
    if not splits:
        splits = {ours: name for name in reversed(available) if (ours := split_of(name))}
        if "train" not in splits and len(available) == 1:
            splits = {"train": available[0]}
    wanted = [name for names in splits.values() for name in names.split("+")]
    if "train" not in splits or not set(wanted) <= set(available):
        raise ValueError(
            f"{source} has the splits {available}: say which to use with train_split=... and query_split=..."
        )
    return {ours: _joined([found[name] for name in names.split("+")]) for ours, names in splits.items()}


def _joined(tables: list[Photos]) -> Photos:
    return tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables)


def _toy_birds(seed: int) -> PhotoSplits:
    birds = toy_birds(seed=seed)
    return assemble(
        {"train": birds["train"], "query": birds["test"]},
        image_column="image",
        label_column="label",
        parts_column="parts",
        part_names=tuple(PARTS),
        name=TOY_BIRDS,
        source=f"toy birds drawn by this package (seed {seed})",
    )


def _benchmark_from_hub(
    benchmark: Benchmark, options: dict[str, Any], hub_splits: dict[str, str], hub: dict[str, Any]
) -> PhotoSplits:
    by_hand = (
        f"get {benchmark.title} from {benchmark.homepage}, unpack it, and give as data_dir the folder: "
        f"{benchmark.data_dir}"
    )
    if benchmark.hub_id is None:
        raise ValueError(f"no copy of {benchmark.title} on the Hugging Face Hub is known: {by_hand}")
    revision = hub["revision"] or benchmark.revision
    splits = {"train": benchmark.train_split, "query": benchmark.query_split} | hub_splits
    try:
        tables = read_hub(benchmark.hub_id, splits, **{**hub, "revision": revision})
    except ValueError as error:
        raise ValueError(f"{error}. Or {by_hand}") from error
    options["image_column"] = options["image_column"] or benchmark.image_column
    options["label_column"] = options["label_column"] or benchmark.label_column
    return assemble(tables, **options, source=_hub_source(benchmark.hub_id, revision))


def _from_disk(
    path: Path, options: dict[str, Any], on_disk: dict[str, Any], benchmark: str | None = None
) -> PhotoSplits:
    """Whatever lies at a path."""
    table_options = {key: on_disk[key] for key in ("streaming", "label_separator")}
    table_options |= {key: options[key] for key in ("image_column", "label_column")}
    folder_options = {key: on_disk[key] for key in ("follow_symlinks", "on_bad_image")}
    options = {**options, "source": str(path)}
    if path.is_file():
        if path.suffix.lower() not in TABLE_READERS:
            raise ValueError(f"{path} is not a table of photos; those are {', '.join(TABLE_READERS)}")
        return assemble(read_table(path, **table_options), **options)
    if benchmark == "inat_birds":
        tables, names = read_inat_birds(path)
        return assemble(tables, **{**options, "class_names": names})
    if (archive := find_archive(path)) is not None:
        kind, root = archive
        tables, names = ARCHIVES[kind].read(root)
        about = {"name": kind, "citation": BENCHMARKS[kind].citation}
        if options["label_column"] is None:  # the archive may offer others, such as an aircraft's family
            options |= {"label_column": "label", "class_names": names}
        return assemble(tables, **{**options, **about})
    if has_index_files(path):
        tables, index_names = read_index_files(path)
        return assemble(tables, **{**options, "class_names": options["class_names"] or index_names})
    if (path / "dataset_dict.json").is_file():
        return assemble(_pick_splits(datasets.load_from_disk(str(path)), on_disk["splits"], str(path)), **options)
    if table_files := _table_files(path):
        if len(table_files) == 1:
            return assemble(read_table(table_files["train"], **table_options), **options)
        tables = {split: read_table(file, **table_options)["train"] for split, file in table_files.items()}
        return assemble(tables, **options)
    if any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
        return assemble(read_hub(str(path), on_disk["splits"], streaming=on_disk["streaming"]), **options)
    return assemble(read_class_folders(path, **folder_options), **options)


def _table_files(folder: Path) -> dict[str, Path]:
    """One table for each split: `train.csv`, `train/metadata.csv`; or `metadata.csv` for all of them."""
    named = {
        split: file
        for file in sorted(folder.iterdir())
        if file.suffix in TABLE_READERS and (split := split_of(file.stem))
    }
    inside = {
        split: file
        for file in sorted(folder.glob("*/metadata.*"))
        if file.suffix in TABLE_READERS and (split := split_of(file.parent.name))
    }
    alone = [file for file in sorted(folder.glob("metadata.*")) if file.suffix in (".csv", ".jsonl", ".parquet")]
    return next((files for files in (named, inside) if "train" in files), {"train": alone[0]} if alone else {})


def _hub_source(name: str, revision: str | None) -> str:
    return f"https://huggingface.co/datasets/{name}" + (f" at {revision}" if revision else "")
