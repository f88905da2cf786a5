"""The parts of the page as HTML: templates filled with escaped text, pictures as data."""

import base64
import io
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2
from PIL import Image

from ..explain.figure_parts import CONCEPT_COLOURS, concept_colour
from ..hits import nothing_near_note
from ..html_templates import html_environment
from ..index import CodeSpec
from ..quoting import one_line
from .concepts import ConceptDescription
from .explorer import Found, Page, Query
from .photos import thumbnail_address
from .readings import Comparison, Reading

STAGE, CROP = 320, 128  # pixels: side of a photo with its maps, and of a part of one


def header(title: str, facts: Sequence[str], spec: CodeSpec) -> str:
    """The head of the page: what is searched here."""
    return _render("header.html", title=title, facts=facts, spec=spec)


def drop(label: str, shown: Image.Image | None) -> str:
    """A field that takes a photo, or shows the one that it took."""
    return _render("drop.html", label=label, shown=shown)


def drop_script(most_bytes: int, pasted: bool) -> str:
    """What the field does: sends a photo with the event "upload"; also one that is pasted anywhere, if it should."""
    return _render("drop.js", most_bytes=most_bytes, pasted=pasted)


def reading(shown: Reading, proves: str) -> str:
    """A photo or words, the sub-codes, and where each concept looked; what that proves, in words."""
    return _render("reading.html", one=shown, proves=proves)


def mixture(one: Reading, other: Reading, from_other: Sequence[bool]) -> str:
    """Two readings of which concepts are taken in turn."""
    return _render("pair.html", pair=Comparison(one, other), from_other=list(from_other), names=("this", "that"))


def comparison(pair: Comparison, names: tuple[str, str]) -> str:
    """Two readings side by side, bits that differ marked."""
    return _render("pair.html", pair=pair, from_other=None, names=names)


def hits(page: Page, query: Query | None, spec: CodeSpec, picked: Sequence[Any] = (), number: int = 0) -> str:
    """Photos in a grid, with the distance of every concept where there was a query; `number` tells searches apart."""
    weights = query.weights if query is not None and query.weights is not None else (1.0,) * spec.num_concepts
    return _render("hits.html", page=page, query=query, weights=weights, spec=spec, picked=list(picked), number=number)


def groups(found: Sequence[tuple[int, Sequence[Found]]], total: int, radius: int) -> str:
    """Groups of near-duplicates: how many photos each has, and some of them."""
    return _render("groups.html", groups=found, total=total, radius=radius)


def concepts(about: Sequence[ConceptDescription], photos: int, codes: int, proves: str) -> str:
    """What each concept looks at, from so many photos and codes; and what the pictures prove."""
    return _render("concepts.html", concepts=about, photos=photos, codes=codes, proves=proves)


def message(text: str) -> str:
    """A line in place of something that is not there."""
    return _render("message.html", text=text)


def style(num_concepts: int) -> str:
    """The style sheet."""
    return _render("page.css", num_concepts=num_concepts, colours=CONCEPT_COLOURS)


def _render(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> jinja2.Environment:
    environment = html_environment(__package__)
    environment.filters |= {
        "address": thumbnail_address,
        "as_key": json.dumps,
        "bits": lambda bits: "".join("1" if bit else "0" for bit in bits),
        "data_uri": _data_uri,
        "small": lambda picture: picture.resize((CROP, CROP), Image.Resampling.LANCZOS),
        "large": lambda picture: picture.resize((STAGE, STAGE), Image.Resampling.LANCZOS),
        "line": lambda text: one_line(str(text)),
        "as_note": nothing_near_note,
    }
    environment.globals |= {"colour": _css_colour, "maps_of": _maps_of, "paler": _paler}
    return environment


def _maps_of(shown: Reading) -> list[Image.Image]:
    """For each concept where it looked."""
    return [look.overlay(concept, STAGE) for concept, look in enumerate(shown.looks)]


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _css_colour(concept: int) -> str:
    return "rgb({}, {}, {})".format(*concept_colour(concept))


def _paler(distance: int, bits: int) -> int:
    """How much of a concept's colour a field has, in percent: all where no bit differs, none from half of them on."""
    return round(100 * max(0.0, 1 - 2 * distance / bits))
