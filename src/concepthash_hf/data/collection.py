"""Photos to hash rather than to learn from: all there are, each with an id of its own."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets

from .bad_images import BadImageLog
from .columns import image_paths, split_column
from .decode import decode_image
from .file_facts import FACTS
from .folders import list_photos
from .labels import NotForTrainingError, class_names_of, is_list, label_sets
from .load import load_with_options
from .options import LoadOptions
from .pictures import PictureFinder
from .splits import SPLIT_NAMES, PhotoSplits

logger = logging.getLogger(__name__)

_OWN, _OWN_ID = "own_", "own_id"
# what rows of an index have besides
_RESERVED = ("id", "path", "label", "split", "code", "origin", *FACTS)


@dataclass(frozen=True)
class Collection:
    """Photos and what is known of them, in the same order.

    Attributes:
        name: short name.
        photos: one column, "image", undecoded.
        rows: "id", distinct texts or numbers; "path", where photos are files; "label", the class name or a list of
            them, and "split", where photos have classes; and other columns of texts and numbers, dates and times as
            ISO text, durations in seconds. Columns of these names that the photos have themselves, and that mean
            something else, are called "own_path" and so on.
        notes: in words, what was taken for what.
    """

    name: str
    photos: datasets.Dataset
    rows: datasets.Dataset
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def ids(self) -> list[Any]:
        """Every photo's id."""
        return self.rows["id"][:]

    def image(self, row: int) -> Any:
        """A photo as upright RGB.

        Raises:
            BadImageError: if it cannot be read.
        """
        return decode_image(self.photos[row]["image"], row)


def load_collection(name_or_path: str | Path, **options: Any) -> Collection:
    """Load every photo of a dataset, all splits together, or every picture below a folder.

    Ids are those of a column "id", else paths relative to the folder, or as the dataset has them; where photos have no
    paths, or not each one of its own, ids are the numbers of their rows. They stay the same when the folder moves.
    Pictures that cannot be read are there too: whoever reads them lists them.

    Photos are hashed without classes, too: a folder that is understood but no training set (no folders of classes, or
    several ways to read them; one class alone) gives all its pictures, and a warning says why.

    Args:
        name_or_path: what `load_photos` understands, or a folder of pictures without classes.
        **options: the fields of `ReadOptions`.

    Raises:
        ValueError: if there are no photos, a table is damaged, or the options do not fit what is there.

    Example:
        >>> collection = load_collection("photos/of/products")  # doctest: +SKIP
        >>> collection.rows[0]  # doctest: +SKIP
        {'id': 'lamps/17.jpg', 'path': 'photos/of/products/lamps/17.jpg', 'label': 'lamps', 'split': 'train'}
    """
    chosen = LoadOptions(**options, on_bad_image="skip")
    folder, is_table = Path(chosen.data_dir or name_or_path), Path(name_or_path).is_file()
    try:
        splits = load_with_options(name_or_path, chosen, "keep")
    except NotForTrainingError as error:
        if is_table or not folder.is_dir() or _says_what_is_what(chosen):
            raise
        try:
            photos = list_photos(folder, follow_symlinks=chosen.follow_symlinks, on_bad_image="skip")
        except ValueError as none:  # or they are in tables
            raise ValueError(f"{error}. Without classes: {none}") from error
        logger.warning("taking all %d pictures below %s, without classes: %s", len(photos), folder, error)
        rows = _rows(_paths(photos, "image"), [{}] * len(photos), folder)
        return Collection(folder.resolve().name, photos, rows, (f"all {len(photos)} pictures, without classes",))
    if folder.is_file():
        folder = folder.parent
    tables = _distinct_splits(splits)
    images = splits.image_column
    photos = datasets.concatenate_datasets([table.select_columns(images) for table in tables.values()])
    if images != "image":
        photos = photos.rename_column(images, "image")
    known = [row for split, table in tables.items() for row in _known(table, split, splits)]
    paths = [path for table in tables.values() for path in _paths(table, images)]
    _report_left_out(paths, folder, chosen.follow_symlinks)
    return Collection(splits.name, photos, _rows(paths, known, folder), splits.notes)


def _says_what_is_what(options: LoadOptions) -> bool:
    """Whether somebody knows of columns or folders that mean something: to pass them over would lose it."""
    told = (options.image_column, options.label_column, options.label_separator, options.class_level)
    return bool(options.splits) or any(value is not None for value in told)


def _distinct_splits(splits: PhotoSplits) -> dict[str, datasets.Dataset]:
    """The database often is the training set."""
    tables: dict[str, datasets.Dataset] = {}
    for name in SPLIT_NAMES:
        table = getattr(splits, name)
        if table is not None and not any(table is other for other in tables.values()):
            tables[name] = table
    return tables


def _known(photos: datasets.Dataset, split: str, splits: PhotoSplits) -> Iterable[dict[str, Any]]:
    """Each row's label by name, its split, and its other texts and numbers."""
    feature = photos.features[splits.label_column]
    names = class_names_of(feature)
    labels: list[Any] = [[names[label] for label in labels] for labels in label_sets(photos, splits.label_column)]
    if not is_list(feature):
        labels = [label for (label,) in labels]
    taken = (splits.image_column, splits.label_column, split_column(photos.features))
    others = {
        name: f"{_OWN}{name}" if name in _RESERVED else name
        for name, feature in photos.features.items()
        if name not in taken and isinstance(feature, datasets.Value) and "binary" not in feature.dtype
    }
    columns = {ours: [_plain(value) for value in photos[theirs][:]] for theirs, ours in others.items()}
    columns |= {"label": labels, "split": [split] * len(labels)}
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _plain(value: Any) -> Any:
    """A value as a text or number, which every kind of index keeps, and a page or a program can ask for by JSON."""
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, Decimal) else value


def _paths(photos: datasets.Dataset, image_column: str) -> list[tuple[str | None, bool]]:
    """Each photo's path, and whether it is a file (pictures inside a table may have a name too)."""
    pictures = (photos[row][image_column] for row in range(len(photos)))
    is_file = next((picture["bytes"] is None for picture in pictures if picture is not None), False)
    return [(path, is_file) for path in image_paths(photos, image_column)]


def _report_left_out(paths: list[tuple[str | None, bool]], folder: Path, follow_symlinks: bool) -> None:
    """Say so if there are pictures beside those that belong to a class or a table."""
    taken = {os.path.normpath(path) for path, is_file in paths if is_file and path is not None}
    if folder.is_dir() and any(Path(path).is_relative_to(os.path.normpath(folder)) for path in taken):
        finder = PictureFinder(folder, follow_symlinks, BadImageLog("skip"))  # what it skips was said on reading
        if left_out := [path for path in finder.find().below() if os.path.normpath(path) not in taken]:
            logger.warning(
                "%d pictures below %s belong to no class and are left out, e.g. %s", len(left_out), folder, left_out[0]
            )


def _rows(paths: list[tuple[str | None, bool]], known: list[dict[str, Any]], folder: Path) -> datasets.Dataset:
    ids = [row.get(_OWN_ID) for row in known]
    if _are_ids(ids):
        known = [{name: value for name, value in row.items() if name != _OWN_ID} for row in known]
    else:
        if any(id is not None for id in ids):
            logger.warning('the column "id" is kept as %r: it has gaps, or a value more than once', _OWN_ID)
        ids = [_relative(path, folder) for path, _ in paths]
        if None in ids or len(set(ids)) < len(ids):
            ids = list(range(len(ids)))
    columns: dict[str, list] = {"id": ids}
    if any(is_file for _, is_file in paths):
        columns["path"] = [path if is_file else None for path, is_file in paths]
    for name in dict.fromkeys(name for row in known for name in row):
        columns[name] = _of_one_kind([row.get(name) for row in known])
    return datasets.Dataset.from_dict(columns)


def _of_one_kind(values: list[Any]) -> list[Any]:
    """A column; texts, if one split has numbers there and another texts."""
    if {type(value) for value in values} & {int, float, bool} and any(isinstance(value, str) for value in values):
        return [None if value is None else str(value) for value in values]
    return values


def _are_ids(values: list[Any]) -> bool:
    """Whether a column can be the ids: texts or whole numbers, each one once."""
    kinds = {type(value) for value in values}
    return kinds in ({str}, {int}) and "" not in values and len(set(values)) == len(values)


def _relative(path: str | None, folder: Path) -> str | None:
    """The same wherever the folder is; paths from elsewhere stay whole."""
    if path is None or "://" in path:
        return path
    return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path
