"""Names in any script, in pictures."""

import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from concepthash_hf import lettering
from concepthash_hf.lettering import _has, _runs, font, font_files, legible, text_length, write_text


def written(text, size=16):
    picture = Image.new("RGB", (400, 40), "white")
    write_text(ImageDraw.Draw(picture), (4, 4), text, size, (0, 0, 0))
    return np.asarray(picture.convert("L")) < 128


def test_plain_text_is_written_as_pil_does():
    expected = Image.new("RGB", (400, 40), "white")
    ImageDraw.Draw(expected).text((4, 4), "great tit", (0, 0, 0), font(None, 16))
    assert (written("great tit") == (np.asarray(expected.convert("L")) < 128)).all()
    assert text_length("great tit", 16) == font(None, 16).getlength("great tit")


@given(st.text(st.characters(exclude_categories=("Cs", "Co", "Cn")), max_size=12))
def test_no_letter_is_a_box(text):
    """Whatever is written is written in a font that has it."""
    for part, name in _runs(text):
        assert all(_has(name, letter) for letter in part)
    assert text_length(text, 13) == pytest.approx(sum(font(name, 13).getlength(part) for part, name in _runs(text)))


@pytest.mark.parametrize(
    ("name", "transcribed"),
    [
        ("\u9e6a\u9e69", "JiaoLiao"),
        ("\u0915\u0920\u092b\u094b\u0921\u093c\u0935\u093e", "kthphod'va"),
        ("\U0001f426 wren", ":bird: wren"),
        ("\u043a\u0440\u0430\u043f\u0438\u0432\u043d\u0438\u043a", "krapivnik"),
        ("M\u00e9sange", "Mesange"),
        ("Me\u0301sange", "Mesange"),
    ],
)
def test_names_are_written_in_their_letters_or_transcribed(name, transcribed):
    """Which of the two depends on the fonts of the machine."""
    letters = unicodedata.normalize("NFC", name)
    is_there = [any(_has(face, letter) for face in (None, *font_files())) for letter in letters]
    if all(is_there):
        assert legible(name) == letters
    elif not any(there for letter, there in zip(letters, is_there, strict=True) if not letter.isascii()):
        assert legible(name) == transcribed
    assert written(name).sum() > 20


def test_without_other_fonts_names_are_transcribed(monkeypatch):
    monkeypatch.setattr(lettering, "FONT_FILES", ())
    for cached in (lettering._found, lettering._font_of):
        cached.cache_clear()
    try:
        assert legible("\u9e6a\u9e69 wren") == "JiaoLiao wren"
    finally:
        monkeypatch.undo()
        for cached in (lettering._found, lettering._font_of):
            cached.cache_clear()


def test_line_breaks_and_control_characters_are_left_out():
    assert legible("great\x07 tit") == "great tit"


SQUARE = """
import numpy as np
from PIL import Image, ImageDraw
from concepthash_hf.lettering import font_files, legible, write_text
picture = Image.new("L", (60, 40), 255)
write_text(ImageDraw.Draw(picture), (4, 4), "\\u9e6a", 20, 0)
print(legible("\\u9e6a wren") == "\\u9e6a wren", int((np.asarray(picture) < 128).sum()), font_files()[-1])
"""


def test_a_font_of_the_system_writes_what_it_has(tmp_path):
    """A font that has one Chinese letter, drawn as a square of 16 x 16 at 20 pixels."""
    pen = TTGlyphPen(None)
    for number, corner in enumerate([(100, 0), (100, 800), (900, 800), (900, 0)]):
        pen.moveTo(corner) if number == 0 else pen.lineTo(corner)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "wren"])
    builder.setupCharacterMap({0x9E6A: "wren"})
    builder.setupGlyf({".notdef": empty, "wren": square})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "wren": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Noto Sans SC", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    (tmp_path / "fonts").mkdir()
    builder.save(tmp_path / "fonts" / "NotoSansSC-Regular.ttf")
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", SQUARE], capture_output=True, text=True, env=environment, check=True)
    is_written, pixels, file = ran.stdout.split()
    assert is_written == "True" and int(pixels) == pytest.approx(256, abs=40) and file.endswith("SC-Regular.ttf")
