"""Hashing a collection into a folder of parquet files: by many processes, resumable after a kill.

Every file holds a fixed range of rows with their checksum, is written whole or not at all, and is the work of one
process. What is there and undamaged is done: to resume is to write the other files, by however many processes there
are now.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .base_models import fingerprint
from .data import BadImage
from .data.collection import Collection
from .data.file_facts import file_facts
from .data.transforms import Transform
from .hashing import Pictures, apart, on_cpu
from .index import CodeIndex, CodeSpec
from .interruption import Interrupted, Stop, noticing_signals
from .json_files import check_fields, read_object, write_object
from .modeling_hashing import HashingPreTrainedModel
from .together import one_writer_of_all
from .whole_files import is_left_behind, replacing, write_file

FORMAT_VERSION = 2  # 1 had no checksums
PLAN_FILE = "encoding.json"
UNREADABLE_FILE = "unreadable.jsonl"

# keys in a file's own metadata: the photos of its range that have no row, and the checksum of all that is in it
_UNREADABLE, _CHECKSUM = b"unreadable", b"sha256"
_PHOTOS = b"photos"  # and what the files of the photos were like; not noted by older versions
_PLAN_FIELDS = {
    **{"format_version": int, "spec": dict, "collection": str, "num_photos": int, "ids": str},
    **{"photos_per_file": int, "num_files": int},
}
_PLAN_REMEDY = "copy it again from where it was, or hash the collection into another folder"

logger = logging.getLogger(__name__)


def code_spec(model: HashingPreTrainedModel) -> CodeSpec:
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
    model: HashingPreTrainedModel,
    collection: Collection,
    transform: Transform,
    folder: str | Path,
    *,
    accelerator: Accelerator | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    photos_per_file: int = 1024,
    draft: int | None = None,
) -> list[BadImage]:
    """Hash every photo of a collection once, into `<folder>/codes-<i>-of-<n>.parquet`.

    Rows are in the order of the collection, with the columns of `collection.rows` and "code": the packed code, a list
    of uint8. `datasets.load_dataset("parquet", data_files="<folder>/*.parquet")` opens them.

    Files that are there already are left as they are, unless one of their photos, or what is known of it, has changed
    since: then the photos of that file are hashed again. Photos that cannot be read are listed in `unreadable.jsonl`,
    and are tried again once their files have changed.

    Args:
        model: on the device of the accelerator.
        collection: the photos.
        transform: the model's, see `data.eval_transform`.
        folder: new, or what an interrupted call with the same model and photos has left.
        accelerator: of the running processes, which share out the files and hash in its mixed precision; default a
            new one, in float32.
        batch_size: photos at a time and process.
        num_workers: processes that decode photos, for each of these.
        photos_per_file: a kill loses the work on at most so many photos a process.
        draft: decode large JPEG files at reduced size, see `data.decode_image`.

    Returns:
        The photos that cannot be read and therefore have no row, on every process.

    Raises:
        ValueError: if the folder holds something else, or was begun with another model, other photos, another
            `photos_per_file`, another precision or `draft`.
        BlockingIOError: if another process hashes into the folder.
        OSError: if a file cannot be written.
        Interrupted: if the process was sent SIGINT or SIGTERM; files that are finished stay.
    """
    accelerator = accelerator or Accelerator(cpu=on_cpu())
    folder = Path(folder)
    plan = _plan(model, collection, photos_per_file, accelerator.mixed_precision, draft)
    with one_writer_of_all(accelerator, folder):
        plan |= {"format_version": _check_folder(folder, plan)}
        files = [_File(folder, number, plan) for number in range(plan["num_files"])]
        missing = [file for file in files if not file.is_of(collection)]
        accelerator.wait_for_everyone()  # all have looked before one writes
        if accelerator.is_main_process:
            write_object(folder / PLAN_FILE, plan)
            for file in missing:
                if file.path.exists():
                    what = "has photos or labels that are others now" if file.is_written() else "is damaged"
                    logger.warning("%s %s: its photos are hashed again", file.path, what)
        mine = missing[accelerator.process_index :: accelerator.num_processes]
        with noticing_signals() as stop:
            pictures = Pictures(collection.photos["image"], transform, draft)
            hashed = _hash(model, pictures, mine, accelerator, batch_size, num_workers, stop)
            for file, codes, bad in hashed:
                file.write(collection, codes, bad)
        if stop.signal is not None:
            done = sum(file.is_written() for file in files)
            raise Interrupted(
                stop.signal,
                f"{done} of {len(files)} files of codes are in {folder}; the same command goes on from there",
            )
        accelerator.wait_for_everyone()
        unreadable = [(file, bad) for file in files for bad in file.read()[1]]
        if accelerator.is_main_process:
            ids = collection.ids
            lines = [{"id": ids[bad.row], **asdict(bad), "file": file.path.name} for file, bad in unreadable]
            write_file(folder / UNREADABLE_FILE, "".join(json.dumps(line) + "\n" for line in lines))
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
        rows, _ = _File(Path(folder), number, plan).read()
        codes = rows.column("code")
        packed = codes.combine_chunks().flatten().to_numpy().reshape(len(rows), codes.type.list_size)
        yield packed, rows.drop_columns("code")


def read_plan(folder: str | Path) -> dict[str, Any]:
    """What a folder of codes was made of: "spec" (see `CodeSpec`), "collection", "num_photos" and more.

    Raises:
        ValueError: if it is no such folder, damaged, or of a newer format.
    """
    path = Path(folder) / PLAN_FILE
    try:
        plan = read_object(path, {"format_version": int}, _PLAN_REMEDY)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is no folder of codes: {error}") from None
    if plan["format_version"] > FORMAT_VERSION:
        raise ValueError(f"{folder} has format {plan['format_version']}, newer than this package knows: upgrade it")
    check_fields(plan, _PLAN_FIELDS, str(path), _PLAN_REMEDY)
    try:
        CodeSpec(**plan["spec"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {_PLAN_REMEDY}") from None
    num_photos, photos_per_file = plan["num_photos"], plan["photos_per_file"]
    if num_photos < 0 or photos_per_file < 1 or plan["num_files"] != -(-num_photos // photos_per_file):
        raise ValueError(
            f"{path} is damaged ({num_photos} photos, {photos_per_file} a file, do not make {plan['num_files']} "
            f"files): {_PLAN_REMEDY}"
        )
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


def _plan(
    model: HashingPreTrainedModel, collection: Collection, photos_per_file: int, precision: str, draft: int | None
) -> dict[str, Any]:
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
        "mixed_precision": precision,
        "draft": draft,
    }


def _check_folder(folder: Path, plan: dict[str, Any]) -> int:
    """Refuse a folder of other people, of another model or of other photos; give the format it has or will have."""
    if all(is_left_behind(file) for file in folder.iterdir()):
        return plan["format_version"]
    there = read_plan(folder)
    begun, now = _facts(there), _facts(plan)
    for name in now:
        if begun[name] != now[name]:
            raise ValueError(
                f"{folder} was begun with other {name}: {begun[name]}, now {now[name]}. Give another folder, or "
                "delete this one"
            )
    return there["format_version"]


def _facts(plan: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same for a folder to be gone on with."""
    return {
        "model": plan["spec"]["revision"],
        "photos": f"{plan['num_photos']} with ids of hash {plan['ids'][:16]}",
        "photos_per_file": plan["photos_per_file"],
        # older versions knew no other
        "mixed_precision": plan.get("mixed_precision", "no"),
        "draft": plan.get("draft"),
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
            self.read()
        except ValueError:
            return False
        return True

    def is_of(self, collection: Collection) -> bool:
        """Whether it is written, and of these photos as they are now: their files, labels and what else is known."""
        try:
            table, unreadable = self.read()
        except ValueError:
            return False
        noted = (pq.ParquetFile(self.path).schema_arrow.metadata or {}).get(_PHOTOS)
        if noted is not None and noted != self._photos(collection):
            return False
        return _as_text(table.drop_columns("code")) == _as_text(self._rows_of(collection, unreadable))

    def read(self) -> tuple[pa.Table, list[BadImage]]:
        """Its rows, and the photos of its range that have none.

        Raises:
            ValueError: if it is missing or damaged.
        """
        try:
            # not pq.read_table, which takes a folder called "a=b" for a column
            table = pq.ParquetFile(self.path).read() if self.path.is_file() else pa.table({})
            known = table.schema.metadata or {}
            table = table.replace_schema_metadata(None)
            unreadable = [BadImage(**bad) for bad in json.loads(known[_UNREADABLE])]
            code = table.schema.field("code").type
            whole = (
                len(table) + len(unreadable) == len(self.rows)
                and {bad.row for bad in unreadable} <= set(self.rows)
                and (code.value_type, code.list_size) == (pa.uint8(), -(-self.plan["spec"]["num_bits"] // 8))
                # those of format 1 had no checksum
                and (self.plan["format_version"] == 1 or known[_CHECKSUM] == _checksum(table, unreadable))
            )
        except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise ValueError(f"{self.path} is missing or damaged: run the command that hashes the collection again")
        return table, unreadable

    def write(self, collection: Collection, codes: np.ndarray, unreadable: list[BadImage]) -> None:
        """Write it at once: rows of the readable photos with their codes, and a note of the others."""
        table, width = self._rows_of(collection, unreadable), codes.shape[1]
        features = datasets.Features(
            {**collection.rows.features, "code": datasets.List(datasets.Value("uint8"), length=width)}
        )
        table = table.append_column("code", pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), width))
        table = table.cast(schema := features.arrow_schema)
        note = json.dumps([asdict(bad) for bad in unreadable]).encode()
        about = {_UNREADABLE: note, _CHECKSUM: _checksum(table, unreadable), _PHOTOS: self._photos(collection)}
        with replacing(self.path) as part:
            pq.write_table(table.replace_schema_metadata({**(schema.metadata or {}), **about}), part)

    def _rows_of(self, collection: Collection, unreadable: list[BadImage]) -> pa.Table:
        without = {bad.row for bad in unreadable}
        return collection.rows.with_format("arrow")[[row for row in self.rows if row not in without]]

    def _photos(self, collection: Collection) -> bytes:
        """What the files of its range are like, as one checksum."""
        pictures = collection.photos["image"]
        facts = [file_facts(pictures[row]) for row in self.rows]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest().encode()


def _as_text(rows: pa.Table) -> str:
    """All that is in rows but where their photos lie, which may move."""
    return json.dumps({name: column for name, column in rows.to_pydict().items() if name != "path"}, default=str)


def _checksum(table: pa.Table, unreadable: list[BadImage]) -> bytes:
    """Of all that is in a file, whatever library and version has written it."""
    text = json.dumps([list(table.to_pydict().items()), [asdict(bad) for bad in unreadable]], default=str)
    return hashlib.sha256(text.encode()).hexdigest().encode()


def _hash(
    model: HashingPreTrainedModel,
    pictures: Pictures,
    files: list[_File],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
    stop: Stop,
) -> Iterator[tuple[_File, np.ndarray, list[BadImage]]]:
    """Hash the photos of some files, all through one loader: its workers need not pause between files."""
    batches = [
        (file, file.rows[start : start + batch_size])
        for file in files
        for start in range(0, len(file.rows), batch_size)
    ]
    loader: DataLoader = DataLoader(
        pictures,
        batch_sampler=[list(rows) for _, rows in batches],
        num_workers=num_workers,
        collate_fn=apart,
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
            with accelerator.autocast():
                on_device = (batch.to(accelerator.device, non_blocking=True) for batch in pixel_values)
                codes += [model.get_hash_codes(batch).cpu().numpy() for batch in on_device]
            unreadable += bad
            bar.update(len(rows))
            if rows.stop == file.rows.stop:
                yield file, np.concatenate(codes), unreadable
                codes, unreadable = [none], []
            if stop.signal is not None:
                return
