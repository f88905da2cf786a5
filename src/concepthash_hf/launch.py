"""How a script begins, on its own cores, and how it ends: its work done, a line about what was wrong, or stopped."""

import ctypes
import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from .interruption import Interrupted
from .quoting import printable

# what says itself what is wrong: all that this package raises, and what its libraries raise of files and options
_EXPLAINED = (ValueError, OSError, ImportError, FloatingPointError)
# of libraries that not every command imports
_EXPLAINED_OF = (
    *(("datasets.exceptions", "DatasetsError"), ("huggingface_hub.errors", "StrictDataclassError")),
    *(("safetensors", "SafetensorError"), ("torch._inductor.exc", "InductorError")),
)
_NOTHING_KEPT = "there is nothing yet that could be kept"


def run_script(main: Callable[[], Any]) -> None:
    """Run a script's main function, and end as scripts should.

    An error that says what is wrong is shown as one message, exit status 1 or the error's own `exit_status`; any
    other with its traceback. SIGINT and SIGTERM end with a line and status 130 or 143; where nobody reads what is
    printed any more, it ends in silence, with 141. What a log or an error shows of foreign names is `printable`. A
    process group is left in any case.

    Args:
        main: takes no arguments.
    """
    record_before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_PrintableRecord)
    term_before = signal.signal(signal.SIGTERM, _stop)
    if _is_launched():
        _end_with_launcher()
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        number = stop.signal if isinstance(stop, Interrupted) else signal.SIGINT
        print(f"stopped by {number.name}: {printable(str(stop)) or _NOTHING_KEPT}", file=sys.stderr)
        sys.exit(128 + number)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(141)  # 128 + SIGPIPE
        if not isinstance(error, _EXPLAINED) and not any(_is_of(error, *named) for named in _EXPLAINED_OF):
            raise
        message, status = f"error: {printable(_in_words(error))}", getattr(error, "exit_status", 1)
        if status == 1:
            sys.exit(message)
        print(message, file=sys.stderr)
        sys.exit(status)
    finally:
        logging.setLogRecordFactory(record_before)
        signal.signal(signal.SIGTERM, term_before)
        _leave_process_group()


def _nobody_reads() -> bool:
    """Whether the program that this one is piped into has had enough, as `head` has; then nothing more is written."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout, 0)
    is_closed = bool(poll.poll(0))
    if is_closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_closed


def cores() -> int:
    """How many cores this process may use: those it was bound to (`taskset`, a batch system), else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_own_cores() -> None:
    """Let torch compute on all cores that this process may use, unless OMP_NUM_THREADS says how many.

    `accelerate launch` sets that to 1 where nobody has set it: its 1 says nothing.
    """
    given = os.environ.get("OMP_NUM_THREADS")
    if given is None or (given == "1" and _is_launched()):
        import torch

        torch.set_num_threads(cores())


def keep_freed_memory() -> None:
    """Let this process use memory again that it has freed, where glibc would give it back to the system.

    What the system hands out it fills with zeros first, page by page: on a CPU up to a tenth of the time of a training
    step or of hashing. The most that is held grows by a twentieth at most (`training_memory.py`). Whoever has told
    glibc otherwise (`MALLOC_...`, `GLIBC_TUNABLES`) is not overruled.
    """
    is_told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None and not is_told:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_mmap_threshold, 2**25)  # it takes no more


def _in_words(error: BaseException) -> str:
    """What it says, or what is behind it where it says nothing of its own."""
    cause = error.__cause__
    if _is_of(error, *_EXPLAINED_OF[0]) and cause is not None:
        return f"{error}: {cause}"
    if _is_of(error, *_EXPLAINED_OF[1]) and cause is not None:  # of a config: which of its checks says it is no matter
        return str(cause)
    return str(error) or type(error).__name__


def _is_of(error: BaseException, module: str, name: str) -> bool:
    """Whether it is an error of a library; it is not, if that was never imported."""
    return module in sys.modules and isinstance(error, getattr(sys.modules[module], name))


def _leave_process_group() -> None:
    torch = sys.modules.get("torch")  # without it there is no group
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _PrintableRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802
        return printable(super().getMessage())


def _is_launched() -> bool:
    """Whether `accelerate launch` has started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def _end_with_launcher() -> None:
    """`accelerate launch` passes no signal on: let its end be one, or this process would go on without it."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(signum, "")
