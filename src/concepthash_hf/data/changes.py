"""Columns with every value changed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import datasets

from .labels import Photos, is_list


def with_features(photos: Photos) -> Photos:
    """A stream may have to be looked into before it knows its columns."""
    return photos if photos.features is not None else photos._resolve_features()


def undecoded(photos: Photos) -> Photos:
    """No column is decoded where a row is read: pictures, sounds and films may lie anywhere that a table says."""
    for column, feature in photos.features.items():
        if (plain := _undecoded(feature)) != feature:
            photos = photos.cast_column(column, plain)
    return photos


def _undecoded(feature: Any) -> Any:
    if isinstance(feature, dict):
        return {name: _undecoded(inner) for name, inner in feature.items()}
    if is_list(feature):
        return replace(feature, feature=_undecoded(feature.feature))
    return replace(feature, decode=False) if getattr(feature, "decode", False) is True else feature


def changed(photos: Photos, column: str, change: Callable[[Any], Any]) -> Photos:
    """A column with every value changed; other columns are not copied."""
    if isinstance(photos, datasets.Dataset):
        values = [change(value) for value in photos[column][:]]
        others = photos.remove_columns(column)
        # without columns, a table has no rows that one could be put beside
        return (
            others.add_column(column, values) if others.column_names else datasets.Dataset.from_dict({column: values})
        )
    return with_features(photos.map(partial(_change_row, column, change)))


def _change_row(column: str, change: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    return {column: change(row[column])}


def separated(photos: Photos, label_column: str, separator: str) -> Photos:
    """Lists of labels in place of texts that hold several.

    Args:
        photos: rows.
        label_column: of texts; lists stay as they are.
        separator: what stands between labels in a text.
    """
    return changed(photos, label_column, partial(_separate, separator))


def _separate(separator: str, text: Any) -> list[str]:
    if text is None or isinstance(text, list):
        return text or []
    return [name.strip() for name in str(text).split(separator) if name.strip()]
