"""Codes that know which model made them."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from .base import CodeSpec


class ModelCodes(np.ndarray):
    """An array of packed codes, and what has made them: an index of another model refuses them.

    Slices and copies of it know it too; `np.asarray` forgets it.

    Attributes:
        spec: bits, concepts and model; None if it was lost on the way.
    """

    spec: "CodeSpec | None"

    @classmethod
    def of(cls, codes: np.ndarray, spec: "CodeSpec") -> Self:
        """The same codes, made by the model of `spec`."""
        known = codes.view(cls)
        known.spec = spec
        return known

    def __array_finalize__(self, source: Any) -> None:
        self.spec = getattr(source, "spec", None)
