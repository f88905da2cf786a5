"""Pictures from strangers: bounded in bytes, in pixels, in kinds, and in how many are decoded at a time."""

import io
import threading
from pathlib import Path

from PIL import Image

from ..data import BadImageError, decode_image

MOST_BYTES = 25 * 2**20
MOST_PIXELS = 50_000_000  # the largest photo of a phone has 48 million
# photos as cameras, phones and browsers make them; of others PIL starts foreign programs (EPS) or knows little
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
FEW_AT_A_TIME = threading.BoundedSemaphore(4)
"""To be held while a photo is in memory as it was taken: 50 million pixels are 150 MB."""


def read_upload(picture: bytes | str | Path) -> Image.Image:
    """Decode a picture that somebody sent.

    Args:
        picture: the bytes of a file, or where it is.

    Returns:
        Upright RGB.

    Raises:
        ValueError: if it is too large, no photo, of another format, or damaged; says which.
    """
    size = len(picture) if isinstance(picture, bytes) else Path(picture).stat().st_size
    if size > MOST_BYTES:
        raise ValueError(too_large(size))
    data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    Image.init()  # or PIL does not know which formats it can read
    try:
        with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
            width, height = opened.size
    except Image.DecompressionBombError:
        raise ValueError(f"a picture of too many pixels; at most {MOST_PIXELS:,} are taken") from None
    except Exception:  # PIL's parsers raise whatever they trip over
        raise ValueError("this is not a photo that can be read: send a JPEG, PNG or WebP") from None
    if width * height > MOST_PIXELS:
        raise ValueError(f"a picture of {width} x {height} pixels; at most {MOST_PIXELS:,} in all are taken")
    try:
        return decode_image(data)
    except BadImageError as error:
        raise ValueError(f"this photo cannot be read: {error.reason}") from None


def too_large(size: int) -> str:
    """What to say of a file of so many bytes."""
    return f"a photo of {size / 2**20:.0f} MB; at most {MOST_BYTES // 2**20} MB are taken: save it smaller"
