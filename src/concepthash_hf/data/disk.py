"""Whatever lies at a path: each reader takes what it knows, and leaves the rest to the next one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets

from .archives import ARCHIVES, find_archive
from .benchmarks import BENCHMARKS
from .columns import find_usual_label_columns
from .folder_metadata import with_metadata
from .folders import has_class_folders, read_class_folders
from .hub_tables import pick_splits, read_hub
from .index_files import has_index_files, read_index_files
from .labels import Photos
from .options import LoadOptions
from .places import Places
from .split_names import split_of, splits_by_name
from .tables import TABLE_SUFFIXES, Table, divide, has_pictures, read_table, table_columns

_TABLES_BESIDE_FOLDERS = ("metadata", "labels", "annotations")


@dataclass(frozen=True)
class Reading:
    """Photos as they were read.

    Attributes:
        tables: by split.
        image_column: found by feature type if None.
        label_column: found by feature type if None.
        class_names: names by label, where the source brings them.
        notes: in words, what was taken for what.
        facts: further fields of `PhotoSplits`.
        takes_splits: whether the user can say which splits are meant.
        takes_level: whether the user can say which folders are the classes.
        places: where its pictures may lie; None where they were not named by a table, but found.
    """

    tables: Mapping[str, Photos]
    image_column: str | None = None
    label_column: str | None = None
    class_names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    takes_splits: bool = False
    takes_level: bool = False
    places: Places | None = None


def read_disk(path: Path, options: LoadOptions) -> Reading:
    """Read a table, an archive, index files, a saved dataset, tables or class folders.

    Args:
        path: file or folder.
        options: how.

    Raises:
        ValueError: if it is none of them, or is not understood.
        BadImageError: for a symbolic link that leaves the folder.
    """
    for reader in _READERS:
        if (reading := reader(path, options)) is not None:
            return reading if reading.places is not None else replace(reading, places=_places(path, options))
    return _class_folders(path, options)


def _places(path: Path, options: LoadOptions, *others: Path) -> Places:
    """Below the folder that was given, or that the given table is in, and others."""
    named = [] if options.data_dir is None else [Path(options.data_dir)]
    folder = path if path.is_dir() else path.parent
    return Places(folder, *others, *named, follow_symlinks=options.follow_symlinks)


def _file(path: Path, options: LoadOptions) -> Reading | None:
    if not path.is_file():
        return None
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"{path} is not a table of photos; those are {', '.join(TABLE_SUFFIXES)}")
    return _of_tables([_read(path, options)])


def _archive(path: Path, options: LoadOptions) -> Reading | None:
    found = find_archive(path)
    if found is None:
        return None
    kind, root = found
    tables, names = ARCHIVES[kind].read(root)
    facts = {"name": kind, "citation": BENCHMARKS[kind].citation}
    notes = (f"labels: the archive of {BENCHMARKS[kind].title}",)
    if options.label_column is None:  # the archive may offer others, such as an aircraft's family
        return Reading(tables, label_column="label", class_names=names, notes=notes, facts=facts)
    return Reading(tables, notes=notes, facts=facts)


def _index(path: Path, options: LoadOptions) -> Reading | None:
    if not has_index_files(path):
        return None
    tables, names = read_index_files(path)
    places = _places(path, options, Path())  # the reference's paths are those below the working directory
    notes = ("labels: the index files train.txt, test.txt, ...",)
    return Reading(tables, class_names=names, notes=notes, places=places)


def _saved(path: Path, options: LoadOptions) -> Reading | None:
    """What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write."""
    if (path / "dataset_dict.json").is_file():
        tables = pick_splits(datasets.load_from_disk(str(path)), options.splits, str(path))
    elif (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        others = [name for name in (options.image_column, options.label_column) if name is not None]
        tables, _ = divide(datasets.load_from_disk(str(path)), str(path), others, options.splits)
    else:
        return None
    return Reading(tables, takes_splits=True)


def _tables_by_split(path: Path, options: LoadOptions) -> Reading | None:
    """One table for each split: `train.csv`, `train/metadata.csv`."""
    named = _by_split((file, file.stem) for file in sorted(path.iterdir()))
    inside = _by_split((file, file.parent.name) for file in sorted(path.glob("*/metadata.*")))
    found = next((found for found in (named, inside) if "train" in found), {})
    if any(len(files) > 1 and all(file.suffix == ".parquet" for file in files) for files in found.values()):
        return None  # parts of one table
    if twice := next((files for files in found.values() if len(files) > 1), None):
        raise _several(path, twice)
    tables = {split: file for split, (file,) in found.items()}
    if len(tables) < 2 or not all(map(has_pictures, tables.values())):
        return None
    return _with_labels(path, tables, options)


def _table_beside_folders(path: Path, options: LoadOptions) -> Reading | None:
    """A table of all photos: of a usual name, or the only one where there are no class folders."""
    tables = [file for file in sorted(path.iterdir()) if file.suffix.lower() in TABLE_SUFFIXES and file.is_file()]
    usual = [file for file in tables if file.stem.lower() in _TABLES_BESIDE_FOLDERS or split_of(file.stem) == "train"]
    if not usual and has_class_folders(path):
        return None
    found = [file for file in usual or tables if has_pictures(file)]
    if len(found) > 1 and all(file.suffix == ".parquet" for file in found):
        return None  # parts of one table
    if len(found) > 1:
        raise _several(path, found)
    return _with_labels(path, {"train": found[0]}, options) if found else None


def _parquet_files(path: Path, options: LoadOptions) -> Reading | None:
    """As a dataset lies on the Hub."""
    if any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
        return Reading(read_hub(str(path), options.splits, streaming=options.streaming), takes_splits=True)
    return None


def _class_folders(path: Path, options: LoadOptions) -> Reading:
    found = read_class_folders(
        path,
        class_level=options.class_level,
        splits=options.splits,
        follow_symlinks=options.follow_symlinks,
        on_bad_image=options.on_bad_image,
    )
    return Reading(
        found.tables,
        image_column="image",
        label_column="label",
        notes=found.notes,
        takes_splits=True,
        takes_level=True,
    )


_READERS: tuple[Callable[[Path, LoadOptions], Reading | None], ...] = (
    _file,
    _archive,
    _index,
    _saved,
    _tables_by_split,
    _table_beside_folders,
    _parquet_files,
)


def _by_split(named: Iterable[tuple[Path, str]]) -> dict[str, list[Path]]:
    tables = [(file, name) for file, name in named if file.suffix.lower() in TABLE_SUFFIXES]
    split_of_name = splits_by_name(name for _, name in tables)
    found: dict[str, list[Path]] = {}
    for file, name in tables:
        if name in split_of_name:
            found.setdefault(split_of_name[name], []).append(file)
    return found


def _several(path: Path, tables: Iterable[Path]) -> ValueError:
    return ValueError(
        f"several tables in {path} list photos: {', '.join(file.name for file in tables)}; give the one that is meant "
        "in place of the folder"
    )


def _with_labels(path: Path, files: Mapping[str, Path], options: LoadOptions) -> Reading:
    """Tables; one called "metadata" without labels leaves it to the class folders beside it to say the classes."""
    adds = all(file.stem.lower() == "metadata" for file in files.values())
    if adds and options.label_column is None and not find_usual_label_columns(table_columns(files["train"])):
        if has_class_folders(path):
            return _folders_with_metadata(path, files.values(), options)
    if len(files) == 1:
        return _of_tables([_read(files["train"], options)])
    tables = [_read(file, options, is_divided=False) for file in files.values()]
    by_split = {split: table.splits["train"] for split, table in zip(files, tables, strict=True)}
    return replace(_of_tables(tables), tables=by_split, takes_splits=False)


def _folders_with_metadata(path: Path, files: Iterable[Path], options: LoadOptions) -> Reading:
    folders = _class_folders(path, options)
    files = list(files)
    tables = [_read(file, replace(options, streaming=False), has_labels=False, is_divided=False) for file in files]
    also = [f"also: the columns of {file.name}" for file in files]
    return replace(folders, tables=with_metadata(folders.tables, tables), notes=(*folders.notes, *also))


def _of_tables(tables: Sequence[Table]) -> Reading:
    first = tables[0]
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return Reading(first.splits, first.image_column, first.label_column, notes=notes, takes_splits=True)


def _read(file: Path, options: LoadOptions, *, has_labels: bool = True, is_divided: bool = True) -> Table:
    return read_table(
        file,
        image_column=options.image_column,
        label_column=options.label_column,
        label_separator=options.label_separator,
        streaming=options.streaming,
        has_labels=has_labels,
        splits=options.splits,
        is_divided=is_divided,
    )
