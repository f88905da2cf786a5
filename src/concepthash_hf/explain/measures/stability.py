"""Whether codes stay when a photo is mirrored, cropped or compressed."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from transformers import BaseImageProcessor

from ...codes import split_sub_codes
from ...modeling_concepthash import ConceptHashPreTrainedModel
from .hiding import bits_of
from .measurement import Measurement
from .table import Table, numbered


@dataclass(frozen=True)
class Stability(Measurement):
    """Bits that stay; each change has `same_bits`, their share, and `same_bits_per_concept` (M).

    Attributes:
        num_photos: how many were changed.
        chance: the share of bits that two different photos have in common, over all pairs.
        flip: the photo mirrored.
        crop: cut to its middle.
        jpeg: compressed.
    """

    num_photos: int
    chance: float
    flip: dict[str, Any]
    crop: dict[str, Any]
    jpeg: dict[str, Any]

    def table(self) -> Table:
        """A row for each change, a column for each sub-code."""
        changes = {"mirrored": self.flip, "cropped": self.crop, "compressed": self.jpeg}
        num_concepts = len(self.flip["same_bits_per_concept"])
        return Table(
            title="Stability: bits that stay when the photo is changed, but not what it shows",
            columns=["photo", "all bits", *numbered("bits of", num_concepts)],
            rows=[[name, same["same_bits"], *same["same_bits_per_concept"]] for name, same in changes.items()],
            note=f"{self.num_photos:,} photos. Two different photos share {self.chance:.2f} of their bits.",
        )


def stability(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    image_processor: BaseImageProcessor,
    crop: float = 0.9,
    jpeg_quality: int = 50,
    batch_size: int = 64,
    num_workers: int = 0,
) -> Stability:
    """Change photos in ways that leave what they show, and count the bits that stay.

    Args:
        model: whose codes.
        photos: items with "pixel_values", two or more.
        image_processor: the model's; says how to undo the normalisation.
        crop: side of the middle of the photo that is kept, and resized to the photo's size (bicubic).
        jpeg_quality: 1 to 100.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Raises:
        ValueError: if there are fewer than two photos, or `crop` or `jpeg_quality` is out of range.
    """
    if not (0 < crop <= 1 and 1 <= jpeg_quality <= 100):
        raise ValueError(f"crop lies in (0, 1] and jpeg_quality in 1 ... 100, got {crop} and {jpeg_quality}")
    mean, std = torch.tensor([image_processor.image_mean, image_processor.image_std]).view(2, 3, 1, 1)

    def as_jpeg(pixels: Tensor) -> Tensor:
        images = ((pixels * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        compressed = torch.stack([_compressed(image, jpeg_quality) for image in images])
        return (compressed / 255 - mean) / std

    def cropped(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        middle = F.center_crop(pixels, [round(crop * height), round(crop * width)])
        return F.resize(middle, [height, width], InterpolationMode.BICUBIC)

    changes: dict[str, Callable[[Tensor], Tensor]] = {"flip": F.horizontal_flip, "crop": cropped, "jpeg": as_jpeg}
    num_concepts = model.config.num_concepts
    same: dict[str, list[Tensor]] = {name: [] for name in changes}
    original = []
    for batch in DataLoader(photos, batch_size, num_workers=num_workers):
        pixels = batch["pixel_values"].cpu()
        original.append(bits_of(model, pixels).cpu())
        for name, change in changes.items():
            kept = bits_of(model, change(pixels)).cpu() == original[-1]
            same[name].append(split_sub_codes(kept, num_concepts).float().mean(-1))
    num_photos = sum(map(len, original))
    if num_photos < 2:
        raise ValueError(
            f"stability stands beside the likeness of different photos: give two or more, not {num_photos}"
        )
    return Stability(
        num_photos=num_photos,
        chance=_common_bits(torch.cat(original).numpy()),
        **{name: _summary(torch.cat(values).double().mean(0).numpy()) for name, values in same.items()},
    )


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Through JPEG and back, uint8 `(3, H, W)`; by PIL, since torchvision's own is on its way out."""
    buffer = io.BytesIO()
    F.to_pil_image(image).save(buffer, "JPEG", quality=quality)
    return F.pil_to_tensor(Image.open(buffer))


def _summary(per_concept: np.ndarray) -> dict[str, Any]:
    return {"same_bits": float(per_concept.mean()), "same_bits_per_concept": per_concept.tolist()}


def _common_bits(bits: np.ndarray) -> float:
    """Share of bits (n, K) that two different rows have in common, over all pairs: from counts per bit."""
    number, on = len(bits), bits.sum(0, dtype=np.int64)
    off = number - on
    return float(((on * (on - 1) + off * (off - 1)) / (number * (number - 1))).mean())
