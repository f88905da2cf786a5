"""What can be asked of a collection: read, search, filter, page, group; by many at once."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data import eval_transform
from ..data.file_facts import FACTS
from ..explain import ImageExplanation
from ..explain.crops import photo_as_seen
from ..explain.image import explain_pixels
from ..explain.meaning import what_it_proves
from ..hits import caption_of
from ..index import CodeIndex
from ..index.model_codes import ModelCodes
from ..photo_index import PhotoIndex
from ..photo_records import ORIGIN, PATH
from .batching import Batched
from .concepts import ConceptDescription, describe_concepts
from .decoding import FEW_AT_A_TIME
from .photos import ServedPhotos
from .readings import Reading

MOST_HITS = 1000  # how far down a ranking one can page
MOST_LETTERS = 200  # of words
MOST_DUPLICATES = 200_000  # photos among which nearly equal codes are looked for while somebody waits
PHOTOS_READ, CODES_COMPARED = 24, 2000  # to describe concepts
SEEN = 384  # pixels: side of a photo that is kept
_FILTERS_KEPT = 4
_UNSHOWN = (PATH, ORIGIN, *FACTS)  # where a photo lies, and facts of its file


@dataclass(frozen=True)
class Query:
    """What to search with, and how.

    Attributes:
        reading: a photo, words, or a mixture.
        weights: of the M concepts; None counts all bits alike.
        where: values that the metadata of hits has, by column.
    """

    reading: Reading
    weights: tuple[float, ...] | None = None
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A photo of the collection, found by a search or merely shown.

    Attributes:
        id: of the photo.
        caption: what stands below it.
        row: what else is known of it.
        has_picture: whether its photo is at hand.
        distance: to the query; None if there was none.
        concept_distances: differing bits of each concept, none if there was no query.
    """

    id: Any
    caption: str
    row: Mapping[str, Any]
    has_picture: bool
    distance: float | None = None
    concept_distances: tuple[int, ...] = ()


@dataclass(frozen=True)
class Page:
    """Some of what a search has found.

    Attributes:
        found: nearest first.
        first: place of the first in the ranking, from 0.
        among: how many photos were searched.
        nothing_near: whether even the nearest photo of all is no closer to the words than a stranger would be; None
            where that is not known, of a part of the collection, and of photos.
    """

    found: tuple[Found, ...]
    first: int
    among: int
    nothing_near: bool | None = None

    @property
    def has_more(self) -> bool:
        """Whether a page follows."""
        return self.first + len(self.found) < min(self.among, MOST_HITS)


@dataclass(frozen=True)
class Described:
    """The concepts of a collection.

    Attributes:
        concepts: one after the other.
        photos: how many were read for their pictures.
        codes: how many were compared for their words.
    """

    concepts: tuple[ConceptDescription, ...]
    photos: int
    codes: int


class Explorer:
    """A collection that many people look at.

    Args:
        index: of the photos.
        photos: the pictures that may be shown.
        most: photos that the model reads at a time.
        seconds: how long somebody waits for the model at most.

    Attributes:
        spec: what the codes are.
    """

    def __init__(self, index: PhotoIndex, photos: ServedPhotos, most: int = 32, seconds: float = 30.0) -> None:
        self.index, self.photos, self.spec = index, photos, index.hasher.spec
        self._transform = eval_transform(index.hasher.image_processor)
        self._encode = Batched(self._codes_of, most, seconds=seconds)
        self._explain = Batched(self._explanations_of, most, seconds=seconds)
        self._words_lock = threading.Lock()
        self._code_of_words = lru_cache(1024)(self._encode_words)
        self._where_lock = threading.Lock()
        self._filtered = lru_cache(_FILTERS_KEPT)(self._filter)
        self._describe_lock = threading.Lock()
        self._described: Described | None = None
        index.codes.warm()

    def close(self) -> None:
        """End the threads."""
        self._encode.close()
        self._explain.close()

    @property
    def waiting(self) -> int:
        """Photos that wait for the model."""
        return self._encode.waiting + self._explain.waiting

    @property
    def reads_words(self) -> bool:
        """Whether the model does."""
        return getattr(self.index.hasher.model, "text_model", None) is not None

    @property
    def proves(self) -> str:
        """What the maps of the model's concepts prove, in words; nothing where it has no concepts."""
        hasher = self.index.hasher
        return what_it_proves(hasher.model.base_model.config.read_out) if hasher.has_concepts else ""

    def hashed(self, photo: Callable[[], Image.Image], name: str) -> Reading:
        """The code of a photo, without where concepts looked: for who does not look.

        Args:
            photo: gives it, upright RGB; called when not too many others are in memory.
            name: what to call it.

        Raises:
            BusyError: if the model is not free in time.
            Exception: what `photo` raises.
        """
        pixel_values, seen = self._prepared(photo)
        return Reading(name, self._encode(pixel_values), self.spec, seen)

    def indexed(self, id: Any) -> Reading:
        """The code that a photo of the collection has in the index.

        Raises:
            ValueError: if there is no such photo.
        """
        (found,) = self.items([id])
        return Reading(found.caption, np.asarray(self.index.codes.get_codes([id])[0]), self.spec)

    def read_photo(self, photo: Callable[[], Image.Image], name: str) -> Reading:
        """What the model reads in a photo, and where, if it has concepts: as `hashed`."""
        if not self.index.hasher.has_concepts:
            return self.hashed(photo, name)
        return Reading.of_photo(name, self._explain(self._prepared(photo)), self.spec)

    def read_words(self, words: str) -> Reading:
        """What the model makes of words.

        Raises:
            ValueError: if there are none, too many, or the model reads no words.
        """
        words = " ".join(words.split())
        if not 0 < len(words) <= MOST_LETTERS:
            raise ValueError(f"words have 1 to {MOST_LETTERS} letters, got {len(words)}")
        with self._words_lock:  # so that it is not measured twice at the same time
            radius = self.index.word_radius
        return Reading(words, self._code_of_words(words), self.spec, radius=radius, is_words=True)

    def read_item(self, id: Any) -> Reading:
        """A photo of the collection; only its code, where the picture is not at hand.

        Raises:
            ValueError: if there is no such photo.
            BusyError: if the model is not free in time.
        """
        (found,) = self.items([id])
        try:
            return self.read_photo(lambda: self.photos.photo(id), found.caption)
        except (OSError, ValueError):  # moved away, or cannot be read
            return self.indexed(id)

    def items(self, ids: Sequence[Any]) -> list[Found]:
        """Photos of the collection by their ids.

        Raises:
            ValueError: if one is not there.
        """
        rows = self.index.codes.get_metadata(ids)
        return [self._found(id, row) for id, row in zip(ids, rows, strict=True)]

    def browse(self, number: int, where: Mapping[str, Any]) -> Page:
        """Some of the photos whose metadata has these values, drawn at random."""
        return Page(tuple(self.sample(number, where=where)), 0, len(self._among(where)))

    def sample(self, number: int, seed: int | None = None, where: Mapping[str, Any] | None = None) -> list[Found]:
        """Some photos of the collection, or of a part of it, drawn at random; none of an index in a database."""
        ids = self._among(where or {}).ids
        if ids is None:
            return []
        chosen = np.random.default_rng(seed).choice(len(ids), min(number, len(ids)), replace=False)
        return self.items(ids[chosen].tolist())

    def search(self, query: Query, first: int = 0, number: int = 24) -> Page:
        """Search the collection.

        Args:
            query: with what.
            first: place of the first hit to return, from 0.
            number: of hits.

        Raises:
            ValueError: if no concept has a weight, a column or its value is not there, or it is further down than
                `MOST_HITS`.
        """
        if first < 0 or number < 1 or first + number > MOST_HITS:
            raise ValueError(f"hits are numbered from 0 to {MOST_HITS - 1}, got {number} from {first} on")
        codes = self._among(query.where)
        if first >= len(codes):
            return Page((), first, len(codes))
        code = ModelCodes.of(query.reading.code[None], query.reading.spec)
        found = codes.search(code, min(first + number, len(codes)), query.weights)
        wanted = slice(first, first + number)
        rows = codes.get_metadata(found.ids[0, wanted])
        hits = zip(
            found.ids[0, wanted].tolist(),
            rows,
            found.distances[0, wanted].tolist(),
            found.concept_distances[0, wanted].tolist(),
            strict=True,
        )
        radius = query.reading.radius if query.weights is None and not query.where else None
        return Page(
            tuple(self._found(id, row, far, tuple(each)) for id, row, far, each in hits),
            first,
            len(codes),
            None if radius is None else bool(found.distances[0, 0] > radius),
        )

    def facets(self) -> dict[str, list[Any]]:
        """Columns of the metadata to filter by, and their values; none of an index in a database."""
        return {name: values for name, values in self.index.codes.facets().items() if name not in _UNSHOWN}

    def duplicates(self, radius: int) -> list[list[Any]]:
        """Groups of photos with the same code or nearly, as ids; large groups first.

        Raises:
            ValueError: if there are too many photos for it, or the index is in a database.
        """
        if radius > 0 and len(self.index) > MOST_DUPLICATES:
            raise ValueError(
                f"among {len(self.index):,} photos this takes minutes: use the command concepthash duplicates --radius"
            )
        return self.index.duplicates(radius)

    def describe_concepts(self) -> "Described":
        """What each concept looks at, in words and pictures; made once.

        Raises:
            ValueError: if the model has no concepts, the index is in a database, or no photo is at hand.
            BusyError: if the model is not free in time.
        """
        self.index.hasher.check_has_concepts()
        with self._describe_lock:
            if self._described is None:
                self._described = self._describe()
            return self._described

    def _describe(self) -> "Described":
        if self.index.codes.ids is None:
            raise ValueError("concepts are described from an index in a folder, not from one in a database")
        shown = [found.id for found in self.sample(PHOTOS_READ, seed=0)]
        explanations = []
        for id in shown:
            with suppress(OSError, ValueError):  # moved away, or cannot be read
                explanations.append(self._explain(self._prepared(partial(self.photos.photo, id))))
        if not explanations:
            raise ValueError("none of the photos is at hand: nothing can be shown of where concepts look")
        found = self.sample(CODES_COMPARED, seed=0)
        codes = self.index.codes.get_codes([each.id for each in found])
        rows = [each.row for each in found]
        about = describe_concepts(explanations, codes, rows, self.spec.num_bits, self.spec.num_concepts)
        return Described(tuple(about), len(explanations), len(codes))

    def _found(self, id: Any, row: Mapping[str, Any], *distances: Any) -> Found:
        has_picture = self.photos.file_of(row) is not None
        known = {name: value for name, value in row.items() if name not in _UNSHOWN and value is not None}
        return Found(id, caption_of(id, dict(row)), known, has_picture, *distances)

    def _prepared(self, photo: Callable[[], Image.Image]) -> tuple[torch.Tensor, Image.Image]:
        """What the model takes of a photo, and what it sees of it, small enough to be kept."""
        with FEW_AT_A_TIME:
            whole = photo()
            seen = photo_as_seen(whole, self.index.hasher.image_processor)
            return self._transform(whole), seen.resize((SEEN, SEEN), Image.Resampling.LANCZOS)

    def _codes_of(self, pixel_values: Sequence[torch.Tensor]) -> Sequence[np.ndarray]:
        return list(
            self.index.hasher.model.get_hash_codes(torch.stack(list(pixel_values)).to(self.index.hasher.device))
            .cpu()
            .numpy()
        )

    def _explanations_of(self, prepared: Sequence[tuple[torch.Tensor, Image.Image]]) -> Sequence[ImageExplanation]:
        pixel_values, seen = zip(*prepared, strict=True)
        return explain_pixels(self.index.hasher.model, torch.stack(pixel_values), seen)

    def _encode_words(self, words: str) -> np.ndarray:
        with self._words_lock:
            return np.asarray(self.index.hasher.encode_names(words)[0])

    def _among(self, where: Mapping[str, Any]) -> CodeIndex:
        """The codes to search."""
        if not where:
            return self.index.codes
        with self._where_lock:  # so that the same filter is not made twice at the same time
            return self._filtered(json.dumps(dict(where), sort_keys=True))

    def _filter(self, where: str) -> CodeIndex:
        codes = self.index.codes.where(json.loads(where))
        codes.warm()
        return codes
