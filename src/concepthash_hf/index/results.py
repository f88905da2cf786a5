"""What a search returns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SearchResult:
    """The k nearest items of every query, nearest first; equal distances by position of insertion.

    Attributes:
        ids: int64 or strings (object) `(Q, k)`.
        distances: `(Q, k)`: int64, differing bits; float64 where concepts were weighted.
        concept_distances: int64 `(Q, k, M)`, differing bits of every concept's sub-code.
    """

    ids: np.ndarray
    distances: np.ndarray
    concept_distances: np.ndarray

    @classmethod
    def side_by_side(cls, parts: Sequence["SearchResult"]) -> "SearchResult":
        """What several searches found for the same queries, one after the other in every row."""
        return cls(
            np.concatenate([part.ids for part in parts], axis=1),
            np.concatenate([part.distances for part in parts], axis=1),
            np.concatenate([part.concept_distances for part in parts], axis=1),
        )

    def at(self, columns: np.ndarray) -> "SearchResult":
        """Some of the items of every query: those of these columns, int `(Q, c)`, in their order."""
        return SearchResult(
            np.take_along_axis(self.ids, columns, axis=1),
            np.take_along_axis(self.distances, columns, axis=1),
            np.take_along_axis(self.concept_distances, columns[..., None], axis=1),
        )


@dataclass(frozen=True)
class RangeResult:
    """All items within a radius of every query: as many as there are, so one query after the other.

    `result[q]` is what query q found, as three arrays; `len(result)` is Q.

    Attributes:
        offsets: int64 `(Q + 1,)`; the hits of query q are `offsets[q]` to `offsets[q + 1]` of the other arrays.
        ids: int64 or strings (object) `(H,)`, nearest first; equal distances by position of insertion.
        distances: int64 `(H,)`, differing bits.
        concept_distances: int64 `(H, M)`.
    """

    offsets: np.ndarray
    ids: np.ndarray
    distances: np.ndarray
    concept_distances: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not 0 <= query < len(self):
            raise IndexError(f"there are {len(self)} queries, numbered from 0; got {query}")
        hits = slice(self.offsets[query], self.offsets[query + 1])
        return self.ids[hits], self.distances[hits], self.concept_distances[hits]
