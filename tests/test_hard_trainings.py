"""Sets of photos that nobody would choose: training goes on to its end, with finite weights and codes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from common import TINY_VISION
from runs import arguments, forget_accelerate, state_of, untrained
from torch import Tensor
from torch.utils.data import Dataset

from concepthash_hf.training import train


class Photos(Dataset):
    """Noise, or all the same, with labels that are given."""

    def __init__(self, labels: Tensor, equal: bool = False):
        size = TINY_VISION["image_size"]
        generator = torch.Generator().manual_seed(1)
        self.labels = labels
        self.photos = torch.randn(1 if equal else len(labels), 3, size, size, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.photos[index % len(self.photos)], "labels": self.labels[index]}


LABELS: dict[str, tuple[int, Callable[[], Tensor]]] = {
    "one photo a class": (32, lambda: torch.arange(32)),
    "two classes": (2, lambda: torch.arange(32) % 2),
    "10,000 classes": (10_000, lambda: torch.arange(32) * 312),
    "one huge class": (5, lambda: torch.tensor([0] * 28 + [1, 2, 3, 4])),
    "classes without photos": (100, lambda: torch.arange(32) % 2),
}


@pytest.fixture(autouse=True)
def _new_process() -> None:
    forget_accelerate()


def check(folder: Path, num_classes: int, photos: Photos, **changes) -> None:
    """It trains to the end, with finite losses, weights and codes, and moves."""
    model = untrained(text=False, num_labels=num_classes)
    before = {name: weight.clone() for name, weight in state_of(model).items()}
    results = train(model, photos, arguments(folder, num_train_epochs=3, **changes), photos, photos)
    after = state_of(model)
    assert all(weight.isfinite().all() for weight in after.values())
    assert any((weight != before[name]).any() for name, weight in after.items())
    assert 0 <= results["eval_map"] <= 1
    codes = model.get_hash_codes(torch.stack([photos[row]["pixel_values"] for row in range(4)]))
    assert codes.dtype == torch.uint8


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_hard_labels(tmp_path, kind, precision):
    num_classes, labels = LABELS[kind]
    check(tmp_path, num_classes, Photos(labels()), mixed_precision=precision)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_photos_that_are_all_the_same(tmp_path, optimizer):
    """BatchNorm divides by a spread of zero, cosines are of equal codes."""
    check(tmp_path, 5, Photos(torch.arange(32) % 5, equal=True), optimizer=optimizer)


def test_a_learning_rate_of_zero_changes_no_weight(tmp_path):
    model, photos = untrained(), Photos(torch.arange(32) % 5)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    train(model, photos, arguments(tmp_path, learning_rate=0.0))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
