"""What codes have to beat: chance, and the neighbours that float features find."""

from collections.abc import Iterable

import numpy as np
import torch

from ..codes import to_numpy
from .inputs import ArrayLike, prepare_task
from .ranking import Ranking
from .retrieval import check_rank, ranking_metrics, retrieval_metrics


def chance_metrics(
    query_labels: ArrayLike, database_labels: ArrayLike, at: Iterable[int] = (1, 5, 10)
) -> dict[str, float | int]:
    """Measure what a ranking in random order brings, exactly: the mean over all orders.

    Args:
        query_labels: integers `(Q,)` or multi-hot `(Q, C)`.
        database_labels: integers `(N,)` or multi-hot `(N, C)`.
        at: see `retrieval_metrics`.

    Returns:
        As `retrieval_metrics`.

    Raises:
        ValueError: as `retrieval_metrics`.

    Example:
        >>> chance_metrics([0], [0, 1], at=[1])["map"]  # one of two orders has it first, the other second
        0.75
    """
    # codes that are all the same tie, and ties are taken by expectation
    codes = (_no_codes(query_labels), _no_codes(database_labels))
    return retrieval_metrics(codes[0], query_labels, codes[1], database_labels, at=at)


def feature_metrics(
    query_features: ArrayLike,
    query_labels: ArrayLike,
    database_features: ArrayLike,
    database_labels: ArrayLike,
    at: Iterable[int] = (1, 5, 10),
) -> dict[str, float]:
    """Measure how well a database, ranked by the cosine of float features, brings up what each query is looking for.

    The mean feature of the database is taken away from all: what all photos share would make all of them alike.

    Args:
        query_features: floating point `(Q, d)`.
        query_labels: integers `(Q,)` or multi-hot `(Q, C)`.
        database_features: floating point `(N, d)`.
        database_labels: integers `(N,)` or multi-hot `(N, C)`.
        at: see `retrieval_metrics`.

    Returns:
        `map`, `precision@k`, `recall@k` and `hit_rate@k` of `retrieval_metrics`; equal cosines by position.

    Raises:
        ValueError: as `retrieval_metrics`, or if features are of two widths or not finite.
    """
    queries, database = (_as_features(each) for each in (query_features, database_features))
    if queries.ndim != 2 or queries.shape[1:] != database.shape[1:]:
        raise ValueError(f"features must be (Q, d) and (N, d) of one width, got {queries.shape} and {database.shape}")
    if not (np.isfinite(queries).all() and np.isfinite(database).all()):
        raise ValueError("features must be finite numbers")
    cuts = [check_rank(cut, "at") for cut in at]
    task = prepare_task(_no_codes(queries), query_labels, _no_codes(database), database_labels)
    mean = database.mean(axis=0)
    queries, database = _unit(queries - mean), _unit(database - mean)

    def measure(rows: slice) -> dict[str, np.ndarray]:
        order = np.argsort(-(queries[rows] @ database.T), axis=1, kind="stable")
        relevant = np.take_along_axis(task.relevance(rows), order, axis=1).astype(np.int64)
        return ranking_metrics(Ranking(np.ones_like(relevant), relevant), None, cuts)

    values = task.map_queries(measure)
    del values["num_relevant"]
    return {name: float(value.mean()) for name, value in values.items()}


def _as_features(features: ArrayLike) -> np.ndarray:
    """Features as float32."""
    if isinstance(features, torch.Tensor):
        features = features.float()  # numpy knows no bfloat16
    return to_numpy(features).astype(np.float32)


def _no_codes(items: ArrayLike) -> np.ndarray:
    """A code for each item, the same for all."""
    return np.zeros((len(items), 1), dtype=np.uint8)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
