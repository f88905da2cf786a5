"""Photos listed in a file, a row a photo: CSV, JSON lines, parquet."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from .columns import (
    find_image_column,
    find_label_column,
    find_path_columns,
    find_split_column,
    holds_pictures,
    require_columns,
    split_column,
    with_features,
)
from .labels import Photos, check_labels
from .split_names import SPLIT_ALIASES, split_of
from .text_tables import Columns, read_csv, read_json

TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_ROWS_TO_LOOK_AT = 20


@dataclass(frozen=True)
class Table:
    """What was read from a table.

    Attributes:
        splits: rows by split, with an undecoded image column.
        image_column: name of the image column.
        label_column: name of the label column, None if it was not looked for.
        notes: in words, what was taken for what.
    """

    splits: dict[str, Photos]
    image_column: str
    label_column: str | None
    notes: tuple[str, ...]


def read_table(
    file: Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    streaming: bool = False,
    has_labels: bool = True,
) -> Table:
    """Read one file of photos, a row a photo; a column of splits divides it (see `columns`).

    Args:
        file: `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet`. Paths in it are relative to its folder, or to a folder
            beside it.
        image_column: name of the image column, if it has none of the usual names.
        label_column: name of the label column, if it has none of the usual names.
        label_separator: what stands between several labels in one text, e.g. "|".
        streaming: read it as it goes.
        has_labels: whether a label column is looked for, and has to be there.

    Raises:
        ValueError: if it cannot be read, a column is not found, a row lacks its picture, label or split, or a
            split has an unknown name.
    """
    table = with_features(_open(file, streaming))
    if image_column is None:
        image_column = _image_column(table, file)
    require_columns(table.features, image_column=image_column)
    if has_labels and label_column is None:
        label_column = find_label_column(_without_splits(table, image_column), image_column)
    if label_column is not None:
        require_columns(table.features, label_column=label_column)
    table = _with_pictures(table, image_column, file)
    if label_separator is not None and label_column is not None:
        table = _changed(table, label_column, partial(_separate, label_separator))
    if label_column is not None and isinstance(table, datasets.Dataset):
        check_labels(table, label_column, str(file))
    if "parts" in table.features and "json" in file.suffix.lower() and isinstance(table, datasets.Dataset):
        table = _typed_parts(table)
    splits, by = _by_split(table, file, [image_column, label_column or ""])
    notes = [f"pictures: column {image_column!r} of {file.name}"]
    if label_column is not None:
        notes.append(f"labels: column {label_column!r} of {file.name}")
    if by is not None:
        notes.append(f"splits: column {by!r} of {file.name}")
    if streaming and file.suffix.lower() != ".parquet":
        splits = {split: photos.to_iterable_dataset() for split, photos in splits.items()}
    return Table(splits, image_column, label_column, tuple(notes))


def has_pictures(file: Path) -> bool:
    """Whether a file is a table of photos: it has a column for them.

    Raises:
        ValueError: if it is a table, but cannot be read.
    """
    try:
        table = with_features(_open(file, streaming=True))
    except ValueError:
        if file.suffix.lower() != ".json":  # which may hold anything
            raise
        return False
    try:
        find_image_column(table.features)
    except ValueError:
        return False
    return True


def table_columns(file: Path) -> list[str]:
    """Names of the columns of a table."""
    return list(with_features(_open(file, streaming=True)).features)


def _open(file: Path, streaming: bool) -> Photos:
    if file.suffix.lower() != ".parquet":
        columns = read_json(file) if "json" in file.suffix.lower() else read_csv(file)
        return _from_columns(file, columns)
    try:
        return datasets.load_dataset("parquet", data_files=str(file), split="train", streaming=streaming)
    except Exception as error:  # damaged, empty, of a type that `datasets` does not know: each has its own exception
        raise ValueError(f"{file} cannot be read as parquet: {error.__cause__ or error}") from error


def _from_columns(file: Path, columns: Columns) -> datasets.Dataset:
    for name, values in columns.items():
        try:
            pa.array(values)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            kind = type(next(value for value in values if value is not None))
            others = (row for row, value in enumerate(values) if value is not None and type(value) is not kind)
            row = next(others, 0)
            raise ValueError(
                f"{file}, row {row}: column {name!r} holds {str(values[row])[:40]!r} here and other kinds of values "
                "elsewhere; values of a column should be of one kind"
            ) from None
    return datasets.Dataset.from_dict(columns)


def _image_column(table: Photos, file: Path) -> str:
    """The image column; of several with usual names for paths, the one whose files are there."""
    paths = find_path_columns(table.features)
    if (
        isinstance(table, datasets.Dataset)
        and len(paths) > 1
        and not any(map(holds_pictures, table.features.values()))
    ):
        for name in paths:
            if _base_of(table[name][:_ROWS_TO_LOOK_AT], file.parent) is not None:
                return name
    return find_image_column(table.features)


def _without_splits(table: Photos, image_column: str) -> datasets.Features:
    """The columns that could hold labels."""
    by = find_split_column(table, [image_column]) if isinstance(table, datasets.Dataset) else None
    return datasets.Features({name: feature for name, feature in table.features.items() if name != by})


def _with_pictures(table: Photos, column: str, file: Path) -> Photos:
    """An undecoded image column; paths are resolved."""
    feature = table.features[column]
    if not holds_pictures(feature):
        if isinstance(table, datasets.Dataset):
            paths = table[column][:]
            if missing := [row for row, path in enumerate(paths) if not isinstance(path, str) or not path.strip()]:
                raise ValueError(
                    f"{file}, row {missing[0]}: no path in column {column!r}, got {paths[missing[0]]!r}; say which "
                    "column has the pictures with image_column=..."
                )
            base = _base_of(paths[:_ROWS_TO_LOOK_AT], file.parent) or file.parent
        else:
            base = file.parent
        table = _changed(table, column, partial(_resolve, str(base)))
    elif isinstance(feature, dict) and _lacks_bytes(table, column):  # pandas; the path is beside the file then
        table = _changed(table, column, partial(_resolve_picture, str(file.parent)))
    if isinstance(feature, datasets.Image) and not feature.decode:
        return table
    # now: once all columns of the file are changed, `datasets` miscounts the rows of a table that is cast
    return table.cast_column(column, datasets.Image(decode=False))


def _lacks_bytes(table: Photos, column: str) -> bool:
    if isinstance(table, datasets.IterableDataset):
        return True
    return pc.struct_field(table.data.column(column), "bytes").null_count > 0


def _base_of(paths: list[Any], folder: Path) -> Path | None:
    """The folder that paths are relative to: the one of the table, or one in it; None if no file is there."""
    texts = [path for path in paths if isinstance(path, str) and path.strip()]
    bases = [folder, *sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))]
    return next((base for base in bases if any(os.path.isfile(_resolve(str(base), path)) for path in texts)), None)


def _resolve(folder: str, path: str) -> str:
    path = path.strip()
    if "://" in path:
        return path
    resolved = os.path.join(folder, path)
    if "\\" in path and not os.path.exists(resolved):  # written on Windows
        return os.path.join(folder, path.replace("\\", "/"))
    return resolved


def _resolve_picture(folder: str, picture: dict[str, Any] | None) -> dict[str, Any] | None:
    if picture is None or picture["bytes"] is not None or picture["path"] is None:
        return picture
    return {"bytes": None, "path": _resolve(folder, picture["path"])}


def _separate(separator: str, text: Any) -> list[str]:
    if text is None or isinstance(text, list):
        return text or []
    return [name.strip() for name in str(text).split(separator) if name.strip()]


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


def _by_split(table: Photos, file: Path, others: list[str]) -> tuple[dict[str, Photos], str | None]:
    """Rows by split, and the column that says so."""
    if isinstance(table, datasets.IterableDataset):  # which splits there are shows at the end only
        if (column := split_column(table.features)) is None or column in others:
            return {"train": table}, None
        return {split: table.filter(partial(_in_split, column, split)) for split in ("train", "query")}, column
    column = find_split_column(table, others)
    if column is None:
        return {"train": table}, None
    names = table[column][:]
    splits = [split_of(name) for name in names]
    if None in splits:
        row = splits.index(None)
        known = [name for aliases in SPLIT_ALIASES.values() for name in aliases]
        unknown = sorted({str(name) for name, split in zip(names, splits, strict=True) if split is None})
        raise ValueError(
            f"{file}, row {row}: the column {column!r} holds {unknown[:5]}; known are {known}: write one of them in "
            "each row, or give the column another name if it holds no splits"
        )
    return {
        split: table.select([row for row, name in enumerate(splits) if name == split])
        for split in SPLIT_ALIASES
        if split in splits
    }, column


def _in_split(column: str, split: str, row: dict[str, Any]) -> bool:
    return split_of(row[column]) == split
