"""Precision and recall of a lookup: everything within a Hamming radius of the query. Ties cannot matter here."""

from collections.abc import Iterable

import numpy as np

from .inputs import ArrayLike, prepare_task
from .ranking import rank, ratio


def radius_metrics(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    radii: Iterable[int] = (0, 1, 2),
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> dict[str, float]:
    """Measure lookups within a Hamming radius.

    Args:
        query_codes: see `retrieval_metrics`, as all other arguments.
        query_labels: see `retrieval_metrics`.
        database_codes: see `retrieval_metrics`.
        database_labels: see `retrieval_metrics`.
        radii: the radii r; items at a distance of at most r are found.
        query_ids: see `retrieval_metrics`.
        database_ids: see `retrieval_metrics`.

    Returns:
        Means over queries, for every radius:

        - `precision@radius_r`: the share of the items found that is relevant; 0 for a query that finds nothing, as
          usual in the hashing literature.
        - `recall@radius_r`: the share of the relevant items that is found.
        - `answered@radius_r`: the share of queries that find anything.

    Raises:
        ValueError: as `retrieval_metrics`, or if a radius is no integer of at least 0.
    """
    task = prepare_task(query_codes, query_labels, database_codes, database_labels, query_ids, database_ids)
    checked = [_check_radius(radius) for radius in radii]

    def measure(queries: slice) -> dict[str, np.ndarray]:
        ranking = rank(task, queries)
        values = {}
        for radius in checked:
            # block d of the ranking is what lies at distance d
            items = ranking.items[:, : radius + 1].sum(axis=1)
            relevant = ranking.relevant[:, : radius + 1].sum(axis=1)
            values[f"precision@radius_{radius}"] = ratio(relevant, items)
            values[f"recall@radius_{radius}"] = ratio(relevant, ranking.num_relevant)
            values[f"answered@radius_{radius}"] = (items > 0).astype(np.float64)
        return values

    return {key: float(value.mean()) for key, value in task.map_queries(measure).items()}


def _check_radius(radius: int) -> int:
    if not isinstance(radius, int | np.integer) or radius < 0:
        raise ValueError(f"a Hamming radius is an integer of at least 0, got {radius!r}")
    return int(radius)
