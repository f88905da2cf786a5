"""Which column holds the pictures, which one the labels, and which split a name stands for."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from .labels import Photos, inner_feature

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
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "species", "target", "tags")
SPLIT_ALIASES = {
    "train": ("train", "training"),
    "query": ("test", "query", "queries"),
    "database": ("database", "gallery"),
    "validation": ("validation", "valid", "val", "dev"),
}
_LABEL_TYPES = ("string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def split_of(name: str) -> str | None:
    """The split that a folder, file or Hub split of this name stands for."""
    return next((split for split, aliases in SPLIT_ALIASES.items() if name.lower() in aliases), None)


def find_image_column(features: datasets.Features) -> str:
    """The one `datasets.Image` column, else a column with a usual name for paths.

    Raises:
        ValueError: if there is none, or several.
    """
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    paths = [name for name in PATH_COLUMNS if name in features and _dtype(features[name]) == "string"]
    found = ["image"] if "image" in images else images or paths[:1]
    return _only(found, features, "image", "pictures or their paths")


def find_label_column(features: datasets.Features, image_column: str) -> str:
    """The one `ClassLabel` column (or list of them), else one with a usual name, else the only one of text or numbers.

    Raises:
        ValueError: if there is none, or several.
    """
    others = {name: feature for name, feature in features.items() if name not in (image_column, "split")}
    typed = [name for name, feature in others.items() if isinstance(inner_feature(feature), datasets.ClassLabel)]
    plain = [name for name, feature in others.items() if _dtype(inner_feature(feature)) in _LABEL_TYPES]
    for candidates in (typed, plain):
        named = [name for name in LABEL_COLUMNS if name in candidates]
        if named or len(candidates) == 1:
            return (named or candidates)[0]
    return _only(typed or plain, features, "label", "classes")


def require_columns(features: datasets.Features, **columns: str) -> None:
    """Check names of columns that a user gave.

    Raises:
        ValueError: if one is missing.
    """
    for option, column in columns.items():
        if column not in features:
            raise ValueError(f"no column {column!r}; columns are {sorted(features)}: say which with {option}=...")


def with_features(photos: Photos) -> Photos:
    """A stream may have to be looked into before it knows its columns."""
    return photos if photos.features is not None else photos._resolve_features()


def to_dataset(columns: Mapping[str, list], part_names: Sequence[str] = ()) -> datasets.Dataset:
    """A table with an undecoded "image" column of paths and, if there are part names, a "parts" column of points."""
    features = datasets.Dataset.from_dict({key: rows for key, rows in columns.items() if key != "parts"}).features
    features["image"] = datasets.Image(decode=False)
    if part_names:
        features["parts"] = {name: datasets.List(datasets.Value("float32")) for name in part_names}
    return datasets.Dataset.from_dict(dict(columns), features=features)


def _only(found: list[str], features: datasets.Features, kind: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    problem = f"several columns could hold {what}: {found}" if found else f"no column seems to hold {what}"
    raise ValueError(f"{problem}; columns are {dict(features)}: say which with {kind}_column=...")


def _dtype(feature: Any) -> str | None:
    dtype = getattr(feature, "dtype", None)
    return "string" if dtype == "large_string" else dtype
