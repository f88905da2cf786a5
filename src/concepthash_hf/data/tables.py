"""Photos listed in a file: CSV, JSON lines, parquet, or the reference's index files."""

import csv
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from .columns import (
    SPLIT_ALIASES,
    find_image_column,
    find_label_column,
    require_columns,
    split_of,
    to_dataset,
    with_features,
)
from .labels import Photos

TABLE_READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
CLASS_NAMES_FILE = "class_names.txt"

_INDEX_LINE = re.compile(r"(?P<path>.*?\S)(?P<labels>(\s+\d+)+)\s*")


def read_table(
    file: Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    streaming: bool = False,
) -> dict[str, Photos]:
    """Read one file of photos, a row a photo; a column "split" divides it.

    Args:
        file: `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet`. Paths in it are relative to its folder.
        image_column: name of the image column, if it has none of the usual names.
        label_column: name of the label column, if it has none of the usual names.
        label_separator: what stands between several labels in one text, e.g. "|".
        streaming: read it as it goes.

    Returns:
        Tables by split.

    Raises:
        ValueError: if a column is not found, or the column "split" holds an unknown name.
    """
    reader = TABLE_READERS[file.suffix.lower()]
    options = _csv_options(file) if reader == "csv" else {}
    table = datasets.load_dataset(reader, data_files=str(file), split="train", streaming=streaming, **options)
    table = with_features(table)
    image_column = image_column or find_image_column(table.features)
    require_columns(table.features, image_column=image_column)
    if not isinstance(table.features[image_column], datasets.Image):
        table = _changed(table, image_column, partial(_resolve, str(file.parent)))
        # now: once all columns of the file are changed, `datasets` miscounts the rows of a table that is cast
        table = table.cast_column(image_column, datasets.Image(decode=False))
    if label_separator is not None:
        label_column = label_column or find_label_column(table.features, image_column)
        require_columns(table.features, label_column=label_column)
        table = _changed(table, label_column, partial(_separate, label_separator))
    if reader == "json" and "parts" in table.features and isinstance(table, datasets.Dataset):
        table = _typed_parts(table)
    return _by_split(table) if "split" in table.features else {"train": table}


def read_index_files(folder: Path) -> tuple[dict[str, datasets.Dataset], list[str] | None]:
    """Read the reference's index files: a line a photo, its path, then a label or one-hot vector.

    `train.txt` and `test.txt`, optionally `database.txt`, and `class_names.txt` with a name a line. Paths are relative
    to the folder, or, as the reference has it, to the working directory.

    Returns:
        Tables by split, and the class names if given. Labels are lists where any photo has several.

    Raises:
        ValueError: for a line that cannot be understood; it says which.
    """
    rows = {split: _read_index(folder / f"{split_file}.txt") for split, split_file in _index_files(folder).items()}
    single = all(len(labels) == 1 for found in rows.values() for _, labels in found)
    tables = {}
    for split, found in rows.items():
        paths, labels = zip(*found, strict=True)
        base = folder if (folder / paths[0]).exists() or not Path(paths[0]).exists() else Path()
        tables[split] = to_dataset(
            {"image": [str(base / path) for path in paths], "label": [row[0] if single else row for row in labels]}
        )
    names_file = folder / CLASS_NAMES_FILE
    if not names_file.is_file():
        return tables, None
    return tables, [name for line in names_file.read_text(encoding="utf-8").splitlines() if (name := line.strip())]


def has_index_files(folder: Path) -> bool:
    """Whether a folder holds the reference's index files."""
    return {"train", "query"} <= _index_files(folder).keys()


def _index_files(folder: Path) -> dict[str, str]:
    files = {"train": "train", "query": "test", "database": "database"}
    return {split: name for split, name in files.items() if (folder / f"{name}.txt").is_file()}


def _read_index(file: Path) -> list[tuple[str, list[int]]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        match = _INDEX_LINE.fullmatch(line)
        numbers = [int(label) for label in match["labels"].split()] if match else []
        if match is None or (len(numbers) > 1 and not set(numbers) <= {0, 1}):
            raise ValueError(
                f"{file}, line {number}: expected a path, then a label or a vector of 0 and 1, got {line[:80]!r}"
            )
        one_hot = len(numbers) > 1
        rows.append((match["path"], [label for label, on in enumerate(numbers) if on] if one_hot else numbers))
    if not rows:
        raise ValueError(f"{file} lists no photos")
    return rows


def _csv_options(file: Path) -> dict[str, Any]:
    """Read everything as text: pandas makes numbers of codes such as 007, and nothing of a class named "None"."""
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    with open(file, encoding="utf-8", newline="") as lines:
        header = next(csv.reader(lines, delimiter=separator), [])
    features = datasets.Features({name: datasets.Value("string") for name in header})
    return {"features": features, "keep_default_na": False, "sep": separator}


def _resolve(folder: str, path: str) -> str:
    return path if "://" in path else os.path.join(folder, path)


def _separate(separator: str, text: str) -> list[str]:
    return [name.strip() for name in text.split(separator) if name.strip()]


def _changed(photos: Photos, column: str, change: Callable[[Any], Any]) -> Photos:
    """A column with every value changed; other columns are not copied."""
    if isinstance(photos, datasets.Dataset):
        values = [change(value) for value in photos[column][:]]
        return photos.remove_columns(column).add_column(column, values)
    return with_features(photos.map(partial(_change_row, column, change)))


def _change_row(column: str, change: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    return {column: change(row[column])}


def _typed_parts(photos: datasets.Dataset) -> datasets.Dataset:
    """Part locations with the same names in every row, as for folders; JSON gives each row just its own."""
    rows = photos["parts"][:]
    names = sorted({name for parts in rows for name, point in (parts or {}).items() if point is not None})
    feature = {name: datasets.List(datasets.Value("float32")) for name in names}
    complete = [{name: (parts or {}).get(name) for name in names} for parts in rows]
    return photos.remove_columns("parts").add_column("parts", complete, feature=feature)


def _by_split(table: Photos) -> dict[str, Photos]:
    if isinstance(table, datasets.IterableDataset):  # which splits there are shows at the end only
        return {split: table.filter(partial(_in_split, split)) for split in ("train", "query")}
    names = table["split"][:]
    if unknown := sorted({name for name in names if split_of(name) is None}):
        known = [name for aliases in SPLIT_ALIASES.values() for name in aliases]
        raise ValueError(f"the column 'split' holds {unknown[:5]}; known are {known}")
    splits = [split_of(name) for name in names]
    return {
        split: table.select([row for row, name in enumerate(splits) if name == split])
        for split in SPLIT_ALIASES
        if split in splits
    }


def _in_split(split: str, row: dict[str, Any]) -> bool:
    return split_of(row["split"]) == split
