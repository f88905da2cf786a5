"""Foreign texts where they are shown: names of files, classes and models come from anybody."""

import json
import re
import unicodedata
from urllib.parse import quote

# what changes how a terminal shows the rest: control characters, and marks of the direction of writing
_UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Cs")
_MARKDOWN = re.compile(r"([\\`*\[\]|~$])")


def printable(text: str) -> str:
    r"""A text for a terminal or a log: what would not be seen is written as an escape; line breaks stay.

    Example:
        >>> printable("wren\x1b[2J")
        'wren\\x1b[2J'
    """
    return "".join(
        ascii(character)[1:-1] if character != "\n" and unicodedata.category(character) in _UNSEEN else character
        for character in text
    )


def one_line(text: str) -> str:
    """As `printable`, on one line."""
    return printable(" ".join(text.split()))


def markdown(text: str) -> str:
    r"""A text inside a line of Markdown, a table's cell or a heading: all in it stands for itself.

    Example:
        >>> markdown("<b>wren</b> | `teal`")
        '&lt;b&gt;wren&lt;/b&gt; \\| \\`teal\\`'
    """
    line = one_line(text)
    return _MARKDOWN.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def url(text: str) -> str:
    """An address inside the parentheses of a Markdown link.

    Example:
        >>> url("https://a.org/b) [c](d")
        'https://a.org/b%29%20%5Bc%5D%28d'
    """
    return quote(text, safe="/:?#&=%+,;@!", errors="replace")


def python_text(text: str) -> str:
    r"""A text as a literal of Python, in double quotes.

    Example:
        >>> python_text('a "wren"')
        '"a \\"wren\\""'
    """
    # JSON's escapes are Python's; what it does not escape, and cannot be seen, is
    return printable(json.dumps(text, ensure_ascii=False))
