"""Drawn pictures and small folders of them."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor

datasets.disable_progress_bars()


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """Tables that `datasets` reads leave nothing behind in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def image_processor() -> CLIPImageProcessor:
    """As saved with a model for 56 pixels: resize to 8/7 of it, crop."""
    return CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56})


def picture(seed: int = 0, width: int = 40, height: int = 30) -> Image.Image:
    """Smooth coloured noise, so that JPEG keeps it and any mix-up of pixels shows."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Write a picture to a path, folders included; returns the path."""

    def write(path: Path, seed: int = 0, **size: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed, **size).save(path)
        return path

    return write


@pytest.fixture
def class_folders(tmp_path, draw) -> Path:
    """`train/` and `test/` of three classes: 4 + 3 + 2 and 2 + 1 + 1 photos."""
    root = tmp_path / "birds"
    for split, counts in (("train", (4, 3, 2)), ("test", (2, 1, 1))):
        for label, (name, count) in enumerate(zip(("robin", "wren", "great_tit"), counts, strict=True)):
            for number in range(count):
                draw(root / split / name / f"{number}.png", seed=100 * label + number)
    return root
