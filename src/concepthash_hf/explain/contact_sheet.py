"""What a search has found, as a picture: the query at the left, hits with their distances concept by concept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ..lettering import text_length, write_text
from .figure_parts import FAINT, GAP, INK, MARGIN, MUTED, PAPER, RGB, concept_colour, draw_text

_CHIP, _LINE = 18, 18  # heights in pixels
_BLANK = (240, 240, 240)


@dataclass(frozen=True)
class Hit:
    """One item that was found.

    Attributes:
        image: its photo, or None if it is not at hand.
        caption: a line below it.
        distance: to the query, in bits, weighted or not.
        concept_distances: differing bits of each concept.
    """

    image: Image.Image | None
    caption: str
    distance: float
    concept_distances: Sequence[int]


@dataclass(frozen=True)
class Found:
    """A query and its hits, nearest first.

    Attributes:
        query: a photo, or words.
        caption: a line below it.
        hits: what was found.
    """

    query: Image.Image | str
    caption: str
    hits: Sequence[Hit]


def contact_sheet(
    searches: Sequence[Found],
    bits_per_concept: int,
    concept_weights: Sequence[float] | None = None,
    columns: int = 5,
    tile: int = 160,
) -> Image.Image:
    """Draw searches below each other, hits in rows at the right of their query.

    Below a hit is a field for each concept with the number of bits that differ, in the colour of the concept: full
    where the sub-codes are the same, paler the more bits differ, white from half of them on, where they have no more
    in common than by chance. Fields of so many concepts that no number has room are colour alone.

    Args:
        searches: with at least one concept in every hit.
        bits_per_concept: length of a sub-code.
        concept_weights: of the search, if it was weighted; fields of concepts without weight stay white.
        columns: hits in a row, at most.
        tile: width and height of a photo, in pixels.

    Returns:
        An RGB picture on white.

    Raises:
        ValueError: if there is no hit at all.
    """
    if not any(found.hits for found in searches):
        raise ValueError("there is nothing to show: no search has found anything")
    num_concepts = max(len(hit.concept_distances) for found in searches for hit in found.hits)
    weights = np.ones(num_concepts) if concept_weights is None else np.asarray(concept_weights)
    most = max(len(found.hits) for found in searches)
    columns = -(-most // -(-most // columns))  # as few as the same number of rows takes
    sheets = [_draw_search(found, bits_per_concept, weights, columns, tile) for found in searches]
    legend = _draw_legend(bits_per_concept, weights, sheets[0].width)
    page = Image.new(
        "RGB",
        (sheets[0].width + 2 * MARGIN, sum(part.height for part in (legend, *sheets)) + MARGIN * (2 + len(sheets))),
        PAPER,
    )
    draw, top = ImageDraw.Draw(page), MARGIN
    for number, part in enumerate((legend, *sheets)):
        if number > 1:
            draw.line((MARGIN, top - MARGIN // 2, page.width - MARGIN, top - MARGIN // 2), FAINT)
        page.paste(part, (MARGIN, top))
        top += part.height + MARGIN
    return page


def _draw_search(found: Found, bits: int, weights: np.ndarray, columns: int, tile: int) -> Image.Image:
    cell = tile + 2 * _LINE + _CHIP + 2 * GAP
    rows = max(1, -(-len(found.hits) // columns))
    left = tile + 3 * MARGIN  # of the hits
    sheet = Image.new("RGB", (left + columns * (tile + GAP) - GAP, rows * cell - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(_query_tile(found.query, tile), (0, 0))
    draw_text(draw, (0, tile + 3), found.caption, tile)
    rule = tile + 3 * MARGIN // 2
    draw.line((rule, 0, rule, sheet.height - 1), FAINT)
    for position, hit in enumerate(found.hits):
        row, column = divmod(position, columns)
        x, y = left + column * (tile + GAP), row * cell
        sheet.paste(_photo_tile(hit.image, tile), (x, y))
        draw_text(draw, (x, y + tile + 3), hit.caption, tile)
        number = f"{position + 1}"
        draw_text(draw, (x, y + tile + 3 + _LINE), f"distance {hit.distance:g}", tile, size=12, ink=MUTED)
        width = round(text_length(number, 12))
        draw_text(draw, (x + tile - width, y + tile + 3 + _LINE), number, tile, size=12, ink=MUTED)
        chips = _draw_chips(hit.concept_distances, bits, weights, tile)
        sheet.paste(chips, (x, y + tile + 3 + 2 * _LINE))
    return sheet


def _draw_chips(distances: Sequence[int], bits: int, weights: np.ndarray, width: int) -> Image.Image:
    """A field for each concept, with its number of differing bits where there is room for it."""
    strip = Image.new("RGB", (width, _CHIP), PAPER)
    draw = ImageDraw.Draw(strip)
    has_room = width + 2 >= len(distances) * (text_length(str(bits), 12) + 3)
    gap = 2 if has_room else 0
    edges = np.linspace(0, width + gap, len(distances) + 1).round().astype(int).tolist()
    for concept, distance in enumerate(distances):
        left, used = edges[concept], bool(weights[concept])
        box = (left, 0, max(left, edges[concept + 1] - gap - 1), _CHIP - 1)
        colour = _paler(concept_colour(concept), 2 * distance / bits) if used else PAPER
        draw.rectangle(box, fill=colour, outline=FAINT if has_room else None)
        if has_room:
            text = str(distance)
            place = ((box[0] + box[2] + 1 - text_length(text, 12)) / 2, 2)
            write_text(draw, place, text, 12, INK if used else MUTED)
    return strip


def _draw_legend(bits: int, weights: np.ndarray, width: int) -> Image.Image:
    """What the fields mean."""
    legend = Image.new("RGB", (width, 2 * _LINE), PAPER)
    draw = ImageDraw.Draw(legend)
    x = 0
    for concept, weight in enumerate(weights.tolist()):
        counts = {0: " (not searched by)", 1: ""}.get(weight, f" (weight {weight:g})")
        name = f"concept {concept + 1}{counts}"
        length = round(text_length(name, 13)) + 36
        if x + length > width:
            break
        draw.rectangle((x, 3, x + 11, 14), fill=concept_colour(concept) if weight else PAPER, outline=FAINT)
        draw_text(draw, (x + 18, 0), name, length)
        x += length
    explanation = f"bits that differ, of {bits} a concept: full colour where none does, white from {bits / 2:g} on"
    draw_text(draw, (0, _LINE + 1), explanation, width, size=12, ink=MUTED)
    return legend


def _query_tile(query: Image.Image | str, tile: int) -> Image.Image:
    return _words_tile(query, tile) if isinstance(query, str) else _photo_tile(query, tile)


def _photo_tile(image: Image.Image | None, tile: int) -> Image.Image:
    if image is None:
        return _words_tile("no picture", tile, MUTED)
    return ImageOps.fit(image.convert("RGB"), (tile, tile), Image.Resampling.LANCZOS)


def _words_tile(words: str, tile: int, ink: RGB = INK) -> Image.Image:
    """Words in the middle of a grey square, a line for as many as fit."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_length(longer, 16) > tile - 2 * GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    picture = Image.new("RGB", (tile, tile), _BLANK)
    draw = ImageDraw.Draw(picture)
    lines = lines[: tile // 22]
    for number, line in enumerate(lines):
        width = min(round(text_length(line, 16)), tile - 2 * GAP)
        place = ((tile - width) // 2, round((tile - 22 * len(lines)) / 2 + 22 * number))
        draw_text(draw, place, line, tile - 2 * GAP, size=16, ink=ink)
    return picture


def _paler(colour: RGB, share: float) -> RGB:
    """A share of the way from a colour to white."""
    red, green, blue = (round(channel + (255 - channel) * min(share, 1)) for channel in colour)
    return red, green, blue
