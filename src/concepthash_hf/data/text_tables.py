"""CSV and JSON files as people and their programs write them: columns of values, or an error with file and line."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Columns = dict[str, list[Any]]

_SEPARATORS = (",", ";", "\t")  # where the language writes 1,5 for a half, spreadsheets write ; between cells
_LARGEST_CELL = 2**20


def read_csv(file: Path) -> Columns:
    """Read a CSV or TSV file, every cell as text: 007 is not 7, and a class may be called "None".

    Commas or semicolons are told apart by the header (tabs in `.tsv`); UTF-8 with or without a byte order mark, and
    UTF-16 with one, are read. A first column without a name, such as pandas' `to_csv` writes, and empty columns
    without a name are left out.

    Args:
        file: the file.

    Returns:
        Cells by column.

    Raises:
        ValueError: with file and line, for another encoding, a row of another length than the header, a quote that is
            not closed, columns of one name, or no rows.
    """
    lines = list(io.StringIO(_text(file), newline=""))
    separator = "\t" if file.suffix.lower() == ".tsv" else _separator(lines)
    rows = _rows(file, lines, separator)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    if not any(header):
        raise ValueError(f"{file} is empty: expected a header such as file_name,label and a row a photo")
    if repeated := sorted({name for name in header if name and header.count(name) > 1}):
        raise ValueError(f"{file}: several columns are called {repeated[0]!r}; give each a name of its own")
    body = [_fitted(file, number, cells, header) for number, cells in rows]
    if not body:
        raise ValueError(f"{file} has a header, but no rows")
    columns = dict(enumerate(zip(*body, strict=True)))
    for place, name in enumerate(header):
        if not name and place > 0 and any(columns[place]):
            raise ValueError(
                f"{file}: column {place + 1} has no name in the header, but cells such as {columns[place][0]!r}"
            )
    return {name: list(columns[place]) for place, name in enumerate(header) if name}


def read_json(file: Path) -> Columns:
    """Read a file with a JSON object a line, or a list of objects.

    Args:
        file: the file.

    Returns:
        Values by column, None where an object lacks the key.

    Raises:
        ValueError: with file and line, for what is no JSON object, or no rows.
    """
    text = _text(file)
    rows = _listed_objects(file, text) if text.lstrip().startswith("[") else list(_objects(file, text))
    if not rows:
        raise ValueError(f"{file} has no rows: expected a JSON object for each photo")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _text(file: Path) -> str:
    content = file.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file}, line {line}: not UTF-8 (byte {content[error.start]:#04x}); which letters are meant cannot be "
            'known, save the file as UTF-8 (spreadsheets call it "CSV UTF-8")'
        ) from None


def _separator(lines: list[str]) -> str:
    header = next((line for line in lines if line.strip()), "")
    return max(_SEPARATORS, key=lambda separator: len(next(csv.reader([header], delimiter=separator), [])))


def _rows(file: Path, lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of the line it begins in."""
    if csv.field_size_limit() < _LARGEST_CELL:
        csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t", strict=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {begins}: {error}; is a quote not closed, or not doubled inside?") from None


def _fitted(file: Path, number: int, cells: list[str], header: list[str]) -> list[str]:
    """A row as long as the header: empty cells beyond it are dropped, as spreadsheets leave them."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        raise ValueError(
            f"{file}, line {number}: {len(cells)} cells, but the header has {len(header)} columns "
            f"({', '.join(header)}); put cells that have a separator in them into quotes"
        )
    return cells[: len(header)]


def _listed_objects(file: Path, text: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: expected a list of JSON objects: {error}") from None
    if wrong := [row for row in rows if not isinstance(row, dict)]:
        raise ValueError(f"{file}: expected a list of JSON objects, one of them is {str(wrong[0])[:80]!r}")
    return rows


def _objects(file: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{file}, line {number}: expected a JSON object, got {line.strip()[:80]!r}")
        yield row
