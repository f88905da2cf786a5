"""What every index does, whatever keeps its codes, held against plain numpy."""

import json

import numpy as np
import pytest
import torch

from concepthash_hf.codes import pack_bits
from concepthash_hf.index.base import OVERSAMPLING

from .oracle import check_search, concept_distances, random_codes, unpacked

SHAPES = [(64, 4), (20, 4), (12, 3), (7, 1), (136, 2)]
HOSTILE = [
    "",
    "'; DROP TABLE codes; --",
    "Ärger/ñandú.jpg",
    "a\nb\tc",
    '{"x": 1}',
    "%s %(id)s \\",
    "🐦" * 50,
    " id ",
    "NULL",
]


@pytest.mark.parametrize(("num_bits", "num_concepts"), SHAPES)
def test_search(make_index, exact, num_bits, num_concepts):
    codes, queries = random_codes(300, num_bits), random_codes(9, num_bits, seed=1)
    index = make_index(num_bits, num_concepts)
    index.add(codes)
    per_concept = concept_distances(queries, codes, num_bits, num_concepts)
    found = index.search(queries, 10)
    assert found.distances.dtype == found.ids.dtype == found.concept_distances.dtype == np.int64
    if exact:
        check_search(found, np.arange(300), per_concept.sum(-1), per_concept, 10)
    else:
        expected = np.sort(per_concept.sum(-1))[:, :10]
        assert (found.distances >= expected).all()
        assert (found.distances == expected).mean() > 0.95
        np.testing.assert_array_equal(found.concept_distances.sum(-1), found.distances)
        np.testing.assert_array_equal(found.concept_distances, per_concept[np.arange(9)[:, None], found.ids])


@pytest.mark.parametrize(("num_bits", "num_concepts"), SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_weighted_search_is_exact(make_index, num_bits, num_concepts, seed):
    codes, queries = random_codes(300, num_bits), random_codes(9, num_bits, seed=1)
    weights = np.random.default_rng(seed).random(num_concepts) * [1, 10, 1e-3][seed]
    index = make_index(num_bits, num_concepts)
    index.add(codes)
    per_concept = concept_distances(queries, codes, num_bits, num_concepts)
    found = index.search(queries, 10, concept_weights=weights)
    assert found.distances.dtype == np.float64
    check_search(found, np.arange(300), per_concept @ weights, per_concept, 10)


@pytest.mark.parametrize("size", [1e-250, 1e250])
def test_weights_of_any_size(make_index, size):
    codes, queries = random_codes(300, 20), random_codes(9, 20, seed=1)
    index = make_index(20, 4)
    index.add(codes)
    weights = np.array([0.3, 0.5, 0.2, 0.9])
    per_concept = concept_distances(queries, codes, 20, 4)
    found = index.search(queries, 10, concept_weights=size * weights)
    check_search(found, np.arange(300), per_concept @ (size * weights), per_concept, 10)


def test_search_by_one_concept(make_index):
    codes, queries = random_codes(300, 20), random_codes(9, 20, seed=1)
    index = make_index(20, 4)
    index.add(codes)
    per_concept = concept_distances(queries, codes, 20, 4)
    found = index.search(queries, 50, concept_weights={2: 1})
    check_search(found, np.arange(300), per_concept[..., 2].astype(float), per_concept, 50)
    same = index.search(queries, 50, concept_weights=torch.tensor([0, 0, 3.0, 0]))
    np.testing.assert_array_equal(same.distances, 3 * found.distances)
    np.testing.assert_array_equal(same.ids, found.ids)


def test_search_by_logits(make_index):
    codes, logits = random_codes(60, 20, clusters=6), np.random.default_rng(1).normal(size=(9, 20))
    index = make_index(20, 4)
    index.add(codes)
    differing = (logits > 0)[:, None] != unpacked(codes, 20)[None].astype(bool)
    per_concept = concept_distances(np.packbits(logits > 0, axis=1), codes, 20, 4)
    k = 10
    assert k * OVERSAMPLING > len(codes)  # so that it is exact everywhere
    found = index.search_by_logits(logits, k)
    check_search(found, np.arange(60), (differing * np.abs(logits)[:, None]).sum(-1), per_concept, k)
    from_tensor = index.search_by_logits(torch.from_numpy(logits).requires_grad_(), k)
    np.testing.assert_allclose(from_tensor.distances, found.distances, rtol=1e-6)


@pytest.mark.parametrize("radius", [0, 5, 6, 19, 20, 1000, 2**40])
def test_range_search_is_exact(make_index, radius):
    codes, queries = random_codes(300, 20), random_codes(9, 20, seed=1)
    codes[7], codes[8] = queries[0], queries[0] ^ pack_bits(np.ones(20, dtype=bool))
    index = make_index(20, 4)
    index.add(codes)
    per_concept = concept_distances(queries, codes, 20, 4)
    found = index.range_search(queries, radius)
    assert len(found) == len(found.offsets) - 1 == 9
    for query, distances in enumerate(per_concept.sum(-1)):
        order = np.argsort(distances, kind="stable")
        expected = order[distances[order] <= radius]
        ids, near, near_per_concept = found[query]
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_array_equal(near, distances[expected])
        np.testing.assert_array_equal(near_per_concept, per_concept[query, expected])
    assert len(found[0][0]) >= 1
    for query in (9, -1):
        with pytest.raises(IndexError):
            found[query]


def test_adding_in_batches(make_index, exact):
    codes, queries = random_codes(300, 64, clusters=20), random_codes(9, 64, seed=1, clusters=20)
    index = make_index(64, 4)
    for start in (0, 100, 110, 300):
        index.add(codes[start : {0: 100, 100: 110, 110: 300, 300: 300}[start]])
        if start == 0:
            index.search(queries, 5), index.search(queries, 5, concept_weights=[1, 2, 3, 4])
    assert len(index) == 300
    per_concept = concept_distances(queries, codes, 64, 4)
    if exact:
        check_search(index.search(queries, 20), np.arange(300), per_concept.sum(-1), per_concept, 20)
    found = index.search(queries, 20, concept_weights=[1, 2, 3, 4])
    check_search(found, np.arange(300), per_concept @ [1.0, 2, 3, 4], per_concept, 20)


def test_numbering_goes_on(make_index):
    index = make_index(64, 4)
    index.add(random_codes(3, 64), ids=[5, -2, 9])
    index.add(random_codes(2, 64, seed=1))
    found = index.search(random_codes(1, 64), 5)
    assert sorted(found.ids[0].tolist()) == [-2, 5, 9, 10, 11]


def test_removing(make_index, exact):
    codes, queries = random_codes(300, 64, clusters=20), random_codes(9, 64, seed=1, clusters=20)
    index = make_index(64, 4)
    index.add(codes, ids=[f"photo {i}" for i in range(300)], metadata=[{"number": i} for i in range(300)])
    index.search(queries, 5), index.search(queries, 5, concept_weights=[1, 0, 0, 1])
    gone = np.random.default_rng(3).permutation(300)[:120]
    index.remove([f"photo {i}" for i in gone])
    kept = np.setdiff1d(np.arange(300), gone)
    names = np.array([f"photo {i}" for i in kept], dtype=object)
    assert len(index) == 180
    per_concept = concept_distances(queries, codes[kept], 64, 4)
    if exact:
        check_search(index.search(queries, 20), names, per_concept.sum(-1), per_concept, 20)
    found = index.search(queries, 20, concept_weights=[1, 0, 0, 1])
    check_search(found, names, per_concept @ [1.0, 0, 0, 1], per_concept, 20)
    assert [row["number"] for row in index.get_metadata(names)] == kept.tolist()

    index.add(codes[gone[:1]], ids=[f"photo {gone[0]}"], metadata=[{"number": -1}])
    ids, distances, _ = index.range_search(codes[gone[:1]], 0)[0]
    assert ids[-1] == f"photo {gone[0]}" and distances[-1] == 0
    assert index.get_metadata([f"photo {gone[0]}"]) == [{"number": -1}]


def test_everything_may_go(make_index):
    index = make_index(64, 4)
    index.add(random_codes(3, 64), ids=["a", "b", "c"])
    index.remove(["c", "a", "b"])
    index.remove([])
    assert len(index) == 0
    with pytest.raises(ValueError, match="empty"):
        index.search(random_codes(1, 64), 1)
    index.add(random_codes(2, 64))
    assert sorted(index.search(random_codes(1, 64), 2).ids[0].tolist()) == [0, 1]


def test_equal_codes_come_in_order_of_insertion(make_index):
    index = make_index(12, 3)
    codes = np.repeat(random_codes(1, 12), 30, axis=0)
    ids = np.random.default_rng(0).permutation(30)
    index.add(codes[:10], ids=ids[:10])
    index.add(codes[10:], ids=ids[10:])
    for found in (index.search(codes[:2], 30), index.search(codes[:2], 30, concept_weights=[0.3, 0.1, 0.5])):
        np.testing.assert_array_equal(found.ids, [ids, ids])
        assert not found.distances.any()


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("weights", [[0.3, 0.1, 0.5], [1, 0, 0]])
def test_many_equal_codes_hide_nothing(make_index, k, weights):
    codes = random_codes(6, 12)[np.random.default_rng(0).integers(0, 6, 400)]
    codes[399] = random_codes(1, 12, seed=5)[0]
    index, queries = make_index(12, 3), random_codes(20, 12, seed=7)
    index.add(codes)
    per_concept = concept_distances(queries, codes, 12, 3)
    found = index.search(queries, k, concept_weights=weights)
    check_search(found, np.arange(400), per_concept @ np.array(weights, dtype=float), per_concept, k)


def test_ids_and_metadata_come_back(make_index):
    index = make_index(64, 4)
    metadata = [
        {"label": text, "width": i / 3, "tags": [text, "x"], "deep": {"a": i}} for i, text in enumerate(HOSTILE)
    ]
    codes = random_codes(len(HOSTILE), 64)
    index.add(codes, ids=HOSTILE, metadata=metadata)
    assert index.search(codes, 1).ids[:, 0].tolist() == HOSTILE
    assert index.get_metadata(HOSTILE[::-1] + HOSTILE[:2]) == metadata[::-1] + metadata[:2]
    np.testing.assert_array_equal(index.get_codes(HOSTILE[::-1]), codes[::-1])
    assert index.get_metadata([]) == []
    index.remove(HOSTILE[1:3])
    assert index.get_metadata(HOSTILE[3:]) == metadata[3:]


def test_large_integers_are_ids(make_index):
    ids = np.array([2**63 - 1, -(2**63), 0, 2**53 + 1])
    index, codes = make_index(64, 4), random_codes(4, 64)
    index.add(codes, ids=ids, metadata={"number": [1, 2, 3, 4]})
    np.testing.assert_array_equal(index.search(codes, 1).ids[:, 0], ids)
    assert index.get_metadata(ids[[3, 0]]) == [{"number": 4}, {"number": 1}]


def test_which_ids_are_there(make_index):
    index = make_index(64, 4)
    assert index.has(["b", "b"]).tolist() == [False, False]
    index.add(random_codes(3, 64), ids=["a", "b", "c"], metadata=[{"n": i % 2} for i in range(3)])
    assert index.has(["b", "nobody", "a", "b"]).tolist() == [True, False, True, True]
    assert index.has([1, 2]).tolist() == [False, False]
    assert index.has([]).tolist() == []
    assert index.where({"n": 0}).has(["a", "b", "c"]).tolist() == [True, False, True]


def test_no_metadata(make_index):
    index = make_index(64, 4)
    index.add(random_codes(2, 64))
    assert index.get_metadata([1, 0]) == [{}, {}]


def test_tensors_and_no_queries(make_index):
    index, codes = make_index(64, 4), random_codes(30, 64)
    index.add(torch.from_numpy(codes), ids=torch.arange(30) * 2)
    np.testing.assert_array_equal(index.search(torch.from_numpy(codes[3:5]), 1).ids, [[6], [8]])
    index.add(random_codes(30, 64, seed=1), ids=np.arange(30) * 2 + 1)  # of fewer, all would be looked at
    for found in (
        *(index.search(codes[:0], 3), index.search(codes[:0], 3, concept_weights=[1, 2, 0, 0.3])),
        index.search_by_logits(np.zeros((0, 64)), 3),
    ):
        assert found.ids.shape == found.distances.shape == (0, 3) and found.concept_distances.shape == (0, 3, 4)
    assert len(index.range_search(codes[:0], 3)) == 0
    index.add(codes[:0])
    assert len(index) == 60


def test_numbers_of_numpy(make_index):
    index = make_index(np.int64(12), np.int64(3))
    index.add(random_codes(9, 12))
    for k in (np.int64(2), np.uint8(2)):
        found = index.search(random_codes(1, 12), k)
        weighted = index.search(random_codes(1, 12), k, concept_weights=[1, 2, 3])
        by_logits = index.search_by_logits(np.ones((1, 12)), k)
        assert found.ids.shape == weighted.ids.shape == by_logits.ids.shape == (1, 2)
    json.dumps([index.num_bits, index.num_concepts])


def test_equal_weighted_distances_come_in_order_of_insertion(make_index):
    """Sums of weights that round in one order or another, as matrix products do."""
    weights = [0.71, 0.71, 0.68, 0.84, 0.58, 0.52, 0.52, 0.89]
    index, codes = make_index(64, 8), np.repeat(random_codes(1, 64), 18, axis=0)
    index.add(codes)
    found = index.search(~codes[:1], 18, concept_weights=weights)
    assert found.ids[0].tolist() == list(range(18)) and len(set(found.distances[0].tolist())) == 1


def test_logits_of_any_precision_and_no_bits(make_index):
    index, codes = make_index(64, 4), random_codes(30, 64)
    index.add(codes)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 64)))
    wanted = index.search_by_logits(logits.numpy(), 3).distances
    np.testing.assert_array_equal(index.search_by_logits(logits, 3).distances, wanted)
    np.testing.assert_allclose(index.search_by_logits(logits.bfloat16(), 3).distances, wanted, rtol=0.02)
    unset = index.search_by_logits(np.zeros((1, 64)), 1)  # a logit of 0 is a bit that is not set
    per_concept = concept_distances(np.zeros((1, 8), np.uint8), index.get_codes(unset.ids[0]), 64, 4)
    assert unset.distances.tolist() == [[0]] and unset.concept_distances.tolist() == per_concept.tolist()
    for bits in (logits > 0, (logits > 0).int()):
        with pytest.raises(ValueError, match="code logits are floating point"):
            index.search_by_logits(bits, 3)


def test_nothing_is_near_in_an_empty_index(make_index):
    found = make_index(64, 4).range_search(random_codes(2, 64), 64)
    assert found.offsets.tolist() == [0, 0, 0] and found.concept_distances.shape == (0, 4)


def codes_of(n=2, num_bits=20):
    return random_codes(n, num_bits, seed=5)


REFUSED = {
    "too wide": (lambda index: index.search(codes_of(num_bits=64), 1), "20 bits are 3 bytes wide, got 8"),
    "not packed": (lambda index: index.search(np.zeros((2, 20), dtype=np.uint8), 1), "packed"),
    "floats": (lambda index: index.search(np.zeros((2, 3)), 1), "packed codes are uint8"),
    "a single code": (lambda index: index.search(codes_of()[0], 1), r"code\[None\]"),
    "padding set": (lambda index: index.search(np.full((1, 3), 255, dtype=np.uint8), 1), "last 4 bits"),
    "k of 0": (lambda index: index.search(codes_of(), 0), "k is a number of items from 1 to the 4"),
    "k too large": (lambda index: index.search(codes_of(), 5), "from 1 to the 4 of the index, got 5"),
    "k beyond all numbers": (lambda index: index.search(codes_of(), 2**70), "from 1 to the 4 of the index, got 11805"),
    "k no integer": (lambda index: index.search(codes_of(), 2.0), "got 2.0"),
    "k true": (lambda index: index.search(codes_of(), True), "got True"),
    "weights too few": (lambda index: index.search(codes_of(), 1, [1, 1]), "4 numbers, one per concept"),
    "weights negative": (lambda index: index.search(codes_of(), 1, [1, 1, 1, -1]), "not negative"),
    "weights all zero": (lambda index: index.search(codes_of(), 1, [0, 0, 0, 0]), "not all zero"),
    "no weights": (lambda index: index.search(codes_of(), 1, {}), "not all zero"),
    "weights NaN": (lambda index: index.search(codes_of(), 1, [1, 1, 1, float("nan")]), "finite"),
    "weights too large": (lambda index: index.search(codes_of(), 1, [1e308, 0, 0, 0]), "sum over 20 bits is not"),
    "weights too large in sum": (lambda index: index.search(codes_of(), 1, [1e307] * 4), "divide them by the largest"),
    "weights no numbers": (lambda index: index.search(codes_of(), 1, ["a", 1, 1, 1]), "4 numbers"),
    "unknown concept": (lambda index: index.search(codes_of(), 1, {4: 1}), "numbered 0 to 3, got 4"),
    "concept by name": (lambda index: index.search(codes_of(), 1, {"head": 1}), "got 'head'"),
    "radius negative": (lambda index: index.range_search(codes_of(), -1), "integer from 0; got -1"),
    "radius true": (lambda index: index.range_search(codes_of(), True), "got True"),
    "radius no integer": (lambda index: index.range_search(codes_of(), 2.5), "got 2.5"),
    "logits too few": (lambda index: index.search_by_logits(np.zeros((1, 19)), 1), r"\(n, 20\)"),
    "logits are codes": (lambda index: index.search_by_logits(codes_of(), 1), "floating point"),
    "logits NaN": (lambda index: index.search_by_logits(np.full((1, 20), np.nan), 1), "finite"),
    "logits, k too large": (lambda index: index.search_by_logits(np.zeros((1, 20)), 5), "got 5"),
    "id there already": (lambda index: index.add(codes_of(), ids=["new", "b"]), "already in the index|'b' already"),
    "id twice": (lambda index: index.add(codes_of(), ids=["new", "new"]), "distinct, 'new' given more than once"),
    "number twice": (lambda index: index.add(codes_of(), ids=[1, 1]), "distinct, 1 given more than once"),
    "ids too few": (lambda index: index.add(codes_of(), ids=["new"]), "2 codes, got 1 ids"),
    "ids of another kind": (lambda index: index.add(codes_of(), ids=[1, 2]), "strings"),
    "ids missing": (lambda index: index.add(codes_of()), "strings"),
    "ids mixed": (lambda index: index.add(codes_of(), ids=["new", 1]), "integers"),
    "ids None": (lambda index: index.add(codes_of(), ids=["new", None]), "needs an id"),
    "ids floats": (lambda index: index.add(codes_of(), ids=[0.5, 1.5]), "integers"),
    "ids true": (lambda index: index.add(codes_of(), ids=[True, False]), "integers"),
    "ids a string": (lambda index: index.add(codes_of(), ids="ab"), "a list"),
    "ids no text": (lambda index: index.add(codes_of(), ids=["\ud800", "new"]), "strings"),
    "codes too wide": (lambda index: index.add(codes_of(num_bits=64), ids=["x", "y"]), "20 bits"),
    "metadata too short": (lambda index: index.add(codes_of(), ["x", "y"], [{"n": 1}]), "2 codes, got 1 rows"),
    "metadata ragged": (lambda index: index.add(codes_of(), ["x", "y"], {"n": [1, 2], "m": [1]}), "metadata"),
    "metadata mixed": (lambda index: index.add(codes_of(), ["x", "y"], {"n": [1, "a"]}), "metadata"),
    "metadata with ids": (lambda index: index.add(codes_of(), ["x", "y"], {"id": [1, 2]}), "rename the column"),
    "metadata no rows": (lambda index: index.add(codes_of(), ["x", "y"], [1, 2]), "metadata is a list of dicts"),
    "unknown id to remove": (
        lambda index: index.remove(["a", "nobody"]),
        "not in the index: 'nobody'|'nobody'.*not in",
    ),
    "number to remove": (lambda index: index.remove([1]), "strings"),
    "unknown id to describe": (lambda index: index.get_metadata(["nobody"]), "nobody"),
    "unknown id to decode": (lambda index: index.get_codes(["nobody", "a"]), "nobody"),
    "another model": (lambda index: index.check_model("org/other"), "made by org/model at revision 1"),
    "another revision": (lambda index: index.check_model("org/model", "2"), "revision '2'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason_and_unchanged(make_index, name):
    call, message = REFUSED[name]
    index, codes = make_index(20, 4, "org/model", "1"), random_codes(4, 20)
    index.add(codes, ids=["a", "b", "c", "d"], metadata=[{"n": i} for i in range(4)])
    with pytest.raises(ValueError, match=message):
        call(index)
    assert len(index) == 4
    assert index.search(codes, 1).ids[:, 0].tolist() == ["a", "b", "c", "d"]
    assert index.get_metadata(["d", "a"]) == [{"n": 3}, {"n": 0}]


def test_models_that_may_be_the_same(make_index):
    bound, unbound = make_index(20, 4, "org/model", "1"), None
    bound.check_model("org/model", "1")
    bound.check_model("org/model")
    bound.check_model(None, None)
    unbound = make_index(20, 4)
    unbound.check_model("org/anything", "7")


def test_where(make_index):
    codes, queries = random_codes(300, 20), random_codes(5, 20, seed=1)
    index = make_index(20, 4)
    rows = [
        {"label": f"class {i % 3}", "n": i % 7, "tags": [f"t{i % 2}", "all"], "maybe": "x" if i < 9 else None}
        for i in range(300)
    ]
    index.add(codes, metadata=rows)
    for where, kept in (
        ({}, lambda i: True),
        ({"label": "class 1"}, lambda i: i % 3 == 1),
        ({"label": "class 1", "n": 4}, lambda i: i % 3 == 1 and i % 7 == 4),
        ({"tags": ["t1"]}, lambda i: i % 2),
        ({"tags": ["all", "t0"]}, lambda i: i % 2 == 0),
        ({"maybe": "x"}, lambda i: i < 9),
        ({"maybe": None}, lambda i: i >= 9),
        ({"maybe": None, "n": 4}, lambda i: i >= 9 and i % 7 == 4),
        ({"n": None}, lambda i: False),
        ({"label": "class 9"}, lambda i: False),
    ):
        part, ids = index.where(where), np.flatnonzero([kept(i) for i in range(300)])
        assert len(part) == len(ids) and len(index) == 300
        if len(ids):
            k = min(20, len(ids))
            per_concept = concept_distances(queries, codes[ids], 20, 4)
            check_search(part.search(queries, k, [1, 0.5, 0, 2]), ids, per_concept @ [1, 0.5, 0, 2], per_concept, k)
            assert part.get_metadata(ids[:3]) == index.get_metadata(ids[:3])


def test_where_a_column_came_later(make_index):
    index = make_index(20, 4)
    index.add(random_codes(3, 20), ids=[0, 1, 2], metadata=[{"n": 1}] * 3)
    index.add(random_codes(3, 20, seed=1), ids=[3, 4, 5], metadata=[{"n": 2, "%s": {"a": i}} for i in (None, 1, 2)])
    without = index.where({"%s": None})
    assert without.has(range(6)).tolist() == [True] * 3 + [False] * 3
    assert len(without.where({"n": 1})) == len(index.where({"n": 1}).where({"%s": None})) == 3
    assert len(without.where({"n": 2})) == len(without.where({"n": None})) == 0
