"""What happens to pictures that cannot be read, also when they are met inside DataLoader workers."""

import json
import logging
import os
import tempfile
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import datasets
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .decode import BadImageError, decode_image

logger = logging.getLogger(__name__)

OnBadImage = Literal["raise", "skip"]


@dataclass(frozen=True, order=True)
class BadImage:
    """A picture that was skipped.

    Attributes:
        row: its row in the dataset, or its position in the stream.
        path: the file.
        reason: why it could not be read.
    """

    row: int
    path: str
    reason: str


class BadImageLog:
    """Raises at the first bad picture, or notes each one and goes on.

    The notes go to a small temporary file, one line a picture, so that workers (forked or spawned) and the main
    process share them without a lock.

    Args:
        on_bad_image: "raise" or "skip".

    Raises:
        ValueError: if it is neither.
    """

    def __init__(self, on_bad_image: OnBadImage = "raise") -> None:
        if on_bad_image not in ("raise", "skip"):
            raise ValueError(f'on_bad_image is "raise" or "skip", got {on_bad_image!r}')
        self.skips = on_bad_image == "skip"
        if self.skips:
            handle, self._file = tempfile.mkstemp(prefix="bad-images-", suffix=".jsonl")
            os.close(handle)
            weakref.finalize(self, _remove, self._file, os.getpid())

    def add(self, error: BadImageError) -> None:
        """Note a bad picture, or raise it."""
        if not self.skips:
            raise error
        line = json.dumps(asdict(BadImage(-1 if error.row is None else error.row, error.path, error.reason)))
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def found(self) -> list[BadImage]:
        """The bad pictures met so far by all workers, each once, by row."""
        if not self.skips:
            return []
        with open(self._file, encoding="utf-8") as file:
            return sorted({BadImage(**json.loads(line)) for line in file})

    def report(self, shown: int = 10) -> list[BadImage]:
        """Log how many pictures were skipped and the first few of them; returns all."""
        bad = self.found()
        report_bad_images(bad, shown)
        return bad


def report_bad_images(bad: list[BadImage], shown: int = 10) -> None:
    """Log how many pictures were left out and the first few of them; nothing if there were none."""
    if bad:
        rows = [f"row {image.row}: " if image.row >= 0 else "" for image in bad[:shown]]  # a link or folder has none
        lines = [f"  {row}{image.path}: {image.reason}" for row, image in zip(rows, bad, strict=False)]
        if len(bad) > shown:
            lines.append(f"  ... and {len(bad) - shown} more")
        logger.warning("%d unreadable pictures were skipped:\n%s", len(bad), "\n".join(lines))


def find_bad_images(photos: datasets.Dataset, image_column: str = "image", num_workers: int = 0) -> list[BadImage]:
    """Read every picture once and list the unreadable ones.

    Args:
        photos: rows with an undecoded image column.
        image_column: its name.
        num_workers: processes to read with.
    """
    checks = _ReadOnce(photos.select_columns([image_column]), image_column)
    loader: DataLoader = DataLoader(checks, batch_size=64, num_workers=num_workers, collate_fn=list)
    with tqdm(desc="reading", unit=" photos", total=len(photos), leave=False) as bar:
        found = []
        for batch in loader:
            found += [bad for bad in batch if bad is not None]
            bar.update(len(batch))
    return found


class _ReadOnce(Dataset):
    """Row -> what is wrong with its picture, or None."""

    def __init__(self, photos: datasets.Dataset, image_column: str) -> None:
        self.photos, self.image_column = photos, image_column

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> BadImage | None:
        image: Any = self.photos[row][self.image_column]
        try:
            decode_image(image)
        except BadImageError as error:
            return BadImage(row, error.path, error.reason)
        return None


def _remove(path: str, owner: int) -> None:
    """Delete the notes, but only from the process that made them: a forked worker inherits the finalizer."""
    if os.getpid() == owner:
        with suppress(FileNotFoundError):
            os.unlink(path)
