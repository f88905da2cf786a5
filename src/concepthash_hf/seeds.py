"""Seeds for what is drawn at random, so that a run can be told again whatever number of processes does the work."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset


def derived_seed(*numbers: int) -> int:
    """A seed of its own for every combination of as many numbers: neighbours have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class SeededBatches(Dataset):
    """Photos whose augmentation is the same for a batch, whichever process of the DataLoader makes it.

    A DataLoader seeds each of its worker processes, and gives batches to them in turn: with another number of workers
    every photo would be cropped elsewhere. Here Python's, NumPy's and torch's generators are seeded for each batch, by
    `seeds` and the photos in it, and are afterwards as they were.

    Args:
        photos: a map-style dataset.
        *seeds: of all batches; set `seeds` anew for an epoch. Workers get it when they are started.
    """

    def __init__(self, photos: Dataset, *seeds: int):
        self.photos, self.seeds = photos, seeds

    def __len__(self) -> int:
        return len(self.photos)  # type: ignore[arg-type]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """A batch of items, as the DataLoader asks for them."""
        with _seeded(derived_seed(*self.seeds, *indices)):
            if hasattr(self.photos, "__getitems__"):
                return self.photos.__getitems__(indices)
            return [self.photos[index] for index in indices]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed: dropout on a GPU goes on as it was
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
