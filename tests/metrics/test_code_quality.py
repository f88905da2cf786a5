import json
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from concepthash_hf.codes import hamming_distance, sub_code_distances, unpack_bits
from concepthash_hf.metrics import bit_correlations, code_quality

NUM_BITS, NUM_CONCEPTS = 12, 3
FAMILIES = np.array([0, 0, 1, 1, 1, 2, 2])


@pytest.fixture
def codes_and_labels():
    """12 bits in 2 bytes, the last two constant, with collisions."""
    generator = np.random.default_rng(0)
    bits = generator.random((80, NUM_BITS)) < np.linspace(0.05, 0.8, NUM_BITS)
    bits[:, 3] = bits[:, 2]
    bits[:, -2:] = [False, True]
    return np.packbits(bits, axis=1), generator.integers(0, 7, 80)


def test_bits(codes_and_labels):
    codes, labels = codes_and_labels
    bits = unpack_bits(codes, NUM_BITS)
    values = code_quality(codes, labels, NUM_BITS, NUM_CONCEPTS)
    shares = bits.mean(axis=0)
    assert values["bit_means"] == pytest.approx(shares)
    assert values["bit_balance"] == pytest.approx(np.mean([1 - abs(2 * p - 1) for p in shares]))
    assert values["bit_entropy"] == pytest.approx(np.mean([entropy([p, 1 - p], base=2) for p in shares]))
    rows = [tuple(row) for row in bits.tolist()]
    assert values["code_entropy"] == pytest.approx(entropy([rows.count(row) for row in set(rows)], base=2))
    for concept, measured in enumerate(values["sub_code_entropies"]):
        parts = [row[4 * concept : 4 * concept + 4] for row in rows]
        assert measured == pytest.approx(entropy([parts.count(part) for part in set(parts)], base=2))


def test_correlations_of_more_than_are_read_at_once(codes_and_labels, monkeypatch):
    codes, _ = codes_and_labels
    expected = bit_correlations(codes, NUM_BITS)
    # the package has a function of the module's name
    monkeypatch.setattr(sys.modules["concepthash_hf.metrics.code_quality"], "ROWS_PER_CHUNK", 7)
    assert bit_correlations(codes, NUM_BITS) == pytest.approx(expected, abs=1e-12)


def test_balanced_independent_bits_are_perfect():
    codes = np.arange(256, dtype=np.uint8)[:, None]
    values = code_quality(codes, np.arange(256), 8, 2)
    assert (values["bit_balance"], values["bit_entropy"], values["code_entropy"]) == (1, 1, 8)
    assert values["sub_code_entropies"] == [4, 4]
    assert values["bit_correlation"] == values["sub_code_correlation"] == 0
    assert values["share_of_items_sharing_code_across_classes"] == 0


def test_correlations(codes_and_labels):
    codes, labels = codes_and_labels
    bits = unpack_bits(codes, NUM_BITS).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        theirs = np.nan_to_num(np.corrcoef(bits, rowvar=False))
    assert bit_correlations(codes, NUM_BITS) == pytest.approx(theirs, abs=1e-12)
    assert bit_correlations(codes, NUM_BITS)[2, 3] == pytest.approx(1)
    values = code_quality(codes, labels, NUM_BITS, NUM_CONCEPTS)
    assert values["num_items"] == 80
    strength = np.abs(theirs)
    pairs = list(combinations(range(NUM_BITS), 2))
    assert values["bit_correlation"] == pytest.approx(np.mean([strength[pair] for pair in pairs]))
    across = [strength[i, j] for i, j in pairs if i // 4 != j // 4]
    assert values["sub_code_correlation"] == pytest.approx(np.mean(across))
    table = np.array(values["sub_code_correlations"])
    assert [table[0, 2], table[2, 0]] == pytest.approx([strength[:4, 8:].mean()] * 2)
    assert table[0, 0] == pytest.approx(np.mean([strength[pair] for pair in combinations(range(4), 2)]))


def test_collisions(codes_and_labels):
    codes, labels = codes_and_labels
    owners = {}
    for code, label in zip(codes.tolist(), labels.tolist(), strict=True):
        owners.setdefault(tuple(code), []).append(label)
    shared = [items for items in owners.values() if len(set(items)) > 1]
    values = code_quality(codes, labels, NUM_BITS, NUM_CONCEPTS)
    assert values["num_distinct_codes"] == len(owners)
    assert values["num_codes_shared_across_classes"] == len(shared) > 0
    assert values["share_of_items_sharing_code_across_classes"] == pytest.approx(sum(map(len, shared)) / 80)


def test_distances(codes_and_labels):
    codes, labels = codes_and_labels
    pairs = {"within_class": [], "within_family": [], "across_families": [], "across_classes": []}
    for i, j in combinations(range(len(codes)), 2):
        same_class, same_family = labels[i] == labels[j], FAMILIES[labels[i]] == FAMILIES[labels[j]]
        if not same_class:
            pairs["across_classes"].append((i, j))
        kind = "within_class" if same_class else "within_family" if same_family else "across_families"
        pairs[kind].append((i, j))
    with_families = code_quality(codes, labels, NUM_BITS, NUM_CONCEPTS, FAMILIES)
    without = code_quality(codes, labels, NUM_BITS, NUM_CONCEPTS)
    for kind, chosen in pairs.items():
        values = without if kind == "across_classes" else with_families
        left, right = np.array(chosen).T
        assert values[f"distance_{kind}"] == pytest.approx(hamming_distance(codes[left], codes[right]).mean())
        per_concept = sub_code_distances(codes[left], codes[right], NUM_BITS, NUM_CONCEPTS).mean(axis=0)
        assert values[f"distance_{kind}_per_concept"] == pytest.approx(per_concept)
    assert ("distance_across_classes" in with_families, "distance_within_family" in without) == (False, False)


def test_a_single_code_has_no_pairs():
    values = code_quality(np.array([[5]], dtype=np.uint8), [0], 8, 1)
    assert values["distance_within_class"] is values["distance_across_classes"] is None
    assert values["sub_code_correlation"] is None
    assert values["code_entropy"] == 0
    assert json.loads(json.dumps(values)) == values


def test_truth_values_are_two_classes(codes_and_labels):
    codes, labels = codes_and_labels
    is_first = labels == labels[0]
    measured = [code_quality(codes, of, NUM_BITS, NUM_CONCEPTS, [0, 1]) for of in (is_first, is_first.astype(int))]
    assert measured[0] == measured[1]


def test_tensors_are_taken(codes_and_labels):
    codes, labels = codes_and_labels
    tensors = code_quality(
        torch.from_numpy(codes), torch.from_numpy(labels), NUM_BITS, NUM_CONCEPTS, FAMILIES.tolist()
    )
    assert tensors == code_quality(codes, labels, NUM_BITS, NUM_CONCEPTS, FAMILIES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bits": 24, "num_concepts": 4}, "24 bits are 3 bytes wide, got 2"),
        ({"num_concepts": 5}, "multiple of num_concepts"),
        ({"labels": [0]}, "labels has 1 entries for 80 codes"),
        ({"labels": np.zeros((80, 2))}, "labels must be integers"),
        ({"codes": np.zeros((0, 2), dtype=np.uint8), "labels": np.zeros(0, dtype=int)}, "no codes to measure"),
        ({"class_families": [0, 1]}, "class_families has 2 entries"),
    ],
)
def test_bad_input(codes_and_labels, changes, message):
    codes, labels = codes_and_labels
    arguments = {"codes": codes, "labels": labels, "num_bits": NUM_BITS, "num_concepts": NUM_CONCEPTS}
    with pytest.raises(ValueError, match=message):
        code_quality(**(arguments | changes))
