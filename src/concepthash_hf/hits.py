"""What a search among photos has found, hit by hit."""

import base64
import html
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from PIL import Image

from .explain.contact_sheet import Found, Hit, contact_sheet
from .language import clean_class_name
from .quoting import one_line

_SHOWN_IN_REPR = 3
_THUMBNAIL = 120  # pixels


@dataclass(frozen=True)
class PhotoHit:
    """One photo that was found.

    Attributes:
        id: of the photo: its path below the collection, or what else the collection calls it.
        distance: to the query: bits that differ, weighted if the search was.
        concept_distances: M numbers, differing bits of each concept's sub-code.
        row: what else is known of the photo: "label", "split", ...
    """

    id: Any
    distance: float
    concept_distances: tuple[int, ...]
    row: dict[str, Any] = field(repr=False)
    _open: Callable[[], Image.Image] = field(repr=False, compare=False)
    _explain: Callable[[], Image.Image] = field(repr=False, compare=False)

    @property
    def label(self) -> Any:
        """The class by name or number, or a list of them; None if it is not known."""
        return self.row.get("label")

    @property
    def caption(self) -> str:
        """The label in words; the name of the file where there is none."""
        return caption_of(self.id, self.row)

    def photo(self) -> Image.Image:
        """The photo, upright.

        Raises:
            FileNotFoundError: if it is not where the index says; tells how to say where it is.
        """
        return self._open()

    def why(self) -> Image.Image:
        """A picture of why it was found: which concepts agree with those of the query, and where each looks.

        Found by words, it shows where the concepts look in the photo.

        Raises:
            FileNotFoundError: as `photo`.
        """
        return self._explain()

    def to_dict(self) -> dict[str, Any]:
        """What a program reads as JSON; the result before a column of the same name."""
        return {
            **{name: _plain(value) for name, value in self.row.items()},
            "id": self.id,
            "distance": self.distance,
            "concept_distances": list(self.concept_distances),
        }


@dataclass(frozen=True, repr=False)
class Hits(Sequence[PhotoHit]):
    """What one query has found, nearest first.

    Attributes:
        query: a photo, or words.
        name: of the query.
        bits_per_concept: length of a sub-code.
        radius: of words: within how many bits a photo is closer than a stranger would be, see `word_radius`; None
            where that is not known.
    """

    query: Image.Image | str
    name: str
    bits_per_concept: int
    _hits: tuple[PhotoHit, ...]
    radius: int | None = None

    def __len__(self) -> int:
        return len(self._hits)

    @overload
    def __getitem__(self, number: int) -> PhotoHit: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[PhotoHit, ...]: ...
    def __getitem__(self, number: int | slice) -> PhotoHit | tuple[PhotoHit, ...]:
        return self._hits[number]

    def __iter__(self) -> Iterator[PhotoHit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.caption} {hit.distance:g}" for hit in self._hits[:_SHOWN_IN_REPR])
        more = ", ..." if len(self) > _SHOWN_IN_REPR else ""
        note = f"; {self.note}" if self.note else ""
        return one_line(f"Hits({self.name!r}: {len(self)} photos, by distance: {shown}{more}{note})")

    @property
    def nothing_near(self) -> bool:
        """Whether no photo is closer to the words than a stranger would be: what they mean is hardly here."""
        return self.radius is not None and all(hit.distance > self.radius for hit in self)

    @property
    def note(self) -> str:
        """That nothing is near, in words; else empty."""
        return nothing_near_note(self.radius) if self.radius is not None and self.nothing_near else ""

    def table(self) -> str:
        """A line for each hit, with its distance in all and by concept; and a last one if nothing is near."""
        table = hits_table(
            [hit.id for hit in self],
            [hit.distance for hit in self],
            [hit.concept_distances for hit in self],
            [hit.row for hit in self],
        )
        return f"{table}\n{self.note}" if self.note else table

    def found(self) -> Found:
        """With all pictures that are there, for `explain.contact_sheet`."""
        hits = [Hit(_photo_if_there(hit), hit.caption, hit.distance, hit.concept_distances) for hit in self]
        by_words = "searched by words" if not self.nothing_near else "nothing here is near"
        return Found(self.query, by_words if isinstance(self.query, str) else self.name, hits)

    def figure(self) -> Image.Image:
        """The query and its hits in one picture, with their distances by concept."""
        return contact_sheet([self.found()], self.bits_per_concept)

    def to_dict(self) -> dict[str, Any]:
        """What a program reads."""
        found = {"query": self.name, "hits": [hit.to_dict() for hit in self]}
        return found if self.radius is None else {**found, "nothing_near": self.nothing_near}

    def _repr_html_(self) -> str:
        query = _cell(self.query if isinstance(self.query, Image.Image) else None, self.name)
        hits = [_cell(_photo_if_there(hit), f"{hit.distance:g}: {hit.caption}") for hit in self]
        note = f"<p>{self.note}</p>" if self.note else ""
        return f"<table><tr><td>{query}</td>{''.join(f'<td>{hit}</td>' for hit in hits)}</tr></table>{note}"


def nothing_near_note(radius: int) -> str:
    """What to say where no photo is within so many bits of words."""
    within = f"{radius} bit" if radius == 1 else f"{radius} bits"
    return f"no photo is closer than a stranger would be: what is here is found within {within}"


def hits_table(
    ids: Sequence[Any], distances: Sequence[float], concept_distances: Sequence[Sequence[int]], rows: Sequence[dict]
) -> str:
    """What a search has found, a line for each hit."""
    concepts = " ".join(f"{number:>3}" for number in range(1, len(concept_distances[0]) + 1))
    lines = [f"{'':>4}  {'distance':>8}  by concept {concepts}"]
    for rank, (id, distance, per_concept, row) in enumerate(
        zip(ids, distances, concept_distances, rows, strict=True), 1
    ):
        by_concept = " ".join(f"{bits:>3}" for bits in per_concept)
        what = f"{label_in_words(row['label'])}  ({id})" if has_label(row) else f"{id}"
        lines.append(f"{rank:>4}  {distance:>8g}  {'':>10} {by_concept}   {what}")
    return "\n".join(lines)


def has_label(row: dict[str, Any]) -> bool:
    """Whether an item has a label; indexes of other people may have none, or 0."""
    return row.get("label") not in (None, "", [])


def caption_of(id: Any, row: dict[str, Any]) -> str:
    """What stands below a hit: the label in words; the name of the file where there is none."""
    return label_in_words(row["label"]) if has_label(row) else Path(str(id)).name


def label_in_words(label: Any) -> str:
    """A class by name or number, or several, in words."""
    if isinstance(label, list):
        return ", ".join(map(label_in_words, label))
    return clean_class_name(str(label))


def _plain(value: Any) -> Any:
    """As JSON has it: null for a number that is none, a text for what JSON does not know, such as dates."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _photo_if_there(hit: PhotoHit) -> Image.Image | None:
    try:
        return hit.photo()
    except (OSError, ValueError):  # moved away, or cannot be read
        return None


def _cell(photo: Image.Image | None, caption: str) -> str:
    text = html.escape(one_line(caption))
    if photo is None:
        return text
    small, buffer = photo.copy(), io.BytesIO()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(buffer, "jpeg", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{text}"><br>{text}'
