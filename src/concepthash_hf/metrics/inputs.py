"""What the metrics are given: codes, labels and ids, checked once and brought into the form the counting needs."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..codes import as_words, check_packed, to_numpy

# Pairs of query and database item that one thread looks at at a time: what bounds the memory.
PAIRS_PER_CHUNK = 2**20

ArrayLike = np.ndarray | torch.Tensor | Sequence[Any]


@dataclass(frozen=True)
class RetrievalTask:
    """Queries and a database, ready to be compared.

    Attributes:
        query_codes: uint64 `(Q, words)`.
        database_codes: uint64 `(N, words)`.
        query_labels: int `(Q,)`, or uint64 `(Q, words)`: a bit per label.
        database_labels: int `(N,)`, or uint64 `(N, words)`.
        num_bits: the greatest possible distance.
        left_out: `(rows, columns)`, the pairs that are one and the same item; rows ascending.
    """

    query_codes: np.ndarray
    database_codes: np.ndarray
    query_labels: np.ndarray
    database_labels: np.ndarray
    num_bits: int
    left_out: tuple[np.ndarray, np.ndarray]

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self.query_codes)

    @property
    def num_database(self) -> int:
        """N."""
        return len(self.database_codes)

    def distances(self, queries: slice) -> np.ndarray:
        """Hamming distances, int32 `(len(queries), N)`."""
        words = zip(self.query_codes[queries].T, self.database_codes.T, strict=True)
        counts = (np.bitwise_count(query_word[:, None] ^ database_word) for query_word, database_word in words)
        distances = next(counts).astype(np.int32)
        for count in counts:
            distances += count
        return distances

    def relevance(self, queries: slice) -> np.ndarray:
        """Whether query and item share a label, bool `(len(queries), N)`."""
        labels = self.query_labels[queries]
        if labels.ndim == 1:
            return labels[:, None] == self.database_labels
        shared = np.zeros((len(labels), self.num_database), dtype=bool)
        for query_word, database_word in zip(labels.T, self.database_labels.T, strict=True):
            shared |= (query_word[:, None] & database_word) != 0
        return shared

    def same_items(self, queries: slice) -> tuple[np.ndarray, np.ndarray]:
        """The pairs to leave out, as indices into an array `(len(queries), N)`."""
        rows, columns = self.left_out
        here = slice(*np.searchsorted(rows, (queries.start, queries.stop)))
        return rows[here] - queries.start, columns[here]

    def map_queries(self, function: Callable[[slice], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Apply a function to chunks of queries, on `torch.get_num_threads()` threads, and join what it returns."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            chunks = list(pool.map(function, self._chunks()))
        return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}

    def _chunks(self) -> Iterator[slice]:
        # a query needs room for its distances, and for a count per distance
        size = max(1, PAIRS_PER_CHUNK // max(self.num_database, 2 * self.num_bits))
        for start in range(0, self.num_queries, size):
            yield slice(start, min(start + size, self.num_queries))


def prepare_task(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> RetrievalTask:
    """Check everything a retrieval metric is given.

    Args:
        query_codes: packed codes, uint8 `(Q, ceil(K / 8))`.
        query_labels: integers `(Q,)`, also as a column `(Q, 1)`, or multi-hot `(Q, C)`.
        database_codes: packed codes, uint8 `(N, ceil(K / 8))`.
        database_labels: integers `(N,)`, also as a column `(N, 1)`, or multi-hot `(N, C)`.
        query_ids: integers or strings `(Q,)`; an item of the database with the query's id is left out of its ranking.
        database_ids: integers or strings `(N,)`.

    Raises:
        ValueError: on anything of another shape, type or length, on codes that were not packed, an empty database,
            no queries, and labels of which not a single query finds one in the database.
    """
    queries = as_codes(query_codes, "query_codes")
    database = as_codes(database_codes, "database_codes")
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"query_codes are {queries.shape[1]} bytes wide and database_codes {database.shape[1]}: "
            "both must come from the same model"
        )
    if len(queries) == 0 or len(database) == 0:
        raise ValueError(f"nothing to measure: {len(queries)} queries against a database of {len(database)}")
    _refuse_unpacked(queries, database)
    left, right = _as_labels(query_labels, database_labels, len(queries), len(database))
    task = RetrievalTask(
        query_codes=as_words(queries),
        database_codes=as_words(database),
        query_labels=left,
        database_labels=right,
        num_bits=8 * queries.shape[1],
        left_out=_same_ids(query_ids, database_ids, len(queries), len(database)),
    )
    if not _any_match(left, right):
        raise ValueError(
            "no query shares a label with any item of the database: are both labelled by the same list of classes?"
        )
    return task


def as_codes(codes: ArrayLike, name: str) -> np.ndarray:
    """Packed codes as uint8 `(n, bytes)`, or a ValueError that names the argument."""
    try:
        array = to_numpy(codes)
    except ValueError:
        raise ValueError(f"{name} must all be of the same length, in bytes") from None
    if not isinstance(codes, np.ndarray | torch.Tensor) and array.dtype.kind in "iu":
        # a list has no dtype of its own: bytes are told by their values
        if array.size and (array.min() < 0 or array.max() > 255):
            raise ValueError(f"{name}: packed codes are bytes (0 to 255), got values {array.min()} to {array.max()}")
        array = array.astype(np.uint8)
    try:
        check_packed(array)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have the shape (n, bytes per code), got {array.shape}")
    return array


def as_integer_labels(labels: ArrayLike, length: int, name: str) -> np.ndarray:
    """Integer labels `(length,)`, or a ValueError that names the argument."""
    array = checked_labels(labels, length, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be integers of shape ({length},), one class per item; got shape {array.shape}")
    return array


def _refuse_unpacked(queries: np.ndarray, database: np.ndarray) -> None:
    """Bytes that are all 0 or 1 are bits that were never packed (a collapsed code, all zero, is let through)."""
    if queries.shape[1] >= 8 and max(queries.max(), database.max()) == 1:
        raise ValueError(
            f"the codes are {queries.shape[1]} bytes wide and every byte is 0 or 1: these are bits, not packed codes; "
            "use pack_bits"
        )


def _as_labels(
    query_labels: ArrayLike, database_labels: ArrayLike, num_queries: int, num_database: int
) -> tuple[np.ndarray, np.ndarray]:
    """Integers as small integers numbered from 0; multi-hot rows as words of bits."""
    queries = checked_labels(query_labels, num_queries, "query_labels")
    database = checked_labels(database_labels, num_database, "database_labels")
    if queries.shape[1:] != database.shape[1:]:
        raise ValueError(
            f"query_labels of shape {queries.shape} and database_labels of shape {database.shape} do not fit: "
            "both are integers (n,), or both multi-hot (n, number of classes)"
        )
    if queries.ndim == 1:
        # comparing 590 million pairs of labels is four times faster in 16 bits than in 64
        classes, numbers = np.unique(np.concatenate(_of_one_type(queries, database)), return_inverse=True)
        numbers = numbers.astype(np.min_scalar_type(len(classes)))
        return numbers[:num_queries], numbers[num_queries:]
    return as_words(np.packbits(queries != 0, axis=1)), as_words(np.packbits(database != 0, axis=1))


def checked_labels(labels: ArrayLike, length: int, name: str) -> np.ndarray:
    """Labels as integers `(length,)`, or multi-hot `(length, C)` with C of 2 or more.

    A single column `(length, 1)` holds a label per item: as multi-hot, with one class, it would say nothing.

    Raises:
        ValueError: if they are neither, or another number of them; names the argument.
    """
    array = to_numpy(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be integers (n,) or multi-hot (n, number of classes), got shape {array.shape}")
    if len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries for {length} codes")
    if array.ndim == 1 and array.dtype.kind not in "iub":
        raise ValueError(f"{name} must be integers, got {array.dtype}; number the classes first")
    if array.ndim == 1 and array.dtype.kind == "b":
        array = array.astype(np.int64)  # two classes: as an index it would be a mask
    if array.ndim == 2 and not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name} of shape {array.shape} is taken as multi-hot, but has values other than 0 and 1")
    return array


def _of_one_type(queries: np.ndarray, database: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed and unsigned integers as one type that holds both; numpy would make floats of them, and numbers equal."""
    if {queries.dtype.kind, database.dtype.kind} != {"i", "u"}:
        return queries, database
    signed, unsigned = (queries, database) if queries.dtype.kind == "i" else (database, queries)
    if unsigned.max(initial=0) <= np.iinfo(np.int64).max:
        return queries.astype(np.int64), database.astype(np.int64)
    if signed.min(initial=0) >= 0:
        return queries.astype(np.uint64), database.astype(np.uint64)
    raise ValueError(
        f"integers from {signed.min()} to {unsigned.max()} fit no type of 64 bits; number labels and ids from 0"
    )


def _any_match(queries: np.ndarray, database: np.ndarray) -> bool:
    if queries.ndim == 1:
        return bool(np.isin(queries, database).any())
    return bool((np.bitwise_or.reduce(queries) & np.bitwise_or.reduce(database)).any())


def _same_ids(
    query_ids: ArrayLike | None, database_ids: ArrayLike | None, num_queries: int, num_database: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs whose ids are equal, ordered by query."""
    if query_ids is None and database_ids is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if query_ids is None or database_ids is None:
        raise ValueError("query_ids and database_ids are given together or not at all")
    queries, database = to_numpy(query_ids), to_numpy(database_ids)
    if queries.shape != (num_queries,) or database.shape != (num_database,):
        raise ValueError(
            f"ids are one per code: expected shapes ({num_queries},) and ({num_database},), "
            f"got {queries.shape} and {database.shape}"
        )
    for array in (queries, database):
        texts = array.dtype.kind in "UST" or all(isinstance(id, str) for id in array.tolist())
        if array.dtype.kind not in "iu" and not texts:
            raise ValueError(f"ids are integers or strings, got {array.dtype} such as {array[0]!r}")
    if (queries.dtype.kind in "iu") != (database.dtype.kind in "iu"):
        raise ValueError(f"ids of different kind never match: {queries.dtype} and {database.dtype}")
    queries, database = _of_one_type(queries, database)
    order = np.argsort(database, kind="stable")
    first, last = (np.searchsorted(database, queries, side=side, sorter=order) for side in ("left", "right"))
    rows = np.repeat(np.arange(num_queries), last - first)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
    return rows, order[first[rows] + within]
