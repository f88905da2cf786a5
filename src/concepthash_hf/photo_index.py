"""An index of photos that takes photos and words itself, and follows its collection as that changes."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .base_models import place_of
from .data import BadImage, Collection, decode_image, describe_collection, load_collection
from .data.file_facts import FACTS, is_changed
from .data.inputs import as_photos, is_one_photo
from .data.pictures import IMAGE_SUFFIXES
from .hits import Hits, PhotoHit
from .index import CodeIndex, HammingIndex, near_duplicates
from .index.inputs import Weights
from .interruption import Interrupted, noticing_signals
from .json_files import read_object, write_object
from .photo_records import (
    ORIGIN,
    PATH,
    SPLIT,
    PhotoRecords,
    number_of_picture,
    records_of,
    records_of_pictures,
    regular_file_below,
)
from .whole_files import one_writer
from .word_radius import word_radius

if TYPE_CHECKING:
    from .hasher import ConceptHasher

COLLECTION_FILE = "collection.json"
SECONDS_BETWEEN_SAVES = 60.0  # what a kill of the process loses at most
_FIELDS = {"model": str, "model_kwargs": dict, "photos": str | None, "options": dict}
_REMEDY = "hash the collection again, into another folder"


@dataclass(frozen=True)
class Source:
    """What an index was made of.

    Attributes:
        model: folder or Hub id of the model.
        model_kwargs: what else it was loaded with.
        photos: folder, table or name of the collection; None for photos that were given one by one.
        options: how the photos are read, fields of `data.options.ReadOptions`.
    """

    model: str
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    photos: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """Where the photos lie, if they are files."""
        place = Path(self.options.get("data_dir") or self.photos or "")
        if self.photos is None or not place.exists():
            return None
        return place if place.is_dir() else place.parent

    def absolute(self) -> "Source":
        """The same, whatever folder is worked in."""
        photos = self.photos and place_of(self.photos)
        kwargs = {
            name: place_of(value) if value and name.endswith("name_or_path") else value
            for name, value in self.model_kwargs.items()
        }
        folder = self.options.get("data_dir")
        options = {**self.options, **({"data_dir": str(Path(folder).absolute())} if folder else {})}
        return replace(self, model=place_of(self.model), model_kwargs=kwargs, photos=photos, options=options)

    def renewed(self, photos: str | Path, options: Mapping[str, Any]) -> "Source":
        """The same, where its photos are now; they are read as they were, but for these options.

        Raises:
            ValueError: if these are not its photos: those have a name, or are still in the folder where they were.
        """
        now = replace(self, photos=str(photos), options={**self.options, **options}).absolute()
        has_moved = self.photos is not None and os.path.isabs(self.photos) and not os.path.exists(self.photos)
        if self.photos not in (None, now.photos) and not has_moved:
            raise ValueError(
                f"this is an index of {self.photos}, not of {now.photos}: give another folder for the index"
            )
        return now

    def moved_to(self, photos: str | Path, options: Mapping[str, Any]) -> "Source":
        """The same with its photos elsewhere, read as they were if no other options are given."""
        options = dict(options) or {**self.options, "data_dir": None}
        return replace(self, photos=str(photos), options=options).absolute()

    def save(self, folder: str | Path) -> None:
        """Write it beside the index: what JSON can hold, and no secret."""
        plain = str | int | float | None
        kwargs = {
            name: value for name, value in self.model_kwargs.items() if name != "token" and isinstance(value, plain)
        }
        write_object(Path(folder) / COLLECTION_FILE, asdict(replace(self, model_kwargs=kwargs)))

    @classmethod
    def load(cls, folder: str | Path) -> "Source | None":
        """Read it; None if it is not there, as beside an index that was made without `PhotoIndex`.

        Raises:
            ValueError: if it is damaged.
        """
        path = Path(folder) / COLLECTION_FILE
        return cls(**read_object(path, _FIELDS, _REMEDY)) if path.exists() else None


@dataclass(frozen=True)
class Changes:
    """What became of an index.

    Attributes:
        new: photos that were not there.
        changed: photos that are other ones now, or of which something else is known now, such as the label.
        gone: photos that are no longer in the collection.
        unchanged: photos that are as they were.
        unreadable: photos that cannot be read; they have no code.
    """

    new: int = 0
    changed: int = 0
    gone: int = 0
    unchanged: int = 0
    unreadable: tuple[BadImage, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What a program reads."""
        return asdict(self)

    def __str__(self) -> str:
        bad = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"+{self.new} new, {self.changed} changed, {self.gone} gone{bad}"


class PhotoIndex:
    """Photos of a collection, searched with photos and with words: from `ConceptHasher.index` and `open_photo_index`.

    Args:
        hasher: makes the codes.
        codes: the index that keeps them.
        source: what it was made of.
        is_foreign: whether somebody else wrote it: then no file is opened that does not lie where the user says.

    Attributes:
        codes: a `CodeIndex`, for everything that takes codes.

    Raises:
        ValueError: if the codes are of another model than the hasher's.

    Example:
        >>> index = ConceptHasher("my_model").index("my_photos")  # doctest: +SKIP
        >>> index.search("new.jpg", k=3)  # doctest: +SKIP
        Hits('new.jpg': 3 photos, by distance: robin 2, robin 5, wren 11)
        >>> index.search("red-tailed hawk")[0].why().show()  # doctest: +SKIP
        >>> print(index.update())  # doctest: +SKIP
        +3 new, 1 changed, 2 gone
    """

    def __init__(self, hasher: "ConceptHasher", codes: CodeIndex, source: Source, *, is_foreign: bool = False) -> None:
        codes.check_model(None, hasher.spec.revision)
        self.hasher, self.codes, self.source, self._is_foreign = hasher, codes, source, is_foreign

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        of = f" of {self.source.photos}" if self.source.photos else ""
        return f"PhotoIndex({len(self)} photos{of}, {self.codes.num_bits} bits by {self.codes.spec.describe_model()})"

    @property
    def ids(self) -> list[Any]:
        """Of all photos, in the order in which they were added.

        Raises:
            ValueError: if the index is in a database.
        """
        ids = self.codes.ids
        if ids is None:
            raise ValueError("the ids of an index in a database are not at hand: ask the database")
        return ids.tolist()

    def search(self, queries: Any, k: int = 5, concept_weights: Weights | None = None) -> Hits | list[Hits]:
        """Find the photos that are nearest to a photo, or to words.

        Args:
            queries: what `data.inputs.as_photos` takes, or words. A text is a photo if there is such a file, if it is
                a URL, or if it ends like the name of a picture (".jpg"); else it is words. A `Path` always is photos.
                Or a list of these.
            k: photos for each query; all that there are, if they are fewer. Of words that mean nothing here, the hits
                say so: `nothing_near`.
            concept_weights: see `CodeIndex.search`; concepts count from 0.

        Returns:
            For one query its hits, for a list or a folder a list of them.

        Raises:
            ValueError: if the index is empty, k is less than 1, or words are asked of a model that reads none.
            BadImageError: if a photo cannot be read, or is not there.
        """
        results = self.search_each(queries, k, concept_weights)
        is_one = not _is_folder(queries) if isinstance(queries, str) else is_one_photo(queries)
        return results[0] if is_one else results

    def search_each(self, queries: Any, k: int = 5, concept_weights: Weights | None = None) -> list[Hits]:
        """As `search`, and a list also of one query."""
        asked = list(_each_query(queries))
        by_words = any(isinstance(query, Words) for query in asked)
        radius = self.word_radius if by_words and concept_weights is None else None
        codes = self.hasher.encode_queries(asked)
        found = self.codes.search(codes, k if k < 1 else min(k, max(len(self), 1)), concept_weights)
        rows = iter(self.codes.get_metadata(found.ids.ravel()))
        hits = zip(found.ids.tolist(), found.distances.tolist(), found.concept_distances.tolist(), strict=True)
        return [
            self._hits(query, [(*hit, next(rows)) for hit in zip(*of_query, strict=True)], radius)
            for query, of_query in zip(asked, hits, strict=True)
        ]

    def add(self, photos: Any, *, with_content: bool = False, **options: Any) -> Changes:
        """Hash more photos; those that are there already and have not changed are not hashed again.

        Args:
            photos: a folder, a table or the name of a dataset; or what `data.inputs.as_photos` takes.
            with_content: see `update`.
            **options: fields of `data.options.ReadOptions`.

        Raises:
            ValueError: if there are no photos, other photos of the same ids are there from elsewhere, or the index is
                in a database.
            Interrupted: on SIGINT and SIGTERM; what is hashed by then is in the index.
        """
        if is_collection(photos):
            collection = load_collection(photos, **options)
            source = Source("", {}, str(photos), options).absolute()
            origin = None if source.photos == self.source.photos else str(Path(photos).absolute())
            records = records_of(collection, source.folder, self.source.folder, origin, with_content)
        else:
            last = max(map(number_of_picture, self._in_memory().ids.tolist()), default=0)
            records = records_of_pictures(as_photos(photos), self.source.folder, last)
        return self._take(records, [])

    def update(
        self,
        *,
        with_content: bool = False,
        folder: str | Path | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Changes:
        """Look at the collection again: hash what is new or has changed, drop what is gone.

        A photo has changed if its size or time is another one. Photos that were added from elsewhere stay, and those
        of which nobody can say whether they are there, since their folder cannot be opened.

        Args:
            with_content: compare what is in the files (SHA-256) in place of their times, as far as it was noted.
            folder: where the index is saved, to go on saving it while it grows; a kill then loses a minute.
            tell: is told in words what was found, before anything is hashed.

        Raises:
            ValueError: if the index is of no collection, or that is not there any more, or had classes and has none
                that are understood now; the index is then as it was.
            BlockingIOError: if another process writes into the folder.
            Interrupted: on SIGINT and SIGTERM; what is hashed by then is in the index, and in the folder.
        """
        if self.source.photos is None:
            raise ValueError("this index is of no collection: its photos were given one by one, give others to add()")
        writer: AbstractContextManager = nullcontext() if folder is None else one_writer(folder)
        with writer:
            collection = load_collection(self.source.photos, **self.source.options)
            if tell is not None:
                tell(describe_collection(collection))
            records = records_of(collection, self.source.folder, self.source.folder, None, with_content)
            there = set(records.ids)
            own = {id: row for id, row in self._known().items() if row.get(ORIGIN) is None}
            if _have_labels(own.values()) and not _have_labels(records.rows):
                raise ValueError(
                    f"this index knows the classes of its photos, but those of {self.source.photos} are not "
                    "understood any more, see above: mend that, or make a new index in another folder"
                )
            gone = [id for id, row in own.items() if id not in there and not self._is_out_of_sight(row)]
            return self._take(records, gone, None if folder is None else partial(self.save, folder))

    def _is_out_of_sight(self, row: Mapping[str, Any]) -> bool:
        """Whether nobody can say if a photo is still there: its folder is closed, or its disk away."""
        if self.source.folder is None or row.get(PATH) is None:
            return False
        try:
            os.stat(self.source.folder / row[PATH])
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return False

    def save(self, folder: str | Path) -> None:
        """Write index and model's name into a folder, see `HammingIndex.save`; `open_photo_index` reads it.

        The Hub gets the index without the places on this machine: `index.codes.push_to_hub(...)`.
        """
        with one_writer(folder):
            self._in_memory().save(folder)
            self.source.save(folder)

    def duplicates(self, radius: int = 0) -> list[list[Any]]:
        """Groups of photos whose codes are the same, or differ in at most `radius` bits, as ids; large groups first.

        Raises:
            ValueError: see `index.near_duplicates`, or if the index is in a database.
        """
        ids = self.ids
        groups = near_duplicates(self.codes.get_codes(ids), radius, self.codes.num_bits, ids) if len(ids) else []
        return [group.tolist() for group in groups]

    def file_of(self, id: Any) -> Path | None:
        """Where one of the photos lies; None if it is in no file, or that is not where the index says.

        Raises:
            ValueError: if there is no such photo.
        """
        (row,) = self.codes.get_metadata([id])
        return self._file(id, row)

    def photo(self, id: Any) -> Image.Image:
        """One of the photos, upright.

        Raises:
            FileNotFoundError: if it is not where the index says; tells how to say where it is.
            ValueError: if there is no such photo, or it cannot be read.
        """
        (row,) = self.codes.get_metadata([id])
        return self._open(id, row)

    def _take(self, records: PhotoRecords, gone: Sequence[Any], save: Callable[[], None] | None = None) -> Changes:
        """Bring the index up to the records."""
        for found_before in ("word_radius", "_collection"):
            self.__dict__.pop(found_before, None)
        index, known = self._in_memory(), self._known()
        records = records.beside(known)
        before = [known.get(id) for id in records.ids]
        new = [row for row, old in enumerate(before) if old is None]
        replaced = [row for row, old in enumerate(before) if old is not None and is_changed(old, records.rows[row])]
        now = {
            row: {**{fact: old.get(fact) for fact in FACTS}, **records.rows[row]}
            for row, old in enumerate(before)
            if old is not None and not is_changed(old, records.rows[row])
        }
        corrected = [row for row, values in now.items() if records.tell_labels and not _same(before[row], values)]
        seen = [row for row in corrected if not _same(before[row], now[row], without=(*FACTS, SPLIT))]
        kept_ids = [records.ids[row] for row in corrected]
        codes = index.get_codes(kept_ids) if corrected else None
        if outdated := [*gone, *(records.ids[row] for row in replaced), *kept_ids]:
            index.remove(outdated)
        if codes is not None:
            index.add(codes, kept_ids, [now[row] for row in corrected])
        unreadable = self._hash(records, sorted(new + replaced), save)
        if save is not None:
            save()
        lost = {bad.row for bad in unreadable}
        return Changes(
            new=len(set(new) - lost),
            changed=len(set(replaced) - lost) + len(seen),
            gone=len(gone),
            unchanged=len(now) - len(seen),
            unreadable=tuple(unreadable),
        )

    def _hash(self, records: PhotoRecords, rows: Sequence[int], save: Callable[[], None] | None) -> list[BadImage]:
        """Hash some of the records into the index, batch by batch."""
        index, unreadable, saved = self._in_memory(), [], time.monotonic()
        with noticing_signals() as stop:
            for codes, hashed, bad in self.hasher.hash_rows(records.pictures, rows):
                if hashed:
                    index.add(codes, [records.ids[row] for row in hashed], [records.rows[row] for row in hashed])
                unreadable += bad
                if save is not None and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    save()
                    saved = time.monotonic()
                if stop.signal is not None:
                    break
        if stop.signal is not None:
            if save is not None:
                save()
            raise Interrupted(stop.signal, f"{len(index)} photos are in the index; the same again goes on from there")
        return unreadable

    @cached_property
    def word_radius(self) -> int | None:
        """Within how many bits of words a photo is closer than a stranger would be; None where it cannot be known."""
        return word_radius(self.hasher, self.codes) if len(self) else None

    def _hits(self, query: Any, hits: Sequence[tuple], radius: int | None) -> Hits:
        is_words = isinstance(query, Words)
        asked = str(query) if is_words else decode_image(query)
        made = [
            PhotoHit(
                id,
                distance,
                tuple(by_concept),
                row,
                partial(self._open, id, row),
                partial(self._why, asked, id, row),
            )
            for id, distance, by_concept, row in hits
        ]
        name = str(query) if is_words else _name_of(query)
        bits_per_concept = self.codes.num_bits // self.codes.num_concepts
        return Hits(asked, name, bits_per_concept, tuple(made), radius if is_words else None)

    def _why(self, query: Image.Image | str, id: Any, row: Mapping[str, Any]) -> Image.Image:
        photo = self._open(id, row)
        if isinstance(query, str):
            return self.hasher.explain(photo).figure(f"{id}, found by the words: {query}")
        return self.hasher.match(query, photo).figure(("query", str(id)))

    def _open(self, id: Any, row: Mapping[str, Any]) -> Image.Image:
        file = self._file(id, row)
        if file is not None:
            return decode_image(file)
        collection, row_of = self._collection
        if collection is not None and id in row_of:
            return collection.image(row_of[id])
        way_out = "say where they are: open_photo_index(index, photos=...), or --dataset of the command"
        if self.source.photos is None:
            raise FileNotFoundError(f"{id!r} is not shown: an index keeps codes, not photos; {way_out}")
        raise FileNotFoundError(
            f"{id!r} is not in {self.source.photos}; if the photos of this index have moved, {way_out}"
        )

    def _file(self, id: Any, row: Mapping[str, Any]) -> Path | None:
        """Of a row that a stranger may have written, nothing is opened but what lies below the photos."""
        path, root = row.get(PATH), self.source.folder
        if isinstance(path, str) and Path(path).is_absolute() and not self._is_foreign:
            return Path(path) if Path(path).is_file() else None
        if root is None:
            return None
        return next(
            filter(None, (regular_file_below(root, str(name)) for name in (path, id) if name is not None)), None
        )

    @cached_property
    def _collection(self) -> tuple[Collection | None, dict[Any, int]]:
        """For photos in no file of their own: the collection, if it can be read, and its rows by id."""
        if self.source.photos is None:
            return None, {}
        try:
            collection = load_collection(self.source.photos, **self.source.options)
        except (OSError, ValueError):  # moved away
            return None, {}
        return collection, {id: row for row, id in enumerate(collection.ids)}

    def _known(self) -> dict[Any, dict[str, Any]]:
        ids = self._in_memory().ids.tolist()
        return dict(zip(ids, self.codes.get_metadata(ids), strict=True)) if len(ids) else {}

    def _in_memory(self) -> HammingIndex:
        if not isinstance(self.codes, HammingIndex):
            raise ValueError(
                "several indexes searched as one, or one in a database, are not changed here: change the one that it "
                "is about, or by examples/encode.py --database"
            )
        return self.codes


def _have_labels(rows: Iterable[Mapping[str, Any]]) -> bool:
    return any(row.get("label") is not None for row in rows)


class Words(str):
    """A query that is words, not a photo."""


def _each_query(queries: Any) -> Iterator[Any]:
    """Words, and what `decode_image` reads."""
    if isinstance(queries, str) and not _is_folder(queries):
        yield queries if _is_photo(queries) else Words(queries)
    elif isinstance(queries, Sequence) and not isinstance(queries, str | bytes):
        for query in queries:
            yield from _each_query(query)
    else:
        yield from as_photos(queries)


def _is_photo(text: str) -> bool:
    return "://" in text or Path(text).suffix.lower() in IMAGE_SUFFIXES or os.path.isfile(text)  # words may be long


def _is_folder(text: str) -> bool:
    """Whether a text says that it is one: "robin" is a word, whatever folder is here."""
    return os.sep in text and os.path.isdir(text)


def is_collection(photos: Any) -> bool:
    """Whether this is a place to load from, rather than photos themselves."""
    return isinstance(photos, str | Path) and not _is_photo(str(photos)) or _is_table(photos)


def _is_table(photos: Any) -> bool:
    return isinstance(photos, str | Path) and Path(photos).suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet")


def _name_of(photo: Any) -> str:
    return Path(photo).name if isinstance(photo, str) else "photo"


def _same(before: Any, now: Mapping[str, Any], without: Sequence[str] = ()) -> bool:
    """Whether the same is known of a photo; a table gives None for what it does not know."""
    names = (before.keys() | now.keys()) - set(without)
    return all(_equal(before.get(name), now.get(name)) for name in names)


def _equal(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # NaN
