"""Retrieval quality as the definitions say it: loops over explicit rankings."""

from itertools import permutations

import numpy as np

from concepthash_hf.codes import hamming_distance


def ranked_values(relevance, num_relevant, top_k, at):
    """All values of one query, from the relevance of every item in the order of its ranking."""
    precisions = [sum(relevance[: i + 1]) / (i + 1) for i in range(len(relevance))]

    def precision_sum(cut):
        return sum(p for p, is_relevant in list(zip(precisions, relevance, strict=True))[:cut] if is_relevant)

    within = sum(relevance[:top_k])
    values = {
        "map": precision_sum(None) / num_relevant if num_relevant else 0.0,
        f"map@{top_k}": precision_sum(top_k) / min(top_k, num_relevant) if num_relevant else 0.0,
        f"map@{top_k}_retrieved": precision_sum(top_k) / within if within else 0.0,
    }
    for k in at:
        found = sum(relevance[:k])
        values[f"precision@{k}"] = found / k
        values[f"recall@{k}"] = found / num_relevant if num_relevant else 0.0
        values[f"hit_rate@{k}"] = float(found > 0)
    return values


def stable_values(query, label, database, labels, top_k, at):
    """One query, equal distances by position."""
    order = np.argsort(hamming_distance(query, database), kind="stable")
    relevance = (labels[order] == label).tolist()
    return ranked_values(relevance, sum(relevance), top_k, at)


def mean_of(dicts):
    dicts = list(dicts)
    return {key: float(np.mean([values[key] for values in dicts])) for key in dicts[0]}


def stable_metrics(queries, query_labels, database, labels, top_k, at):
    return mean_of(
        stable_values(query, label, database, labels, top_k, at)
        for query, label in zip(queries, query_labels, strict=True)
    )


def all_orders(query, label, database, labels, top_k, at):
    """The values of one query under every order of the database."""
    return [
        stable_values(query, label, database[list(order)], labels[list(order)], top_k, at)
        for order in permutations(range(len(database)))
    ]
