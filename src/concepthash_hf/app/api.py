"""The interface for programs: photos and words in, codes, hits and explanations out, as JSON."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from .._version import __version__
from ..codes import split_sub_codes, unpack_bits
from ..explain.crops import attended_box
from ..explain.figure_parts import zeros_and_ones
from ..index import CodeSpec
from .batching import BusyError
from .decoding import read_upload
from .explorer import MOST_HITS, Explorer, Found, Query
from .photos import id_of, thumbnail_address
from .readings import Comparison, Reading

_ABOUT = (
    "Photos as binary codes of readable parts: hash them, search them, and see why two match. Concepts count from 0."
)
Id = int | str


class Asked(BaseModel):
    """A photo, words, or a photo of the collection: one of the three."""

    model_config = ConfigDict(extra="forbid")

    photo: Base64Bytes | None = Field(None, description="A JPEG, PNG or WebP file, in base64.")
    words: str | None = Field(None, description="Such as the name of a class.", examples=["red-tailed hawk"])
    id: Id | None = Field(None, description="Of a photo of the collection.")

    @model_validator(mode="after")
    def _is_one(self) -> "Asked":
        if sum(value is not None for value in (self.photo, self.words, self.id)) != 1:
            raise ValueError("give one of photo, words and id")
        return self


class Search(Asked):
    """What to search with, and how."""

    k: int = Field(10, ge=1, le=MOST_HITS, description="Hits.")
    offset: int = Field(0, ge=0, lt=MOST_HITS, description="Hits to pass over.")
    concept_weights: list[float] | None = Field(None, description="What a differing bit of each concept counts.")
    where: dict[str, Id | float | bool] = Field(default_factory=dict, description="Values that metadata must have.")
    other: Asked | None = Field(None, description="A second query, of which some concepts are taken.")
    concepts_of_other: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list, description="Which.")

    @model_validator(mode="after")
    def _is_mixed_or_not(self) -> "Search":
        if (self.other is not None) != bool(self.concepts_of_other):
            raise ValueError("give other and concepts_of_other together: a second query, and which concepts are its")
        return self


class Explain(Asked):
    """What to explain, and what to compare it with."""

    other: Asked | None = None


class Code(BaseModel):
    """A code, as bytes and as bits by concept."""

    code: list[int]
    sub_codes: list[str] = Field(examples=[["0110", "1110"]])


class Hit(BaseModel):
    """A photo that was found."""

    id: Id
    caption: str
    distance: float
    concept_distances: list[int]
    metadata: dict[str, Any]
    thumbnail: str = Field(description="Where a small picture of it is.")


class Hits(BaseModel):
    """What was found, nearest first."""

    query: str
    among: int = Field(description="How many photos were searched.")
    nothing_near: bool | None = Field(
        description="Whether no photo is closer to the words than a stranger would be; None of photos, with concept "
        "weights or a filter, and if unknown."
    )
    hits: list[Hit]


class Look(BaseModel):
    """What one concept makes of a photo."""

    concept: int
    sub_code: str
    attention: list[list[float]] | None = Field(description="By patch, rows from the top; None for words.")
    box: tuple[float, float, float, float] | None = Field(
        description="Where it looks most: left, top, right, bottom, in shares of the square that the model sees."
    )


class Explanation(Code):
    """Why a photo has its code."""

    name: str
    concepts: list[Look]


class Explained(BaseModel):
    """Why a photo has its code, and why another is near or far."""

    this: Explanation
    other: Explanation | None = None
    distance: int | None = None
    concept_distances: list[int] | None = None
    proves: str


class Health(BaseModel):
    """What is served, and whether it keeps up."""

    status: str
    photos: int
    bits: int
    concepts: int
    model: str
    waiting: int = Field(description="Photos that wait for the model.")


def make_api(explorer: Explorer) -> FastAPI:
    """Build the interface.

    Args:
        explorer: the collection.
    """
    app = FastAPI(title="concepthash_hf", description=_ABOUT, version=__version__)
    spec = explorer.spec

    @app.exception_handler(BusyError)
    def is_busy(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 503, {"retry-after": "2"})

    @app.exception_handler(RequestValidationError)
    def is_wrong(request: Request, error: RequestValidationError) -> Response:
        # without the request itself, which may be a photo
        wrong = [{"loc": each["loc"], "msg": each["msg"]} for each in error.errors()]
        return JSONResponse({"detail": wrong}, 422)

    @app.get("/health")
    def health() -> Health:
        """Whether the server answers, and what it serves."""
        return Health(
            status="ok",
            photos=len(explorer.index),
            bits=spec.num_bits,
            concepts=spec.num_concepts,
            model=spec.describe_model(),
            waiting=explorer.waiting,
        )

    @app.post("/encode")
    def encode(asked: Asked) -> Code:
        """Hash a photo or words."""
        return _code(_reading(asked).code, spec)

    @app.post("/search")
    def search(asked: Search) -> Hits:
        """Find the photos nearest to a photo or to words."""
        reading = _reading(asked)
        if asked.other is not None:
            chosen = set(asked.concepts_of_other)
            if not chosen <= set(range(spec.num_concepts)):
                raise HTTPException(422, f"concepts are numbered from 0 to {spec.num_concepts - 1}, got {chosen}")
            other = _reading(asked.other)
            reading = reading.mixed(other, [concept in chosen for concept in range(spec.num_concepts)])
        weights = None if asked.concept_weights is None else tuple(asked.concept_weights)
        number = min(asked.k, MOST_HITS - asked.offset)
        page = _valid(lambda: explorer.search(Query(reading, weights, asked.where), asked.offset, number))
        return Hits(
            query=reading.name,
            among=page.among,
            nothing_near=page.nothing_near,
            hits=[_hit(found) for found in page.found],
        )

    @app.post("/explain")
    def explain(asked: Explain) -> Explained:
        """Say where each concept looks, and which agree with those of another photo."""
        _valid(explorer.index.hasher.check_has_concepts)
        one = _reading(asked, with_looks=True)
        other = None if asked.other is None else _reading(asked.other, with_looks=True)
        pair = None if other is None else Comparison(one, other)
        return Explained(
            this=_explanation(one),
            other=None if other is None else _explanation(other),
            distance=None if pair is None else pair.distance,
            concept_distances=None if pair is None else pair.distances,
            proves=explorer.proves,
        )

    @app.get("/thumbnail", response_class=FileResponse)
    def thumbnail(id: str) -> Response:
        """A small square picture of a photo of the collection; `id` as JSON."""
        try:
            file = explorer.photos.thumbnail(id_of(id))
        except (ValueError, FileNotFoundError):
            raise HTTPException(404, "there is no such photo") from None
        return FileResponse(
            file,
            media_type="image/jpeg",
            headers={"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"},
        )

    def _reading(asked: Asked, with_looks: bool = False) -> Reading:
        if asked.words is not None:
            words = asked.words
            return _valid(lambda: explorer.read_words(words))
        if asked.id is not None:
            id = asked.id
            if with_looks:
                return _valid(lambda: explorer.read_item(id))
            return _valid(lambda: explorer.indexed(id))
        read = explorer.read_photo if with_looks else explorer.hashed
        photo = asked.photo or b""
        return _valid(lambda: read(lambda: read_upload(photo), "photo"))

    return app


def _valid(function: Callable[[], Any]) -> Any:
    """What is wrong with a request is the caller's to know."""
    try:
        return function()
    except (ValueError, FileNotFoundError) as error:
        raise HTTPException(422, str(error)) from None


def _code(code: np.ndarray, spec: CodeSpec) -> Code:
    sub_codes = split_sub_codes(unpack_bits(code, spec.num_bits), spec.num_concepts)
    return Code(code=code.tolist(), sub_codes=[zeros_and_ones(bits) for bits in sub_codes])


def _hit(found: Found) -> Hit:
    return Hit(
        id=found.id,
        caption=found.caption,
        distance=found.distance or 0.0,
        concept_distances=list(found.concept_distances),
        metadata=dict(found.row),
        thumbnail=thumbnail_address(found.id),
    )


def _explanation(reading: Reading) -> Explanation:
    code = _code(reading.code, reading.spec)
    maps = [look.concepts[concept].attention for concept, look in enumerate(reading.looks)]
    looks = [
        Look(
            concept=concept,
            sub_code=sub_code,
            attention=np.round(maps[concept].astype(float), 5).tolist() if maps else None,
            box=tuple(side / 1000 for side in attended_box(maps[concept], 1000)) if maps else None,  # type: ignore[arg-type]
        )
        for concept, sub_code in enumerate(code.sub_codes)
    ]
    return Explanation(name=reading.name, concepts=looks, **code.model_dump())
