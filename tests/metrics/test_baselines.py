"""What codes have to beat, against loops over all orders and over single queries."""

from itertools import permutations

import numpy as np
import pytest
import torch

from concepthash_hf.metrics import chance_metrics, feature_metrics

from .naive import mean_of, ranked_values


def test_chance_is_the_mean_over_all_orders():
    query_labels, labels = np.array([0, 1, 1]), np.array([0, 1, 0, 2, 1, 1])
    orders = [list(order) for order in permutations(range(len(labels)))]
    naive = mean_of(
        ranked_values((labels[order] == label).tolist(), (labels == label).sum(), 3, [1, 2])
        for label in query_labels
        for order in orders
    )
    values = chance_metrics(query_labels, labels, at=[1, 2])
    assert {name: values[name] for name in naive if not name.startswith("map@")} == pytest.approx(
        {name: value for name, value in naive.items() if not name.startswith("map@")}, abs=1e-12
    )


def naive_feature_metrics(queries, query_labels, database, labels, at):
    mean = database.mean(0)

    def values(query, label):
        cosines = [
            (query - mean) @ (item - mean) / np.linalg.norm(query - mean) / np.linalg.norm(item - mean)
            for item in database
        ]
        order = np.argsort([-cosine for cosine in cosines], kind="stable")
        relevance = [
            bool(np.any(label * labels[item] > 0)) if np.ndim(label) else label == labels[item] for item in order
        ]
        return ranked_values(relevance, sum(relevance), 1, at)

    return mean_of(values(query, label) for query, label in zip(queries, query_labels, strict=True))


@pytest.mark.parametrize("multi_hot", [False, True])
def test_neighbours_by_features(multi_hot):
    generator = np.random.default_rng(0)
    queries, database = generator.normal(3, 1, (7, 5)), generator.normal(3, 1, (40, 5))
    labels = [generator.integers(0, 3, len(each)) for each in (queries, database)]
    if multi_hot:
        labels = [np.eye(3, dtype=int)[each] | np.eye(3, dtype=int)[each[::-1]] for each in labels]
    values = feature_metrics(queries, labels[0], database, labels[1], at=[1, 4])
    naive = naive_feature_metrics(queries, labels[0], database, labels[1], [1, 4])
    assert values == pytest.approx({name: naive[name] for name in values}, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_features_of_any_precision(dtype):
    generator = torch.Generator().manual_seed(0)
    queries, database = (torch.randn(number, 5, generator=generator).to(dtype) for number in (7, 40))
    labels = np.arange(7) % 3, np.arange(40) % 3
    values = feature_metrics(queries, labels[0], database, labels[1])
    same = queries.double().numpy().astype(np.float32), database.double().numpy().astype(np.float32)
    assert values == feature_metrics(same[0], labels[0], same[1], labels[1])


def test_what_is_no_feature():
    with pytest.raises(ValueError, match=r"of one width, got \(2, 3\) and \(2, 4\)"):
        feature_metrics(np.zeros((2, 3)), [0, 1], np.zeros((2, 4)), [0, 1])
    with pytest.raises(ValueError, match="finite"):
        feature_metrics(np.full((2, 3), np.nan), [0, 1], np.zeros((2, 3)), [0, 1])
