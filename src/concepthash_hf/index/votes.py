"""What an item is, by a vote of its nearest neighbours."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import CodeIndex
from .inputs import ArrayLike


@dataclass(frozen=True)
class Vote:
    """The outcome for one query.

    Attributes:
        label: with most votes; of equally many, the one whose voters are nearer on average, then the one whose first
            voter comes first.
        share: of the votes.
        counts: votes by label, most first.
    """

    label: Any
    share: float
    counts: dict[Any, int]


def neighbour_vote(index: CodeIndex, codes: ArrayLike, k: int, column: str) -> list[Vote]:
    """Classify queries by a vote among their k nearest items, on a column of the metadata.

    No class has to be trained on to be voted for: photos of a new class, or the code of its name
    (`ConceptHashModel.get_text_hash_codes`), vote as soon as they are in the index.

    Args:
        index: items with metadata.
        codes: queries, uint8 `(Q, ceil(K / 8))`.
        k: voters per query.
        column: of the metadata that holds the label, or several, each of which gets a vote. Items without one do not
            vote.

    Returns:
        Q votes.

    Raises:
        ValueError: as `CodeIndex.search`, or if none of a query's k nearest items has a label.
    """
    found = index.search(codes, k)
    rows = index.get_metadata(found.ids.ravel())
    labels = np.array([row.get(column) for row in rows] + [None], dtype=object)[:-1].reshape(found.ids.shape)
    return [_count(*query, column) for query in zip(labels, found.distances, strict=True)]


def _count(labels: np.ndarray, distances: np.ndarray, column: str) -> Vote:
    counts: Counter[Any] = Counter()
    total_distance: Counter[Any] = Counter()
    for of_item, distance in zip(labels, distances.tolist(), strict=True):
        for label in of_item if isinstance(of_item, list) else [of_item]:
            if label is not None:
                counts[label] += 1
                total_distance[label] += distance
    if not counts:
        raise ValueError(f"none of the nearest items has a {column!r} in its metadata: no label to vote on")
    # a stable sort of labels in order of their first voters
    ranked = sorted(counts, key=lambda label: (-counts[label], total_distance[label]))
    return Vote(ranked[0], counts[ranked[0]] / counts.total(), {label: counts[label] for label in ranked})
