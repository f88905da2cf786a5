"""A table for people to read, and how its cells are written."""

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Numbers to show.

    Attributes:
        title: of the table.
        columns: names of the columns, the first of them for what the rows are.
        rows: the cells, texts or numbers; None where there is no number.
        note: how to read it: definition, chance level.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def numbered(name: str, number: int) -> list[str]:
    """Names such as "concept 1", "concept 2", ..."""
    return [f"{name} {position + 1}" for position in range(number)]


def shown_ratio(value: float | None) -> str:
    """A ratio in two decimals, a dash where it is not defined."""
    return "–" if value is None else f"{value:.2f}"
