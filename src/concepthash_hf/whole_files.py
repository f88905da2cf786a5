"""Files that are there whole or not at all, and folders with one writer at a time.

A file is written in a scratch folder beside its place, brought to the disk, and then renamed into it. What a kill
leaves of that, the next writer of the folder removes; files that belong together, once all are ready, it puts into
their places.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

SCRATCH = ".writing-"  # begins the names of scratch folders, and of large files that are not to stay
_LOCK = ".writing.lock"
_READY = ".ready"  # in a scratch folder: all of it is written, and this lists what it replaces
_WAIT, _POLL = 10.0, 0.01  # seconds; long enough for the other to finish a file


@contextmanager
def one_writer(folder: str | Path) -> Iterator[Path]:
    """Be the only one that writes into a folder; waits a few seconds for another to finish.

    Within one thread it may be entered again. What killed writers have left of unfinished files is removed.

    Args:
        folder: made if it is not there.

    Yields:
        The folder.

    Raises:
        BlockingIOError: if another process, or thread, is writing there.
        OSError: if it cannot be written to; says which folder and why.
    """
    folder = Path(folder)
    with naming_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / _LOCK, timeout=_WAIT, is_singleton=True)
        try:
            lock.acquire(poll_interval=_POLL)
        except Timeout:
            raise BlockingIOError(
                f"another process is writing into {folder}: wait until it is done, or give another folder"
            ) from None
    try:
        if lock.lock_counter == 1:
            for scratch in folder.glob(f"{SCRATCH}*"):
                if (scratch / _READY).is_file():
                    _put_ready(scratch, folder)
                if scratch.is_file():
                    scratch.unlink()
                else:
                    shutil.rmtree(scratch, ignore_errors=True)
        yield folder
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):
                Path(lock.lock_file).unlink()  # while it is held: who waits for it takes no lock without a name
        lock.release()


def has_writer(folder: str | Path) -> bool:
    """Whether somebody is `one_writer` of a folder, as seen from here; waits a few seconds to see it."""
    lock, waiting_until = Path(folder) / _LOCK, time.monotonic() + _WAIT
    while not (seen := lock.exists()) and time.monotonic() < waiting_until:
        time.sleep(_POLL)
    return seen


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write a file to, which takes the place of `path` if all goes well.

    Args:
        path: in a folder that is there.

    Raises:
        OSError: if it cannot be written; says which file and why.
    """
    path = Path(path)
    with scratch_folder(path.parent, for_file=path) as scratch:
        part = scratch / path.name
        yield part
        put(part, path)


@contextmanager
def scratch_folder(folder: Path, for_file: Path | None = None) -> Iterator[Path]:
    """A new folder inside another, gone at the end; what is ready is `put` into its place.

    Args:
        folder: the other, which is there.
        for_file: what is going to be written, for error messages; default the folder.

    Raises:
        OSError: if something cannot be written; says what and why.
    """
    with naming_errors(for_file or folder):
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def put(part: Path, path: Path) -> None:
    """Finish a file and rename it, in place of an old one."""
    finish(part)
    os.replace(part, path)
    sync_folder(path.parent)


def put_together(scratch: Path, folder: Path, replaced: Iterable[str] = ()) -> None:
    """Put all files of a scratch folder into their places: all, or after a kill none, or the rest by the next writer.

    Args:
        scratch: holds nothing but finished files.
        folder: their place.
        replaced: names of files in it that go, where there is no new one.
    """
    files = list(scratch.iterdir())
    for file in files:
        finish(file)
    stale = sorted(set(replaced) - {file.name for file in files})
    write_json(scratch / _READY, stale)
    sync_folder(scratch)
    _put_ready(scratch, folder)


def complete_interrupted(folder: Path) -> None:
    """Put the files into their places that a killed `put_together` has left, before they are read."""
    if any(folder.glob(f"{SCRATCH}*/{_READY}")):
        with one_writer(folder):
            pass


def _put_ready(scratch: Path, folder: Path) -> None:
    for name in json.loads((scratch / _READY).read_text()):
        (folder / Path(name).name).unlink(missing_ok=True)
    for file in scratch.iterdir():
        if file.name != _READY:
            os.replace(file, folder / file.name)
    sync_folder(folder)


def finish(file: Path) -> None:
    """Bring a file to the disk, with the permissions of new files: some libraries let only the owner read."""
    like_new = file.with_name(f"{file.name}.new")
    like_new.touch()
    file.chmod(like_new.stat().st_mode)
    like_new.unlink()
    with open(file, "rb") as written:
        os.fsync(written.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8.

    Raises:
        OSError: if it cannot be written; says which file and why.
    """
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, content: Any) -> None:
    """Write readable JSON, whole or not at all.

    Raises:
        OSError: if it cannot be written; says which file and why.
    """
    write_file(path, json.dumps(content, indent=2) + "\n")


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_left_behind(path: Path) -> bool:
    """Whether this is what a killed writer leaves, or one at work has."""
    return path.name.startswith(SCRATCH) or path.name == _LOCK


@contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Say of what goes wrong in writing which file it is about: a full disk does not."""
    try:
        yield
    except BlockingIOError:
        raise
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    except OSError as error:
        if str(error).startswith("cannot write "):
            raise
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
