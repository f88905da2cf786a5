"""What every measurement is: numbers that do not change, ready for JSON and for a table."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from .table import Table


@dataclass(frozen=True)
class Measurement(ABC):
    """The result of one measurement.

    Its fields are numbers, texts, and lists and dicts of them; None where there is nothing to count.
    """

    @abstractmethod
    def table(self) -> Table:
        """The numbers as people read them, beside their chance levels."""

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave; what is there besides is left out.

        Raises:
            ValueError: if a field is missing.
        """
        known = fields(cls)
        if missing := [field.name for field in known if field.default is MISSING and field.name not in values]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return cls(**{field.name: values[field.name] for field in known if field.name in values})


def listed(values: np.ndarray | float) -> Any:
    """A number or nested lists of them, None where there is none (infinite or no number)."""
    numbers = np.array(values, dtype=object)
    numbers[~np.isfinite(np.asarray(values, dtype=float))] = None
    return numbers.tolist()
