"""How a script ends: with its work done, with one line about what was wrong, or told to stop."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from accelerate import PartialState
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from .interruption import Interrupted
from .quoting import printable

# what says itself what is wrong: all that this package raises, and what its libraries raise of files and options
_EXPLAINED = (ValueError, OSError, ImportError, FloatingPointError, StrictDataclassError, SafetensorError)


def run_script(main: Callable[[], Any]) -> None:
    """Run a script's main function, and end as scripts should.

    An error that says what is wrong is shown as one message, exit status 1; any other with its traceback. SIGINT and
    SIGTERM end with a line and status 130 or 143. What a log or an error shows of foreign names is `printable`. The
    process group of a launcher is left in any case.

    Args:
        main: takes no arguments.
    """
    logging.setLogRecordFactory(_PrintableRecord)
    signal.signal(signal.SIGTERM, _stop)
    try:
        main()
    except KeyboardInterrupt as stop:
        number = stop.signal if isinstance(stop, Interrupted) else signal.SIGINT
        print(f"stopped by {signal.Signals(number).name}. {printable(str(stop))}".strip(), file=sys.stderr)
        _leave(128 + number)
    except _EXPLAINED as error:
        sys.exit(f"error: {printable(str(error) or type(error).__name__)}")
    finally:
        PartialState().destroy_process_group()


class _PrintableRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802
        return printable(super().getMessage())


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(signum, "")


def _leave(status: int) -> NoReturn:
    """Exit at once: the others of a process group, stopped too, may never answer again."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
