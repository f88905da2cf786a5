"""The words of a command line, read into dataclasses; a wrong call ends in one line and exit status 2."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from transformers import HfArgumentParser


class WrongCallError(ValueError):
    """Words of a command line that are not understood."""

    exit_status = 2


class ArgumentReader(HfArgumentParser):
    """Reads options that are the fields of dataclasses, as `transformers.HfArgumentParser` does."""

    def read(self, words: Sequence[str]) -> tuple[Any, ...]:
        """Give an instance of each dataclass.

        Raises:
            WrongCallError: if there is no such option, one is missing, or a value is none that it takes.
        """
        self.parse_args(list(words))  # which knows words that belong to no option
        try:
            return self.parse_args_into_dataclasses(list(words))
        except ValueError as error:
            raise WrongCallError(str(error)) from error

    def error(self, message: str) -> NoReturn:
        """In place of the usage, which is pages long."""
        raise WrongCallError(f"{message}{self._meant(message)}. --help lists the options")

    def _meant(self, message: str) -> str:
        """What was probably meant by words that are not known."""
        _, _, unknown = message.partition("unrecognized arguments: ")
        options = [word for word in unknown.split() if word.startswith("--")]
        if unknown and not options:
            return " (photos are named once, before the options)"
        meant = [name for word in options for name in get_close_matches(word, self._option_string_actions, n=1)]
        return f" (did you mean {', '.join(meant)}?)" if meant else ""


def read_arguments(kind: type, words: Sequence[str] | None) -> Any:
    """The options of a script that has one dataclass of them.

    Args:
        kind: the dataclass.
        words: of the command line; default those of this process.

    Raises:
        WrongCallError: see `ArgumentReader.read`.
    """
    return ArgumentReader(kind).read(sys.argv[1:] if words is None else words)[0]
