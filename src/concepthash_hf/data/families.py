"""Families of classes, as photos name them."""

import datasets

from .labels import class_names_of
from .splits import SPLIT_NAMES, PhotoSplits

FAMILY_COLUMN = "family"


def class_families(splits: PhotoSplits) -> dict[str, str]:
    """Read the family of every class from a column "family" of its photos, in any split.

    Args:
        splits: of streams nothing is read, and photos of several classes do not say of which one the family is.

    Returns:
        Families by class, without those that no photo names; empty where there is no such column.
    """
    found: dict[str, str] = {}
    for split in () if splits.multi_label else SPLIT_NAMES:
        photos = getattr(splits, split)
        if isinstance(photos, datasets.Dataset) and FAMILY_COLUMN in photos.column_names:
            found |= _families_in(photos, splits.label_column)
    return found


def _families_in(photos: datasets.Dataset, label_column: str) -> dict[str, str]:
    names, feature = class_names_of(photos.features[label_column]), photos.features[FAMILY_COLUMN]
    if not isinstance(feature, datasets.Value | datasets.ClassLabel):
        return {}
    rows = zip(photos[label_column][:], photos[FAMILY_COLUMN][:], strict=True)
    known = {names[label]: family for label, family in rows if family not in (None, "")}
    if isinstance(feature, datasets.ClassLabel):
        return {name: feature.int2str(family) for name, family in known.items() if family >= 0}
    return {name: str(family) for name, family in known.items()}
