"""What a training tells whoever waits for it: a bar over all its epochs, and a line for each of them."""

import time
from collections.abc import Mapping

from tqdm.auto import tqdm


def every_so_many(num_epochs: int) -> int:
    """Epochs between two checkpoints, or two lines: one, but a hundred times in all of a run of many short epochs."""
    return -(-num_epochs // 100)


class Progress:
    """A bar with the time left of the whole run, on stderr, and lines that stay, on stdout.

    Args:
        num_epochs: of the run.
        first_epoch: that are done already, of a run that goes on.
        steps_per_epoch: batches; None of a stream.
        is_shown: whether this process is the one that speaks.
    """

    def __init__(self, num_epochs: int, first_epoch: int, steps_per_epoch: int | None, is_shown: bool) -> None:
        self._num_epochs, self._first_epoch, self._is_shown = num_epochs, first_epoch, is_shown
        self._started = time.perf_counter()
        self._bar = tqdm(
            desc=self._name(first_epoch),
            initial=first_epoch * (steps_per_epoch or 0),
            total=steps_per_epoch and num_epochs * steps_per_epoch,
            smoothing=0,  # checkpoints and evaluations take their part of the time that is left, too
            disable=not is_shown,
        )

    def start(self, epoch: int) -> None:
        """An epoch begins, counted from 0."""
        self._bar.set_description(self._name(epoch))

    def step(self) -> None:
        """A batch is done."""
        self._bar.update()

    def show(self, losses: Mapping[str, float]) -> None:
        """The mean losses so far of an epoch, at the bar."""
        self._bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()}, refresh=False)

    def finish(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Say the mean losses of an epoch, and how long the others will take; see `every_so_many`."""
        if (epoch + 1) % every_so_many(self._num_epochs) and epoch + 1 < self._num_epochs:
            return
        total, *terms = (f"{name} {loss:.3f}" for name, loss in losses.items())
        self.tell(epoch, f"{total} ({', '.join(terms)}); {self._time_left(epoch + 1)}")

    def tell(self, epoch: int, text: str) -> None:
        """Say something about an epoch."""
        if self._is_shown:
            tqdm.write(f"{self._name(epoch)}: {text}")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _name(self, epoch: int) -> str:
        return f"epoch {min(epoch + 1, self._num_epochs)}/{self._num_epochs}"

    def _time_left(self, epochs_done: int) -> str:
        seconds = (time.perf_counter() - self._started) / (epochs_done - self._first_epoch)
        return f"{tqdm.format_interval(seconds * (self._num_epochs - epochs_done))} left"
