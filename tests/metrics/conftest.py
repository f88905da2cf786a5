import numpy as np
import pytest


@pytest.fixture
def random_task():
    """Codes of 16 bits that tie and collide, 7 classes: query codes, query labels, database codes, database labels."""
    generator = np.random.default_rng(0)
    codes, labels = generator.integers(0, 8, (130, 2), dtype=np.uint8), generator.integers(0, 7, 130)
    return codes[:30], labels[:30], codes[30:], labels[30:]
