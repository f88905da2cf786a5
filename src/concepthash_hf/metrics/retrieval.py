"""Mean average precision and its companions, over all queries or class by class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .inputs import ArrayLike, RetrievalTask, checked_labels, prepare_task
from .ranking import Ranking, check_ties, rank, ratio


def retrieval_metrics(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    top_k: int | None = None,
    at: Iterable[int] = (1, 5, 10),
    ties: str = "expected",
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> dict[str, float | int]:
    """Measure how well a database, ranked by Hamming distance, brings up what each query is looking for.

    An item is relevant to a query when they share a label. Average precision is the sum of the precision at every
    relevant item, divided by the number of relevant items; a query without any counts as 0. All values are means over
    queries, computed in float64 on `torch.get_num_threads()` threads, in chunks, so that memory does not grow with the
    number of pairs.

    Hamming distances tie all the time, and what a sort makes of ties is chance. `ties` says what is meant instead:

    - `"expected"`: the exact mean over all orders of items at equal distance, in closed form;
    - `"stable"`: equal distances by position in the database (slower: it sorts);
    - `"optimistic"`, `"pessimistic"`: relevant items first, or last, among those at equal distance. They bound every
      value, except `map@R_retrieved`, whose divisor changes with the order as well.

    Args:
        query_codes: packed codes, uint8 `(Q, ceil(K / 8))`, array or tensor.
        query_labels: integers `(Q,)`, also as a column `(Q, 1)`, or multi-hot `(Q, C)`.
        database_codes: packed codes, uint8 `(N, ceil(K / 8))`.
        database_labels: integers `(N,)` or multi-hot `(N, C)`, like `query_labels`.
        top_k: R, the length of the list that `map@R` looks at.
        at: the ranks k at which precision, recall and hit rate are measured.
        ties: the rule about equal distances.
        query_ids: integers or strings `(Q,)`. Items of the database that bear the id of the query are left out of its
            ranking, so that a set can be searched for its own photos.
        database_ids: integers or strings `(N,)`; given together with `query_ids`.

    Returns:
        - `map`: over the whole ranking.
        - `map@R`: over the first R, divided by min(R, relevant items).
        - `map@R_retrieved`: over the first R, divided by the relevant items among them, as many hashing papers do.
        - `precision@k`: the share of the first k that is relevant.
        - `recall@k`: the share of the relevant items that is among the first k.
        - `hit_rate@k`: the share of queries with a relevant item among the first k (often called recall@k).
        - `num_queries`, `num_database`, `num_queries_without_relevant`.

    Raises:
        ValueError: if the codes are not packed or differ in width, a length does not fit, there is no query or an
            empty database, no query shares a label with any item, or a setting is out of range.

    Example:
        >>> import numpy as np
        >>> database = np.array([[0b0000], [0b0001], [0b0011]], dtype=np.uint8)
        >>> round(retrieval_metrics(database[:1], [7], database, [7, 3, 7], at=[2])["map"], 4)
        0.8333
    """
    task = prepare_task(query_codes, query_labels, database_codes, database_labels, query_ids, database_ids)
    values = per_query_metrics(task, top_k, at, ties)
    num_relevant = values.pop("num_relevant")
    means: dict[str, float | int] = {key: float(value.mean()) for key, value in values.items()}
    return means | {
        "num_queries": task.num_queries,
        "num_database": task.num_database,
        "num_queries_without_relevant": int((num_relevant == 0).sum()),
    }


def per_class_metrics(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    top_k: int | None = None,
    at: Iterable[int] = (1, 5, 10),
    ties: str = "expected",
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> dict[int, dict[str, float | int]]:
    """Measure the same as `retrieval_metrics`, class by class.

    Args:
        query_codes: see `retrieval_metrics`, as all other arguments.
        query_labels: a query with several labels counts for each of them.
        database_codes: see `retrieval_metrics`.
        database_labels: see `retrieval_metrics`.
        top_k: see `retrieval_metrics`.
        at: see `retrieval_metrics`.
        ties: see `retrieval_metrics`.
        query_ids: see `retrieval_metrics`.
        database_ids: see `retrieval_metrics`.

    Returns:
        For every class that has queries, in ascending order: the means over its queries, and `num_queries`.

    Raises:
        ValueError: as `retrieval_metrics`.
    """
    task = prepare_task(query_codes, query_labels, database_codes, database_labels, query_ids, database_ids)
    values = per_query_metrics(task, top_k, at, ties)
    del values["num_relevant"]
    return {
        label: {key: float(value[members].mean()) for key, value in values.items()} | {"num_queries": len(members)}
        for label, members in _queries_by_class(checked_labels(query_labels, task.num_queries, "query_labels"))
    }


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Mean precision and recall of the first k items, for growing k.

    Attributes:
        ranks: int64 `(P,)`, ascending from 1 to the size of the database.
        precision: float64 `(P,)`.
        recall: float64 `(P,)`, ascending.
    """

    ranks: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def precision_recall_curve(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    num_points: int = 100,
    ties: str = "expected",
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> PrecisionRecallCurve:
    """Trace precision against recall down the ranking.

    Args:
        query_codes: see `retrieval_metrics`, as all other arguments.
        query_labels: see `retrieval_metrics`.
        database_codes: see `retrieval_metrics`.
        database_labels: see `retrieval_metrics`.
        num_points: ranks to measure at, at most; they lie evenly on a logarithmic scale.
        ties: see `retrieval_metrics`.
        query_ids: see `retrieval_metrics`.
        database_ids: see `retrieval_metrics`.

    Returns:
        `precision@k` and `recall@k` of `retrieval_metrics` at these ranks.

    Raises:
        ValueError: as `retrieval_metrics`, or if `num_points < 2`.
    """
    if num_points < 2:
        raise ValueError(f"a curve has at least 2 points, got num_points={num_points}")
    check_ties(ties)
    task = prepare_task(query_codes, query_labels, database_codes, database_labels, query_ids, database_ids)
    ranks = np.unique(np.geomspace(1, task.num_database, num_points).round().astype(np.int64))

    def measure(queries: slice) -> dict[str, np.ndarray]:
        ranking = rank(task, queries, ties)
        found = np.stack([ranking.relevant_within(cut) for cut in ranks], axis=1)
        return {"precision": found / ranks, "recall": ratio(found, ranking.num_relevant[:, None])}

    values = task.map_queries(measure)
    return PrecisionRecallCurve(ranks, values["precision"].mean(axis=0), values["recall"].mean(axis=0))


def per_query_metrics(
    task: RetrievalTask, top_k: int | None = None, at: Iterable[int] = (), ties: str = "expected"
) -> dict[str, np.ndarray]:
    """The values behind `retrieval_metrics` before the mean, `(Q,)` each, and `num_relevant`.

    Raises:
        ValueError: if `ties` is unknown, or `top_k` or a rank in `at` is no positive integer.
    """
    check_ties(ties)
    cuts = [check_rank(cut, "at") for cut in at]
    limit = None if top_k is None else check_rank(top_k, "top_k")
    return task.map_queries(lambda queries: ranking_metrics(rank(task, queries, ties), limit, cuts))


def ranking_metrics(ranking: Ranking, top_k: int | None, at: Sequence[int]) -> dict[str, np.ndarray]:
    """The same of rankings that are there already, by Hamming distance or otherwise."""
    total = ranking.num_relevant
    values = {"map": ratio(ranking.precision_sum_within(), total)}
    if top_k is not None:
        values[f"map@{top_k}"] = ratio(ranking.precision_sum_within(top_k), np.minimum(total, top_k))
        values[f"map@{top_k}_retrieved"] = ranking.retrieved_average_precision(top_k)
    for cut in at:
        found = ranking.relevant_within(cut)
        values[f"precision@{cut}"] = found / cut
        values[f"recall@{cut}"] = ratio(found, total)
        values[f"hit_rate@{cut}"] = ranking.any_relevant_within(cut)
    return values | {"num_relevant": total}


def check_rank(rank: int, name: str) -> int:
    """Refuse what cannot be a rank.

    Raises:
        ValueError: if it is no positive integer.
    """
    if not isinstance(rank, int | np.integer) or rank < 1:
        raise ValueError(f"{name} counts items of a ranking: a positive integer is expected, got {rank!r}")
    return int(rank)


def _queries_by_class(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Every class that has queries, with their positions."""
    if labels.ndim == 2:
        members = [np.flatnonzero(column) for column in labels.T]
        return [(label, queries) for label, queries in enumerate(members) if len(queries)]
    classes, sizes = np.unique(labels, return_counts=True)
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    return [(int(label), queries) for label, queries in zip(classes, groups, strict=True)]
