"""From a picture to pixel values without torch: the same float32 numbers as a model's image processor gives.

Another resize gives almost the same pixels, and then a few photos in a hundred another bit in their code. So this is
the arithmetic of torchvision's bicubic kernel for 8-bit pictures, which is the same on every processor: one direction
after the other, with weights that are rounded to 16 bits, and a result that is rounded to 8 bits after each.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FILE = "preprocessor_config.json"
_BICUBIC = int(Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class PixelProcessor:
    """What the image processor saved with a model does, in numpy.

    Attributes:
        shortest_edge: pixels of the shorter side after the resize.
        crop: side of the square that is cut out of the middle.
        mean: of each channel, from 0 to 1.
        std: of each channel.
        rescale_factor: what makes 0 to 1 of 0 to 255.

    Example:
        >>> processor = PixelProcessor(256, 224, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 1 / 255)
        >>> processor(Image.new("RGB", (640, 480))).shape
        (3, 224, 224)
    """

    shortest_edge: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: float

    @classmethod
    def load(cls, folder: str | Path) -> "PixelProcessor":
        """Read it from a folder with a model.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it does something else than resize (bicubic), crop to a square and normalise.
        """
        path = Path(folder) / FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
            crop = values["crop_size"]
            if not all(values[step] for step in steps) or values["resample"] != _BICUBIC:
                raise ValueError("it does not resize by bicubic interpolation, crop, rescale and normalise")
            if crop["height"] != crop["width"]:
                raise ValueError(f"crop_size is {crop}, no square")
            return cls(
                values["size"]["shortest_edge"],
                crop["height"],
                tuple(values["image_mean"]),
                tuple(values["image_std"]),
                values["rescale_factor"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no image processor of a ConceptHash model ({error!r})") from error

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """Pixel values of an RGB picture, float32 `(3, crop, crop)`."""
        width, height = picture.size
        long = int(self.shortest_edge * max(width, height) / min(width, height))
        size = (self.shortest_edge, long) if width <= height else (long, self.shortest_edge)
        square = _black_around(resize_bicubic(np.asarray(picture), *size, self.crop), self.crop)
        scale = np.float32(1 / self.rescale_factor)
        mean, std = (np.array(values, np.float32) * scale for values in (self.mean, self.std))
        return np.ascontiguousarray(((square.astype(np.float32) - mean) / std).transpose(2, 0, 1))


def resize_bicubic(pixels: np.ndarray, width: int, height: int, crop: int | None = None) -> np.ndarray:
    """Resize 8-bit pixels with a smoothing (antialiased) bicubic filter.

    Args:
        pixels: uint8 `(H, W, C)`.
        width: in pixels, of the result.
        height: in pixels, of the result.
        crop: side of the square in the middle that is wanted of it; default all.

    Returns:
        uint8 `(height, width, C)`, no side longer than `crop`.
    """
    columns = _resize_first_axis(np.ascontiguousarray(pixels.swapaxes(0, 1)), width, crop)
    return _resize_first_axis(np.ascontiguousarray(columns.swapaxes(0, 1)), height, crop)


def _resize_first_axis(pixels: np.ndarray, length: int, crop: int | None) -> np.ndarray:
    start = max(length - crop, 0) // 2 if crop is not None else 0
    wanted = slice(start, start + crop if crop is not None else None)
    if len(pixels) == length:
        return pixels[wanted]
    first, weights, precision = _weights(len(pixels), length)
    first, weights = first[wanted], weights[wanted]
    sums = np.full((len(first), *pixels.shape[1:]), 1 << (precision - 1), np.int32)
    for tap, weight in enumerate(weights.T):
        sums += pixels[np.minimum(first + tap, len(pixels) - 1)] * weight[:, None, None]
    return (sums >> precision).clip(0, 255).astype(np.uint8)


def _weights(old: int, new: int) -> tuple[np.ndarray, np.ndarray, int]:
    """For each new pixel the first old one that it is made of, int32 weights `(new, taps)`, and their binary point."""
    scale = old / new
    stretch = max(scale, 1.0)  # a picture that becomes smaller is smoothed
    support = 2 * stretch
    taps = int(np.ceil(support)) * 2 + 1
    center = scale * (np.arange(new) + 0.5)
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    count = np.minimum(np.minimum((center + support + 0.5).astype(np.int64), old) - first, taps)
    tap = np.arange(taps)
    exact = _cubic((tap + first[:, None] - center[:, None] + 0.5) * (1 / stretch))
    exact[tap >= count[:, None]] = 0
    exact /= np.cumsum(exact, axis=1)[:, -1:]
    # as many binary digits as keep the largest weight in 16 bits
    precision = next(bits for bits in range(23) if bits == 22 or int(0.5 + exact.max() * 2 ** (bits + 1)) >= 1 << 15)
    rounded = np.trunc(exact * 2**precision + np.copysign(0.5, exact)).astype(np.int32)
    return first, rounded, precision


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' bicubic kernel with a = -0.5."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _black_around(pixels: np.ndarray, size: int) -> np.ndarray:
    """The same on a square of black, where it is smaller."""
    missing = [size - length for length in pixels.shape[:2]]
    return np.pad(pixels, [(less // 2, (less + 1) // 2) for less in missing] + [(0, 0)])
