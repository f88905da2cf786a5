"""From tables as they come to `PhotoSplits`: find the columns, number the classes, hold out what is missing, check."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import datasets

from .bad_images import OnBadImage
from .changes import separated, undecoded, with_features
from .columns import find_image_column, find_label_column, require_columns
from .labels import NotForTrainingError, Photos, class_names_of, encode_labels, is_list, label_sets, stratified_split
from .places import Places
from .splits import PhotoSplits
from .unreadable import take_out_unreadable


def assemble(
    photos: Mapping[str, Photos],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    class_names: Sequence[str] | None = None,
    query_fraction: float = 0.2,
    seed: int = 0,
    on_unreadable: OnBadImage | Literal["keep"] = "raise",
    notes: Sequence[str] = (),
    places: Places | None = None,
    **facts: Any,
) -> PhotoSplits:
    """Make `PhotoSplits` of tables that have an image and a label column each.

    A column "parts" of points by name is taken as part annotations.

    Args:
        photos: tables by split, "train" at least. Without "query", "validation" takes its place, and without that a
            stratified part of "train" does.
        image_column: name of the image column; found by feature type if None.
        label_column: name of the label column; found by feature type if None.
        label_separator: what stands between several labels in one text, e.g. "|".
        class_names: names by label; for label columns that do not bring their own.
        query_fraction: part of each class to hold out as queries where the source has none.
        seed: which photos are held out.
        on_unreadable: what to do about files of formats that no installed package reads: "raise", "skip" or "keep".
        places: where pictures may lie; anywhere if None.
        notes: in words, what was taken for what.
        **facts: further fields of `PhotoSplits`.

    Raises:
        ValueError: if a column is not found or ambiguous, there are fewer than two classes, or queries have classes
            that cannot be found in the database.
    """
    if "train" not in photos:
        raise ValueError(f"{facts.get('name', 'photos')} has {', '.join(photos)} photos, but none to train on")
    splits = {key: undecoded(with_features(table)) for key, table in photos.items()}
    features = splits["train"].features
    image_column = image_column or find_image_column(features)
    label_column = label_column or find_label_column(features, image_column)
    for table in splits.values():
        require_columns(table.features, image_column=image_column, label_column=label_column)
    splits = {key: _with_pictures(table, image_column) for key, table in splits.items()}
    if places is not None:
        splits = {key: places.check(table, image_column, f"{facts['source']}, {key}") for key, table in splits.items()}
    notes = list(notes) or [f"pictures: column {image_column!r}", f"labels: column {label_column!r}"]
    if on_unreadable != "keep":
        splits, unreadable = take_out_unreadable(splits, image_column, on_unreadable)
        notes += unreadable
    if label_separator is not None and not is_list(splits["train"].features[label_column]):
        splits = {key: separated(table, label_column, label_separator) for key, table in splits.items()}
    splits = encode_labels(splits, label_column, class_names)
    if "query" not in splits:
        splits, held_out = _hold_out_queries(splits, label_column, query_fraction, seed)
        notes += held_out
    notes += _unlabelled_in_words(splits, label_column)
    check_classes(splits, label_column, facts.get("name", "photos"))
    if isinstance(parts := features.get("parts"), dict):
        facts = {"parts_column": "parts", "part_names": tuple(parts), **facts}
    return PhotoSplits(**splits, image_column=image_column, label_column=label_column, notes=tuple(notes), **facts)


def check_classes(splits: Mapping[str, Photos], label_column: str, name: str) -> None:
    """Look for what would make training or retrieval meaningless; streams cannot be looked through.

    Raises:
        NotForTrainingError: for fewer than two classes to train on, or queries of a class that the database lacks.
    """
    present: dict[str, set[str]] = {}
    for key, table in splits.items():
        if isinstance(table, datasets.Dataset):
            names = class_names_of(table.features[label_column])
            present[key] = {names[label] for label in _labels_in(table, label_column, key, name)}
    if "train" in present and len(present["train"]) < 2:
        what = f"only the class {min(present['train'])!r}" if present["train"] else "no photos"
        raise NotForTrainingError(f"{name} has {what} to train on; hashing needs photos of two classes or more")
    for key, searched in (("query", "database" if "database" in splits else "train"), ("validation", "train")):
        if key not in present or searched not in present:
            continue
        if lacking := sorted(present[key] - present[searched]):
            raise NotForTrainingError(
                f"{name}: {len(lacking)} classes of the {key} photos have no photo in {searched}, so nothing relevant "
                f"could be found: {_some(lacking)}. Check the spelling of folders or labels; to retrieve classes that "
                "are not trained on, give a database split that has them"
            )


def _labels_in(photos: datasets.Dataset, label_column: str, split: str, name: str) -> set[int]:
    labels: set[int] = set().union(*label_sets(photos, label_column))
    if min(labels, default=0) < 0:
        raise NotForTrainingError(
            f"{name}: the {split} photos are not labelled (label -1), so retrieval cannot be measured"
        )
    return labels


def _with_pictures(photos: Photos, image_column: str) -> Photos:
    if isinstance(photos.features[image_column], datasets.Image):
        return photos
    return photos.cast_column(image_column, datasets.Image(decode=False))


def _hold_out_queries(
    splits: Mapping[str, Photos], label_column: str, fraction: float, seed: int
) -> tuple[dict[str, Photos], list[str]]:
    """Splits with queries, and what was done in words."""
    splits = dict(splits)
    if "validation" in splits:
        splits["query"] = splits.pop("validation")
        return splits, ["queries: the validation split, since there is no test split"]
    train = splits["train"]
    if isinstance(train, datasets.IterableDataset):
        raise ValueError("a stream needs a split of its own for the queries: give query_split=...")
    labels = label_sets(train, label_column)
    kept, held_out = stratified_split(labels, fraction, seed)
    notes = [f"queries: {len(held_out)} of {len(train)} photos are held out, since there is no test split"]
    asked = {label for row in held_out for label in labels[row]}
    names = class_names_of(train.features[label_column])
    if only_trained := [names[label] for label in sorted({label for row in labels for label in row} - asked)]:
        notes.append(f"never asked for, too few photos: {len(only_trained)} classes ({_some(only_trained)})")
    return {**splits, "train": train.select(kept), "query": train.select(held_out)}, notes


def _unlabelled_in_words(splits: Mapping[str, Photos], label_column: str) -> list[str]:
    """Photos that have none of several possible labels."""
    notes = []
    for split, photos in splits.items():
        if isinstance(photos, datasets.Dataset):
            rows = [row for row, labels in enumerate(label_sets(photos, label_column)) if not labels]
            if rows:
                notes.append(f"without labels: {len(rows)} {split} photos, the first in row {rows[0]}")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
