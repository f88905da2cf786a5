"""Sampling for skewed sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import WeightedRandomSampler

from .labels import strata


def class_balanced_sampler(
    labels: Sequence[int] | Sequence[Sequence[int]],
    num_samples: int | None = None,
    generator: torch.Generator | None = None,
) -> WeightedRandomSampler:
    """Draw every class equally often, for sets where some have many more photos than others.

    Photos are drawn with replacement, those of a class equally often; with several labels a photo counts for the
    rarest of them.

    Args:
        labels: every photo's label, or labels: `PhotoDataset.labels`.
        num_samples: photos in an epoch; as many as there are if None.
        generator: for reproducible draws.

    Raises:
        ValueError: if there are no labels.

    Example:
        >>> sampler = class_balanced_sampler([0, 0, 0, 1], generator=torch.Generator().manual_seed(0))
        >>> len(list(sampler))
        4
    """
    if len(labels) == 0:
        raise ValueError("no labels to balance")
    rows: Any = [[label] if np.ndim(label) == 0 else label for label in labels]  # numbers may be numpy's
    weights = torch.zeros(len(rows), dtype=torch.float64)
    for members in strata(rows).values():
        weights[members] = 1 / len(members)
    return WeightedRandomSampler(weights.tolist(), num_samples or len(rows), replacement=True, generator=generator)
