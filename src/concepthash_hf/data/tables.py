"""Photos listed in a file, a row a photo: CSV, JSON lines, parquet."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .changes import changed, separated, undecoded, with_features
from .columns import (
    MOST_COLUMNS,
    check_number_of_keys,
    find_image_column,
    find_label_column,
    find_path_columns,
    find_split_column,
    holds_pictures,
    require_columns,
    split_column,
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
    splits: Mapping[str, str] | None = None,
    is_divided: bool = True,
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
        splits: ours -> what the column of splits says, several joined by "+"; by usual names if None.
        is_divided: whether a column of splits divides it; all is "train" if not.

    Raises:
        ValueError: if it cannot be read, a column is not found, a row lacks its picture, label or split, or a
            split has an unknown name.
    """
    table = undecoded(with_features(_open(file, streaming)))
    try:
        if image_column is None:
            image_column = _image_column(table, file)
        require_columns(table.features, image_column=image_column)
        if has_labels and label_column is None:
            label_column = find_label_column(_without_splits(table, image_column), image_column)
        if label_column is not None:
            require_columns(table.features, label_column=label_column)
    except ValueError as error:
        raise type(error)(f"{file}: {error}") from None
    table = _with_pictures(table, image_column, file)
    if label_separator is not None and label_column is not None:
        table = separated(table, label_column, label_separator)
    if label_column is not None and isinstance(table, datasets.Dataset):
        check_labels(table, label_column, str(file))
    has_parts = isinstance(table.features.get("parts"), dict)  # of JSON; what parquet has is typed already
    if has_parts and "json" in file.suffix.lower() and isinstance(table, datasets.Dataset):
        table = _typed_parts(table, file)
    divided, by = {"train": table}, None
    if is_divided:
        divided, by = divide(table, str(file), [image_column, label_column or ""], splits)
    notes = [f"pictures: column {image_column!r} of {file.name}"]
    if label_column is not None:
        notes.append(f"labels: column {label_column!r} of {file.name}")
    if by is not None:
        notes.append(f"splits: column {by!r} of {file.name}")
    if streaming and file.suffix.lower() != ".parquet":
        divided = {split: photos.to_iterable_dataset() for split, photos in divided.items()}
    return Table(divided, image_column, label_column, tuple(notes))


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
        _check_number_of_columns(len(columns), file)
        return _from_columns(file, columns)
    try:
        num_columns = pq.read_metadata(file).num_columns
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as parquet: {error}") from None
    _check_number_of_columns(num_columns, file)
    try:
        table = datasets.load_dataset("parquet", data_files=str(file), split="train", streaming=streaming)
        if isinstance(table, datasets.Dataset):
            table.data.validate(full=True)  # texts that are not UTF-8 end in tracebacks wherever they are read
        return table
    except Exception as error:  # damaged, empty, of a type that `datasets` does not know: each has its own exception
        raise ValueError(f"{file} cannot be read as parquet: {error.__cause__ or error}") from error


def _check_number_of_columns(number: int, file: Path) -> None:
    if number > MOST_COLUMNS:
        raise ValueError(f"{file} has {number} columns; at most {MOST_COLUMNS} can be read")


def _from_columns(file: Path, columns: Columns) -> datasets.Dataset:
    for name, values in columns.items():
        check_number_of_keys(values, f"{file}: column {name!r}")
        try:
            pa.array(values)
        except OverflowError:
            row = next(row for row, value in enumerate(values) if _needs_too_many_bits(value))
            raise ValueError(
                f"{file}, row {row}: column {name!r} holds a number of more than 64 bits, {str(values[row])[:40]}; "
                "write it as text, in quotes"
            ) from None
        except (pa.ArrowException, UnicodeEncodeError):
            kind = type(next(value for value in values if value is not None))
            others = (row for row, value in enumerate(values) if value is not None and type(value) is not kind)
            row = next(others, 0)
            raise ValueError(
                f"{file}, row {row}: column {name!r} holds {str(values[row])[:40]!r} here and other kinds of values "
                "elsewhere; values of a column should be of one kind"
            ) from None
    return datasets.Dataset.from_dict(columns)


def _needs_too_many_bits(value: Any) -> bool:
    try:
        pa.array([value])
    except OverflowError:
        return True
    except pa.ArrowException:
        return False
    return False


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
        table = changed(table, column, partial(_resolve, str(base)))
    elif isinstance(feature, dict) and _lacks_bytes(table, column):  # pandas; the path is beside the file then
        table = changed(table, column, partial(_resolve_picture, str(file.parent)))
    if isinstance(table.features[column], datasets.Image):
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


def _typed_parts(photos: datasets.Dataset, file: Path) -> datasets.Dataset:
    """Part locations with the same names in every row, as for folders; JSON gives each row just its own."""
    rows = photos["parts"][:]
    names = sorted({name for parts in rows for name, point in (parts or {}).items() if point is not None})
    complete = [{name: (parts or {}).get(name) for name in names} for parts in rows]
    for row, parts in enumerate(complete):
        for name, point in parts.items():
            if point is not None and not _is_point(point):
                raise ValueError(
                    f"{file}, row {row}: column 'parts' should hold {{name: [x, y]}} in pixels, got {point!r} for "
                    f"{name!r}; give the column another name if it holds something else"
                )
            # pyarrow makes no float32 of an integer that is not exactly one
            parts[name] = point if point is None else [float(number) for number in point]
    feature = {name: datasets.List(datasets.Value("float32")) for name in names}
    return photos.remove_columns("parts").add_column("parts", complete, feature=feature)


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(isinstance(number, int | float) for number in point)


def divide(
    table: Photos, source: str, others: Sequence[str], splits: Mapping[str, str] | None = None
) -> tuple[dict[str, Photos], str | None]:
    """Rows by split, and the column that says so, None if there is none.

    Args:
        table: the rows.
        source: file, for messages.
        others: columns that are something else.
        splits: ours -> theirs, several joined by "+"; by usual names if None.

    Raises:
        ValueError: if a row says no split that is known, or there is no such column, but splits are named.
    """
    column = _column_of_splits(table, others)
    if column is None:
        if splits:
            raise ValueError(f"{source} has no column of splits, which train_split=... and such could name")
        return {"train": table}, None
    find: Callable[[Any], str | None] = split_of
    if splits:
        named = {name: split for split, names in splits.items() for name in names.split("+")}
        find = partial(_split_by_name, named)
    if isinstance(table, datasets.IterableDataset):  # which splits there are shows at the end only
        return {split: table.filter(partial(_in_split, find, column, split)) for split in ("train", "query")}, column
    names = table[column][:]
    found = [find(name) for name in names]
    if not splits and None in found:
        known = [name for aliases in SPLIT_ALIASES.values() for name in aliases]
        unknown = sorted({str(name) for name, split in zip(names, found, strict=True) if split is None})
        raise ValueError(
            f"{source}, row {found.index(None)}: the column {column!r} holds {unknown[:5]}; known are {known}: write "
            "one of them in each row, say which rows to use with train_split=... and query_split=..., or give the "
            "column another name if it holds no splits"
        )
    rows = {split: [row for row, one in enumerate(found) if one == split] for split in SPLIT_ALIASES}
    if splits and (empty := [names for split, names in splits.items() if not rows[split]]):
        raise ValueError(f"{source} has no row with {empty[0]!r} in column {column!r}; it holds {_some(names)}")
    return {split: table.select(chosen) for split, chosen in rows.items() if chosen}, column


def _column_of_splits(table: Photos, others: Sequence[str]) -> str | None:
    if isinstance(table, datasets.Dataset):
        return find_split_column(table, others)
    column = split_column(table.features)
    return None if column in others else column


def _split_by_name(named: Mapping[str, str], name: object) -> str | None:
    return named.get(str(name).strip())


def _some(names: Sequence[object]) -> list[str]:
    return sorted(set(map(str, names)))[:5]


def _in_split(find: Callable[[Any], str | None], column: str, split: str, row: dict[str, Any]) -> bool:
    return find(row[column]) == split
