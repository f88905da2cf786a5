"""Photos that are to be in an index: what each is called, what is known of it, and the picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .data import Collection
from .data.decode import image_path
from .data.file_facts import FACTS, file_facts, is_changed

PATH = "path"
SPLIT = "split"  # drawn anew where a collection has no test split of its own
ORIGIN = "origin"  # where photos are from that were added from outside the collection


@dataclass(frozen=True)
class PhotoRecords:
    """In the same order.

    Attributes:
        ids: distinct texts or numbers.
        rows: what is known of each: "path", relative to the collection where it lies in it; facts of its file; "label"
            and other texts and numbers.
        pictures: what `decode_image` reads.
        tell_labels: whether rows say all that is known of a photo, or nothing but where it is.
    """

    ids: Sequence[Any]
    rows: Sequence[dict[str, Any]]
    pictures: Sequence[Any]
    tell_labels: bool

    def __len__(self) -> int:
        return len(self.ids)

    def beside(self, known: Mapping[Any, Mapping[str, Any]]) -> "PhotoRecords":
        """The same, to be put into an index.

        Args:
            known: what the index knows, by id. A photo that it has from its own collection stays one of that, with
                what is known of it, also where it is added once more from a folder within.

        Raises:
            ValueError: if the index has another photo of the same id, from somewhere else.
        """
        before = [known.get(id, row) for id, row in zip(self.ids, self.rows, strict=True)]
        others = [number for number, old in enumerate(before) if _is_another(old, self.rows[number])]
        if others:
            first = others[0]
            raise ValueError(
                f"{len(others)} of these photos have ids that other photos of the index have, which are from "
                f"{before[first].get(ORIGIN) or 'its own collection'}; the first is {self.ids[first]!r}. Give them "
                'ids of their own (of a table in a column "id"), or make another index: several are searched as one'
            )
        return replace(self, rows=list(map(_in_its_collection, before, self.rows)))


def records_of(
    collection: Collection, folder: Path | None, root: Path | None, origin: str | None, with_content: bool
) -> PhotoRecords:
    """All photos of a collection.

    Args:
        collection: the photos.
        folder: where they lie.
        root: folder that their paths are relative to; photos elsewhere keep their whole path, which then is their id
            too, if a path is.
        origin: None for the collection that an index is of; else where these are from.
        with_content: also note the SHA-256 of files.
    """
    pictures = collection.photos["image"]
    ids, rows = [], []
    for number, row in enumerate(collection.rows):
        picture, id = pictures[number], row["id"]
        path = below(row.get(PATH), root)
        if path is not None and folder is not None and (folder / str(id)).absolute() == Path(row[PATH]).absolute():
            id = path
        kept = {name: value for name, value in row.items() if name not in ("id", PATH, ORIGIN, *FACTS)}
        ids.append(id)
        rows.append({PATH: path, ORIGIN: origin, **file_facts(picture, with_content), **kept})
    return PhotoRecords(ids, rows, pictures, tell_labels=True)


def number_of_picture(id: Any) -> int:
    """N of the photo that `records_of_pictures` has called "photo N"; 0 for any other id."""
    kind, _, number = str(id).partition(" ")
    return int(number) if kind == "photo" and number.isdecimal() else 0


def records_of_pictures(pictures: Sequence[Any], root: Path | None, last_number: int = 0) -> PhotoRecords:
    """Photos without a collection: files by their paths, others as "photo 1", "photo 2", ...

    Args:
        pictures: from `data.inputs.as_photos`.
        root: folder that paths are relative to, where they are in it.
        last_number: of the photos without a file that there were before.

    Raises:
        ValueError: if a file is given more than once.
    """
    ids: list[str] = []
    rows: list[dict[str, Any]] = []
    for picture in pictures:
        is_file = isinstance(picture, str)
        path = below(image_path(picture), root) if is_file else None
        last_number += not is_file
        ids.append(path if path is not None else f"photo {last_number}")
        rows.append({PATH: path, ORIGIN: "added", **(file_facts(picture) if is_file else {})})
    if twice := [id for id, times in Counter(ids).items() if times > 1]:
        raise ValueError(f"photos are given once each, {twice[0]} is there twice")
    return PhotoRecords(ids, rows, pictures, tell_labels=False)


def _is_another(old: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether two photos that have the same id are from different places, and neither one file nor alike."""
    is_one_file = row[PATH] is not None and row[PATH] == old.get(PATH)
    return row[ORIGIN] != old.get(ORIGIN) and not is_one_file and is_changed(old, row)


def _in_its_collection(old: Mapping[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What is known of a photo now; added from elsewhere, it keeps what its own collection says of it."""
    if old.get(ORIGIN) is not None or row[ORIGIN] is None:
        return row
    return {**old, **{fact: row.get(fact) for fact in FACTS}}


def regular_file_below(folder: Path, name: str) -> Path | None:
    """The file of this name; None if there is none, it is a device or pipe, or lies elsewhere, also by links."""
    try:
        file = (folder / name).resolve()
        return file if file.is_file() and file.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def below(path: str | None, root: Path | None) -> str | None:
    """A path relative to a folder; whole, if it does not lie in it."""
    if path is None or "://" in path:
        return path
    whole = Path(path).absolute()
    if root is not None and whole.is_relative_to(root.absolute()):
        return whole.relative_to(root.absolute()).as_posix()
    return whole.as_posix()
