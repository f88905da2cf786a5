"""Photos as a program has them: paths, folders, pictures, arrays, tensors, one or many."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .columns import image_paths
from .folders import list_photos

_KINDS = "a path, a folder, a picture (PIL), an array, a tensor, or a list of these"


def as_photos(photos: Any) -> list[Any]:
    """Make a list of photos that `decode_image` reads, one after the other.

    Args:
        photos: one of these, or an iterable of them:

            - the path or URL of a picture, or its bytes;
            - a folder: all pictures in and below it, ordered by path;
            - a `PIL.Image.Image`, or what a `datasets.Image(decode=False)` column gives;
            - an array `(H, W)`, `(H, W, 3)` or `(H, W, 4)`, or a batch of those with one more axis in front;
            - a tensor `(3, H, W)` or `(N, 3, H, W)`, as torchvision has it.

            Arrays and tensors are uint8, or floating point from 0 to 1.

    Returns:
        Paths, bytes, mappings and pictures.

    Raises:
        TypeError: for anything else.
        ValueError: if there are none, a folder has no pictures, or an array has another shape, dtype or range.

    Example:
        >>> photo, = as_photos(np.zeros((4, 6, 3), np.uint8))
        >>> photo.size
        (6, 4)
    """
    found = list(_each(photos))
    if not found:
        raise ValueError(f"no photos given; expected {_KINDS}")
    return found


def is_one_photo(photos: Any) -> bool:
    """Whether this is one photo, of all that `as_photos` takes, rather than a folder, a list or a batch.

    Example:
        >>> is_one_photo(np.zeros((4, 6, 3), np.uint8)), is_one_photo(np.zeros((1, 4, 6, 3), np.uint8))
        (True, False)
    """
    if isinstance(photos, str | Path):
        return not Path(photos).is_dir()
    if isinstance(photos, np.ndarray):
        return photos.ndim - (photos.ndim > 2 and photos.shape[-1] in (1, 3, 4)) == 2
    if isinstance(photos, Tensor):
        return photos.ndim == 3
    return isinstance(photos, Image.Image | bytes | Mapping)


def _each(photos: Any) -> Iterable[Any]:
    if isinstance(photos, str | Path):
        if Path(photos).is_dir():
            return image_paths(list_photos(photos, on_bad_image="skip"), "image")
        return [str(photos)]
    if isinstance(photos, Image.Image | bytes | Mapping):
        return [photos]
    if isinstance(photos, Tensor):
        return _pictures(_channels_last(photos))
    if isinstance(photos, np.ndarray):
        return _pictures(photos)
    if isinstance(photos, Iterable):
        return (photo for several in photos for photo in _each(several))
    raise TypeError(f"expected {_KINDS}; got {type(photos).__name__}")


def _channels_last(tensor: Tensor) -> np.ndarray:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3):
        raise ValueError(f"a tensor of photos is (3, H, W) or (N, 3, H, W), got {tuple(tensor.shape)}")
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # which numpy does not know
    return tensor.detach().cpu().movedim(-3, -1).numpy()


def _pictures(array: np.ndarray) -> list[Image.Image]:
    is_grey = array.ndim >= 3 and array.shape[-1] == 1  # as OpenCV and Keras have it
    is_colour = array.ndim >= 3 and array.shape[-1] in (3, 4)
    array = array[..., 0] if is_grey else array
    if array.ndim - is_colour not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"an array of photos is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a batch of those; got {array.shape}"
        )
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(
            f"an array of photos is uint8, or floating point from 0 to 1; got {array.dtype} from {array.min()} to "
            f"{array.max()}. Pixel values of an image processor go to model.get_hash_codes(pixel_values)"
        )
    batch = array if array.ndim - is_colour == 3 else array[None]
    return [Image.fromarray(picture) for picture in batch]
