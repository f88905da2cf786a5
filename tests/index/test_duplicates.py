import subprocess
import sys

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


@pytest.mark.parametrize("hits", [1, 50, 10_000])
@settings(max_examples=30)
@given(st.integers(0, 60), st.integers(1, 6), st.integers(0, 1000), st.sampled_from([1, 3, 20]))
def test_crowds(hits, n, radius, seed, crowd):
    """Also where hardly a search fits, and where nearly every code is in a crowd."""
    codes = random_codes(n, 12, seed=seed, clusters=3)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HITS_AT_A_TIME": hits, "CROWD": crowd, "PAIRS_AT_A_TIME": 5, "SAMPLE": 4}.items():
            patch.setattr(duplicates, name, value)
        patch.setattr(duplicates, "QUERIES_AT_A_TIME", 7)
        found = [group.tolist() for group in near_duplicates(codes, radius, 12)]
    assert found == naive_groups(codes, radius)


def test_near_identical_codes_take_little_memory():
    """All pairs of these would take gigabytes; the codes take 96 kB."""
    script = (
        "import resource, numpy as np\n"
        "from concepthash_hf.index import near_duplicates\n"
        "flips = np.random.default_rng(0).random((12_000, 64)) < 0.05\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "groups = near_duplicates(np.packbits(flips, axis=1), 6, 64)\n"
        "print(len(groups[0]), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    size, megabytes = map(int, ran.stdout.split())
    assert size > 11_000 and megabytes < 600
