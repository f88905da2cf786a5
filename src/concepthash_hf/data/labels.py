"""Label columns: names, label sets, subsets of classes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import datasets
import numpy as np

ClassNames = tuple[str, ...]
Photos: TypeAlias = datasets.Dataset | datasets.IterableDataset


def class_names_of(feature: datasets.ClassLabel | datasets.List) -> ClassNames:
    """Class names of a `ClassLabel` or a list of them."""
    return tuple(inner_feature(feature).names)


def inner_feature(feature: Any) -> Any:
    """What a list holds, or the feature itself."""
    return feature.feature if isinstance(feature, datasets.List) else feature


def label_sets(photos: datasets.Dataset, label_column: str) -> list[list[int]]:
    """Each photo's labels as a list, also where there is just one."""
    labels = photos[label_column][:]
    return labels if isinstance(photos.features[label_column], datasets.List) else [[label] for label in labels]


def strata(labels: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Rows by class; with several labels a photo counts for its rarest (-1: a photo without labels)."""
    counts = np.bincount([label for row in labels for label in row])
    rows: dict[int, list[int]] = defaultdict(list)
    for row, names in enumerate(labels):
        rows[min(names, key=lambda label: (counts[label], label), default=-1)].append(row)
    return dict(sorted(rows.items()))


def stratified_split(labels: Sequence[Sequence[int]], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Hold out a fraction of every class: rounded, at least one photo of two or more, never the last one.

    Returns:
        Rows kept and rows held out, both in order.

    Raises:
        ValueError: if the fraction is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction to hold out lies between 0 and 1, got {fraction}")
    generator = np.random.default_rng(seed)
    held_out: set[int] = set()
    for rows in strata(labels).values():
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        held_out.update(generator.permutation(rows)[:count].tolist())
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
    features = [table.features[label_column] for table in splits.values()]
    learned = splits["train"].features[label_column]
    encoded = isinstance(inner_feature(learned), datasets.ClassLabel)
    if encoded and class_names is None and all(feature == learned for feature in features):
        return dict(splits)
    if any(isinstance(table, datasets.IterableDataset) for table in splits.values()):
        return {key: _encode_stream(table, label_column, class_names) for key, table in splits.items()}
    named = {key: _named_labels(table, label_column, class_names) for key, table in splits.items()}
    order = class_names or (class_names_of(learned) if encoded else ())
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
    several = isinstance(learned, datasets.List)
    return {key: _numbered(splits[key], label_column, named[key], names[key], several) for key in splits}


def _named_labels(photos: datasets.Dataset, column: str, class_names: Sequence[str] | None) -> list[list[str]]:
    """Each photo's class names."""
    feature = photos.features[column]
    inner = inner_feature(feature)
    rows: list[list[Any]] = label_sets(photos, column)
    if isinstance(inner, datasets.ClassLabel):
        return [[inner.names[label] for label in row] for row in rows]
    if getattr(inner, "dtype", None) in ("string", "large_string"):
        rows = [[label for label in row if label] for row in rows]
        if class_names is None or not all(label.isdigit() for label in _names_in(rows)) or "0" in class_names:
            return rows
        rows = [[int(label) for label in row] for row in rows]
    elif isinstance(feature, datasets.List) and _is_one_hot(rows):
        rows = [np.flatnonzero(row).tolist() for row in rows]
    if any(label != int(label) or label < 0 for row in rows for label in row):
        raise ValueError(f"column {column!r} should hold class names or numbers from 0, it is {feature}")
    if class_names is None:
        return [[str(int(label)) for label in row] for row in rows]
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
    numbers = all(name.isdigit() for name in others)
    return [*first, *sorted(others, key=lambda name: (int(name), name) if numbers else (0, name))]


def _numbered(
    photos: datasets.Dataset, column: str, named: list[list[str]], names: Sequence[str], several: bool
) -> datasets.Dataset:
    number = {name: label for label, name in enumerate(names)}
    labels = [[number[name] for name in row] for row in named]
    if not several:
        if without := [row for row, label in enumerate(labels) if len(label) != 1]:
            raise ValueError(
                f"{len(without)} photos have no label in column {column!r}, the first in row {without[0]}"
            )
        return set_labels(photos, column, [label for (label,) in labels], names)
    return set_labels(photos, column, labels, names, several=True)


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
    several = isinstance(feature, datasets.List)
    features = datasets.Features({**photos.features, column: datasets.List(label) if several else label})
    return photos.map(partial(_number_row, column, label), features=features)


def _number_row(column: str, label: datasets.ClassLabel, row: dict[str, Any]) -> dict[str, Any]:
    return {column: label.str2int(row[column]) if isinstance(row[column], (str, list)) else row[column]}
