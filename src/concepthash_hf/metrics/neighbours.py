"""What the nearest neighbours say: a vote on the class, and whether a wrong neighbour is at least a relative."""

from collections.abc import Iterable

import numpy as np

from ..codes import to_numpy
from .inputs import ArrayLike, RetrievalTask, as_integer_labels, prepare_task
from .ranking import Ranking, rank, ratio
from .retrieval import check_rank, per_query_metrics


def knn_accuracy(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    at: Iterable[int] = (1, 5, 10),
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> dict[str, float]:
    """Classify each query by a vote among its k nearest neighbours.

    The vote does not depend on the order of the database: when more items lie at the k-th distance than there are
    places left, they share these places evenly, and classes with equally many votes share the decision evenly.

    Args:
        query_codes: see `retrieval_metrics`, as all other arguments.
        query_labels: integers `(Q,)`.
        database_codes: see `retrieval_metrics`.
        database_labels: integers `(N,)`.
        at: the numbers k of neighbours that vote; in a smaller database all items do.
        query_ids: see `retrieval_metrics`.
        database_ids: see `retrieval_metrics`.

    Returns:
        `knn_accuracy@k` for every k, a mean over queries.

    Raises:
        ValueError: as `retrieval_metrics`, or if the labels are multi-hot.
    """
    task = prepare_task(query_codes, query_labels, database_codes, database_labels, query_ids, database_ids)
    if task.query_labels.ndim != 1:
        raise ValueError("neighbours vote on one class per query: labels must be integers (n,), got multi-hot labels")
    cuts = [check_rank(cut, "at") for cut in at]
    num_classes = int(max(task.query_labels.max(), task.database_labels.max())) + 1

    def measure(queries: slice) -> dict[str, np.ndarray]:
        ranking, distances = rank(task, queries), task.distances(queries)
        distances[task.same_items(queries)] = task.num_bits + 1
        values = {}
        for cut in cuts:
            votes = _votes(task, ranking, distances, cut, num_classes)
            # of a query whose every item is left out, nobody votes
            winners = (votes == votes.max(axis=1, keepdims=True)) & (votes > 0)
            right = winners[np.arange(len(winners)), task.query_labels[queries]]
            values[f"knn_accuracy@{cut}"] = ratio(right, winners.sum(axis=1))
        return values

    return {key: float(value.mean()) for key, value in task.map_queries(measure).items()}


def _votes(task: RetrievalTask, ranking: Ranking, distances: np.ndarray, cut: int, num_classes: int) -> np.ndarray:
    """Votes `(rows, num_classes)`, times the size of the last block: integers, which compare exactly."""
    last = ranking.last_block(cut)
    rows, items = np.nonzero(distances <= last.position[:, None])
    whole = distances[rows, items] < last.position[rows]
    weights = np.where(whole, np.maximum(last.items, 1)[rows], last.taken[rows])
    cells = rows * num_classes + task.database_labels[items]
    return np.bincount(cells, weights, minlength=len(distances) * num_classes).reshape(-1, num_classes)


def family_metrics(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    class_families: ArrayLike,
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> dict[str, float | None]:
    """Measure whether the nearest neighbour, where it is of the wrong class, is at least of the right family.

    Items tied for the first place count in equal parts.

    Args:
        query_codes: see `retrieval_metrics`, as all other arguments.
        query_labels: integers `(Q,)`.
        database_codes: see `retrieval_metrics`.
        database_labels: integers `(N,)`.
        class_families: integers `(C,)`, the family of class 0, 1, ..., C - 1.
        query_ids: see `retrieval_metrics`.
        database_ids: see `retrieval_metrics`.

    Returns:
        - `precision@1` and `family_precision@1`: the share of nearest neighbours of the right class, and family.
        - `wrong_top1_in_family`: of the wrong nearest neighbours, the share inside the right family.
        - `wrong_top1_in_family_by_chance`: the same if the wrong neighbour were any item of another class.

        The last two are None when no nearest neighbour is wrong.

    Raises:
        ValueError: as `retrieval_metrics`, or if a label has no entry in `class_families`.
    """
    queries = as_integer_labels(query_labels, len(query_codes), "query_labels")
    database = as_integer_labels(database_labels, len(database_codes), "database_labels")
    # the last pair makes all items relevant, and so counts those that are not left out
    by_class, by_family, all_items = (
        per_query_metrics(
            prepare_task(query_codes, left, database_codes, right, query_ids, database_ids),
            at=[1],
        )
        for left, right in (
            (queries, database),
            (families_of(queries, class_families), families_of(database, class_families)),
            (np.zeros_like(queries), np.zeros_like(database)),
        )
    )
    wrong = 1 - by_class["precision@1"]
    relatives = by_family["precision@1"] - by_class["precision@1"]
    of_another_class = all_items["num_relevant"] - by_class["num_relevant"]
    chance = ratio(by_family["num_relevant"] - by_class["num_relevant"], of_another_class)
    any_wrong = wrong.sum() > 0
    return {
        "precision@1": float(by_class["precision@1"].mean()),
        "family_precision@1": float(by_family["precision@1"].mean()),
        "wrong_top1_in_family": float(relatives.sum() / wrong.sum()) if any_wrong else None,
        "wrong_top1_in_family_by_chance": float((wrong * chance).sum() / wrong.sum()) if any_wrong else None,
    }


def families_of(labels: np.ndarray, class_families: ArrayLike) -> np.ndarray:
    """The family of every item, from the family of every class.

    Raises:
        ValueError: if `class_families` is not a row of integers, or a label has no entry in it.
    """
    families = to_numpy(class_families)
    if families.ndim != 1 or families.dtype.kind not in "iu":
        raise ValueError(
            f"class_families must be integers (number of classes,), got {families.dtype} of shape {families.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= len(families)):
        raise ValueError(
            f"class_families has {len(families)} entries, but the labels go from {labels.min()} to {labels.max()}"
        )
    return families[labels]
