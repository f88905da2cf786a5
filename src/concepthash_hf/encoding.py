"""Hashing a collection into a folder of parquet files: by many processes, resumable after a kill.

Every file holds a fixed range of rows, is written whole or not at all, and is the work of one process. What is there
is done: to resume is to write the files that are missing, by however many processes there are now.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .base_models import fingerprint
from .data import BadImage, BadImageError, PhotoDataset
from .data.collection import Collection
from .data.transforms import Transform
from .hashing import on_cpu
from .index import CodeIndex, CodeSpec
from .modeling_concepthash import ConceptHashPreTrainedModel

FORMAT_VERSION = 1
PLAN_FILE = "encoding.json"
UNREADABLE_FILE = "unreadable.jsonl"

_PARTIAL = ".partial"  # ends the name of a file that is being written
_UNREADABLE = b"unreadable"  # key in a file's own metadata: the photos of its range that have no row


def code_spec(model: ConceptHashPreTrainedModel) -> CodeSpec:
    """What a model's codes are, and the model by name and content.

    The revision is a fingerprint of the weights that make codes: the same for a folder, its copies and the Hub, whole
    model or tower alone, and another one as soon as a weight changes.

    Args:
        model: as loaded.

    Returns:
        To bind an index to the model, or to check it: `index.check_model(None, code_spec(model).revision)`.
    """
    tower = model.base_model
    path = model.name_or_path
    name = Path(path).resolve().name if path and Path(path).exists() else path or None
    revision = f"sha256:{fingerprint(tower.state_dict())[:32]}"
    return CodeSpec(tower.config.num_bits, tower.config.num_concepts, name, revision)


def encode_collection(
    model: ConceptHashPreTrainedModel,
    collection: Collection,
    transform: Transform,
    folder: str | Path,
    *,
    accelerator: Accelerator | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    photos_per_file: int = 1024,
) -> list[BadImage]:
    """Hash every photo of a collection once, into `<folder>/codes-<i>-of-<n>.parquet`.

    Rows are in the order of the collection, with the columns of `collection.rows` and "code": the packed code, a list
    of uint8. `datasets.load_dataset("parquet", data_files="<folder>/*.parquet")` opens them.

    Files that are there already are left as they are. Photos that cannot be read are listed in `unreadable.jsonl`; to
    try them again once they are repaired, delete the files named there and call again.

    Args:
        model: on the device of the accelerator.
        collection: the photos.
        transform: the model's, see `data.eval_transform`.
        folder: new, or what an interrupted call with the same model and photos has left.
        accelerator: of the running processes, which share out the files; default a new one.
        batch_size: photos at a time and process.
        num_workers: processes that decode photos, for each of these.
        photos_per_file: a kill loses the work on at most so many photos a process.

    Returns:
        The photos that cannot be read and therefore have no row, on every process.

    Raises:
        ValueError: if the folder holds something else, or was begun with another model, other photos or another
            `photos_per_file`.
    """
    accelerator = accelerator or Accelerator(cpu=on_cpu())
    folder = Path(folder)
    plan = _plan(model, collection, photos_per_file)
    _check_folder(folder, plan)
    files = [_File(folder, number, plan) for number in range(plan["num_files"])]
    missing = [file for file in files if not file.is_written()]
    accelerator.wait_for_everyone()  # all have looked before one writes
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(f"*{_PARTIAL}"):
            partial.unlink()
        _write(folder / PLAN_FILE, json.dumps(plan, indent=2).encode())
    accelerator.wait_for_everyone()
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    for file, codes, bad in _hash(model, collection, transform, mine, accelerator, batch_size, num_workers):
        file.write(collection.rows, codes, bad)
    accelerator.wait_for_everyone()
    unreadable = [(file, bad) for file in files for bad in file.unreadable()]
    if accelerator.is_main_process:
        ids = collection.ids
        lines = [{"id": ids[bad.row], **asdict(bad), "file": file.path.name} for file, bad in unreadable]
        _write(folder / UNREADABLE_FILE, "".join(json.dumps(line) + "\n" for line in lines).encode())
    accelerator.wait_for_everyone()
    return [bad for _, bad in unreadable]


def read_codes(folder: str | Path) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Read what `encode_collection` has written, file by file.

    Args:
        folder: where it wrote.

    Yields:
        Codes, uint8 `(n, W)`, and the n rows without them: "id" and what else is known.

    Raises:
        ValueError: if it is no such folder, or a file is missing, as while the work is not finished.
    """
    plan = read_plan(folder)
    for number in range(plan["num_files"]):
        file = _File(Path(folder), number, plan)
        if not file.is_written():
            raise ValueError(f"{file.path} is missing or damaged: run the command that hashes the collection again")
        rows = pq.read_table(file.path)
        codes = rows.column("code")
        packed = codes.combine_chunks().flatten().to_numpy().reshape(len(rows), codes.type.list_size)
        yield packed, rows.drop_columns("code").replace_schema_metadata(None)


def read_plan(folder: str | Path) -> dict[str, Any]:
    """What a folder of codes was made of: "spec" (see `CodeSpec`), "collection", "num_photos" and more.

    Raises:
        ValueError: if it is no such folder, or of a newer format.
    """
    try:
        plan = json.loads((Path(folder) / PLAN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no folder of codes: {PLAN_FILE} cannot be read: {error}") from error
    if plan["format_version"] > FORMAT_VERSION:
        raise ValueError(f"{folder} has format {plan['format_version']}, newer than this package knows: upgrade it")
    return plan


def add_codes(index: CodeIndex, folder: str | Path) -> None:
    """Put all codes of a folder into an index, with their ids and metadata: all of them, or none if it fails.

    Args:
        index: of `CodeSpec(**read_plan(folder)["spec"])`.
        folder: what `encode_collection` has finished.

    Raises:
        ValueError: if the index is of another model, an id is there already, or a file is missing or damaged.
    """
    index.check_model(None, CodeSpec(**read_plan(folder)["spec"]).revision)
    codes, tables = zip(*read_codes(folder), strict=True)
    rows = pa.concat_tables(tables)
    metadata = rows.drop_columns("id")
    index.add(np.concatenate(codes), rows.column("id").combine_chunks(), metadata if metadata.num_columns else None)


def _plan(model: ConceptHashPreTrainedModel, collection: Collection, photos_per_file: int) -> dict[str, Any]:
    if photos_per_file < 1:
        raise ValueError(f"photos_per_file must be at least 1, got {photos_per_file}")
    return {
        "format_version": FORMAT_VERSION,
        "spec": asdict(code_spec(model)),
        "collection": collection.name,
        "num_photos": len(collection),
        "ids": hashlib.sha256(json.dumps(collection.ids).encode()).hexdigest(),
        "photos_per_file": photos_per_file,
        "num_files": -(-len(collection) // photos_per_file),
    }


def _check_folder(folder: Path, plan: dict[str, Any]) -> None:
    """Refuse a folder of other people, of another model or of other photos."""
    if not folder.exists() or (folder.is_dir() and all(file.suffix == _PARTIAL for file in folder.iterdir())):
        return
    begun, now = _facts(read_plan(folder)), _facts(plan)
    for name in now:
        if begun[name] != now[name]:
            raise ValueError(
                f"{folder} was begun with other {name}: {begun[name]}, now {now[name]}. Give another folder, or "
                "delete this one"
            )


def _facts(plan: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same for a folder to be gone on with."""
    return {
        "model": plan["spec"]["revision"],
        "photos": f"{plan['num_photos']} with ids of hash {plan['ids'][:16]}",
        "photos_per_file": plan["photos_per_file"],
    }


@dataclass(frozen=True)
class _File:
    """One of the files that make a collection of codes."""

    folder: Path
    number: int
    plan: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / f"codes-{self.number:05d}-of-{self.plan['num_files']:05d}.parquet"

    @property
    def rows(self) -> range:
        start = self.number * self.plan["photos_per_file"]
        return range(self.plan["num_photos"])[start : start + self.plan["photos_per_file"]]

    def is_written(self) -> bool:
        """Whether it is there, whole: a machine that lost power may leave less than was written."""
        try:
            return pq.read_metadata(self.path).num_rows + len(self.unreadable()) == len(self.rows)
        except (OSError, pa.ArrowException):
            return False

    def unreadable(self) -> list[BadImage]:
        """Photos of its range that have no row."""
        return [BadImage(**bad) for bad in json.loads(pq.read_metadata(self.path).metadata[_UNREADABLE])]

    def write(self, rows: datasets.Dataset, codes: np.ndarray, unreadable: list[BadImage]) -> None:
        """Write it at once: rows of the readable photos with their codes, and a note of the others."""
        without = {bad.row for bad in unreadable}
        table = rows.with_format("arrow")[[row for row in self.rows if row not in without]]
        width = codes.shape[1]
        features = datasets.Features({**rows.features, "code": datasets.List(datasets.Value("uint8"), length=width)})
        table = table.append_column("code", pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), width))
        note = json.dumps([asdict(bad) for bad in unreadable]).encode()
        schema = features.arrow_schema
        table = table.cast(schema).replace_schema_metadata({**(schema.metadata or {}), _UNREADABLE: note})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        _write(self.path, buffer.getvalue())


class _Readable(Dataset):
    """Row -> its pixel values, or what is wrong with its picture."""

    def __init__(self, photos: PhotoDataset) -> None:
        self.photos = photos

    def __getitem__(self, row: int) -> Tensor | BadImage:
        try:
            return self.photos[row]["pixel_values"]
        except BadImageError as error:
            return BadImage(row, error.path, error.reason)


def _apart(items: list[Tensor | BadImage]) -> tuple[list[Tensor], list[BadImage]]:
    """A batch of pixel values (none or one tensor), and the unreadable photos."""
    good = [item for item in items if isinstance(item, Tensor)]
    return [torch.stack(good)] if good else [], [item for item in items if isinstance(item, BadImage)]


def _hash(
    model: ConceptHashPreTrainedModel,
    collection: Collection,
    transform: Transform,
    files: list[_File],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
) -> Iterator[tuple[_File, np.ndarray, list[BadImage]]]:
    """Hash the photos of some files, all through one loader: its workers need not stop between files."""
    batches = [
        (file, file.rows[start : start + batch_size])
        for file in files
        for start in range(0, len(file.rows), batch_size)
    ]
    loader: DataLoader = DataLoader(
        _Readable(PhotoDataset(collection.photos, transform, label_column=None)),
        batch_sampler=[list(rows) for _, rows in batches],
        num_workers=num_workers,
        collate_fn=_apart,
        pin_memory=accelerator.device.type == "cuda",
    )
    none = np.empty((0, -(-model.config.num_bits // 8)), np.uint8)
    codes, unreadable = [none], []
    with tqdm(
        desc="hashing",
        unit="photos",
        total=sum(len(file.rows) for file in files),
        disable=not accelerator.is_local_main_process,
    ) as bar:
        for (file, rows), (pixel_values, bad) in zip(batches, loader, strict=True):
            codes += [model.get_hash_codes(batch.to(accelerator.device)).cpu().numpy() for batch in pixel_values]
            unreadable += bad
            bar.update(len(rows))
            if rows.stop == file.rows.stop:
                yield file, np.concatenate(codes), unreadable
                codes, unreadable = [none], []


def _write(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}{_PARTIAL}")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
