"""Toy birds with one part changed and nothing else moved: what depends on a part shows in the difference."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from .toy_birds.drawing import change_part, draw_bird
from .toy_birds.species import VALUES

#: The parts that are changed, in this order.
CHANGED_PARTS = tuple(VALUES)


class ChangedBirds(Dataset):
    """Every bird as it is, and with each part of `CHANGED_PARTS` changed, alone.

    An item is `{"pixel_values": float32 (3, H, W), "changed": float32 (P, 3, H, W)}`. The new value of a part is drawn
    at random from all others that the part can have, the same at every reading.

    Args:
        birds: rows of a split of `toy_birds()`; they are drawn again.
        transform: a PIL picture to a float tensor.
        seed: of the new values.
        size: width and height of the pictures in pixels.

    Raises:
        ValueError: if these are no toy birds.
    """

    def __init__(
        self, birds: datasets.Dataset, transform: Callable[[Image.Image], Tensor], seed: int = 0, size: int = 96
    ) -> None:
        if missing := {"label", "seed"} - set(birds.column_names):
            raise ValueError(f"only toy birds can be drawn again; these photos have no column {sorted(missing)[0]!r}")
        self._names = birds.features["label"].names
        self._birds = birds.select_columns(["label", "seed"])
        self._transform, self._seed, self._size = transform, seed, size

    def __len__(self) -> int:
        return len(self._birds)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._birds[index]
        bird = draw_bird(self._names[row["label"]], row["seed"], self._size)
        generator = np.random.default_rng([self._seed, index])
        changed = []
        for part, values in VALUES.items():
            others = [value for value in values if value != bird.attributes[part]]
            changed.append(change_part(bird, part, others[generator.integers(len(others))]).image)
        return {
            "pixel_values": self._transform(bird.image),
            "changed": torch.stack([self._transform(image) for image in changed]),
        }
