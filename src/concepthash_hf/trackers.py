"""Trackers that Accelerate reports to: whether one can be used is known before a run, not after."""

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

ALL = "all"


def check_tracker(name: str) -> None:
    """Refuse a tracker that Accelerate would leave out without a word.

    Args:
        name: what `--report_to` names: a tracker, or "all" for every one that is installed.

    Raises:
        ValueError: if there is no such tracker.
        ImportError: if it is not installed.

    Example:
        >>> check_tracker("tensorboard")
    """
    if name == ALL:
        return
    if name not in LOGGER_TYPE_TO_CLASS:
        raise ValueError(f"--report_to {name}: there is no such tracker; there are {', '.join(LOGGER_TYPE_TO_CLASS)}")
    installed = [str(tracker) for tracker in get_available_trackers()]
    if name not in installed:
        there = f"installed are {', '.join(installed)}" if installed else "no other is installed either"
        raise ImportError(f"--report_to {name} is not installed: pip install {name.replace('_', '-')}; {there}")
