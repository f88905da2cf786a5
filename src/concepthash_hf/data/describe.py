"""What was understood of somebody's photos, in a few lines, before anything long starts."""

from ..quoting import one_line
from .collection import Collection
from .splits import SPLIT_NAMES, PhotoSplits

_NAMES_SHOWN = 3


def describe_photos(splits: PhotoSplits) -> str:
    """Say which classes, splits and columns were found, and what was left out.

    Args:
        splits: as `load_photos` gives them.

    Returns:
        A few lines.

    Example:
        >>> print(describe_photos(load_photos("my_photos")))  # doctest: +SKIP
        my_photos: 24 classes: bunting, dunnock, robin, ...
          photos: train 1,152, query 288, database the photos to train on
          labels: the names of the folders
          queries: 288 of 1440 photos are held out, since there is no test split
          ignored, no pictures: 2 .txt
    """
    names = splits.class_names
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    several = ", several a photo" if splits.multi_label else ""
    lines = [f"{splits.name}: {len(names)} classes{several}: {shown}", f"photos: {_photos(splits)}", *splits.notes]
    return _joined(lines)


def describe_collection(collection: Collection) -> str:
    """Say how many photos were found, and what was left out.

    Args:
        collection: as `load_collection` gives it.

    Returns:
        A few lines.
    """
    return _joined([f"{collection.name}: {len(collection):,} photos", *collection.notes])


def _joined(lines: list[str]) -> str:
    return "\n  ".join(one_line(line) for line in lines)


def _photos(splits: PhotoSplits) -> str:
    counts = splits.counts
    searched = "the photos to train on" if splits.database is splits.train else None
    parts = []
    for split in SPLIT_NAMES:
        if split == "database" and searched:
            parts.append(f"database {searched}")
        elif getattr(splits, split) is not None:
            parts.append(f"{split} {counts[split]:,}" if split in counts else f"{split} a stream")
    return ", ".join(parts)
