"""What people fill into the tables on the pages of the metrics."""

from collections.abc import Sequence
from typing import Any

_EMPTY = (None, "")


def filled_columns(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> list[list[Any]]:
    """Take the columns of a table, without its empty rows.

    Args:
        rows: as gradio gives them, a new row with None or empty texts in its cells.
        names: of the columns.

    Raises:
        ValueError: if no row is filled in, or one is in part; says which.

    Example:
        >>> filled_columns([["[1]", 0], ["", None], ["[3]", 1]], ["predictions", "references"])
        [['[1]', '[3]'], [0, 1]]
    """
    filled = []
    for number, row in enumerate(rows, start=1):
        empty = [name for name, cell in zip(names, row, strict=False) if cell in _EMPTY]
        if len(row) == 0 or len(empty) == len(names):
            continue
        if empty:
            raise ValueError(
                f"row {number} of the table has no {' and no '.join(empty)}: fill it in, or empty the row"
            )
        filled.append(row)
    if not filled:
        raise ValueError(f"the table is empty: fill in {', '.join(names)} of some items")
    return [list(column) for column in zip(*filled, strict=True)]
