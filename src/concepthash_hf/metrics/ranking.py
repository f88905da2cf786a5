"""A ranking by Hamming distance without sorting: how many items, and relevant ones, there are at each distance.

Distances tie all the time, so a query does not have one ranking but a row of *blocks* of items whose order is open.
All that a metric needs of a block is its size and its number of relevant items, and every rule about ties is a way of
writing blocks:

- `"expected"`: a block per distance; the closed forms below give the mean over all orders inside it;
- `"optimistic"` and `"pessimistic"`: every such block cut in two, its relevant items first or last;
- `"stable"`: a block per item, equal distances by position in the database.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.special import digamma, gammaln

from .inputs import RetrievalTask

TIES = ("expected", "stable", "optimistic", "pessimistic")


def check_ties(ties: str) -> None:
    """Refuse an unknown rule about ties.

    Raises:
        ValueError: if it is none of `TIES`.
    """
    if ties not in TIES:
        raise ValueError(f"ties must be one of {', '.join(TIES)}; got {ties!r}")


@dataclass(frozen=True)
class Ranking:
    """Rankings of some queries as blocks of tied items, nearest first.

    Attributes:
        items: int64 `(Q, blocks)`, the size of every block (it may be 0).
        relevant: int64 `(Q, blocks)`, how many of them are relevant.
    """

    items: np.ndarray
    relevant: np.ndarray

    @cached_property
    def items_before(self) -> np.ndarray:
        """Items ranked before each block, int64 `(Q, blocks)`."""
        return np.cumsum(self.items, axis=1) - self.items

    @cached_property
    def relevant_before(self) -> np.ndarray:
        """Relevant items ranked before each block, int64 `(Q, blocks)`."""
        return np.cumsum(self.relevant, axis=1) - self.relevant

    @cached_property
    def num_relevant(self) -> np.ndarray:
        """All relevant items of each query, int64 `(Q,)`."""
        return self.relevant.sum(axis=1)

    def relevant_within(self, cut: int) -> np.ndarray:
        """Expected number of relevant items among the first `cut`, float64 `(Q,)`."""
        return (self._taken(cut) * self._share).sum(axis=1)

    def any_relevant_within(self, cut: int) -> np.ndarray:
        """Probability of a relevant item among the first `cut`, float64 `(Q,)`."""
        last = self.last_block(cut)
        missed = _hypergeometric(np.zeros_like(last.taken), last.items, last.relevant, last.taken)
        return 1 - missed * (last.relevant_before == 0)

    def precision_sum_within(self, cut: int | None = None) -> np.ndarray:
        """Expected sum of the precision at every relevant item among the first `cut` (None: all), float64 `(Q,)`."""
        taken = self.items if cut is None else self._taken(cut)
        return _precision_sums(self.items_before, self.relevant_before, self.items, self.relevant, taken).sum(axis=1)

    def retrieved_average_precision(self, cut: int) -> np.ndarray:
        """Expectation of (sum of precisions / relevant items), both among the first `cut`, float64 `(Q,)`.

        A ratio of two chance quantities: how many relevant items of the last block make the cut is a hypergeometric
        draw, and given that number the block is again a random order, of as many items as fit.
        """
        last = self.last_block(cut)
        whole = self.precision_sum_within(cut) - _precision_sums(
            last.items_before, last.relevant_before, last.items, last.relevant, last.taken
        )
        drawn = np.arange(np.minimum(last.relevant, last.taken).max() + 1)
        chance = _hypergeometric(drawn, *_columns(last.items, last.relevant, last.taken))
        before, relevant_before, taken = _columns(last.items_before, last.relevant_before, last.taken)
        sums = whole[:, None] + _precision_sums(before, relevant_before, taken, drawn, taken)
        return (chance * ratio(sums, relevant_before + drawn)).sum(axis=1)

    @cached_property
    def _share(self) -> np.ndarray:
        """The share of every block that is relevant."""
        return ratio(self.relevant, self.items)

    def _taken(self, cut: int) -> np.ndarray:
        """How many items of every block are among the first `cut`."""
        return np.clip(cut - self.items_before, 0, self.items)

    def last_block(self, cut: int) -> "Block":
        """The block in which the cut falls; of a ranking that is not longer than `cut`, its last block."""
        position = (self.items_before + self.items < cut).sum(axis=1).clip(max=self.items.shape[1] - 1)
        pick = (np.arange(len(position)), position)
        return Block(
            position,
            self.items_before[pick],
            self.relevant_before[pick],
            self.items[pick],
            self.relevant[pick],
            self._taken(cut)[pick],
        )


@dataclass(frozen=True)
class Block:
    """One block of every query's ranking, int64 `(Q,)` each.

    Attributes:
        position: which block; where a block is a distance, the distance.
        items_before: items ranked before it.
        relevant_before: relevant items ranked before it.
        items: its size.
        relevant: how many of its items are relevant.
        taken: how many of its items make the cut.
    """

    position: np.ndarray
    items_before: np.ndarray
    relevant_before: np.ndarray
    items: np.ndarray
    relevant: np.ndarray
    taken: np.ndarray


def rank(task: RetrievalTask, queries: slice, ties: str = "expected") -> Ranking:
    """Rank the database for some queries."""
    if ties == "stable":
        return _rank_by_position(task, queries)
    ranking = _count_by_distance(task, queries)
    if ties == "expected":
        return ranking
    relevant, others = ranking.relevant, ranking.items - ranking.relevant
    nothing = np.zeros_like(relevant)
    halves = [(relevant, relevant), (others, nothing)]
    if ties == "pessimistic":
        halves.reverse()
    items, relevant = (np.stack(column, axis=2).reshape(len(nothing), -1) for column in zip(*halves, strict=True))
    return Ranking(items, relevant)


def _count_by_distance(task: RetrievalTask, queries: slice) -> Ranking:
    """Count all queries in one histogram: each has bins for other, for relevant, and one for left-out items."""
    bins = task.num_bits + 1
    keys = task.distances(queries)
    np.add(keys, bins, out=keys, where=task.relevance(queries))
    keys[task.same_items(queries)] = 2 * bins
    keys += (2 * bins + 1) * np.arange(len(keys), dtype=np.int32)[:, None]
    # torch's bincount, because numpy's keeps the interpreter's lock and is half as fast
    counts = torch.bincount(torch.from_numpy(keys).view(-1), minlength=len(keys) * (2 * bins + 1))
    others, relevant, _ = np.split(counts.view(len(keys), -1).numpy(), [bins, 2 * bins], axis=1)
    return Ranking(others + relevant, relevant)


def _rank_by_position(task: RetrievalTask, queries: slice) -> Ranking:
    """A stable sort by distance; left-out items go last, as blocks of no items."""
    distances, relevance = task.distances(queries), task.relevance(queries)
    present = np.ones(relevance.shape, dtype=bool)
    same = task.same_items(queries)
    distances[same], relevance[same], present[same] = task.num_bits + 1, False, False
    # in few bits numpy sorts by radix, several times faster
    order = np.argsort(distances.astype(np.min_scalar_type(task.num_bits + 1)), axis=1, kind="stable")
    items, relevant = (np.take_along_axis(values, order, axis=1).astype(np.int64) for values in (present, relevance))
    return Ranking(items, relevant)


def _precision_sums(
    items_before: np.ndarray, relevant_before: np.ndarray, items: np.ndarray, relevant: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Expected sum of the precision at the relevant items among the first `taken` of a block.

    With N items and L relevant ones before a block of n items, r of them relevant, the item at place i is relevant
    with probability r / n, and then 1 + (i - 1) (r - 1) / (n - 1) relevant items of the block are expected up to it:

        (r / n) sum_{i <= taken} [L + 1 + (i - 1) s] / (N + i),   s = (r - 1) / (n - 1)
      = (r / n) (s taken + [L + 1 - s (N + 1)] [H(N + taken) - H(N)]),   H the harmonic numbers.
    """
    share, slope = ratio(relevant, items), ratio(relevant - 1, items - 1)
    numbers = _harmonic_numbers(1 << int((items_before + taken).max()).bit_length())
    harmonic = numbers[items_before + taken] - numbers[items_before]
    return share * (slope * taken + (relevant_before + 1 - slope * (items_before + 1)) * harmonic)


@lru_cache(maxsize=4)
def _harmonic_numbers(size: int) -> np.ndarray:
    """H(0), ..., H(size - 1)."""
    return digamma(np.arange(1, size + 1)) + np.euler_gamma


def _hypergeometric(drawn: np.ndarray, items: np.ndarray, relevant: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Probability that `drawn` of the `taken` out of `items` are among the `relevant`."""
    others = items - relevant
    possible = (drawn <= relevant) & (drawn <= taken) & (taken - drawn <= others)
    drawn = np.where(possible, drawn, np.minimum(relevant, taken))  # any valid number: keeps the logarithms finite
    rest = np.where(possible, taken - drawn, 0)
    logarithm = _log_choose(relevant, drawn) + _log_choose(others, rest) - _log_choose(items, taken)
    return np.where(possible, np.exp(logarithm), 0.0)


def _log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide in float64; a share of nothing is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.zeros(shape), where=np.greater(denominator, 0))


def _columns(*rows: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(row[:, None] for row in rows)
