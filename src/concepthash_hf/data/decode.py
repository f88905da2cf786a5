"""One way to read a picture: upright, 8-bit RGB, or an error that says which file and why."""

import io
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from PIL import Image, ImageOps

with suppress(ImportError):  # the extra "heif": photos of phones
    from pillow_heif import register_heif_opener

    register_heif_opener()

# set by `set_max_image_pixels` in a process that started this one to load photos
_LIMIT_VARIABLE = "CONCEPTHASH_MAX_IMAGE_PIXELS"
if _LIMIT_VARIABLE in os.environ:
    Image.MAX_IMAGE_PIXELS = int(os.environ[_LIMIT_VARIABLE])

RAW_SUFFIXES = frozenset(".arw .cr2 .cr3 .dng .nef .nrw .orf .pef .raf .rw2 .srw".split())
"""What cameras save before they make a picture of it; PIL would find no more in them than a thumbnail."""
_HEIF_SUFFIXES = frozenset(".heic .heics .heif .heifs .hif".split())

MAX_ASPECT_RATIO = 100
"""Longer side : shorter side. Beyond it, resizing the shorter side would blow a sliver up to gigabytes."""

# what `datasets` makes of the files of a Hub dataset that is read as it comes: `zip://owl.jpg::hf://datasets/...`
_ON_HUB = re.compile(r"((zip|tar|gzip|bz2|xz|lz4|zstd)://((?!::).)*::)*hf://datasets/((?!::).)*")

NOT_FETCHED = "an address in a table, which is not fetched: download it, and name the file"

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_BACKGROUND = (255, 255, 255, 255)


class BadImageError(ValueError):
    """A picture that cannot be read.

    A DataLoader raises a worker's error anew from its text: the message then still says all, the attributes nothing.

    Attributes:
        path: the file, or a description where the picture has none.
        reason: what is wrong with it.
        row: its row in the dataset, None if unknown.
    """

    def __init__(self, message: str, path: str = "", reason: str = "", row: int | None = None) -> None:
        super().__init__(message)
        self.path, self.reason, self.row = path, reason, row

    @classmethod
    def of(cls, path: str, reason: str, row: int | None = None) -> "BadImageError":
        """The error for a file, its message written from what is known."""
        where = path if row is None else f"{path} (row {row})"
        return cls(f"unreadable picture {where}: {reason}", path, reason, row)

    def __reduce__(self):
        return type(self), (str(self), self.path, self.reason, self.row)


def set_max_image_pixels(pixels: int) -> None:
    """Refuse pictures of more pixels than this: PIL's limit, in this process and those that it starts.

    Args:
        pixels: 1 or more.

    Raises:
        ValueError: if it is less.
    """
    if pixels < 1:
        raise ValueError(f"max_image_pixels is a number of pixels from 1, got {pixels}")
    Image.MAX_IMAGE_PIXELS = pixels
    os.environ[_LIMIT_VARIABLE] = str(pixels)


def decode_image(image: Any, row: int | None = None, draft: int | None = None) -> Image.Image:
    """Read one picture as upright 8-bit RGB.

    What is done with the unusual ones:

    - EXIF-rotated: turned upright, as `PIL.ImageOps.exif_transpose` does;
    - CMYK, YCbCr, LAB, grey, palette: `PIL.Image.convert("RGB")`;
    - alpha (also palettes with a transparent colour): composited over white;
    - 16 bits a channel: the high byte;
    - animated: the first frame;
    - 1 pixel wide: accepted up to an aspect ratio of 100.

    Args:
        image: what a `datasets.Image(decode=False)` column gives (a mapping with `bytes` or `path`), a path or URL,
            the bytes of a file, or a `PIL.Image.Image`. Whoever wrote a table shall not choose what is fetched: only
            a path or URL that is given as such may be an address, that of a mapping is one of a Hub dataset at most.
        row: the picture's row, for the error message.
        draft: pixels that the shorter side will be resized to. A JPEG file is then decoded at a half, a quarter or an
            eighth of its size, which is several times faster, as long as that leaves twice as many; what is left out
            is detail that the resize would smooth away. Default all of it.

    Returns:
        A loaded RGB picture.

    Raises:
        BadImageError: for a missing, empty or truncated file, a pipe or device, an address in a mapping, a file that
            is not a picture, more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (decompression bomb), 32 bits a channel
            (no agreed white), an aspect ratio over 100, a raw file of a camera, and a format that no installed
            package reads.

    Example:
        >>> from PIL import Image
        >>> decode_image(Image.new("L", (4, 2), 128)).getpixel((0, 0))
        (128, 128, 128)
    """
    return _read(image, row, partial(_to_rgb, draft=draft))


def decode_mask(mask: Any, row: int | None = None) -> Image.Image:
    """Read one mask: upright, its values as they were saved.

    Args:
        mask: as in `decode_image`.
        row: as in `decode_image`.

    Raises:
        BadImageError: as in `decode_image`; any format, number of bits and shape is taken.
    """
    return _read(mask, row, _upright)


def _read(image: Any, row: int | None, finish: Callable[[Image.Image], Image.Image]) -> Image.Image:
    path, source = _locate(image)
    suffix = os.path.splitext(path)[1].lower()
    try:
        if isinstance(source, Image.Image):
            return finish(source)
        _require(suffix not in RAW_SUFFIXES, "a raw file of a camera: save it as JPEG or PNG")
        if isinstance(source, bytes):
            _require(len(source) > 0, "the file is empty (0 bytes)")
            source = io.BytesIO(source)
        elif is_address(source):
            _require(not isinstance(image, Mapping) or is_on_hub(source), NOT_FETCHED)
            with fsspec.open(source, "rb") as remote:
                source = io.BytesIO(remote.read())
        else:
            mode = os.stat(source).st_mode
            _require(stat.S_ISREG(mode), "a directory" if stat.S_ISDIR(mode) else "a pipe or device, not a file")
        # opened here: what PIL opens by its path it may map into memory, with the sides of a turned photo swapped
        with open(source, "rb") if isinstance(source, str) else source as file, Image.open(file) as picture:
            return finish(picture)
    except FileNotFoundError:
        reason = "no such file" + ("; names of files have to be UTF-8: rename it" if "\\x" in path else "")
    except Image.DecompressionBombError:
        reason = f"more than twice the pixels of {_too_large()}"
    except Image.UnidentifiedImageError:
        empty = isinstance(source, str) and Path(source).stat().st_size == 0
        reason = "the file is empty (0 bytes)" if empty else f"not a picture that PIL can read{_way_out(suffix)}"
    except Exception as error:  # PIL's parsers raise whatever they trip over: OSError, SyntaxError, struct.error ...
        reason = str(error) or type(error).__name__
    raise BadImageError.of(path, reason, row)


def is_address(path: str) -> bool:
    """Whether a path names something to be fetched."""
    return "://" in path


def is_on_hub(path: str) -> bool:
    """Whether a path names a file of a Hub dataset, and nothing else."""
    return _ON_HUB.fullmatch(path) is not None


def image_path(image: Any) -> str:
    """The file behind a picture, or a description of a picture that has none."""
    return _locate(image)[0]


def _locate(image: Any) -> tuple[str, Any]:
    """A name to show and what to read."""
    if isinstance(image, Mapping):
        path, data = image.get("path"), image.get("bytes")
        if data is not None:
            return path or f"({len(data)} bytes in the dataset)", data
        return path or "(no picture)", path or b""
    if image is None:
        return "(no picture)", b""
    if isinstance(image, bytes):
        return f"({len(image)} bytes)", image
    if isinstance(image, Image.Image):
        return getattr(image, "filename", "") or "(picture in memory)", image
    if isinstance(image, (str, Path)):
        return str(image), str(image)
    raise TypeError(
        f"expected a path, bytes, a PIL picture or an undecoded `datasets` image, got {type(image).__name__}"
    )


def _too_large() -> str:
    return (
        f"PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS} (decompression bomb?); raise that limit with "
        "max_image_pixels=... if you trust the file"
    )


def _way_out(suffix: str) -> str:
    if suffix in _HEIF_SUFFIXES:
        return '; for photos of phones install pillow-heif: pip install "concepthash_hf[heif]"'
    return "; save it as JPEG or PNG"


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise OSError(reason)


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    return ImageOps.exif_transpose(picture)


def _to_rgb(picture: Image.Image, draft: int | None) -> Image.Image:
    width, height = picture.size
    limit = Image.MAX_IMAGE_PIXELS
    _require(
        limit is None or width * height <= limit,
        f"{width} x {height} pixels are more than {_too_large()}",
    )
    _require(
        max(width, height) <= MAX_ASPECT_RATIO * min(width, height),
        f"{width} x {height} pixels: more elongated than {MAX_ASPECT_RATIO} : 1",
    )
    if draft is not None:
        picture.draft(None, (2 * draft, 2 * draft))  # which does nothing to other formats
    picture.load()
    wide_grey = picture.mode in _SIXTEEN_BIT or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if picture.format != "JPEG" or not picture.info.keys().isdisjoint(("exif", "xmp")):  # looking for it is slow
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if wide_grey:
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    _require(
        picture.mode not in ("I", "F"), f"32 bits a channel (mode {picture.mode}): which value is white is not known"
    )
    if picture.mode == "La":  # which PIL converts into nothing else
        picture = picture.convert("LA")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, _BACKGROUND), picture)
    return picture.convert("RGB")
