"""An index, wherever it is."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.errors import HFValidationError

from ..json_files import read_object
from .base import CodeIndex
from .files import INDEX_NAME
from .hamming import HammingIndex
from .sharded import ShardedIndex

DATABASE = ("postgresql://", "postgres://")
SHARDS_NAME = "shards.json"


def open_index(
    location: str | Path | Sequence[str | Path], table: str = "concepthash_codes", mapped: bool = False
) -> CodeIndex:
    """Open an index on disk, on the Hub or in a database; or several as one, see `ShardedIndex`.

    Args:
        location: a folder, a Hub id, or `postgresql://user@host/database`; a list of these; or a file of the name
            `shards.json`, or its folder, that names the folders of shards: `{"shards": ["birds-1", "birds-2"]}`, from
            where it lies; `"."` is the index beside it.
        table: of the database.
        mapped: of folders, see `HammingIndex.load`.

    Raises:
        FileNotFoundError: if there is no index in the folder, or neither a folder nor anything on the Hub.
        ValueError: if it is damaged, or several do not go together.
    """
    indexes = [_open(where, table, mapped) for where in shard_locations(location)]
    return ShardedIndex(indexes) if len(indexes) > 1 else indexes[0]


def _open(where: str, table: str, mapped: bool) -> CodeIndex:
    """Open a single index, whatever list of shards lies beside it."""
    if where.startswith(DATABASE):
        from .postgres import PostgresIndex  # needs the extra "pgvector"

        return PostgresIndex(where, table=table)
    if Path(where).exists():
        return HammingIndex.load(where, mapped=mapped)
    try:
        return HammingIndex.from_pretrained(where)
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no index {where}: no such folder, and none that could be had from the Hub ({error})"
        ) from error


def shard_locations(location: str | Path | Sequence[str | Path]) -> list[str]:
    """Where the shards of an index are; one that is whole is its only shard.

    Args:
        location: see `open_index`.

    Raises:
        ValueError: if none is named, or the file that names them is damaged.
    """
    if not isinstance(location, str | Path):
        if not location:
            raise ValueError("no index is named: give a folder, or several")
        return [shard for each in location for shard in shard_locations(each)]
    return _named(str(location), ())


def _named(location: str, lists: tuple[Path, ...]) -> list[str]:
    """What a location stands for: its list, unless that is one of the `lists` that have led here; then, itself."""
    path = Path(location)
    if path.name != SHARDS_NAME:
        path /= SHARDS_NAME
    if not path.is_file() or path.resolve() in lists:
        return [location]
    remedy = 'it names folders, such as {"shards": ["birds-1", "birds-2"]}'
    shards = read_object(path, {"shards": list}, remedy)["shards"]
    if not shards or not all(isinstance(shard, str) and (path.parent / shard).is_dir() for shard in shards):
        raise ValueError(f"{path} should name folders that are there, found {shards}: {remedy}")
    return [each for shard in shards for each in _named(str(path.parent / shard), (*lists, path.resolve()))]


def has_index(folder: str | Path) -> bool:
    """Whether there is an index in a folder, damaged or not."""
    return (Path(folder) / INDEX_NAME).exists()
