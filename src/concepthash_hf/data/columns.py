"""Which column of a table holds the pictures, which one the labels, the split, the ids.

The rule for labels, in this order; names count in any case, and `-` or a space as `_`:

1. the column that `label_column` names;
2. among columns with a usual name (`LABEL_COLUMNS`) and columns of class labels (`datasets.ClassLabel`): the only one,
   or the only one that is both;
3. where there is none of them, the only column of texts or whole numbers besides pictures, split and ids.

More than one is a question: an error that lists them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets
import pyarrow.compute as pc

from .labels import NotForTrainingError, inner_feature
from .split_names import split_of

PATH_COLUMNS = (
    "image",
    "file_name",
    "filename",
    "file",
    "path",
    "image_path",
    "img",
    "img_path",
    "filepath",
    "file_path",
    "image_file",
    "image_name",
    "photo",
    "picture",
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "species", "target", "tags")
SPLIT_COLUMN, ID_COLUMN = "split", "id"
MOST_COLUMNS = 1000  # those within columns of objects included; `datasets` takes minutes over tens of thousands
_ROWS_AT_A_TIME = 1000
_ID_COLUMNS = (ID_COLUMN, "image_id", "photo_id", "index", "unnamed_0", "width", "height")
_LABEL_TYPES = ("string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64") + (
    # pandas makes whole numbers floats where one is missing
    "float16",
    "float32",
    "float64",
)


def find_image_column(features: datasets.Features) -> str:
    """The one column of pictures, else a column with a usual name for paths.

    Raises:
        ValueError: if there is none, or several.
    """
    images = [name for name, feature in features.items() if holds_pictures(feature)]
    found = [name for name in images if _plain(name) == "image"] or images or find_path_columns(features)[:1]
    return _only(found, features, "image", "pictures or their paths")


def find_path_columns(features: datasets.Features) -> list[str]:
    """Columns of texts with a usual name for paths, the most usual first."""
    texts = {_plain(name): name for name, feature in reversed(features.items()) if _dtype(feature) == "string"}
    return [texts[name] for name in PATH_COLUMNS if name in texts]


def holds_pictures(feature: Any) -> bool:
    """Whether a column holds pictures themselves: as `datasets` or as pandas writes them."""
    if isinstance(feature, datasets.Image):
        return True
    return (isinstance(feature, dict) and feature.keys() == {"bytes", "path"}) or _dtype(feature) in (
        "binary",
        "large_binary",
    )


def find_label_column(features: datasets.Features, image_column: str) -> str:
    """The label column by the rule above.

    Raises:
        ValueError: if there is none, or several.
    """
    others = {
        name: feature for name, feature in features.items() if name not in (image_column, split_column(features))
    }
    usual = find_usual_label_columns(others)
    typed = [name for name, feature in others.items() if isinstance(inner_feature(feature), datasets.ClassLabel)]
    both = [name for name in usual if name in typed]
    either = [name for name in others if name in usual or name in typed]
    plain = [
        name
        for name, feature in others.items()
        if _dtype(inner_feature(feature)) in _LABEL_TYPES and _plain(name) not in _ID_COLUMNS
    ]
    return _only(both if len(both) == 1 else either or plain, features, "label", "classes")


def find_usual_label_columns(columns: Iterable[str]) -> list[str]:
    """Those with a usual name for labels."""
    return [name for name in columns if _plain(name) in LABEL_COLUMNS]


def split_column(features: datasets.Features) -> str | None:
    """The column called "split", in any case."""
    return next((name for name in features if _plain(name) == SPLIT_COLUMN), None)


def find_split_column(photos: datasets.Dataset, others: Sequence[str]) -> str | None:
    """The column called "split", else one of texts that all are names of splits, "train" among them.

    Args:
        photos: the table.
        others: columns that are something else.

    Raises:
        ValueError: if there are several.
    """
    if (named := split_column(photos.features)) is not None:
        return None if named in others else named
    texts = [name for name, feature in photos.features.items() if _dtype(feature) == "string" and name not in others]
    found = [name for name in texts if _names_splits(photos.unique(name))]
    if len(found) > 1:
        raise ValueError(
            f"the columns {found} all hold names of splits: rename the one that divides the photos 'split'"
        )
    return found[0] if found else None


def _names_splits(values: list[str | None]) -> bool:
    splits = {split_of(value) for value in values}
    return len(splits) > 1 and "train" in splits and None not in splits


def require_columns(features: datasets.Features, **columns: str) -> None:
    """Check names of columns that a user gave.

    Raises:
        ValueError: if one is missing.
    """
    for option, column in columns.items():
        if column not in features:
            raise ValueError(f"no column {column!r}; columns are {sorted(features)}: say which with {option}=...")


def image_paths(photos: datasets.Dataset, image_column: str) -> list[str | None]:
    """The path of every picture in an undecoded column; no picture is read."""
    batches = photos.select_columns([image_column]).with_format("arrow").iter(_ROWS_AT_A_TIME)
    return [path for rows in batches for path in pc.struct_field(rows.column(image_column), "path").to_pylist()]


def to_dataset(columns: Mapping[str, list], part_names: Sequence[str] = ()) -> datasets.Dataset:
    """A table with an undecoded "image" column of paths and, if there are part names, a "parts" column of points."""
    features = datasets.Dataset.from_dict({key: rows for key, rows in columns.items() if key != "parts"}).features
    features["image"] = datasets.Image(decode=False)
    if part_names:
        features["parts"] = {name: datasets.List(datasets.Value("float32")) for name in part_names}
    return datasets.Dataset.from_dict(dict(columns), features=features)


def check_number_of_keys(values: Iterable[Any], where: str) -> None:
    """Refuse objects with thousands of names between them: a table gets a column for each.

    Raises:
        ValueError: if there are more than `MOST_COLUMNS` names.
    """
    names = {name for value in values if isinstance(value, dict) for name in value}
    if len(names) > MOST_COLUMNS:
        raise ValueError(
            f"{where}: {len(names)} different names, such as {min(names)!r}, in objects; at most {MOST_COLUMNS} "
            "can be read"
        )


def _only(found: list[str], features: datasets.Features, kind: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    problem = f"several columns could hold {what}: {found}" if found else f"no column seems to hold {what}"
    kind_of_error = NotForTrainingError if kind == "label" and not found else ValueError
    raise kind_of_error(f"{problem}; columns are {dict(features)}: say which with {kind}_column=...")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _dtype(feature: Any) -> str | None:
    dtype = getattr(feature, "dtype", None)
    return "string" if dtype in ("large_string", "string_view") else dtype
