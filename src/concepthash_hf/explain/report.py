"""A static page that shows what a model's concepts see: one HTML file, nothing loaded from elsewhere, no scripts."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jinja2
import numpy as np
from PIL import Image

from ..html_templates import html_environment
from ..whole_files import write_file
from .figure_parts import concept_colour, zeros_and_ones
from .gallery import ConceptGallery, bits_in_words
from .image import ImageExplanation
from .match import MatchExplanation
from .meaning import what_it_proves
from .measures.table import Cell, Table
from .verdict import ConceptVerdict, Holds

TILE, THUMBNAIL = 240, 144
"""Sides of pictures in the page, in pixels: of those that shrink with the page, and of those that do not."""
_BITS_NAMED = 4
_MARKS = {"yes": "✓", "partly": "~", "no": "✗", "not measured": "?"}


@dataclass(frozen=True)
class Fact:
    """A number or a word, by name.

    Attributes:
        name: of it.
        value: of it.
        meaning: what it means, where the name does not say it.
    """

    name: str
    value: str | int | float
    meaning: str = ""


@dataclass(frozen=True)
class ConceptSummary:
    """What is known about a concept over many photos.

    Attributes:
        attention: float `(h, w)`, where it looks on average.
        facts: such as how well its bits find photos alone.
        verdict: what was measured of it, in words; None if nothing was.
        words: what its bits mean, a line each.
    """

    attention: np.ndarray
    facts: Sequence[Fact]
    verdict: ConceptVerdict | None = None
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Neighbour:
    """A photo that was found.

    Attributes:
        caption: what it shows, such as the name of its class.
        relevant: whether it should be found: it shares a class with the query.
        match: why it was found.
    """

    caption: str
    relevant: bool
    match: MatchExplanation


@dataclass(frozen=True)
class QueryResult:
    """A photo that was asked with and what was found, nearest first."""

    caption: str
    query: ImageExplanation
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True)
class Report:
    """All that the page shows; every text may hold anything, it is escaped.

    Attributes:
        title: the model.
        photos: what the photos are, for the captions.
        facts: about the model.
        concepts: what is known of each concept.
        gallery: photos by sub-code.
        gallery_captions: what each photo that the gallery was made from shows, by row.
        gallery_words: what the photos of a group have in common, by concept (from 0) and sub-code such as "0110".
        explained: photos explained one by one, with what they show.
        queries: searches explained.
        tables: measurements.
        tree: of the classes, a picture.
        read_out: how the model's concepts read a photo, see `ConceptHashVisionConfig`.
    """

    title: str
    photos: str
    facts: Sequence[Fact]
    concepts: Sequence[ConceptSummary]
    gallery: ConceptGallery
    gallery_captions: Sequence[str]
    gallery_words: Mapping[tuple[int, str], Sequence[str]] = field(default_factory=dict)
    explained: Sequence[tuple[str, ImageExplanation]] = ()
    queries: Sequence[QueryResult] = ()
    tables: Sequence[Table] = ()
    tree: Image.Image | None = None
    read_out: str = "attention"

    @property
    def what_it_proves(self) -> str:
        """Whether the page shows pictures of attention or a guarantee, in words."""
        return what_it_proves(self.read_out)

    @property
    def example(self) -> tuple[QueryResult, Neighbour] | None:
        """A search to explain the terms by: if there is one, a find that is right and not the same code."""
        pairs = [(result, neighbour) for result in self.queries for neighbour in result.neighbours]
        return min(
            pairs,
            key=lambda pair: (not pair[1].relevant, pair[1].match.distance == 0, pair[1].match.distance),
            default=None,
        )

    @property
    def verdicts(self) -> str:
        """How many concepts mean what they show, in words; empty if nothing was measured of them."""
        counts = Counter(concept.verdict.holds for concept in self.concepts if concept.verdict)
        said: dict[Holds, str] = {"yes": "mean what they show", "partly": "in part", "no": "not at all"}
        if not any(counts[holds] for holds in said):
            return ""
        named = [f"{counts[holds]} {words}" for holds, words in said.items() if counts[holds] or holds == "yes"]
        first, *others = named
        return (
            ", ".join([first.replace(" ", f" of {len(self.concepts)} concepts ", 1), *others])
            + ", as far as measured."
        )

    def html(self) -> str:
        """The page."""
        return _template().render(
            report=self, bits_per_concept=len(self.gallery.groups[0][0].bits), most_frequent=self._most_frequent
        )

    def _most_frequent(self, rows: np.ndarray, number: int = 3) -> str:
        """What the photos of a group show most often."""
        counts = Counter(self.gallery_captions[row] for row in rows).most_common()
        named = ", ".join(f"{caption} ({count})" for caption, count in counts[:number])
        return named + (f" and {len(counts) - number} more" if len(counts) > number else "")

    def save(self, path: str | Path) -> None:
        """Write the page to a file, which can be moved and sent by itself.

        Args:
            path: of the HTML file.
        """
        write_file(path, self.html())


def _template() -> jinja2.Template:
    environment = html_environment(__package__)
    environment.filters |= {"data_uri": _data_uri, "number": _number, "heat": _heat, "zeros_and_ones": zeros_and_ones}
    environment.filters |= {"bits_in_words": bits_in_words, "which_bits": _which_bits}
    environment.globals |= {"colour": _css_colour, "tile": TILE, "thumbnail": THUMBNAIL, "marks": _MARKS}
    return environment.get_template("report.html")


def _data_uri(picture: Image.Image, kind: Literal["jpeg", "png"] = "jpeg") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 88, "subsampling": 0} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _css_colour(concept: int) -> str:
    return "rgb({}, {}, {})".format(*concept_colour(concept))


def _number(value: Cell) -> str:
    """A cell of a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def _which_bits(differing: np.ndarray) -> str:
    """Which bits of a sub-code differ, by number from 1; of many how many."""
    numbers = (np.flatnonzero(differing) + 1).tolist()
    if not numbers:
        return "the same bits"
    if len(numbers) > _BITS_NAMED:
        return f"{len(numbers)} of {len(differing)} bits differ"
    if len(numbers) == 1:
        return f"bit {numbers[0]} differs"
    return "bits " + ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]} differ"


def _heat(attention: np.ndarray, concept: int) -> Image.Image:
    """A map of attention: light where there is little, the concept's colour where there is most."""
    share = Image.fromarray((255 * attention / max(float(attention.max()), 1e-12)).astype(np.uint8))
    weights = np.asarray(share.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC), dtype=float)[..., None] / 255
    pixels = (1 - weights) * 240 + weights * np.asarray(concept_colour(concept))
    return Image.fromarray(pixels.round().astype(np.uint8))
