"""Parts in known places."""

import numpy as np
import pytest


@pytest.fixture
def moving() -> np.ndarray:
    """Two parts that never touch, in a different place in each of 12 photos: (12, 2, 2)."""
    generator = np.random.default_rng(0)
    corners = np.array([(0, 0), (0, 3), (3, 0), (3, 3)])
    return np.stack([corners[generator.permutation(4)[:2]] for _ in range(12)])
