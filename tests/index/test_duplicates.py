import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import concepthash_hf.index.duplicates as duplicates
from concepthash_hf.index import near_duplicates

from .oracle import random_codes


def naive_groups(codes: np.ndarray, radius: int) -> list[list[int]]:
    """Merge the groups of any two items within the radius, until nothing merges."""
    group = list(range(len(codes)))
    for i in range(len(codes)):
        for j in range(i):
            if int(np.bitwise_count(codes[i] ^ codes[j]).sum()) <= radius:
                old, new = group[i], group[j]
                group = [new if number == old else number for number in group]
    members = [[i for i in range(len(codes)) if group[i] == number] for number in sorted(set(group))]
    return sorted((found for found in members if len(found) > 1), key=lambda found: (-len(found), found[0]))


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 8), st.sampled_from([12, 20, 64]), st.integers(0, 1000))
def test_groups(n, radius, num_bits, seed):
    codes = random_codes(n, num_bits, seed=seed, clusters=10)
    assert [group.tolist() for group in near_duplicates(codes, radius, num_bits)] == naive_groups(codes, radius)


def test_in_blocks_of_queries(monkeypatch):
    codes = random_codes(100, 20, clusters=10)
    monkeypatch.setattr(duplicates, "QUERIES_AT_A_TIME", 7)
    assert [group.tolist() for group in near_duplicates(codes, 3, 20)] == naive_groups(codes, 3)


def test_a_chain_is_one_group():
    codes = np.array([[0b00000000], [0b11110000], [0b00000011], [0b00001111]], dtype=np.uint8)
    groups = near_duplicates(codes, 2, 8, ids=["a", "b", "c", "d"])
    assert [group.tolist() for group in groups] == [["a", "c", "d"]]


def test_many_equal_codes_are_compared_once():
    codes = np.repeat(random_codes(2, 64), 50_000, axis=0)
    groups = near_duplicates(codes, 1, 64)
    assert [len(group) for group in groups] == [50_000, 50_000]


def test_refused():
    codes = random_codes(3, 20)
    with pytest.raises(ValueError, match="radius"):
        near_duplicates(codes, -1, 20)
    with pytest.raises(ValueError, match="bytes wide"):
        near_duplicates(codes, 1, 64)
    with pytest.raises(ValueError, match="distinct"):
        near_duplicates(codes, 1, 20, ids=[1, 1, 2])
