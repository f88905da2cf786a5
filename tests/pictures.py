"""Finding pictures in pictures."""

import numpy as np
from PIL import Image


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.int64)


def places(sheet: Image.Image, tile: Image.Image, tolerance: int = 1) -> list[tuple[int, int]]:
    """Row and column of every place in a sheet where a tile stands."""
    large, small = pixels_of(sheet), pixels_of(tile)
    height, width = small.shape[:2]
    candidates = np.ones((large.shape[0] - height + 1, large.shape[1] - width + 1), dtype=bool)
    for row, column in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
        window = large[row : row + candidates.shape[0], column : column + candidates.shape[1]]
        candidates &= (np.abs(window - small[row, column]) <= tolerance).all(-1)
    return [
        (int(row), int(column))
        for row, column in np.argwhere(candidates)
        if np.abs(large[row : row + height, column : column + width] - small).max() <= tolerance
    ]
