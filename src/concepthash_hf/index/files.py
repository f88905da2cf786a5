"""An index as a folder: a JSON file that names, counts and checks the data files beside it.

The data files bear their checksum in their name, so a new version never touches those of the old one; replacing the
JSON file, in one step, is what makes it the index. Whatever interrupts the writing, the folder holds one whole index.
What is read was perhaps made by a stranger: every number is checked against the size of the files before it is used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..json_files import check_fields, read_object, write_object
from ..whole_files import one_writer, put, scratch_folder, sha256

INDEX_NAME = "index.json"
FORMAT_VERSION = 1
DATA_PATTERNS = ("codes-*.safetensors", "rows-*.parquet")
CODES_PER_BLOCK = 2**20

_FIELDS = {"format_version": int, "spec": dict, "kind": str, "num_codes": int, "files": dict}
_FILE_FIELDS = {"name": str, "bytes": int, "sha256": str}
_REMEDY = "fetch or save the index again"


def write_index(folder: Path, header: dict[str, Any], tensors: dict[str, np.ndarray], rows: pa.Table) -> None:
    """Write an index, in place of the one that is there.

    Args:
        folder: made if it is not there; files of other names stay.
        header: what the JSON file says besides.
        tensors: `codes` and whatever goes with them.
        rows: ids and metadata.

    Raises:
        BlockingIOError: if another process is writing there.
        OSError: if a file cannot be written.
    """
    with one_writer(folder), scratch_folder(folder) as scratch:
        codes, table = scratch / "codes.safetensors", scratch / "rows.parquet"
        save_file(tensors, codes)
        pq.write_table(rows, table)
        files = {"codes": _put_data(codes, folder), "rows": _put_data(table, folder)}
        write_object(folder / INDEX_NAME, {"format_version": FORMAT_VERSION, **header, "files": files})
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
    if not path.exists():
        raise FileNotFoundError(
            f"no index in {folder}: it has no {INDEX_NAME}; `concepthash index` makes one of photos, "
            "HammingIndex.save of codes"
        )
    header = read_object(path, {"format_version": int}, _REMEDY)
    if (version := header["format_version"]) != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this package reads {FORMAT_VERSION}: update concepthash_hf"
        )
    check_fields(header, _FIELDS, str(path), _REMEDY)
    check_fields(header["files"], {"codes": dict, "rows": dict}, str(path), _REMEDY)
    for entry in (header["files"]["codes"], header["files"]["rows"]):
        check_fields(entry, _FILE_FIELDS, str(path), _REMEDY)
    return header


def open_data(folder: Path, header: dict[str, Any], width: int) -> tuple[Any, pa.Table]:
    """Open the data files of an index after checking them byte by byte.

    Args:
        folder: of the index.
        header: what `read_header` gave.
        width: bytes per code.

    Returns:
        The safetensors file, to read blocks of its tensors from, and the rows.

    Raises:
        ValueError: if one is missing, differs from what was written, or does not hold what the header tells.
    """
    codes, rows = (_check_data(folder, header["files"][kind]) for kind in ("codes", "rows"))
    try:
        tensors = safe_open(codes, framework="numpy")
        values = tensors.get_slice("codes")
        found = f"codes {values.get_dtype()} {tuple(values.get_shape())} and {pq.read_metadata(rows).num_rows} rows"
        if found != f"codes U8 {(header['num_codes'], width)} and {header['num_codes']} rows":
            raise ValueError(
                f"the index in {folder} is damaged: {INDEX_NAME} tells of {header['num_codes']} codes of {width} "
                f"bytes, its files hold {found}; save it again"
            )
        # not pq.read_table, which takes a folder called "a=b" for a column
        table = pq.ParquetFile(rows).read().combine_chunks()
        table.validate(full=True)
    except (SafetensorError, pa.ArrowException, OSError) as error:
        raise ValueError(f"the index in {folder} cannot be read ({error}): save it again") from None
    pa.default_memory_pool().release_unused()  # arrow would keep what reading took
    return tensors, table


def codes_file(folder: Path, header: dict[str, Any]) -> Path:
    """The file of the codes, which `open_data` has checked."""
    return folder / Path(header["files"]["codes"]["name"]).name


def read_blocks(tensors: Any, name: str) -> Iterator[np.ndarray]:
    """The rows of a tensor, some at a time."""
    values = tensors.get_slice(name)
    length = values.get_shape()[0]
    for start in range(0, length, CODES_PER_BLOCK):
        yield values[start : min(start + CODES_PER_BLOCK, length)]


def _put_data(part: Path, folder: Path) -> dict[str, Any]:
    checksum = sha256(part)
    path = folder / f"{part.stem}-{checksum[:16]}{part.suffix}"
    put(part, path)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": checksum}


def _check_data(folder: Path, entry: dict[str, Any]) -> Path:
    path = folder / Path(entry["name"]).name
    if not path.is_file():
        raise ValueError(f"the index in {folder} lacks its file {path.name}: copy the folder as a whole")
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path} is damaged: {path.stat().st_size} bytes instead of {entry['bytes']}; copy it again")
    if sha256(path) != entry["sha256"]:
        raise ValueError(f"{path} is damaged: its content does not have the checksum it was saved with; copy it again")
    return path
