"""Tiny trainings: datasets, arguments, and a way to kill a run."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState
from common import NUM_CLASSES, TINY_VISION, tiny_config
from torch.utils.data import Dataset, IterableDataset

from concepthash_hf import ConceptHashModel
from concepthash_hf.training import ConceptHashTrainingArguments

State = dict[str, torch.Tensor]
# what examples/train.py leaves in its output folder
WRITTEN = {
    "README.md",
    "all_results.json",
    "concepts.png",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


class TinyPhotos(Dataset):
    """A pattern for each class, in noise that does not change."""

    def __init__(self, number: int = 24):
        generator = torch.Generator().manual_seed(1)
        size = TINY_VISION["image_size"]
        patterns = torch.randn(NUM_CLASSES, 3, size, size, generator=generator)
        self.labels = torch.arange(number) % NUM_CLASSES
        self.photos = patterns[self.labels] + 0.5 * torch.randn(number, 3, size, size, generator=generator)
        self.asked_for: list[int] = []

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.asked_for.append(int(index))
        return {"pixel_values": self.photos[index], "labels": self.labels[index]}


class AugmentedPhotos(TinyPhotos):
    """The same with an augmentation that draws from every generator there is."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        brightness = random.gauss(0, 0.1) + np.random.normal(0, 0.1)
        noise = 0.1 * torch.randn(item["pixel_values"].shape)
        return item | {"pixel_values": item["pixel_values"] + noise + brightness}


class PhotoStream(IterableDataset):
    """Photos without a length."""

    def __init__(self, number: int):
        self.photos = TinyPhotos(number)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.photos[index] for index in range(len(self.photos)))


class NumberedPhotos(Dataset):
    """Photo number i is a single pixel of value i; its label is 1000 + i."""

    def __init__(self, number: int):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": torch.tensor([float(index)]), "labels": 1000 + index}


class NumberReader(torch.nn.Module):
    """Hashes a numbered photo to its number."""

    def get_hash_codes(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values.to(torch.uint8)


def untrained(dropout: float = 0.1, freeze_batch_norm: bool = False, **config: Any) -> ConceptHashModel:
    """The same tiny model every time."""
    torch.manual_seed(0)
    model = ConceptHashModel(tiny_config({"prompt_dropout": dropout}, **config))
    if freeze_batch_norm:
        batch_norm = model.vision_model.hash_head.batch_norm.eval()
        batch_norm.train = lambda mode=True: batch_norm
    return model


def arguments(folder: Path, **changes: Any) -> ConceptHashTrainingArguments:
    """Three steps an epoch on 24 photos."""
    defaults = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 0.05, "logging_steps": 2}
    return ConceptHashTrainingArguments(str(folder), **(defaults | changes))


class Killed(Exception):
    """Stands for the power cut."""


def kill_at(model: ConceptHashModel, step: int) -> ConceptHashModel:
    """Let the run that trains this model die when it begins a step (from 1)."""
    steps = iter(range(1, step + 1))

    def count(module: torch.nn.Module, args: tuple) -> None:
        if module.training and next(steps) == step:
            raise Killed

    model.register_forward_pre_hook(count)
    return model


def state_of(model: torch.nn.Module) -> State:
    """A copy of all that is saved."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def largest_difference(one: State, other: State) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def files_in(folder: Path) -> dict[str, bytes]:
    """All that a folder holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forget_accelerate() -> None:
    """Accelerate keeps a process's precision and accumulation; every test starts as a new process would."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
