import numpy as np
import pytest

from concepthash_hf.codes import hamming_distance
from concepthash_hf.metrics import radius_metrics


def test_is_what_lies_within(random_task):
    queries, query_labels, database, labels = random_task
    found = hamming_distance(queries[:, None], database[None]) <= 2
    relevant = query_labels[:, None] == labels
    hits = (found & relevant).sum(axis=1)
    values = radius_metrics(*random_task, radii=[0, 2, 40])
    assert values["precision@radius_2"] == pytest.approx(np.mean(hits / np.maximum(found.sum(axis=1), 1)))
    assert values["recall@radius_2"] == pytest.approx(np.mean(hits / relevant.sum(axis=1)))
    assert values["answered@radius_2"] == pytest.approx(np.mean(found.any(axis=1)))
    assert values["recall@radius_40"] == values["answered@radius_40"] == 1


def test_a_query_that_finds_nothing_counts_as_zero():
    database = np.array([[255], [0]], dtype=np.uint8)
    values = radius_metrics([[0], [15]], [1, 1], database, [0, 1], radii=[0])
    assert (values["precision@radius_0"], values["answered@radius_0"]) == (0.5, 0.5)


def test_a_query_does_not_find_itself():
    codes = np.array([[0], [255]], dtype=np.uint8)
    values = radius_metrics(codes, [1, 1], codes, [1, 1], radii=[0, 8], query_ids=[0, 1], database_ids=[0, 1])
    assert (values["answered@radius_0"], values["recall@radius_8"]) == (0, 1)


@pytest.mark.parametrize("radius", [-1, 1.5])
def test_bad_radius(random_task, radius):
    with pytest.raises(ValueError, match=f"at least 0, got {radius}"):
        radius_metrics(*random_task, radii=[radius])
