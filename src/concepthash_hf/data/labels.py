"""Label columns: names, label sets, subsets of classes."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import datasets
import numpy as np

ClassNames = tuple[str, ...]
Photos: TypeAlias = datasets.Dataset | datasets.IterableDataset
_MOST_DIGITS = 18  # of whole numbers in 64 bits


class NotForTrainingError(ValueError):
    """Photos without classes that could be told apart, or with classes that could be read in several ways.

    Nothing can be learned from them as they are; hashed they can be.
    """


def class_names_of(feature: datasets.ClassLabel | datasets.List) -> ClassNames:
    """Class names of a `ClassLabel` or a list of them."""
    return tuple(inner_feature(feature).names)


def is_list(feature: Any) -> bool:
    """Whether a column holds a list in each row."""
    return isinstance(feature, datasets.List | datasets.LargeList)


def inner_feature(feature: Any) -> Any:
    """What a list holds, or the feature itself."""
    return feature.feature if is_list(feature) else feature


def is_number(text: str) -> bool:
    """Whether a text consists of the digits 0 to 9, and of so few that it can number something.

    `str.isdigit` also takes such as "²", which `int` does not; nor does that take thousands of digits.
    """
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def tidy_name(name: str) -> str:
    """A class name without spaces around it, in one Unicode form: file systems write é in one way or the other.

    Example:
        >>> tidy_name(" wren ")
        'wren'
    """
    return unicodedata.normalize("NFC", name.strip())


def label_sets(photos: datasets.Dataset, label_column: str) -> list[list[int]]:
    """Each photo's labels as a list, also where there is just one."""
    labels = photos[label_column][:]
    return labels if is_list(photos.features[label_column]) else [[label] for label in labels]


def strata(labels: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Rows by class; with several labels a photo counts for its rarest (-1: a photo without labels)."""
    counts = np.bincount([label for row in labels for label in row])
    rows: dict[int, list[int]] = defaultdict(list)
    for row, names in enumerate(labels):
        rows[min(names, key=lambda label: (counts[label], label), default=-1)].append(row)
    return dict(sorted(rows.items()))


def stratified_split(labels: Sequence[Sequence[int]], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Hold out a fraction of every class: rounded, at least one photo of two or more, never the last one.

    With several labels a photo, one whose label would be left without a photo stays.

    Returns:
        Rows kept and rows held out, both in order.

    Raises:
        ValueError: if the fraction is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction to hold out lies between 0 and 1, got {fraction}")
    generator = np.random.default_rng(seed)
    left = Counter(label for row in labels for label in set(row))
    held_out: set[int] = set()
    for rows in strata(labels).values():
        wanted = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        for row in generator.permutation(rows).tolist():
            if wanted and all(left[label] > 1 for label in labels[row]):
                left.subtract(set(labels[row]))
                held_out.add(row)
                wanted -= 1
    return [row for row in range(len(labels)) if row not in held_out], sorted(held_out)


def relabel(photos: datasets.Dataset, label_column: str, names: Sequence[str]) -> datasets.Dataset:
    """Only the photos of these classes, labelled 0, 1, ... in this order."""
    old = class_names_of(photos.features[label_column])
    new = {old.index(name): label for label, name in enumerate(names) if name in old}
    labels = photos[label_column][:]
    rows = [row for row, label in enumerate(labels) if label in new]
    # renumber before selecting: `datasets` copies every picture to add a column to a selection
    return set_labels(photos, label_column, [new.get(label, 0) for label in labels], names).select(rows)


def set_labels(
    photos: datasets.Dataset, label_column: str, labels: Sequence[Any], names: Sequence[str], several: bool = False
) -> datasets.Dataset:
    """Put labels in place of a column: numbers as `ClassLabel`, or lists of numbers as lists of them."""
    feature = datasets.ClassLabel(names=list(names))
    photos = photos.remove_columns(label_column)
    return photos.add_column(label_column, labels, feature=datasets.List(feature) if several else feature)


def encode_labels(
    splits: Mapping[str, Photos], label_column: str, class_names: Sequence[str] | None = None
) -> dict[str, Photos]:
    """Turn label columns of any kind into `ClassLabel`, or lists of them where a photo can have several labels.

    Names, numbers, one-hot vectors and lists of names or numbers are understood. Classes are numbered in the order of
    `class_names`, else in that of the training split's `ClassLabel`, else sorted. All splits share the numbers, unless
    a database brings classes that are not trained on: then query and database have numbers of their own.

    Args:
        splits: tables by split, "train" at least.
        label_column: name of the label column.
        class_names: names by label.

    Raises:
        ValueError: if the column is of no such kind, a name is not among `class_names`, or a stream has labels
            without names.
    """
    class_names = None if class_names is None else [tidy_name(name) for name in class_names]
    features = [table.features[label_column] for table in splits.values()]
    learned = splits["train"].features[label_column]
    encoded = isinstance(inner_feature(learned), datasets.ClassLabel)
    tidy = encoded and all(name == tidy_name(name) for name in class_names_of(learned))
    plain = not isinstance(learned, datasets.LargeList)
    if tidy and plain and class_names is None and all(feature == learned for feature in features):
        return dict(splits)
    if any(isinstance(table, datasets.IterableDataset) for table in splits.values()):
        return {key: _encode_stream(table, label_column, class_names) for key, table in splits.items()}
    labels = {key: _checked_labels(table, label_column, key) for key, table in splits.items()}
    if _is_one_hot([row for rows in labels.values() if any(rows) for row in rows]):  # of all splits with labels
        labels = {key: [np.flatnonzero(row).tolist() for row in rows] for key, rows in labels.items()}
    named = {key: _named_labels(rows, label_column, class_names) for key, rows in labels.items()}
    order = class_names or (list(dict.fromkeys(map(tidy_name, class_names_of(learned)))) if encoded else ())
    trained = _in_order(named["train"], order)
    searched = _names_in(named.get("database", []))
    if searched <= set(trained):
        everything = _in_order((rows for key in sorted(named) for rows in named[key]), trained)
        names = dict.fromkeys(splits, everything)
    else:
        own = _in_order([*named["database"], *named.get("query", [])], ())
        names = {key: own if key in ("query", "database") else trained for key in splits}
    if class_names is not None and (unknown := sorted(set(names["train"]) - set(class_names))):
        raise ValueError(f"labels that are not among the {len(class_names)} class names: {unknown[:5]}")
    several = any(map(is_list, features))
    return {key: _numbered(splits[key], label_column, named[key], names[key], several) for key in splits}


def check_labels(photos: datasets.Dataset, column: str, where: str) -> None:
    """Look for labels that are missing or no labels; a photo may have none where photos have lists of them.

    Args:
        photos: the rows.
        column: name of the label column.
        where: the file or split, for messages.

    Raises:
        ValueError: at the first row whose label is none, or is neither a text nor a whole number from 0.
    """
    several = is_list(photos.features[column])
    values = photos[column][:]
    if without := [row for row, value in enumerate(values) if not several and _is_missing(value)]:
        raise ValueError(
            f"{where}: {len(without)} photos have no label in column {column!r}, the first in row {without[0]}; "
            "give them one, or take their rows out"
        )
    for row, value in enumerate(values):
        for label in (value or []) if several else [value]:
            if several and _is_missing(label):
                raise ValueError(f"{where}, row {row}: column {column!r} has an empty label in its list: {value}")
            if not isinstance(label, str) and not _is_whole(label):
                raise ValueError(
                    f"{where}, row {row}: column {column!r} should hold class names or whole numbers from 0, got "
                    f"{label!r}; say which column has the labels with label_column=..."
                )


def _is_missing(label: Any) -> bool:
    return label is None or label != label or (isinstance(label, str) and not label.strip())


def _is_whole(label: Any) -> bool:
    return isinstance(label, int | float) and 0 <= label < 2**63 and float(label).is_integer()


def _checked_labels(photos: datasets.Dataset, column: str, split: str) -> list[list[Any]]:
    """Each photo's labels as they are written, those of a `ClassLabel` by name."""
    inner = inner_feature(photos.features[column])
    if isinstance(inner, datasets.ClassLabel) and any(
        label == -1 for row in label_sets(photos, column) for label in row or ()
    ):
        raise ValueError(f"the {split} photos are not labelled (label -1)")
    check_labels(photos, column, f"the {split} photos")
    rows: list[list[Any]] = [row or [] for row in label_sets(photos, column)]
    if isinstance(inner, datasets.ClassLabel):
        return [[inner.names[label] for label in row] for row in rows]
    return rows


def _named_labels(rows: list[list[Any]], column: str, class_names: Sequence[str] | None) -> list[list[str]]:
    """Each photo's class names."""
    if any(isinstance(label, str) for row in rows for label in row):
        rows = [[tidy_name(label) for label in row] for row in rows]
        if class_names is None or not all(is_number(label) for label in _names_in(rows)) or "0" in class_names:
            return rows
    rows = [[int(label) for label in row] for row in rows]
    if class_names is None:
        return [[str(label) for label in row] for row in rows]
    if (largest := max((label for row in rows for label in row), default=0)) >= len(class_names):
        raise ValueError(f"column {column!r} has the label {largest}, but there are {len(class_names)} class names")
    return [[class_names[label] for label in row] for row in rows]


def _is_one_hot(rows: list[list[Any]]) -> bool:
    """Whether all rows are equally long and hold zeros and ones, some of them zero."""
    lengths = {len(row) for row in rows}
    values = {value for row in rows for value in row}
    return len(lengths) == 1 and lengths != {1} and values <= {0, 1} and 0 in values


def _names_in(rows: Iterable[Iterable[str]]) -> set[str]:
    return {name for row in rows for name in row}


def _in_order(rows: Iterable[Iterable[str]], first: Sequence[str]) -> list[str]:
    """The names of `first`, then the others sorted (as numbers if they all are)."""
    others = _names_in(rows) - set(first)
    numbers = all(is_number(name) for name in others)
    return [*first, *sorted(others, key=lambda name: (int(name), name) if numbers else (0, name))]


def _numbered(
    photos: datasets.Dataset, column: str, named: list[list[str]], names: Sequence[str], several: bool
) -> datasets.Dataset:
    number = {name: label for label, name in enumerate(names)}
    labels = [list(dict.fromkeys(number[name] for name in row)) for row in named]
    return set_labels(photos, column, labels if several else [label for (label,) in labels], names, several)


def _encode_stream(
    photos: datasets.IterableDataset, column: str, class_names: Sequence[str] | None
) -> datasets.IterableDataset:
    """A stream cannot be looked through for its names first."""
    feature = photos.features[column]
    if class_names is None:
        raise ValueError(
            f"column {column!r} of the stream is {feature}; its class names are known only at its end: "
            "give class_names=[...]"
        )
    label = datasets.ClassLabel(names=list(class_names))
    several = is_list(feature)
    features = datasets.Features({**photos.features, column: datasets.List(label) if several else label})
    return photos.map(partial(_number_row, column, label), features=features)


def _number_row(column: str, label: datasets.ClassLabel, row: dict[str, Any]) -> dict[str, Any]:
    value = row[column]
    if isinstance(value, list):
        return {column: [_class_number(label, name) for name in value]}
    return {column: _class_number(label, value)}


def _class_number(label: datasets.ClassLabel, value: Any) -> int:
    """The number of a class name, or a number as it is.

    Raises:
        ValueError: if it is none of the classes.
    """
    if isinstance(value, str) and tidy_name(value) in label.names:
        return label.str2int(tidy_name(value))
    if not isinstance(value, str) and not _is_missing(value) and _is_whole(value) and value < label.num_classes:
        return int(value)
    if isinstance(value, str) and is_number(value.strip()) and int(value) < label.num_classes:
        return int(value)
    raise ValueError(f"the stream has the label {value!r}, which is none of the {label.num_classes} class names")
