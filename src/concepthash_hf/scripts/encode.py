"""Hash a collection of photos: codes as parquet files, and an index to search."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from ..data import BadImage, describe_collection, eval_transform
from ..encoding import UNREADABLE_FILE, add_codes, encode_collection, read_plan
from ..hasher import load_image_processor
from ..hashing import on_cpu
from ..index import CodeSpec, HammingIndex
from ..launch import keep_freed_memory, use_own_cores
from ..models import model_class
from ..quoting import printable
from .arguments import read_arguments
from .hashing_arguments import HashingArguments

INDEX_FOLDER = "index"


@dataclass(frozen=True, kw_only=True)
class Arguments(HashingArguments):
    """Which photos, by which model, into what."""

    model_name_or_path: str = field(
        metadata={"help": "A saved ConceptHash model: a folder or a Hub id.", "aliases": ["--model"]}
    )
    output_dir: str = field(metadata={"help": "Where codes and index go; what is there already is not done again."})
    torch_compile: bool = field(
        default=False, metadata={"help": "Compile the model first: faster after a minute or two, for many photos."}
    )
    draft: bool = field(
        default=False,
        metadata={"help": "Decode large JPEG files at reduced size: faster; a few bits in ten thousand differ."},
    )
    photos_per_file: int = field(
        default=1024, metadata={"help": "A kill loses the work on at most so many photos a process."}
    )
    database: str | None = field(
        default=None, metadata={"help": "Put the codes into PostgreSQL: postgresql://user@host/database."}
    )
    table: str = field(default="concepthash_codes", metadata={"help": "Name of the index in the database."})


def main(words: Sequence[str] | None = None) -> None:
    """Load, hash, index."""
    args: Arguments = read_arguments(Arguments, words)
    args = args.with_photos_of(args.model_name_or_path)
    # a process may wait for the slowest as long as it takes
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision=args.mixed_precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=30))],
    )
    keep_freed_memory()
    if on_cpu() and accelerator.num_processes == 1:
        use_own_cores()
    if not accelerator.is_main_process:
        logging.disable(logging.WARNING)  # said once is enough
    with accelerator.main_process_first():  # the others find what the first has prepared in the cache
        collection = args.load_collection()
    if accelerator.is_main_process:
        print(describe_collection(collection), flush=True)
    tower_class = model_class(args.model_name_or_path, tower=True)
    model = tower_class.from_pretrained(args.model_name_or_path).to(accelerator.device)
    if args.torch_compile:
        model.compile()
    transform = eval_transform(load_image_processor(args.model_name_or_path))

    started = time.perf_counter()
    unreadable = encode_collection(
        model,
        collection,
        transform,
        args.output_dir,
        accelerator=accelerator,
        batch_size=args.per_device_eval_batch_size,
        num_workers=args.dataloader_num_workers,
        photos_per_file=args.photos_per_file,
        draft=transform.shorter_side if args.draft else None,
    )
    seconds = time.perf_counter() - started
    if accelerator.is_main_process:
        print(f"{len(collection)} photos in {seconds:.1f} s on {accelerator.num_processes} process(es)")
        report(args, unreadable)
        print(f"codes: {args.output_dir}/*.parquet; index: {build_index(args)}")
    accelerator.end_training()


def report(args: Arguments, unreadable: list[BadImage]) -> None:
    """Name the photos that have no code."""
    if unreadable:
        print(f"{len(unreadable)} of them cannot be read, see {Path(args.output_dir) / UNREADABLE_FILE}:")
        for bad in unreadable[:10]:
            print(printable(f"  {bad.path}: {bad.reason}"))


def build_index(args: Arguments) -> str:
    """An exact index of all codes, beside them and, if asked for, in the database; says where."""
    spec = CodeSpec(**read_plan(args.output_dir)["spec"])
    folder = Path(args.output_dir) / INDEX_FOLDER
    index = HammingIndex(spec)
    add_codes(index, args.output_dir)
    index.save(folder)
    if args.database is None:
        return str(folder)
    from ..index.postgres import PostgresIndex

    database = PostgresIndex(args.database, spec, table=args.table)
    add_codes(database, args.output_dir)
    return f"{folder}, and {args.table} in the database, {len(database)} codes"
