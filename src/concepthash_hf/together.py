"""What the processes of a launcher do as one."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object

from .whole_files import has_writer, one_writer


def new_accelerator(mixed_precision: str | None, **options: Any) -> Accelerator:
    """An accelerator of this precision, whatever one had that was there before: Accelerate knows one for a process.

    Args:
        mixed_precision: "no", "bf16" or "fp16"; None for the launcher's.
        **options: of `accelerate.Accelerator`.
    """
    wanted = mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != wanted:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision, **options)


def on_main_process(accelerator: Accelerator | PartialState, action: Callable[[], Any]) -> None:
    """Let the main process do something; if it cannot, all fail, with the same error.

    Args:
        accelerator: of the running processes; all of them call this.
        action: what to do.
    """
    error: Exception | None = None
    if accelerator.is_main_process:
        try:
            action()
        except Exception as caught:
            error = caught
    (error,) = broadcast_object_list([error])
    if error is not None:
        raise error


@contextmanager
def one_writer_of_all(accelerator: Accelerator | PartialState, folder: str | Path) -> Iterator[None]:
    """Be the only ones that write into a folder: see `whole_files.one_writer`; all processes enter and leave this.

    Raises:
        BlockingIOError: if others are writing there.
        OSError: if it cannot be written to, says which folder and why; or is another folder on another machine.
    """
    with ExitStack() as held:
        on_main_process(accelerator, lambda: held.enter_context(one_writer(folder)))
        if not all(gather_object([has_writer(folder)])):
            raise FileNotFoundError(
                f"{folder} is not the same folder for all processes: give an absolute path, on a disk that every "
                "machine has"
            )
        yield
        accelerator.wait_for_everyone()  # the others may still be writing
