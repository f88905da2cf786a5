import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from concepthash_hf.codes import hamming_distance
from concepthash_hf.metrics import inputs, per_class_metrics, precision_recall_curve, retrieval_metrics

from . import naive

RULES = ["expected", "stable", "optimistic", "pessimistic"]


@pytest.fixture(scope="module")
def golden(shared_dir):
    codes = np.load(shared_dir / "reference" / "map_golden.npz")
    values = json.loads((shared_dir / "reference" / "map_golden.json").read_text())

    def load(name):
        pack = [np.packbits(codes[f"{name}_{side}"] > 0, axis=1) for side in ("q", "db")]
        return (pack[0], codes[f"{name}_ql"], pack[1], codes[f"{name}_dbl"]), values.get(name)

    load.values = values
    return load


class TestGolden:
    """Values that the authors' function, and an independent one, print (shared/reference/GOLDEN.md)."""

    @pytest.mark.parametrize("ties", RULES)
    def test_tie_free(self, golden, ties):
        task, _ = golden("tiefree")
        ours = retrieval_metrics(*task, top_k=20, ties=ties)
        theirs = golden.values["tiefree_hamming"]["reference"]
        assert [ours["map"], ours["map@20_retrieved"]] == pytest.approx(theirs["mAP"], abs=1e-6)
        assert [ours[f"hit_rate@{k}"] for k in (1, 5, 10)] == pytest.approx(theirs["hit_rate"], abs=1e-6)
        assert [ours[f"precision@{k}"] for k in (1, 5, 10)] == pytest.approx(theirs["precision"], abs=1e-6)

    @pytest.mark.parametrize("name", ["random16", "random32", "random64", "struct16", "struct32", "struct64"])
    def test_ties(self, golden, name):
        task, theirs = golden(name)
        ours = {}
        for ties in RULES:
            values = retrieval_metrics(*task, top_k=100, ties=ties)
            ours[ties] = np.array([values["map"], values["map@100_retrieved"]])
        assert ours["stable"] == pytest.approx(theirs["stable_by_index"], abs=1e-9)
        assert ours["optimistic"] == pytest.approx(theirs["ties_relevant_first"], abs=1e-9)
        assert ours["pessimistic"] == pytest.approx(theirs["ties_relevant_last"], abs=1e-9)
        deviations = (ours["expected"] - theirs["db_permuted_mean"]) / theirs["db_permuted_std"]
        assert np.abs(deviations).max() < 3
        for printed in (theirs["reference"]["mAP"], ours["expected"]):
            assert (ours["pessimistic"] <= printed).all() and (printed <= ours["optimistic"]).all()


@st.composite
def small_tasks(draw):
    """A query and up to 6 items whose distances tie a lot, at least one of them relevant."""
    items = draw(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 7]), st.booleans()), min_size=1, max_size=6))
    relevance = np.array([relevant for _, relevant in items])
    relevance[0] |= not relevance.any()
    codes = np.array([[code] for code, _ in items], dtype=np.uint8)
    return codes, relevance.astype(int), draw(st.integers(1, 7))


class TestTies:
    @settings(max_examples=60)
    @given(small_tasks())
    def test_expected_is_the_mean_over_all_orders(self, task):
        database, labels, top_k = task
        query, at = np.zeros((1, 1), dtype=np.uint8), (1, 2, 3, 8)
        orders = naive.all_orders(query[0], 1, database, labels, top_k, at)
        expected = retrieval_metrics(query, [1], database, labels, top_k=top_k, at=at)
        for key, mean in naive.mean_of(orders).items():
            assert expected[key] == pytest.approx(mean, abs=1e-12), key

    @settings(max_examples=60)
    @given(small_tasks())
    def test_bounds_are_the_extremes_over_all_orders(self, task):
        database, labels, top_k = task
        query, at = np.zeros((1, 1), dtype=np.uint8), (1, 2, 3, 8)
        orders = naive.all_orders(query[0], 1, database, labels, top_k, at)
        for ties, extreme in (("optimistic", max), ("pessimistic", min)):
            bound = retrieval_metrics(query, [1], database, labels, top_k=top_k, at=at, ties=ties)
            for key in set(orders[0]) - {f"map@{top_k}_retrieved"}:  # its divisor changes with the order, too
                assert bound[key] == pytest.approx(extreme(values[key] for values in orders), abs=1e-12), key

    def test_stable_follows_the_position(self, random_task):
        at = (1, 5, 10, 200)
        ours = retrieval_metrics(*random_task, top_k=17, at=at, ties="stable")
        for key, value in naive.stable_metrics(*random_task, top_k=17, at=at).items():
            assert ours[key] == pytest.approx(value, abs=1e-12), key

    @settings(max_examples=20)
    @given(st.integers(0, 2**32 - 1))
    def test_expected_does_not_know_the_order_of_the_database(self, seed):
        generator = np.random.default_rng(seed)
        database, labels = generator.integers(0, 16, (50, 1), dtype=np.uint8), generator.integers(0, 4, 50)
        queries, query_labels = database[:5] ^ 1, labels[:5]
        order = generator.permutation(50)
        for ties in ("expected", "optimistic", "pessimistic"):
            before = retrieval_metrics(queries, query_labels, database, labels, top_k=9, ties=ties)
            after = retrieval_metrics(queries, query_labels, database[order], labels[order], top_k=9, ties=ties)
            assert before == after

    def test_a_large_tie_keeps_its_precision(self):
        """All codes equal: every value is the mean over random rankings, known in closed form."""
        size, relevant = 20_000, 4_000
        codes, labels = np.zeros((size, 8), dtype=np.uint8), (np.arange(size) < relevant).astype(int)
        values = retrieval_metrics(codes[:1], [1], codes, labels, top_k=100, at=[10])
        assert values["precision@10"] == pytest.approx(relevant / size, rel=1e-12)
        missed = np.prod([(size - relevant - i) / (size - i) for i in range(10)])
        assert values["hit_rate@10"] == pytest.approx(1 - missed, rel=1e-9)
        slope, places = (relevant - 1) / (size - 1), np.arange(size)
        sums = relevant / size * (1 + places * slope) / (places + 1)
        assert values["map"] == pytest.approx(sums.sum() / relevant, rel=1e-11)
        assert values["map@100"] == pytest.approx(sums[:100].sum() / 100, rel=1e-11)


def test_agrees_with_scikit_learn_without_ties():
    generator = np.random.default_rng(1)
    database = np.packbits(np.tri(65, 64, -1, dtype=bool), axis=1)  # item d has its first d bits set
    labels, query_labels = generator.integers(0, 4, 65), np.arange(4)
    queries = np.zeros((4, 8), dtype=np.uint8)
    theirs = [average_precision_score(labels == label, -np.arange(65)) for label in query_labels]
    order = generator.permutation(65)
    ours = retrieval_metrics(queries, query_labels, database[order], labels[order])
    assert ours["map"] == pytest.approx(np.mean(theirs), abs=1e-12)
    for class_label, values in per_class_metrics(queries, query_labels, database, labels).items():
        assert values["map"] == pytest.approx(theirs[class_label], abs=1e-12)


class TestInputs:
    def test_chunks_threads_and_kinds_of_arrays_do_not_matter(self, random_task, monkeypatch):
        at_once = retrieval_metrics(*random_task, top_k=10)
        tensors = [torch.from_numpy(array) for array in random_task]
        lists = [array.tolist() for array in random_task]
        monkeypatch.setattr(inputs, "PAIRS_PER_CHUNK", 250)  # two queries
        for task in (random_task, tensors, lists):
            assert retrieval_metrics(*task, top_k=10) == pytest.approx(at_once, abs=1e-15)

    @pytest.mark.parametrize("ties", RULES)
    def test_items_are_left_out_of_every_chunk(self, random_task, ties, monkeypatch):
        ids = np.random.default_rng(4).permutation(100)
        settings = {"ties": ties, "query_ids": np.arange(30), "database_ids": ids}
        at_once = retrieval_metrics(*random_task, **settings)
        assert at_once != retrieval_metrics(*random_task, ties=ties)
        monkeypatch.setattr(inputs, "PAIRS_PER_CHUNK", 250)
        assert retrieval_metrics(*random_task, **settings) == pytest.approx(at_once, abs=1e-15)

    def test_codes_of_few_bits_are_codes(self):
        """That all bytes are 0 or 1 tells of bits only if it is so of both sides."""
        few, others = np.array([[0, 1, 0, 0, 0, 1, 0, 0]], np.uint8), np.array([[0, 1, 0, 0, 0, 1, 0, 2]], np.uint8)
        for queries, database in ((few, others), (others, few)):
            assert retrieval_metrics(queries, [0], database, [0])["map"] == 1
        with pytest.raises(ValueError, match="bits, not packed codes"):
            retrieval_metrics(few, [0], few, [0])

    @pytest.mark.parametrize("width", [1, 3, 8, 9, 25])
    def test_codes_of_any_width(self, width):
        generator = np.random.default_rng(width)
        codes, labels = generator.integers(0, 256, (40, width), dtype=np.uint8), generator.integers(0, 3, 40)
        task = inputs.prepare_task(codes[:10], labels[:10], codes, labels)
        assert (task.distances(slice(0, 10)) == hamming_distance(codes[:10, None], codes[None])).all()
        ours = retrieval_metrics(codes[:10], labels[:10], codes, labels, top_k=5, ties="stable")
        theirs = naive.stable_metrics(codes[:10], labels[:10], codes, labels, 5, (1, 5, 10))
        assert {key: ours[key] for key in theirs} == pytest.approx(theirs, abs=1e-12)

    def test_multi_hot_labels_with_one_label_each_are_integers(self, random_task):
        queries, query_labels, database, labels = random_task
        one_hot = np.eye(70)  # more than one word of label bits
        assert retrieval_metrics(queries, one_hot[query_labels], database, one_hot[labels]) == retrieval_metrics(
            *random_task
        )

    def test_multi_hot_relevance_is_a_shared_label(self, random_task):
        queries, _, database, _ = random_task
        generator = np.random.default_rng(2)
        left, right = generator.random((30, 70)) < 0.02, generator.random((100, 70)) < 0.02
        task = inputs.prepare_task(queries, left, database, right)
        shared = np.array([[bool((a & b).any()) for b in right] for a in left])
        assert (task.relevance(slice(0, 30)) == shared).all()
        assert (
            retrieval_metrics(queries, left, database, right)["num_queries_without_relevant"]
            == (~shared.any(axis=1)).sum()
        )

    @pytest.mark.parametrize("ties", RULES)
    def test_a_query_does_not_find_itself(self, random_task, ties):
        _, _, database, labels = random_task
        ids = np.random.default_rng(3).permutation(len(labels))
        ours = retrieval_metrics(
            database[:9], labels[:9], database, labels, 10, ties=ties, query_ids=ids[:9], database_ids=ids
        )
        without = [
            retrieval_metrics(
                database[i : i + 1],
                labels[i : i + 1],
                np.delete(database, i, axis=0),
                np.delete(labels, i),
                10,
                ties=ties,
            )
            for i in range(9)
        ]
        expected = naive.mean_of(without)
        assert {key: ours[key] for key in expected if "num" not in key} == pytest.approx(
            {key: value for key, value in expected.items() if "num" not in key}, abs=1e-12
        )

    def test_ids_may_be_strings_repeat_and_miss(self):
        codes = np.array([[0], [0], [1]], dtype=np.uint8)
        values = retrieval_metrics(
            codes[:2],
            [0, 0],
            codes,
            [0, 0, 1],
            at=[1],
            query_ids=["a.jpg", "elsewhere.jpg"],
            database_ids=["a.jpg", "a.jpg", "b.jpg"],
        )
        # the first query is left with the item of the other class alone
        assert values["num_queries_without_relevant"] == 1
        assert values["map"] == 0.5

    def test_queries_without_relevant_items_count_as_zero(self, golden):
        codes = np.array([[0], [0]], dtype=np.uint8)
        values = retrieval_metrics(codes, [0, 5], codes, [0, 0], top_k=2)
        assert (
            values["map"]
            == values["map@2"]
            == values["map@2_retrieved"]
            == 0.5
            == golden.values["no_relevant"]["mAP"][0]
        )
        assert values["num_queries_without_relevant"] == 1
        assert all(np.isfinite(value) for value in values.values())

    def test_a_small_database(self):
        code = np.array([[3]], dtype=np.uint8)
        values = retrieval_metrics(code, [1], code, [1], top_k=1000, at=[10])
        assert values["map"] == values["map@1000"] == values["map@1000_retrieved"] == pytest.approx(1)
        assert (values["precision@10"], values["recall@10"], values["hit_rate@10"]) == pytest.approx((0.1, 1, 1))

    @pytest.mark.parametrize("ties", RULES)
    def test_distances_beyond_a_byte(self, ties):
        database = np.array([[0xFF] * 32, [0x00] * 32], dtype=np.uint8)  # at distances 256 and 0
        assert retrieval_metrics(database[1:], [1], database, [0, 1], ties=ties)["map"] == pytest.approx(1)

    @pytest.mark.parametrize("ties", RULES)
    def test_the_furthest_item_counts_in_a_list_longer_than_the_database(self, ties):
        database = np.array([[0x00], [0xFF]], dtype=np.uint8)
        values = retrieval_metrics(database[:1], [1], database, [0, 1], top_k=10, at=[10], ties=ties)
        assert (values["map"], values["map@10"], values["map@10_retrieved"]) == pytest.approx((0.5, 0.5, 0.5))
        assert (values["precision@10"], values["recall@10"], values["hit_rate@10"]) == pytest.approx((0.1, 1, 1))

    def test_values_are_ready_for_json(self, random_task):
        values = retrieval_metrics(*(torch.from_numpy(array) for array in random_task), top_k=np.int64(5))
        assert json.loads(json.dumps(values)) == values
        assert (values["num_queries"], values["num_database"]) == (30, 100)


CODES = np.arange(24, dtype=np.uint8).reshape(3, 8)
LABELS = [0, 1, 2]


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"query_labels": [0, 1]}, "query_labels has 2 entries for 3 codes"),
            ({"database_labels": [0, 1, 2, 3]}, "database_labels has 4 entries for 3 codes"),
            ({"database_codes": CODES[:, :4]}, "8 bytes wide and database_codes 4"),
            ({"query_codes": CODES > 3}, "query_codes: packed codes are uint8"),
            ({"database_codes": np.ones((3, 64), dtype=np.int8)}, "database_codes: packed codes are uint8"),
            ({"query_codes": CODES & 1, "database_codes": CODES & 1}, "every byte is 0 or 1.*pack_bits"),
            ({"query_codes": (CODES[0])}, "must have the shape"),
            ({"query_codes": CODES[:, :0], "database_codes": CODES[:, :0]}, "must have the shape"),
            ({"query_codes": [[-1, 1]] * 3}, "got values -1 to 1"),
            ({"query_codes": [[0, 256]] * 3}, "got values 0 to 256"),
            ({"database_codes": CODES[:0], "database_labels": LABELS[:0]}, "database of 0"),
            ({"query_codes": CODES[:0], "query_labels": LABELS[:0]}, "0 queries"),
            ({"query_labels": [7, 8, 9]}, "no query shares a label"),
            ({"query_labels": np.eye(3), "database_labels": np.eye(3)[[1, 1, 1]] * 0}, "no query shares a label"),
            ({"query_labels": [0.5, 1, 2]}, "query_labels must be integers, got float64"),
            ({"query_labels": np.eye(3)}, r"query_labels of shape \(3, 3\) and database_labels of shape \(3,\)"),
            ({"query_labels": np.eye(3), "database_labels": np.eye(4)[:3]}, "do not fit"),
            ({"query_labels": np.eye(3) * 2, "database_labels": np.eye(3)}, "values other than 0 and 1"),
            ({"query_labels": np.zeros((3, 1, 1))}, "query_labels must be integers .* or multi-hot"),
            ({"query_ids": [0, 1, 2]}, "together or not at all"),
            ({"query_ids": [0, 1], "database_ids": [0, 1, 2]}, "one per code"),
            ({"query_ids": ["0", "1", "2"], "database_ids": [0, 1, 2]}, "never match"),
            ({"query_ids": [0.0, 1.0, 2.0], "database_ids": [0.0, 1.0, 2.0]}, "ids are integers or strings"),
            ({"query_ids": [2**63 + 1, 2**63, -1], "database_ids": [0, 1, 2]}, "ids are integers or strings"),
            (
                {"query_labels": np.array([2**63, 1, 2], np.uint64), "database_labels": np.array([-1, 1, 2])},
                "fit no type of 64 bits",
            ),
            ({"ties": "id"}, "ties must be one of expected, stable, optimistic, pessimistic; got 'id'"),
            ({"top_k": 0}, "top_k counts items .* got 0"),
            ({"at": [1, 2.5]}, "at counts items .* got 2.5"),
        ],
    )
    def test_one_clear_error(self, changes, message):
        task = {"query_codes": CODES, "query_labels": LABELS, "database_codes": CODES, "database_labels": LABELS}
        with pytest.raises(ValueError, match=message):
            retrieval_metrics(**(task | changes))

    def test_ragged_lists(self):
        with pytest.raises(ValueError, match="query_codes.*same length"):
            retrieval_metrics([[1, 2], [3]], [0, 1], CODES[:, :2], LABELS)

    def test_collapsed_codes_are_codes(self):
        zeros = np.zeros_like(CODES)
        assert retrieval_metrics(zeros, LABELS, zeros, LABELS, at=[1])["precision@1"] == pytest.approx(1 / 3)


class TestShapesAndTypes:
    """Whatever holds the same labels and ids gives the same numbers."""

    @given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.data())
    def test_labels(self, labels, data):
        labels = np.array(labels)
        codes = np.random.default_rng(0).integers(0, 256, (len(labels), 2), dtype=np.uint8)
        forms = [
            lambda labels: labels,
            lambda labels: labels[:, None],
            lambda labels: labels.astype(np.uint64),
            lambda labels: labels.astype(np.int8),
            lambda labels: labels.tolist(),
            lambda labels: torch.tensor(labels)[:, None],
        ]
        left, right = (data.draw(st.sampled_from(forms)) for _ in range(2))
        expected = retrieval_metrics(codes, labels, codes, labels)
        assert retrieval_metrics(codes, left(labels), codes, right(labels)) == expected
        one_hot = np.eye(4)[labels]
        assert retrieval_metrics(codes, one_hot, codes, one_hot.astype(bool)) == pytest.approx(expected)
        assert per_class_metrics(codes, left(labels), codes, right(labels)).keys() == set(labels.tolist())

    def test_labels_below_zero_beside_unsigned_ones(self, random_task):
        queries, query_labels, database, labels = random_task
        signed = np.where(query_labels == 0, -1, query_labels)
        values = retrieval_metrics(queries, signed, database, labels.astype(np.uint8))
        assert values == retrieval_metrics(queries, np.where(query_labels == 0, 99, query_labels), database, labels)

    def test_more_classes_than_a_byte_has_numbers(self):
        generator = np.random.default_rng(5)
        codes, labels = generator.integers(0, 256, (300, 4), dtype=np.uint8), np.arange(300)
        queries, of_query = generator.integers(0, 256, (9, 4), dtype=np.uint8), np.arange(9) * 32
        ours = retrieval_metrics(queries, of_query, codes, labels, 5, ties="stable")
        theirs = naive.stable_metrics(queries, of_query, codes, labels, 5, (1, 5, 10))
        assert {key: ours[key] for key in theirs} == pytest.approx(theirs, abs=1e-12)

    @pytest.mark.parametrize("first", [0, 2**53, 2**62, 2**63 - 20])
    @pytest.mark.parametrize("types", [(np.uint64, np.int64), (np.int64, np.uint64), (np.uint64, np.uint64)])
    def test_large_numbers_are_not_rounded(self, random_task, first, types):
        queries, query_labels, database, labels = random_task
        ids = np.arange(len(queries)) % 20, np.arange(len(database)) % 20
        expected = retrieval_metrics(queries, query_labels, database, labels, query_ids=ids[0], database_ids=ids[1])
        far = [np.array([first + int(id) for id in side], kind) for side, kind in zip(ids, types, strict=True)]
        shifted = [np.array([first + int(n) for n in side], types[0]) for side in (query_labels, labels)]
        values = retrieval_metrics(queries, shifted[0], database, shifted[1], query_ids=far[0], database_ids=far[1])
        assert values == expected


class TestPerClass:
    def test_is_the_mean_over_the_queries_of_the_class(self, random_task):
        queries, query_labels, database, labels = random_task
        per_class = per_class_metrics(*random_task, top_k=5)
        assert list(per_class) == sorted(set(query_labels.tolist()))
        for label, values in per_class.items():
            chosen = query_labels == label
            alone = retrieval_metrics(queries[chosen], query_labels[chosen], database, labels, top_k=5)
            assert values == pytest.approx({key: alone[key] for key in values}, abs=1e-12)
        json.dumps(per_class)

    @pytest.mark.parametrize("ties", RULES)
    def test_all_arguments_count(self, random_task, ties):
        _, _, database, labels = random_task
        ids, settings = np.arange(len(labels)), {"top_k": 3, "at": (2, 4), "ties": ties}
        per_class = per_class_metrics(
            database[:40], labels[:40], database, labels, query_ids=ids[:40], database_ids=ids, **settings
        )
        for label, values in per_class.items():
            own = ids[:40][labels[:40] == label]
            alone = retrieval_metrics(
                database[own], labels[own], database, labels, query_ids=own, database_ids=ids, **settings
            )
            assert values == pytest.approx(
                {key: alone[key] for key in alone if key not in ("num_database", "num_queries_without_relevant")}
            )

    def test_a_query_counts_for_each_of_its_labels(self):
        codes = np.array([[0], [15]], dtype=np.uint8)
        per_class = per_class_metrics(codes, [[1, 1, 0], [0, 1, 0]], codes, [[1, 0, 0], [0, 1, 0]], at=[1])
        assert {label: values["num_queries"] for label, values in per_class.items()} == {0: 1, 1: 2}


class TestPrecisionRecallCurve:
    def test_every_point_is_precision_and_recall_at_its_rank(self, random_task):
        curve = precision_recall_curve(*random_task, num_points=8)
        assert (curve.ranks[0], curve.ranks[-1]) == (1, 100)
        assert (np.diff(curve.ranks) > 0).all()
        values = retrieval_metrics(*random_task, at=curve.ranks)
        assert curve.precision == pytest.approx([values[f"precision@{k}"] for k in curve.ranks])
        assert curve.recall == pytest.approx([values[f"recall@{k}"] for k in curve.ranks])
        assert curve.recall[-1] == pytest.approx(1)

    @pytest.mark.parametrize("ties", RULES)
    def test_all_arguments_count(self, random_task, ties):
        _, _, database, labels = random_task
        arguments = {"ties": ties, "query_ids": np.arange(40), "database_ids": np.arange(len(labels))}
        task = (database[:40], labels[:40], database, labels)
        curve = precision_recall_curve(*task, num_points=12, **arguments)
        values = retrieval_metrics(*task, at=curve.ranks, **arguments)
        assert curve.precision == pytest.approx([values[f"precision@{k}"] for k in curve.ranks])
        assert curve.recall == pytest.approx([values[f"recall@{k}"] for k in curve.ranks])

    def test_two_points_are_the_ends(self, random_task):
        assert precision_recall_curve(*random_task, num_points=2).ranks.tolist() == [1, 100]

    def test_a_hundred_points_where_nothing_is_said(self):
        codes = np.zeros((2000, 1), dtype=np.uint8)
        ranks = precision_recall_curve(codes[:1], [0], codes, np.zeros(2000, dtype=int)).ranks
        np.testing.assert_array_equal(ranks, np.unique(np.geomspace(1, 2000, 100).round()))

    def test_one_point_is_no_curve(self, random_task):
        with pytest.raises(ValueError, match="at least 2 points"):
            precision_recall_curve(*random_task, num_points=1)
