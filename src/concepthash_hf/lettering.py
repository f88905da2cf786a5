"""Text in any script in a picture: a font that has the letters, else their transcription; never empty boxes."""

import unicodedata
from collections.abc import Iterator
from functools import cache

from anyascii import anyascii
from PIL import ImageDraw, ImageFont

Ink = tuple[int, int, int]

# looked for by name where the system keeps its fonts, which PIL knows; the first that has a letter writes it
FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "segoeui.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "NotoSansSC-Regular.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "AppleSDGothicNeo.ttc",
    "malgun.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "Lohit-Devanagari.ttf",
    "Kohinoor.ttc",
    "Nirmala.ttc",
    "Nirmala.ttf",
    "NotoEmoji-Regular.ttf",
    "seguisym.ttf",
    "seguiemj.ttf",
    "Apple Symbols.ttf",
)
_NO_CHARACTER = "\U0010ffff"
_PROBE_SIZE = 20


def text_length(text: str, size: int) -> float:
    """The width of a line, in pixels."""
    return sum(font(name, size).getlength(part) for part, name in _runs(text))


def write_text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, ink: Ink) -> None:
    """Write a line, each letter in the first font that has it.

    Args:
        draw: of the picture.
        place: left and top, in pixels.
        text: without line breaks.
        size: of the letters, in pixels.
        ink: their colour.
    """
    left, top = place
    baseline = top + font(None, size).getmetrics()[0]
    for part, name in _runs(text):
        face = font(name, size)
        draw.text((left, baseline), part, ink, face, anchor="ls")
        left += face.getlength(part)


def legible(text: str) -> str:
    """The text with a transcription in place of letters that no font has.

    Example:
        >>> legible("wren, жук")
        'wren, жук'
    """
    return "".join(part for part, _ in _runs(text))


def font_files() -> list[str]:
    """Paths of the fonts that are there."""
    return [str(font(name, _PROBE_SIZE).path) for name in _found()]


@cache
def font(name: str | None, size: int) -> ImageFont.FreeTypeFont:
    """A font by its file; None is PIL's own."""
    if name is None:
        own = ImageFont.load_default(size=size)
        assert isinstance(own, ImageFont.FreeTypeFont)  # PIL gives a bitmap only where it was built without FreeType
        return own
    return ImageFont.truetype(name, size)


def _runs(text: str) -> Iterator[tuple[str, str | None]]:
    """Parts of a text and the font that has all letters of each: one font if there is one, else by letter."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cc")
    for name in (None, *_found()):
        if all(_has(name, letter) for letter in text):
            yield text, name
            return
    part, current = "", None
    for letter in text:
        # marks, joiners and selectors are never without the letter before them
        follows = part != "" and unicodedata.category(letter) in ("Mn", "Mc", "Me", "Cf")
        name = current if follows else _font_of(letter)
        written = letter if _has(name, letter) else anyascii(letter) or ("" if follows else "?")
        if part and name != current:
            yield part, current
            part = ""
        part, current = part + written, name
    if part:
        yield part, current


@cache
def _font_of(letter: str) -> str | None:
    """The first font that has a letter; PIL's own, for its transcription, if none has it."""
    return next((name for name in (None, *_found()) if _has(name, letter)), None)


@cache
def _found() -> tuple[str, ...]:
    return tuple(name for name in FONT_FILES if _is_there(name))


def _is_there(name: str) -> bool:
    try:
        font(name, _PROBE_SIZE)
    except OSError:
        return False
    return True


@cache
def _has(name: str | None, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that does not exist."""
    if letter.isspace():
        return True
    drawn, missing = _drawn(name, letter), _drawn(name, _NO_CHARACTER)
    return drawn != missing and any(drawn[1])


@cache
def _drawn(name: str | None, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = _unshaped(name).getmask(letter)
    return mask.size, bytes(mask)


@cache
def _unshaped(name: str | None) -> ImageFont.FreeTypeFont:
    """A font that draws letter for letter; shaping would put a circle below a lonely mark."""
    return font(name, _PROBE_SIZE).font_variant(layout_engine=ImageFont.Layout.BASIC)
