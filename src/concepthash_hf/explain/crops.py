"""Which part of a photo the model sees, and which part of that a concept looks at."""

import numpy as np
from PIL import Image
from transformers import BaseImageProcessor

from ..data.transforms import image_size

Box = tuple[int, int, int, int]
CROP_SHARE = 0.4
"""Side of a crop, of the side of the photo as seen."""
MOST_PIXELS = 1024
"""Side of a photo as seen: enough for any figure, and hundreds of them fit into memory."""


def photo_as_seen(photo: Image.Image, image_processor: BaseImageProcessor) -> Image.Image:
    """Cut out what the model sees of a photo, at the photo's own resolution, up to 1,024 pixels a side.

    Args:
        photo: upright RGB (`data.decode_image` reads it so).
        image_processor: the model's; it resizes and takes the square in the middle.

    Returns:
        A square RGB picture; black where that square reaches beyond the photo.

    Raises:
        ValueError: if the processor does not end in a square centre crop.
    """
    seen, (width, height) = image_size(image_processor), photo.size
    size = image_processor.size
    if not image_processor.do_resize:
        across, down = float(seen), float(seen)
    elif shortest := size.get("shortest_edge"):
        across = down = seen * min(width, height) / shortest
    else:
        across, down = seen * width / size["width"], seen * height / size["height"]
    left, top = round((width - across) / 2), round((height - down) / 2)
    square = photo.crop((left, top, left + max(1, round(across)), top + max(1, round(down))))
    side = min(max(square.size), MOST_PIXELS)
    return square if square.size == (side, side) else square.resize((side, side), Image.Resampling.LANCZOS)


def attended_box(attention: np.ndarray, image_size: int, share: float = CROP_SHARE) -> Box:
    """Find the part of a photo that a concept looks at most.

    Of all windows of whole patches, `share` of the photo wide and high, the one with the most attention, moved so that
    the attention in it is centred.

    Args:
        attention: `(h, w)`, not negative, one value a patch.
        image_size: side of the square photo as seen, in pixels.
        share: side of the window, of the side of the photo, in (0, 1].

    Returns:
        Left, top, right and bottom in pixels, for `PIL.Image.Image.crop`; inside the photo, of the same size for every
        attention.

    Raises:
        ValueError: if `attention` has no two axes or a value that is negative or not finite.

    Example:
        >>> attention = np.zeros((8, 8))
        >>> attention[2, 5] = 1
        >>> attended_box(attention, image_size=80, share=3 / 8)
        (40, 10, 70, 40)
    """
    if attention.ndim != 2 or not bool((np.isfinite(attention) & (attention >= 0)).all()):
        raise ValueError(
            "attention must be of shape (rows, columns), finite and not negative; got shape "
            f"{attention.shape}, from {attention.min()} to {attention.max()}"
        )
    window = np.array([max(1, round(share * length)) for length in attention.shape])
    sums = np.lib.stride_tricks.sliding_window_view(attention, tuple(window)).sum(axis=(-2, -1))
    corner = np.unravel_index(sums.argmax(), sums.shape)
    inside = attention[tuple(slice(start, start + length) for start, length in zip(corner, window, strict=True))]
    box = []
    for axis in (0, 1):
        profile = inside.sum(axis=1 - axis) + 1e-12  # its middle, where there is no attention at all
        centre = corner[axis] + (profile * (np.arange(window[axis]) + 0.5)).sum() / profile.sum()
        pixels = image_size / attention.shape[axis]
        side = round(window[axis] * pixels)
        start = min(max(round(centre * pixels - side / 2), 0), image_size - side)
        box.append((start, start + side))
    (top, bottom), (left, right) = box
    return left, top, right, bottom
