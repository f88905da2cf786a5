"""A table beside class folders that knows more of the photos than the folders do."""

import os
from collections.abc import Mapping, Sequence

import datasets

from .columns import holds_pictures, image_paths
from .tables import Table

_OURS = ("image", "label", "parts")


def with_metadata(folders: Mapping[str, datasets.Dataset], tables: Sequence[Table]) -> dict[str, datasets.Dataset]:
    """Give the photos of class folders the further columns of tables; None where a table does not list a photo.

    Args:
        folders: by split, with the columns "image" and "label".
        tables: rows with paths.
    """
    columns: dict[str, dict[str | None, object]] = {}
    features: dict[str, object] = {}
    for table in tables:
        for photos in table.splits.values():
            paths = [_key(path) for path in image_paths(photos, table.image_column)]
            for name, feature in photos.features.items():
                if name not in _OURS and not holds_pictures(feature):
                    columns.setdefault(name, {}).update(zip(paths, photos[name][:], strict=True))
                    features[name] = feature
    return {split: _added(photos, columns, features) for split, photos in folders.items()}


def _added(
    photos: datasets.Dataset, columns: Mapping[str, Mapping[str | None, object]], features: Mapping[str, object]
) -> datasets.Dataset:
    paths = [_key(path) for path in image_paths(photos, "image")]
    for name, values in columns.items():
        photos = photos.add_column(name, [values.get(path) for path in paths], feature=features[name])
    return photos


def _key(path: str | None) -> str | None:
    return None if path is None else os.path.realpath(path)
