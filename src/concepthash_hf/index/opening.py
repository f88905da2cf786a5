"""An index, wherever it is."""

from pathlib import Path

from huggingface_hub.errors import HFValidationError

from .base import CodeIndex
from .files import INDEX_NAME
from .hamming import HammingIndex

DATABASE = ("postgresql://", "postgres://")


def open_index(location: str, table: str = "concepthash_codes", mapped: bool = False) -> CodeIndex:
    """Open an index on disk, on the Hub or in a database.

    Args:
        location: a folder, a Hub id, or `postgresql://user@host/database`.
        table: of the database.
        mapped: of a folder, see `HammingIndex.load`.

    Raises:
        FileNotFoundError: if there is no index in the folder, or neither a folder nor anything on the Hub.
        ValueError: if it is damaged.
    """
    if location.startswith(DATABASE):
        from .postgres import PostgresIndex  # needs the extra "pgvector"

        return PostgresIndex(location, table=table)
    if Path(location).exists():
        return HammingIndex.load(location, mapped=mapped)
    try:
        return HammingIndex.from_pretrained(location)
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no index {location}: no such folder, and none that could be had from the Hub ({error})"
        ) from error


def has_index(folder: str | Path) -> bool:
    """Whether there is an index in a folder, damaged or not."""
    return (Path(folder) / INDEX_NAME).exists()
