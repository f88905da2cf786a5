"""Files that look like pictures, but are of a format that no installed package reads."""

import os
from collections.abc import Mapping

import datasets
from PIL import Image

from .bad_images import BadImageLog, OnBadImage
from .columns import image_paths
from .decode import BadImageError, decode_image
from .labels import Photos

_SHOWN = 3


def take_out_unreadable(
    splits: Mapping[str, Photos], image_column: str, on_unreadable: OnBadImage
) -> tuple[dict[str, Photos], list[str]]:
    """Leave them out, all of them said; only files with such names are opened.

    Args:
        splits: rows with an undecoded image column. Streams stay as they are.
        image_column: its name.
        on_unreadable: "raise" at the first, or "skip".

    Returns:
        The splits without them, and a line in words if there were any.

    Raises:
        BadImageError: for the first of them.
    """
    log, kept, listed = BadImageLog(on_unreadable), dict(splits), []
    for split, photos in splits.items():
        if not isinstance(photos, datasets.Dataset):
            continue
        bad = []
        for row, path in enumerate(image_paths(photos, image_column)):
            if path is not None and not _is_known(path):
                try:
                    decode_image(photos[row][image_column], row)
                except BadImageError as error:
                    log.add(error)
                    bad.append(row)
                    listed.append(f"{error.path}: {error.reason}")
        if bad:
            kept[split] = photos.select(sorted(set(range(len(photos))) - set(bad)))
    log.report()
    if not listed:
        return kept, []
    more = f" ... and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return kept, [f"unreadable, left out: {len(listed)} pictures: {'; '.join(listed[:_SHOWN])}{more}"]


def _is_known(path: str) -> bool:
    """Whether the name is one of a format that PIL reads."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in Image.EXTENSION:
        Image.init()
    return Image.EXTENSION.get(suffix) in Image.OPEN and "\\x" not in path
