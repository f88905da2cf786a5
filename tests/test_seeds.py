"""What is drawn at random depends on seeds alone."""

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from concepthash_hf.seeds import SeededBatches, derived_seed


class Draws(Dataset):
    """An item is what the three generators draw."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), np.random.random(), torch.rand(()).item()


def drawn(seeds: tuple[int, ...], indices: list[int]) -> list[Any]:
    return SeededBatches(Draws(), *seeds).__getitems__(indices)


def test_seeds_of_neighbours_have_nothing_in_common():
    assert len({derived_seed(a, b) for a in range(30) for b in range(30)}) == 900
    assert derived_seed(1, 2) == derived_seed(1, 2) != derived_seed(2, 1)


def test_a_batch_is_drawn_by_its_seeds_and_photos():
    assert drawn((1, 2), [3, 4]) == drawn((1, 2), [3, 4])
    first = drawn((1, 2), [3, 4])
    for other in (drawn((1, 3), [3, 4]), drawn((1, 2), [4, 3])):
        assert not {value for item in first for value in item[1:]} & {value for item in other for value in item[1:]}


def test_generators_go_on_as_they_were():
    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = state()
    drawn((1,), [0, 1])
    assert state() == before
