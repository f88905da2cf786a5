"""Being told to stop, by Ctrl-C or by whoever runs this machine, without losing what is done."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Work that was stopped by a signal, and what of it is kept.

    Attributes:
        signal: which one.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal.Signals(signum)


class Stop:
    """Whether to stop.

    Attributes:
        signal: that asked for it, or None.
    """

    signal: int | None = None


@contextmanager
def noticing_signals() -> Iterator[Stop]:
    """Take note of SIGINT and SIGTERM instead of ending at once; a second one ends at once.

    Outside the main thread, where Python lets nobody handle signals, nothing is noticed.

    Yields:
        What to look at between two pieces of work.
    """
    stop, owner = Stop(), os.getpid()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def give_back() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def take_note(signum: int, frame: FrameType | None) -> None:
        stop.signal = signum
        if os.getpid() == owner:  # and not a worker that decodes photos, which has inherited this
            give_back()
            print("\nstopping, and keeping what is done; the same signal again stops at once", file=sys.stderr)

    for signum in SIGNALS:
        signal.signal(signum, take_note)
    try:
        yield stop
    finally:
        give_back()
