"""Tie-aware retrieval quality of binary codes, as an `evaluate` metric."""

import datasets
import evaluate
import numpy as np

from concepthash_hf.metrics import retrieval_metrics

_CITATION = """\
@inproceedings{ng2024concepthash,
  title     = {ConceptHash: Interpretable Fine-Grained Hashing via Concept Discovery},
  author    = {Ng, Kam Woh and Zhu, Xiatian and Song, Yi-Zhe and Xiang, Tao},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops},
  year      = {2024}
}
"""

_DESCRIPTION = """\
Ranks a database of binary codes by Hamming distance and measures mean average precision, precision, recall and hit
rate. Items at equal distance count by their exact expectation over all orders, so the numbers do not depend on a sort.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: packed codes, one list of bytes (0 to 255) per item; most significant bit first, as `numpy.packbits`.
    references: labels, an integer per item; in the configuration "multilabel" a list of 0 and 1, one per class.
    roles: what each item is: "query", "database", or "both" (searches for the others, and is found by them).
    top_k (`int`, *optional*): R; adds `map@R` and `map@R_retrieved`.
    at (`list` of `int`, defaults to `(1, 5, 10)`): ranks of `precision@k`, `recall@k` and `hit_rate@k`.
    ties (`str`, defaults to `"expected"`): or `"stable"`, `"optimistic"`, `"pessimistic"`.
Returns:
    `dict`: as `concepthash_hf.metrics.retrieval_metrics`.
Examples:
    >>> metric = evaluate.load("concepthash_retrieval")
    >>> metric.add_batch(predictions=[[0], [1], [3]], references=[7, 3, 7], roles=["database"] * 3)
    >>> metric.add_batch(predictions=[[0]], references=[7], roles=["query"])
    >>> round(metric.compute()["map"], 4)
    0.8333
"""

ROLES = ("query", "database", "both")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ConceptHashRetrieval(evaluate.Metric):
    """Accumulates queries and database in any order, over batches and processes, and measures them at once."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in ("default", "multilabel"):
            raise ValueError(f'the configurations are "default" and "multilabel", got {self.config_name!r}')
        label = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("uint8")),
                    "references": datasets.Sequence(label) if self.config_name == "multilabel" else label,
                    "roles": datasets.Value("string"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2406.08457"],
        )

    def _compute(self, predictions, references, roles, top_k=None, at=(1, 5, 10), ties="expected"):
        codes, labels, roles = np.array(predictions, dtype=np.uint8), np.array(references), np.array(roles)
        unknown = set(roles.tolist()) - set(ROLES)
        if unknown:
            raise ValueError(f"roles are {', '.join(ROLES)}; got {', '.join(sorted(unknown))}")
        queries, database = np.flatnonzero(roles != "database"), np.flatnonzero(roles != "query")
        # an item's row is its id: one that is both does not find itself
        return retrieval_metrics(
            codes[queries],
            labels[queries],
            codes[database],
            labels[database],
            top_k=top_k,
            at=at,
            ties=ties,
            query_ids=queries,
            database_ids=database,
        )
