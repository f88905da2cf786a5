import numpy as np
import pytest

from concepthash_hf.codes import pack_bits, unpack_bits
from concepthash_hf.metrics import retrieval_metrics, sub_code_metrics

NUM_BITS, NUM_CONCEPTS = 15, 3


@pytest.fixture
def task():
    """Concepts of 5 bits, across byte boundaries; concept 1 tells the 8 classes, the others are noise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 120)
    bits = generator.random((120, NUM_BITS)) < 0.5
    bits[:, 5:8] = labels[:, None] >> np.arange(3) & 1
    bits[:, 8:10] = False
    codes = pack_bits(bits)
    return codes[:20], labels[:20], codes[20:], labels[20:]


@pytest.mark.parametrize("ids", [{}, {"query_ids": np.arange(20) + 7, "database_ids": np.arange(100)}])
@pytest.mark.parametrize("ties", ["expected", "stable"])
def test_is_retrieval_with_some_concepts(task, ties, ids):
    queries, query_labels, database, labels = task
    values = sub_code_metrics(*task, NUM_BITS, NUM_CONCEPTS, ties=ties, **ids)

    def map_of(concepts):
        chosen = np.isin(np.repeat(np.arange(NUM_CONCEPTS), 5), concepts)
        left, right = (pack_bits(unpack_bits(codes, NUM_BITS)[:, chosen]) for codes in (queries, database))
        return pytest.approx(retrieval_metrics(left, query_labels, right, labels, ties=ties, **ids)["map"])

    assert values["map"] == map_of([0, 1, 2])
    assert values["map_alone"] == [map_of([0]), map_of([1]), map_of([2])]
    assert values["map_left_out"] == [map_of([1, 2]), map_of([0, 2]), map_of([0, 1])]


def test_finds_the_concept_that_knows(task):
    values = sub_code_metrics(*task, NUM_BITS, NUM_CONCEPTS)
    assert values["map_alone"][1] == pytest.approx(1) and np.argmin(values["map_left_out"]) == 1


def test_concepts_of_one_bit():
    codes = np.arange(200, dtype=np.uint8).reshape(25, 8)
    values = sub_code_metrics(codes, np.arange(25) % 3, codes, np.arange(25) % 3, 64, 64)
    assert len(values["map_alone"]) == len(values["map_left_out"]) == 64


@pytest.mark.parametrize(("num_bits", "num_concepts", "message"), [(24, 3, "3 bytes wide"), (15, 4, "multiple")])
def test_bad_input(task, num_bits, num_concepts, message):
    with pytest.raises(ValueError, match=message):
        sub_code_metrics(*task, num_bits, num_concepts)


def test_bad_codes(task):
    with pytest.raises(ValueError, match="query_codes: packed codes are uint8"):
        sub_code_metrics(task[0] > 0, *task[1:], NUM_BITS, NUM_CONCEPTS)
