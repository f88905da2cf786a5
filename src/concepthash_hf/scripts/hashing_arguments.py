"""Options that the scripts share which show photos to a model."""

from dataclasses import dataclass, field
from typing import Literal

from ..data import PhotoArguments
from ..hashing import default_workers


@dataclass(frozen=True, kw_only=True)
class LoadingArguments(PhotoArguments):
    """How photos are read."""

    per_device_eval_batch_size: int = field(
        default=64, metadata={"help": "Photos hashed at a time and process.", "aliases": ["--batch_size"]}
    )
    dataloader_num_workers: int = field(
        default_factory=default_workers,
        metadata={
            "help": "Processes that decode photos, for each process; default the cores to spare beside a GPU.",
            "aliases": ["--num_workers"],
        },
    )


@dataclass(frozen=True, kw_only=True)
class HashingArguments(LoadingArguments):
    """How photos are read and hashed."""

    mixed_precision: Literal["no", "bf16"] | None = field(
        default=None,
        metadata={"help": "bf16 is faster where the hardware knows it; a few bits in a thousand differ."},
    )
