"""What each concept contributes: retrieval with one sub-code alone, and with one left out."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..codes import as_words, check_divisible, check_packed, pack_bits
from .inputs import ArrayLike, RetrievalTask, as_codes, prepare_task
from .retrieval import per_query_metrics


def sub_code_metrics(
    query_codes: ArrayLike,
    query_labels: ArrayLike,
    database_codes: ArrayLike,
    database_labels: ArrayLike,
    num_bits: int,
    num_concepts: int,
    ties: str = "expected",
    query_ids: ArrayLike | None = None,
    database_ids: ArrayLike | None = None,
) -> dict[str, Any]:
    """Measure mAP with each concept alone, and with each concept left out.

    Args:
        query_codes: see `retrieval_metrics`, as all other arguments.
        query_labels: see `retrieval_metrics`.
        database_codes: see `retrieval_metrics`.
        database_labels: see `retrieval_metrics`.
        num_bits: K.
        num_concepts: M; K divides by it.
        ties: see `retrieval_metrics`.
        query_ids: see `retrieval_metrics`.
        database_ids: see `retrieval_metrics`.

    Returns:
        `map` of the whole code, `map_alone` and `map_left_out`, lists of one value per concept.

    Raises:
        ValueError: as `retrieval_metrics`, or if the codes do not fit `num_bits` and `num_concepts`.
    """
    check_divisible(num_bits, num_concepts)
    check_packed(as_codes(query_codes, "query_codes"), num_bits)
    task = prepare_task(query_codes, query_labels, database_codes, database_labels, query_ids, database_ids)
    concept_of_bit = np.repeat(np.arange(num_concepts), num_bits // num_concepts)
    return {
        "map": _masked_map(task, np.ones(num_bits, dtype=bool), ties),
        "map_alone": [_masked_map(task, concept_of_bit == concept, ties) for concept in range(num_concepts)],
        "map_left_out": [_masked_map(task, concept_of_bit != concept, ties) for concept in range(num_concepts)],
    }


def _masked_map(task: RetrievalTask, kept: np.ndarray, ties: str) -> float:
    """Score the bits that are kept; the others are cleared on both sides, so they add no distance."""
    mask = as_words(pack_bits(kept)[None])
    masked = replace(task, query_codes=task.query_codes & mask, database_codes=task.database_codes & mask)
    return float(per_query_metrics(masked, ties=ties)["map"].mean())
