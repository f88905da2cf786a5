"""Hashing a whole collection of photos, on one process or many."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .data import BadImage, BadImageError, decode_image
from .data.transforms import Transform
from .launch import cores

_MOST_WORKERS = 16  # of one process; each takes some hundred MB


class Hasher(Protocol):
    """Anything that turns photos into codes: all that hashing, encoding and measuring ask of a model."""

    @property
    def num_bits(self) -> int:
        """K, the length of a code in bits."""

    @property
    def num_concepts(self) -> int:
        """M, the number of sub-codes; 1 for a code that is not made of parts."""

    def get_hash_codes(self, pixel_values: Tensor) -> Tensor:
        """`(B, 3, H, W)` -> uint8 `(B, ceil(K / 8))`."""


def on_cpu() -> bool:
    """Whether there is no accelerator: Accelerate wants to be told before it lets CPU processes work together."""
    return not torch.accelerator.is_available()


def default_workers() -> int:
    """How many processes decode photos where nobody says: beside an accelerator, the cores that nothing else needs.

    On a CPU the model computes on all of them, and none.
    """
    if on_cpu():
        return 0
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(share - 1, _MOST_WORKERS))


def fast_in_bfloat16() -> bool:
    """Whether this machine multiplies matrices in bfloat16 faster than in float32."""
    if not on_cpu():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def hash_dataset(
    model: Hasher,
    dataset: Dataset,
    accelerator: Accelerator | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hash every photo of a dataset once, shared out over the processes.

    Args:
        model: on the device of the accelerator.
        dataset: see `read_dataset`, as all other arguments.
        accelerator: see `read_dataset`.
        batch_size: see `read_dataset`.
        num_workers: see `read_dataset`.
        collate_fn: see `read_dataset`.

    Returns:
        Packed codes uint8 `(n, W)` and labels, see `read_dataset`.
    """
    return read_dataset(
        model.get_hash_codes, dataset, accelerator, batch_size, num_workers, collate_fn, doing="hashing"
    )


def read_dataset(
    read: Callable[[Tensor], Tensor],
    dataset: Dataset,
    accelerator: Accelerator | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    doing: str = "reading",
) -> tuple[np.ndarray, np.ndarray]:
    """Run every photo of a dataset once through a function, shared out over the processes.

    Args:
        read: pixel values -> a row of numbers for each photo, `(B, ...)`.
        dataset: yields `pixel_values` and `labels`.
        accelerator: of the running processes; default a new one.
        batch_size: photos at a time and process.
        num_workers: processes that decode photos.
        collate_fn: batches items; default torch's.
        doing: said beside the progress.

    Returns:
        What it gave, `(n, ...)`, and labels int64 `(n,)` or multi-hot `(n, C)`, in the order of the dataset, on every
        process.
    """
    accelerator = accelerator or Accelerator(cpu=on_cpu())
    # not accelerator.prepare: that would keep every loader for good
    loader = prepare_data_loader(
        DataLoader(
            dataset,
            batch_size,
            num_workers=num_workers,
            collate_fn=collate_fn,
            pin_memory=accelerator.device.type == "cuda",
        ),
        accelerator.device,
        accelerator.num_processes,
        accelerator.process_index,
        put_on_device=True,
    )
    found, labels = [], []
    for batch in tqdm(loader, desc=doing, leave=False, disable=not accelerator.is_local_main_process):
        gathered = accelerator.gather_for_metrics((read(batch["pixel_values"]), batch["labels"]))
        found.append(gathered[0].cpu())
        labels.append(gathered[1].cpu())
    return torch.cat(found).numpy(), torch.cat(labels).numpy()


class Pictures(Dataset):
    """Row -> its pixel values, or what is wrong with its picture.

    Args:
        pictures: what `data.decode_image` reads.
        transform: the model's, see `data.eval_transform`.
        draft: see `data.decode_image`.
    """

    def __init__(self, pictures: Sequence[Any], transform: Transform, draft: int | None = None) -> None:
        self.pictures, self.transform, self.draft = pictures, transform, draft

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Tensor | BadImage:
        try:
            return self.transform(decode_image(self.pictures[row], row, self.draft))
        except BadImageError as error:
            return BadImage(row, error.path, error.reason)


def apart(items: list[Tensor | BadImage]) -> tuple[list[Tensor], list[BadImage]]:
    """A batch of pixel values (none or one tensor), and the unreadable photos."""
    good = [item for item in items if isinstance(item, Tensor)]
    return [torch.stack(good)] if good else [], [item for item in items if isinstance(item, BadImage)]
