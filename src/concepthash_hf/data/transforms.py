"""From a picture to pixel values: augmentation for training, the model's own image processor for everything else."""

from collections.abc import Callable
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from transformers.image_processing_utils import BaseImageProcessor

Transform = Callable[[Image.Image], Tensor]
Preset = Literal["paper", "reference", "gentle", "mirror", "none"]

BICUBIC = v2.InterpolationMode.BICUBIC


def image_size(image_processor: BaseImageProcessor) -> int:
    """Side of the square that the model sees, in pixels.

    Raises:
        ValueError: if the processor does not end in a square centre crop.
    """
    crop = image_processor.crop_size
    if not getattr(image_processor, "do_center_crop", False) or crop is None or crop["height"] != crop["width"]:
        raise ValueError(f"expected an image processor that ends in a square centre crop, got crop_size={crop}")
    return crop["height"]


def train_transform(preset: Preset, image_processor: BaseImageProcessor) -> "Transform":
    """Augmentation for training.

    Size, mean and standard deviation are those of the image processor that is saved with the model.

    Args:
        preset: "paper" is random-resized-crop (bicubic) and horizontal flip; "reference", what the authors' code does,
            is resize the shorter side to 8/7 of the size (bilinear), flip, TrivialAugmentWide (bicubic) and centre
            crop. "gentle" is the paper's with at least 60 % of the picture in the crop (there 8 %): for few epochs on
            pictures that the thing fills, where a small crop loses the very part that tells classes apart. "mirror" is
            `eval_transform` and horizontal flip, "none" `eval_transform` alone.
        image_processor: the model's.

    Returns:
        A transform of an RGB `PIL.Image.Image` into float32 `(3, size, size)`.

    Raises:
        ValueError: for any other preset.
    """
    if preset == "none":
        return eval_transform(image_processor)
    size = image_size(image_processor)
    flip = v2.RandomHorizontalFlip()
    if preset == "mirror":
        return v2.Compose([eval_transform(image_processor), flip])
    # torchvision's uint8 kernels are faster than PIL's; they have no bicubic warp, which TrivialAugmentWide needs
    if preset in ("paper", "gentle"):
        scale = (0.08, 1.0) if preset == "paper" else (0.6, 1.0)
        crop = v2.RandomResizedCrop(size, scale, interpolation=BICUBIC, antialias=True)
        steps = [v2.PILToTensor(), crop, flip]
    elif preset == "reference":
        augment = v2.TrivialAugmentWide(interpolation=BICUBIC)
        steps = [v2.Resize(round(size * 8 / 7)), flip, augment, v2.CenterCrop(size), v2.PILToTensor()]
    else:
        raise ValueError(
            f'augmentation presets are "paper", "reference", "gentle", "mirror" and "none", got {preset!r}; or pass '
            "your own callable"
        )
    normalize = v2.Normalize(list(image_processor.image_mean), list(image_processor.image_std))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), normalize])


def eval_transform(image_processor: BaseImageProcessor) -> "EvalTransform":
    """Pixel values for evaluation, hashing and search: the very image processor that is saved with the model.

    Args:
        image_processor: the model's; it resizes, crops to a square and normalises.

    Returns:
        A transform of an RGB `PIL.Image.Image` into float32 `(3, size, size)` that also carries part annotations
        along.
    """
    return EvalTransform(image_processor)


class EvalTransform:
    """One picture through an image processor, and annotations through the same resize and crop.

    Coordinates are continuous, (0, 0) the upper left corner of the picture: pixel i covers [i, i + 1).

    Args:
        image_processor: a transformers image processor that resizes (`shortest_edge`, or `height` and `width`) and
            ends in a square centre crop.
    """

    def __init__(self, image_processor: BaseImageProcessor) -> None:
        self.image_processor = image_processor
        self.size = image_size(image_processor)

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB picture -> float32 `(3, size, size)`."""
        return self.image_processor(image, return_tensors="pt")["pixel_values"][0]

    @property
    def shorter_side(self) -> int:
        """What a photo's shorter side is resized to, in pixels; the longer one of a fixed shape."""
        size = self.image_processor.size
        return size.get("shortest_edge") or max(size["height"], size["width"])

    def points(self, points: Tensor, width: int, height: int) -> Tensor:
        """Carry points from a picture to its pixel values.

        Args:
            points: float `(P, 2)`, x and y in pixels of the upright picture; NaN where a part is not visible.
            width: of the picture, in pixels.
            height: of the picture, in pixels.

        Returns:
            float `(P, 2)`, x and y in [0, size); NaN for what was not visible or fell outside the crop.
        """
        new_width, new_height = self._resized(width, height)
        scale = torch.tensor([new_width / width, new_height / height])
        moved = points * scale - torch.tensor([_margin(new_width, self.size), _margin(new_height, self.size)])
        inside = ((moved >= 0) & (moved < self.size)).all(-1, keepdim=True)
        return moved.where(inside, torch.nan)

    def mask(self, mask: Tensor) -> Tensor:
        """Carry a label map `(H, W)` (nearest neighbour) to `(size, size)`, dtype kept."""
        height, width = mask.shape
        new_width, new_height = self._resized(width, height)
        # .clone: the crop must not keep the whole resized map alive
        resized = F.resize(mask[None], [new_height, new_width], interpolation=v2.InterpolationMode.NEAREST_EXACT)
        return F.center_crop(resized, [self.size, self.size])[0].clone()

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height between resize and crop, rounded as the image processor rounds them."""
        size = self.image_processor.size
        if not self.image_processor.do_resize:
            return width, height
        if shortest := size.get("shortest_edge"):
            long = int(shortest * max(width, height) / min(width, height))
            return (shortest, long) if width <= height else (long, shortest)
        return size["width"], size["height"]


def _margin(length: int, size: int) -> int:
    """Pixels cut off before a centre crop (transformers rounds towards zero)."""
    return int((length - size) / 2)
