"""Many callers, one model: what they ask at the same time is done in one go."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(RuntimeError):
    """There is more to do than is done in time."""


class Batched(Generic[Item, Result]):
    """A function of several items, called with one: a thread of its own gathers what waits and answers each caller.

    It does not wait for a batch to fill: what came while it was busy is the next batch.

    Args:
        function: gives a result for each of the items, in their order.
        most: items at a time.
        waiting: items that may wait; more are turned away.
        seconds: how long a caller waits for an answer.

    Example:
        >>> double = Batched(lambda numbers: [2 * number for number in numbers])
        >>> double(21)
        42
        >>> double.close()
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Sequence[Result]],
        most: int = 32,
        waiting: int = 256,
        seconds: float = 30.0,
    ) -> None:
        self._function, self._most, self._seconds = function, most, seconds
        self._queue: queue.Queue[tuple[Item, Future] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._work, daemon=True, name="batched")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return self._queue.qsize()

    def __call__(self, item: Item) -> Result:
        """The result for one item.

        Raises:
            BusyError: if too many wait, or the time is over.
            Exception: what the function raises, for every item of its batch.
        """
        future: Future[Result] = Future()
        try:
            self._queue.put_nowait((item, future))
        except queue.Full:
            raise BusyError(f"{self._queue.maxsize} requests are waiting already: try again in a moment") from None
        try:
            return future.result(self._seconds)
        except (FutureTimeoutError, CancelledError):
            future.cancel()  # so that nothing is computed for who waits no more
            raise BusyError(f"no answer within {self._seconds:g} seconds: try again in a moment") from None

    def close(self) -> None:
        """End the thread, after what waits by now."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, is_last = [first], False
            while len(batch) < self._most and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    is_last = True
                    break
                batch.append(following)
            wanted = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if wanted:
                self._answer([item for item, _ in wanted], [future for _, future in wanted])
            if is_last:
                return

    def _answer(self, items: Sequence[Item], futures: Sequence[Future]) -> None:
        try:
            for future, result in zip(futures, self._function(items), strict=True):
                future.set_result(result)
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
