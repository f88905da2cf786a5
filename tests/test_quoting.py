"""Foreign texts where they are shown."""

import ast
import doctest
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from concepthash_hf import quoting
from concepthash_hf.quoting import markdown, printable, python_text, url

TEXTS = st.text(st.characters(codec=None), max_size=40)  # lone surrogates too: file names may have them


def test_examples_in_docstrings():
    assert doctest.testmod(quoting).failed == 0


@given(TEXTS)
def test_nothing_unseen_is_printed(text):
    shown = printable(text)
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs") for character in shown.replace("\n", ""))
    shown.encode()
    if text.isprintable():
        assert shown == text


@given(TEXTS)
def test_a_literal_is_the_text(text):
    literal = python_text(text)
    assert ast.literal_eval(literal) == text
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in literal)


@given(TEXTS)
def test_markdown_is_one_line_without_html(text):
    shown = markdown(text)
    assert not set("<>\n\r") & set(shown)
    assert "|" not in shown.replace("\\|", "")


@given(TEXTS.filter(lambda text: not any(0xD800 <= ord(character) <= 0xDFFF for character in text)))
def test_an_address_ends_where_it_should(text):
    assert not set(" \n\t()<>\"'") & set(url(text))
