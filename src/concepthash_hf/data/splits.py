"""Which photos are trained on, asked with, and searched: one object for training, evaluation and search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import datasets
import numpy as np

from ..language import DEFAULT_TEMPLATE
from .bad_images import BadImage, OnBadImage, find_bad_images, report_bad_images
from .labels import ClassNames, Photos, class_names_of, label_sets, relabel, stratified_split
from .photo_dataset import PhotoDataset, StreamingPhotoDataset
from .transforms import Transform

SplitName = Literal["train", "query", "database", "validation"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
SHUFFLE_BUFFER = 1000


@dataclass(frozen=True)
class PhotoSplits:
    """Photos to train on, to ask with (queries) and to search (database).

    Every split has an undecoded image column and a label column, `ClassLabel` or, with several labels a photo, a list
    of them. `query` and `database` share their label space; it is that of `train`, except after `class_disjoint`.

    Attributes:
        train: photos to learn from.
        query: photos to ask with, the test set.
        database: photos to search; the training photos unless given. Taking photos out of `train` (validation, k-shot)
            leaves it as it is: a gallery holds what there is to find, whatever was learned from.
        validation: held-out part of `train`, for choosing epochs or settings; search it in `train`.
        image_column: name of the image column.
        label_column: name of the label column.
        parts_column: name of the column with part annotations, if there is one: points `{name: [x, y] | None}` in
            pixels of the upright picture, or masks whose pixels are 0 or 1 + the part's position in `part_names`.
        part_names: the parts.
        template: the text a class name is put into for its class embedding.
        name: short name for titles and output folders.
        source: where the photos are from, for the card.
        citation: for the card.
        notes: in words, what was taken for what; see `describe_photos`.
    """

    train: Photos
    query: Photos
    database: Photos = None  # train, set in __post_init__
    validation: Photos | None = None
    image_column: str = "image"
    label_column: str = "label"
    parts_column: str | None = None
    part_names: tuple[str, ...] = ()
    template: str = DEFAULT_TEMPLATE
    name: str = "photos"
    source: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.database is None:
            object.__setattr__(self, "database", self.train)

    @property
    def class_names(self) -> ClassNames:
        """Names of the classes trained on, by label; as in the source, not cleaned."""
        return class_names_of(self.train.features[self.label_column])

    @property
    def query_class_names(self) -> ClassNames:
        """Names of the classes of `query` and `database`, by label."""
        return class_names_of(self.query.features[self.label_column])

    @property
    def multi_label(self) -> bool:
        """Whether a photo can have several labels."""
        return isinstance(self.train.features[self.label_column], datasets.List)

    @property
    def streaming(self) -> bool:
        """Whether the photos to train on are a stream of unknown length."""
        return isinstance(self.train, datasets.IterableDataset)

    @property
    def counts(self) -> dict[str, int]:
        """Photos in each split whose length is known, and `classes`."""
        counts = {"classes": len(self.class_names)}
        for name in SPLIT_NAMES:
            if isinstance(photos := getattr(self, name), datasets.Dataset):
                counts[name] = len(photos)
        return counts

    def torch_dataset(
        self,
        split: SplitName,
        transform: Transform,
        *,
        with_parts: bool = False,
        on_bad_image: OnBadImage = "raise",
        shuffle_seed: int | None = None,
    ) -> PhotoDataset | StreamingPhotoDataset:
        """A split for a `torch.utils.data.DataLoader`, decoding and transforming in its workers.

        Args:
            split: "train", "query", "database" or "validation".
            transform: `train_transform(...)`, `eval_transform(...)` or any callable from a PIL picture to a tensor.
            with_parts: also give "parts", carried through resize and crop (`eval_transform` only).
            on_bad_image: "raise" or "skip", see `PhotoDataset`.
            shuffle_seed: shuffle a stream as it comes, through a buffer of 1,000 undecoded photos, anew every epoch
                (`set_epoch`). Photos that are no stream are shuffled by their DataLoader.

        Raises:
            ValueError: if there is no such split, or it has no part annotations.
        """
        photos = getattr(self, split, None) if split in SPLIT_NAMES else None
        if photos is None:
            raise ValueError(f"{self.name} has no split {split!r}; with_validation() makes a validation split")
        if with_parts and self.parts_column is None:
            raise ValueError(f"{self.name} has no part annotations")
        if isinstance(photos, datasets.IterableDataset) and shuffle_seed is not None:
            photos = photos.shuffle(seed=shuffle_seed, buffer_size=SHUFFLE_BUFFER)
        kind = PhotoDataset if isinstance(photos, datasets.Dataset) else StreamingPhotoDataset
        return kind(
            photos,
            transform,
            image_column=self.image_column,
            label_column=self.label_column,
            parts_column=self.parts_column if with_parts else None,
            on_bad_image=on_bad_image,
        )

    def with_validation(self, fraction: float = 0.1, seed: int = 0) -> "PhotoSplits":
        """Hold out a part of every class of `train` as `validation`.

        Args:
            fraction: of each class, rounded; at least 1 photo where a class has 2 or more, never its last one.
            seed: which photos.

        Raises:
            ValueError: if the fraction is not in (0, 1), or `train` is a stream.
        """
        kept, held_out = stratified_split(self._label_sets("with_validation"), fraction, seed)
        return replace(self, train=self.train.select(kept), validation=self.train.select(held_out))

    def k_shot(self, k: int, seed: int = 0) -> "PhotoSplits":
        """Train on k photos of each class only (all of a class that has fewer).

        With several labels a photo, photos are taken in random order while one of their classes still lacks photos.

        Args:
            k: photos of each class, 1 or more.
            seed: which photos; with the same seed a smaller k is a subset of a larger one.

        Raises:
            ValueError: if k is less than 1, or `train` is a stream.
        """
        if k < 1:
            raise ValueError(f"k_shot needs k of at least 1, got {k}")
        labels = self._label_sets("k_shot")
        seen = np.zeros(len(self.class_names), int)
        chosen = []
        for row in np.random.default_rng(seed).permutation(len(labels)).tolist():
            if any(seen[label] < k for label in labels[row]):
                seen[labels[row]] += 1
                chosen.append(row)
        return replace(self, train=self.train.select(sorted(chosen)))

    def class_disjoint(self, train_classes: float | Sequence[str] = 0.5, seed: int = 0) -> "PhotoSplits":
        """Train on some classes and retrieve the others, as when new classes arrive after training.

        Photos of the other classes are asked with (those of `query`) and searched (those of `database`). Labels are
        numbered anew on either side: see `class_names` and `query_class_names`.

        Args:
            train_classes: a fraction of the classes, or their names.
            seed: which classes, for a fraction.

        Raises:
            ValueError: if a name is unknown, fewer than two classes would be left on one side, photos have several
                labels, or the photos are streams.
        """
        self._label_sets("class_disjoint")
        if self.multi_label:
            raise ValueError("class_disjoint needs one label a photo: with several, a photo can be on both sides")
        names = self.class_names
        if isinstance(train_classes, int | float):
            order = np.random.default_rng(seed).permutation(len(names))
            chosen = {names[i] for i in order[: round(train_classes * len(names))]}
        else:
            chosen = set(train_classes)
            if unknown := sorted(chosen - set(names)):
                raise ValueError(f"unknown classes {unknown[:5]}; the classes are {list(names[:5])} ...")
        seen = [name for name in names if name in chosen]
        unseen = [name for name in self.query_class_names if name not in chosen]
        if min(len(seen), len(unseen)) < 2:
            raise ValueError(
                f"class_disjoint leaves {len(seen)} classes to train on and {len(unseen)} to retrieve; needs 2"
            )
        split = {"train": seen, "query": unseen, "database": unseen} | (
            {"validation": seen} if self.validation else {}
        )
        return replace(self, **{key: relabel(getattr(self, key), self.label_column, to) for key, to in split.items()})

    def without_bad_images(self, num_workers: int = 0) -> tuple["PhotoSplits", list[BadImage]]:
        """Read every picture once and take out the unreadable ones, before training on many processes.

        Args:
            num_workers: processes to read with.

        Returns:
            The splits without them, and the pictures that were taken out.

        Raises:
            ValueError: if the photos are streams; those skip as they go.
        """
        self._label_sets("without_bad_images")
        checked: dict[int, tuple[datasets.Dataset, list[BadImage]]] = {}  # the database often is the training set
        changed: dict[str, datasets.Dataset] = {}
        for key in SPLIT_NAMES:
            photos = getattr(self, key)
            if photos is None:
                continue
            if id(photos) not in checked:
                bad = find_bad_images(photos, self.image_column, num_workers)
                rows = sorted(set(range(len(photos))) - {image.row for image in bad})
                checked[id(photos)] = (photos.select(rows) if bad else photos, bad)
            changed[key] = checked[id(photos)][0]
        found = [image for _, bad in checked.values() for image in bad]
        report_bad_images(found)
        return replace(self, **changed), found

    def _label_sets(self, method: str) -> list[list[int]]:
        """The labels of every training photo."""
        if self.streaming:
            raise ValueError(
                f"{method} needs to see all photos first, and {self.name} is a stream: load it with streaming=False"
            )
        return label_sets(self.train, self.label_column)
