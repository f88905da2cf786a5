"""An index as a folder: a JSON file that names, counts and checks the data files beside it.

The data files bear their checksum in their name, so a new version never touches those of the old one; replacing the
JSON file, in one step, is what makes it the index. Whatever interrupts the writing, the folder holds one whole index.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

INDEX_NAME = "index.json"
FORMAT_VERSION = 1
DATA_PATTERNS = ("codes-*.safetensors", "rows-*.parquet")
CODES_PER_BLOCK = 2**20


def write_index(folder: Path, header: dict[str, Any], tensors: dict[str, np.ndarray], rows: pa.Table) -> None:
    """Write an index, in place of the one that is there.

    Args:
        folder: made if it is not there; files of other names stay.
        header: what the JSON file says besides.
        tensors: `codes` and whatever goes with them.
        rows: ids and metadata.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "codes": _write_data(folder, "codes", ".safetensors", lambda path: save_file(tensors, path)),
        "rows": _write_data(folder, "rows", ".parquet", lambda path: pq.write_table(rows, path)),
    }
    content = {"format_version": FORMAT_VERSION, **header, "files": files}
    with _replacing(folder / INDEX_NAME) as path:
        path.write_text(json.dumps(content, indent=2) + "\n")
    current = {entry["name"] for entry in files.values()}
    for pattern in DATA_PATTERNS:
        for path in folder.glob(pattern):
            if path.name not in current:
                path.unlink()


def read_header(folder: Path) -> dict[str, Any]:
    """Read the JSON file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged or of a version that this package does not know.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"no index in {folder}: it has no {INDEX_NAME}; write one with HammingIndex.save")
    try:
        header = json.loads(path.read_text())
        version = header["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): fetch or save the index again") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version!r}, this package reads {FORMAT_VERSION}: update concepthash_hf"
        )
    return header


def open_data(folder: Path, header: dict[str, Any]) -> tuple[Any, pa.Table]:
    """Open the data files of an index after checking them byte by byte.

    Returns:
        The safetensors file, to read blocks of its tensors from, and the rows.

    Raises:
        ValueError: if one is missing or differs from what was written.
    """
    try:
        codes, rows = (_check_data(folder, header["files"][kind]) for kind in ("codes", "rows"))
        tensors, table = safe_open(codes, framework="numpy"), pq.read_table(rows).combine_chunks()
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX_NAME} is damaged: it lacks {error}; save the index again") from None
    except (SafetensorError, pa.ArrowException) as error:
        raise ValueError(f"the index in {folder} cannot be read ({error}): save it again") from None
    pa.default_memory_pool().release_unused()  # arrow would keep what reading took
    return tensors, table


def read_blocks(tensors: Any, name: str) -> Iterator[np.ndarray]:
    """The rows of a tensor, some at a time."""
    values = tensors.get_slice(name)
    length = values.get_shape()[0]
    for start in range(0, length, CODES_PER_BLOCK):
        yield values[start : min(start + CODES_PER_BLOCK, length)]


def _write_data(folder: Path, kind: str, suffix: str, write: Callable[[Path], Any]) -> dict[str, Any]:
    part = folder / f"{kind}.part"
    try:
        write(part)
        checksum = _sha256(part)
        path = folder / f"{kind}-{checksum[:16]}{suffix}"
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": checksum}


def _check_data(folder: Path, entry: dict[str, Any]) -> Path:
    path = folder / Path(entry["name"]).name
    if not path.is_file():
        raise ValueError(f"the index in {folder} lacks its file {path.name}: copy the folder as a whole")
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path} is damaged: {path.stat().st_size} bytes instead of {entry['bytes']}; copy it again")
    if _sha256(path) != entry["sha256"]:
        raise ValueError(f"{path} is damaged: its content does not have the checksum it was saved with; copy it again")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` if all goes well."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
