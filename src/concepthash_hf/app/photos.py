"""The photos of a collection as they leave the house: only its own, small, and always as a fresh JPEG."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageOps

from ..data import decode_image
from ..photo_index import PhotoIndex
from ..photo_records import PATH, regular_file_below
from ..whole_files import replacing
from .decoding import FEW_AT_A_TIME

THUMBNAIL = 320  # pixels: side of a square


class ServedPhotos:
    """Photos by the ids of an index, opened only where they lie in the folder of the collection.

    What a path of the index leads out of it by, `..`, a leading slash or a link, leads nowhere here. Files themselves
    are never sent: pictures are decoded and written anew.

    Args:
        index: says which photos there are.
        cache: folder for thumbnails, which are made when they are first asked for.
    """

    def __init__(self, index: PhotoIndex, cache: str | Path) -> None:
        self._index, self._folder, self._cache = index, index.source.folder, Path(cache)

    def file(self, id: Any) -> Path:
        """The file of a photo.

        Raises:
            ValueError: if the index has no such photo.
            FileNotFoundError: if there is no regular file for it in the collection's folder.
        """
        (row,) = self._index.codes.get_metadata([id])
        file = self.file_of(row)
        if file is None:
            raise FileNotFoundError(f"there is no photo {id!r} in the folder of the collection")
        return file

    def file_of(self, row: Mapping[str, Any]) -> Path | None:
        """The file of a photo by what the index knows of it; None if there is none that may be shown."""
        path = row.get(PATH)
        return regular_file_below(self._folder, path) if self._folder is not None and isinstance(path, str) else None

    def photo(self, id: Any) -> Image.Image:
        """A photo, upright RGB.

        Raises:
            ValueError: as `file`, or if it cannot be read.
            FileNotFoundError: as `file`.
        """
        return decode_image(self.file(id))

    def thumbnail(self, id: Any) -> Path:
        """The file of a small square JPEG, in the cache.

        Raises:
            ValueError: as `photo`.
            FileNotFoundError: as `file`.
            OSError: if the cache cannot be written.
        """
        file = self.file(id)
        facts = os.stat(file)
        # a photo that is replaced gets another thumbnail
        key = hashlib.sha256(f"{file}\0{facts.st_mtime_ns}\0{facts.st_size}\0{THUMBNAIL}".encode()).hexdigest()
        small = self._cache / key[:2] / f"{key}.jpg"
        if not small.exists():
            with FEW_AT_A_TIME:
                picture = ImageOps.fit(decode_image(file), (THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            small.parent.mkdir(parents=True, exist_ok=True)
            with replacing(small) as part:
                picture.save(part, "jpeg", quality=85)
        return small


def thumbnail_address(id: Any) -> str:
    """Where a thumbnail is served, below the address of the page; ids may hold anything, slashes and dots too."""
    return f"thumbnail?id={quote(json.dumps(id), safe='')}"


def id_of(text: str) -> int | str:
    """The id that a browser sends as JSON.

    Raises:
        ValueError: if it is neither a number nor a text.
    """
    try:
        id = json.loads(text)
    except RecursionError:
        id = None
    if not isinstance(id, int | str) or isinstance(id, bool):
        raise ValueError(f"an id is a number or a text, got {text!r}")
    return id
