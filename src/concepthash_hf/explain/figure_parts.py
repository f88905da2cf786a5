"""What every figure is made of: colours, type, headings and bits, with PIL alone."""

import numpy as np
from PIL import Image, ImageDraw

from ..lettering import text_length, write_text

RGB = tuple[int, int, int]

# Okabe and Ito's palette, told apart under every common colour blindness; concepts beyond it start over
CONCEPT_COLOURS: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
# figures bring their own white, so that they read the same on a dark page
PAPER, INK, MUTED, FAINT = (255, 255, 255), (40, 40, 40), (100, 100, 100), (190, 190, 190)
GAP, MARGIN = 6, 14
BITS_A_ROW = 16


def concept_colour(concept: int) -> RGB:
    """The colour of a concept, counted from 0."""
    return CONCEPT_COLOURS[concept % len(CONCEPT_COLOURS)]


def zeros_and_ones(bits: np.ndarray) -> str:
    """Bits as text, such as "01101001"."""
    return "".join("1" if bit else "0" for bit in bits)


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, size: int = 13, ink: RGB = INK
) -> None:
    """Write one line, cut off with dots where it is wider than `width` pixels."""
    line = " ".join(text.split())
    if text_length(line, size) > width:
        while line and text_length(line + "...", size) > width:
            line = line[:-1]
        line = line.rstrip() + "..."
    write_text(draw, place, line, size, ink)


def draw_concept_heading(draw: ImageDraw.ImageDraw, place: tuple[int, int], concept: int, width: int) -> None:
    """A square of the concept's colour and its number, counted from 1."""
    left, top = place
    draw.rectangle((left, top + 3, left + 11, top + 14), fill=concept_colour(concept))
    draw_text(draw, (left + 18, top), f"concept {concept + 1}", width - 18, size=14)


def bit_strip(bits: np.ndarray, concept: int, width: int, differing: np.ndarray | None = None) -> Image.Image:
    """Draw bits as squares, 16 at most in a row: full ones are set, hollow ones are not.

    Args:
        bits: booleans `(n,)`.
        concept: whose colour they take.
        width: of the picture, in pixels.
        differing: booleans `(n,)`, bits to underline.

    Returns:
        An RGB picture on white, `bit_strip_height(n, width)` high.
    """
    side = _bit_side(len(bits), width)
    strip = Image.new("RGB", (width, bit_strip_height(len(bits), width)), PAPER)
    draw = ImageDraw.Draw(strip)
    for position, bit in enumerate(bits):
        row, column = divmod(position, BITS_A_ROW)
        left, top = column * side, row * (side + 4)
        square = (left, top, left + side - 3, top + side - 3)
        draw.rectangle(square, fill=concept_colour(concept) if bit else None, outline=MUTED if bit else FAINT)
        if differing is not None and differing[position]:
            draw.rectangle((left, top + side - 1, left + side - 3, top + side + 1), fill=INK)
    return strip


def bit_strip_height(num_bits: int, width: int) -> int:
    """Height of `bit_strip`, in pixels."""
    return -(-num_bits // BITS_A_ROW) * (_bit_side(num_bits, width) + 4)


def outline(picture: Image.Image, box: tuple[int, int, int, int], colour: RGB) -> Image.Image:
    """Frame a part of a picture (left, top, right, bottom in pixels), in a colour with a dark edge."""
    framed = picture.copy()
    left, top, right, bottom = box
    draw = ImageDraw.Draw(framed)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=INK, width=4)
    draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=colour, width=2)
    return framed


def _bit_side(num_bits: int, width: int) -> int:
    return min(16, width // min(num_bits, BITS_A_ROW))
