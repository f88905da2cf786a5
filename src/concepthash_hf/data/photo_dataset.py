"""Photos as torch datasets: decoded and transformed where they are needed, in the DataLoader's workers."""

from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from .bad_images import BadImage, BadImageLog, OnBadImage
from .decode import BadImageError, decode_image, decode_mask
from .transforms import EvalTransform, Transform


class PhotoDataset(Dataset):
    """Map-style photos for a `torch.utils.data.DataLoader`; batches collate by torch's default.

    An item is `{"pixel_values": float32 (3, H, W), "labels": int}`, with several labels a photo `"labels": float32
    (C,)` multi-hot, and with `with_parts` also `"parts"`: float32 `(P, 2)` points (NaN where not visible) or uint8
    `(H, W)` masks, both in pixels of `pixel_values`.

    Args:
        photos: rows with an undecoded image column (`datasets.Image(decode=False)`).
        transform: a PIL picture to a float tensor; any callable.
        image_column: name of the image column.
        label_column: name of the label column, a `ClassLabel` or a list of them; None for photos without labels.
        parts_column: name of the column with part annotations to carry along; needs an `EvalTransform`.
        on_bad_image: "raise" a `BadImageError` that names the file and row, or "skip": leave the photo out of its
            batch (which is then smaller), note it, and go on. With several processes batches of different sizes do not
            gather: take unreadable photos out beforehand with `PhotoSplits.without_bad_images`.

    Raises:
        ValueError: if a column is missing or of another type, or parts are asked for with a transform that cannot
            carry them.

    Example:
        >>> from PIL import Image
        >>> photos = datasets.Dataset.from_dict(
        ...     {"image": [Image.new("RGB", (8, 8))], "label": [0]},
        ...     features=datasets.Features(
        ...         image=datasets.Image(decode=False), label=datasets.ClassLabel(names=["wren"])
        ...     ),
        ... )
        >>> item = PhotoDataset(photos, transform=lambda image: torch.zeros(3, *image.size))[0]
        >>> item["pixel_values"].shape, item["labels"]
        (torch.Size([3, 8, 8]), 0)
    """

    def __init__(
        self,
        photos: datasets.Dataset,
        transform: Transform,
        *,
        image_column: str = "image",
        label_column: str | None = "label",
        parts_column: str | None = None,
        on_bad_image: OnBadImage = "raise",
    ) -> None:
        self._items = _ItemMaker(photos.features, transform, image_column, label_column, parts_column)
        self._bad = BadImageLog(on_bad_image)
        self.photos = photos.select_columns(self._items.columns)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item.

        Raises:
            BadImageError: if the picture cannot be read, under either policy: one item cannot be left out of itself.
        """
        index = range(len(self))[index]
        return self._items(self.photos[index], index)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """A batch of items, as the DataLoader asks for them, without the unreadable ones under "skip"."""
        items = []
        rows = self.photos[indices]  # at once: several times faster than one by one
        for position, index in enumerate(indices):
            try:
                items.append(self._items({column: rows[column][position] for column in rows}, index))
            except BadImageError as error:
                self._bad.add(error)
                last = error
        if indices and not items:
            raise BadImageError.of(last.path, f"{last.reason}; and no other photo of its batch is readable", last.row)
        return items

    @property
    def labels(self) -> list:
        """Every row's label (int, or a list of them), without decoding a picture."""
        if self._items.label_column is None:
            raise ValueError("these photos have no labels")
        return self.photos[self._items.label_column][:]

    def report_bad_images(self) -> list[BadImage]:
        """Log and return the pictures skipped so far, by any worker."""
        return self._bad.report()


class StreamingPhotoDataset(IterableDataset):
    """`PhotoDataset` for a `datasets.IterableDataset`: same items, read as they come.

    Workers and, after `datasets.distributed.split_dataset_by_node`, processes share the stream's shards. Under "skip"
    an unreadable picture is left out of the stream, so batches stay full.

    Args:
        photos: a stream with an undecoded image column.
        transform: as in `PhotoDataset`.
        image_column: as in `PhotoDataset`.
        label_column: as in `PhotoDataset`.
        parts_column: as in `PhotoDataset`.
        on_bad_image: as in `PhotoDataset`; the row is the position in the worker's part of the stream.
    """

    def __init__(
        self,
        photos: datasets.IterableDataset,
        transform: Transform,
        *,
        image_column: str = "image",
        label_column: str | None = "label",
        parts_column: str | None = None,
        on_bad_image: OnBadImage = "raise",
    ) -> None:
        self._items = _ItemMaker(photos.features, transform, image_column, label_column, parts_column)
        self._bad = BadImageLog(on_bad_image)
        self.photos = photos.select_columns(self._items.columns)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row, photo in enumerate(self.photos):
            try:
                yield self._items(photo, row)
            except BadImageError as error:
                self._bad.add(error)

    def set_epoch(self, epoch: int) -> None:
        """Another order of a shuffled stream; Accelerate's loaders call it."""
        self.photos.set_epoch(epoch)

    def report_bad_images(self) -> list[BadImage]:
        """Log and return the pictures skipped so far, by any worker."""
        return self._bad.report()


class _ItemMaker:
    """Row -> item, for both datasets."""

    def __init__(
        self,
        features: datasets.Features,
        transform: Transform,
        image_column: str,
        label_column: str | None,
        parts_column: str | None,
    ) -> None:
        self.columns = [column for column in (image_column, label_column, parts_column) if column is not None]
        if missing := [column for column in self.columns if column not in features]:
            raise ValueError(f"no column {missing[0]!r} in the photos; they have {sorted(features)}")
        image = features[image_column]
        if not isinstance(image, datasets.Image) or image.decode:
            raise ValueError(
                f"column {image_column!r} should be `datasets.Image(decode=False)`, so that pictures are decoded in "
                f"the workers; it is {image}: use photos.cast_column({image_column!r}, datasets.Image(decode=False))"
            )
        if parts_column is not None and not isinstance(transform, EvalTransform):
            raise ValueError("part annotations follow the resize and crop of `eval_transform`; give that transform")
        self.transform, self.image_column = transform, image_column
        self.label_column, self.parts_column = label_column, parts_column
        self.num_classes = None if label_column is None else _num_classes(features[label_column], label_column)

    def __call__(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        image = decode_image(row[self.image_column], row=index)
        item: dict[str, Any] = {"pixel_values": self.transform(image)}
        if self.label_column is not None:
            label = row[self.label_column]
            item["labels"] = label if self.num_classes is None else multi_hot(label, self.num_classes)
        if self.parts_column is not None:
            item["parts"] = self._parts(row[self.parts_column], *image.size)
        return item

    def _parts(self, parts: Any, width: int, height: int) -> Tensor:
        """Points `{name: [x, y] | None}` or an undecoded mask, carried through resize and crop."""
        assert isinstance(self.transform, EvalTransform)
        if isinstance(parts, Mapping) and set(parts) != {"bytes", "path"}:
            unseen = [np.nan, np.nan]
            points = torch.tensor([unseen if point is None else point for point in parts.values()])
            return self.transform.points(points, width, height)
        return self.transform.mask(torch.from_numpy(np.array(decode_mask(parts))))


def multi_hot(labels: list[int], num_classes: int) -> Tensor:
    """Label indices -> float32 `(num_classes,)` of zeros and ones."""
    target = torch.zeros(num_classes)
    target[labels] = 1
    return target


def _num_classes(feature: Any, column: str) -> int | None:
    """C for a list of labels, None for a single one."""
    if isinstance(feature, datasets.ClassLabel):
        return None
    if isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.ClassLabel):
        return feature.feature.num_classes
    raise ValueError(f"column {column!r} should be a `datasets.ClassLabel` or a list of them, it is {feature}")
