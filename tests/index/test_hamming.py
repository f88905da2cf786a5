"""What only the index in memory does: kinds, files, the Hub, and any sequence of changes."""

import doctest
import json
import os
import shutil
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import concepthash_hf.index.approximate as approximate
import concepthash_hf.index.files as files
import concepthash_hf.index.hamming as hamming
from concepthash_hf import whole_files
from concepthash_hf.index import CodeSpec, HammingIndex, open_index
from concepthash_hf.index.approximate import InvertedLists

from .oracle import check_search, concept_distances, random_codes

KINDS = ["flat", "hnsw", "ivf"]


def make(n: int = 300, kind: str = "flat", seed: int = 0, num_bits: int = 20, **kwargs) -> HammingIndex:
    metadata = [{"number": i, "label": f"class {i % 7}"} for i in range(n)]
    codes = random_codes(n, num_bits, seed=seed, clusters=20)
    ids = [f"photo {i}" for i in range(n)]
    return HammingIndex.from_codes(
        codes, ids, num_bits=num_bits, num_concepts=4, metadata=metadata, kind=kind, **kwargs
    )


def assert_same(left: HammingIndex, right: HammingIndex, num_bits: int = 20) -> None:
    assert (left.spec, left.kind, len(left)) == (right.spec, right.kind, len(right))
    assert left.ids.tolist() == right.ids.tolist()
    assert left.get_metadata(left.ids) == right.get_metadata(left.ids)
    np.testing.assert_array_equal(left.get_codes(left.ids), right.get_codes(left.ids))
    queries = random_codes(20, num_bits, seed=8, clusters=20)
    for arguments in ({}, {"concept_weights": [0.2, 1, 0.5, 0.7]}):
        found, again = left.search(queries, 7, **arguments), right.search(queries, 7, **arguments)
        np.testing.assert_array_equal(found.ids, again.ids)
        np.testing.assert_array_equal(found.distances, again.distances)


def test_examples_in_docstrings():
    results = doctest.testmod(hamming, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0 and results.attempted in (7, 8)  # Python 3.13 counts the one that is skipped


# kinds


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_distance_recall_of_approximate_kinds(kind):
    """The share of the k best distances that are reached, on codes in clusters as those of photos are."""
    codes = random_codes(5_000, 64, clusters=100)
    queries = random_codes(100, 64, seed=1, clusters=100)
    index = HammingIndex.from_codes(codes, num_bits=64, num_concepts=4, kind=kind)
    exact = HammingIndex.from_codes(codes, num_bits=64, num_concepts=4)
    found, truth = index.search(queries, 10), exact.search(queries, 10)
    assert (found.distances >= truth.distances).all()
    assert (found.distances == truth.distances).mean() > 0.97
    # and something is saved: not all of it was looked at
    assert index._approximate is not None and exact._approximate is None


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_kinds_fill_up_what_they_do_not_find(kind):
    index = make(2000, kind)
    found = index.search(random_codes(3, 20), 2000)
    assert all(sorted(ids) == sorted(index.ids) for ids in found.ids.tolist())


def test_lists_are_made_anew_when_the_collection_has_outgrown_them():
    codes = random_codes(3000, 64, clusters=50)
    index = HammingIndex.from_codes(codes[:200], num_bits=64, num_concepts=4, kind="ivf")
    index.search(codes[:1], 1)
    assert index._approximate._index.nlist == 200 // 39
    index.add(codes[200:700])
    assert index._approximate._index.ntotal == 700
    index.add(codes[700:])
    index.search(codes[:1], 1)
    assert index._approximate._index.nlist == round(3000**0.5)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="flat, hnsw, ivf; got 'pq'"):
        make(kind="pq")


def test_a_search_by_logits_finds_more_than_reordering_would():
    """The nearest by logits may be far down by bits: an exact search has to find it all the same."""
    logits = np.concatenate([np.full(8, 10.0), np.full(56, 0.01)])[None]
    near_by_logits = np.packbits(np.arange(64) < 8)[None]  # 56 bits off, which count almost nothing
    near_by_bits = np.packbits(np.arange(64) > 0)[None]  # 1 bit off, which counts 10
    codes = np.concatenate([np.repeat(near_by_bits, 5000, axis=0), near_by_logits])
    index = HammingIndex.from_codes(codes, num_bits=64, num_concepts=4)
    assert index.search_by_logits(logits, 1).ids[0, 0] == 5000
    assert index.search(np.packbits(logits > 0, axis=1), 1).distances[0, 0] == 1


class AnyOrderOfTies:
    """What faiss may do: equal distances in any order."""

    def __init__(self, flat):
        self._flat = flat

    def search(self, codes, k):
        distances, positions = self._flat.search(codes, k)
        order = np.lexsort((-positions, distances))
        return distances, np.take_along_axis(positions, order, axis=1)

    def range_search(self, codes, radius):
        limits, distances, positions = self._flat.range_search(codes, radius)
        hits = [slice(*ends) for ends in zip(limits[:-1], limits[1:], strict=True)]
        return limits, *(np.concatenate([part[hit][::-1] for hit in hits]) for part in (distances, positions))


def test_the_order_does_not_depend_on_that_of_faiss():
    index, queries = make(num_bits=8), random_codes(5, 8, seed=1)
    found, near = index.search(queries, 300), index.range_search(queries, 3)
    index._flat = AnyOrderOfTies(index._flat)
    for one, other in ((found, index.search(queries, 300)), (near, index.range_search(queries, 3))):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.distances, other.distances)
        np.testing.assert_array_equal(one.concept_distances, other.concept_distances)


def test_codes_of_a_list_have_their_own_memory():
    codes = random_codes(50, 64)
    index = HammingIndex.from_codes(codes, num_bits=64, num_concepts=4)
    kept = codes.copy()
    codes[:] = 0
    np.testing.assert_array_equal(index.get_codes(range(50)), kept)
    given_away = index.get_codes([3])
    given_away[:] = 0
    np.testing.assert_array_equal(index.get_codes([3]), kept[3:4])


# any sequence of changes

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 40)),
        st.tuples(st.just("remove"), st.floats(0, 1)),
        st.tuples(st.just("search"), st.booleans()),
    ),
    max_size=8,
)


@settings(max_examples=40)
@given(CHANGES, st.sampled_from([(8, 2), (12, 4), (65, 5)]), st.integers(0, 99))
def test_any_sequence_of_changes(changes, shape, seed):
    generator = np.random.default_rng(seed)
    index = HammingIndex.from_codes(random_codes(20, shape[0]), num_bits=shape[0], num_concepts=shape[1])
    codes, ids = random_codes(20, shape[0]), np.arange(20)
    for change, amount in changes:
        if change == "add":
            new = random_codes(amount, shape[0], seed=seed)
            index.add(new)
            codes = np.concatenate([codes, new])
            ids = np.concatenate([ids, np.arange(amount) + max(ids, default=-1) + 1])
        elif change == "remove":
            gone = generator.random(len(ids)) < amount
            index.remove(generator.permutation(ids[gone]))
            codes, ids = codes[~gone], ids[~gone]
        elif len(ids):
            weights = generator.integers(0, 3, shape[1]) + generator.random(shape[1]) * amount + 0.01
            queries, k = random_codes(3, shape[0], seed=seed + 1), int(generator.integers(1, len(ids) + 1))
            per_concept = concept_distances(queries, codes, *shape)
            check_search(index.search(queries, k), ids, per_concept.sum(-1), per_concept, k)
            check_search(index.search(queries, k, weights), ids, per_concept @ weights, per_concept, k)
    assert index.ids.tolist() == ids.tolist()


# files


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(tmp_path, kind):
    index = make(kind=kind, model_id="org/model", revision="abc")
    index.save(tmp_path / "new" / "folder")
    loaded = HammingIndex.load(tmp_path / "new" / "folder")
    assert loaded.spec.model_id == "org/model" and loaded.spec.revision == "abc"
    assert_same(index, loaded)
    for one in (index, loaded):
        one.add(random_codes(5, 20, seed=3), ids=list("abcde"))
        one.remove(["photo 3", "a"])
    assert_same(index, loaded)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_index_can_be_saved(tmp_path, kind):
    index = HammingIndex.from_codes(random_codes(0, 20), num_bits=20, num_concepts=4, kind=kind)
    index.save(tmp_path)
    loaded = HammingIndex.load(tmp_path)
    loaded.add(random_codes(3, 20))
    assert len(loaded) == 3 and loaded.search(random_codes(1, 20), 3).ids.tolist()


def test_the_folder_says_what_it_is(tmp_path):
    make(model_id="org/model", revision="abc").save(tmp_path)
    header = json.loads((tmp_path / "index.json").read_text())
    assert header["format_version"] == 1 and header["num_codes"] == 300 and header["kind"] == "flat"
    assert header["spec"] == {"num_bits": 20, "num_concepts": 4, "model_id": "org/model", "revision": "abc"}
    assert "most significant bit first" in header["packing"]
    names = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert names == ["README.md", "codes", "config.json", "index.json", "rows"]
    assert "org/model at revision abc" in (tmp_path / "README.md").read_text()
    table = pq.read_table(next(tmp_path.glob("rows-*.parquet")))
    assert table.column_names == ["id", "number", "label"]


def test_datasets_opens_the_rows(tmp_path):
    from datasets import load_dataset

    make().save(tmp_path)
    rows = load_dataset("parquet", data_files=str(tmp_path / "rows-*.parquet"), cache_dir=tmp_path / "cache")["train"]
    assert rows[5] == {"id": "photo 5", "number": 5, "label": "class 5"}


def test_saving_again_replaces_the_index_and_nothing_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    make().save(tmp_path)
    index = make(200, seed=4)
    index.save(tmp_path)
    assert_same(index, HammingIndex.load(tmp_path))
    assert len(list(tmp_path.iterdir())) == 6 and (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("step", ["save_file", "write_table", "dumps"])
def test_an_interrupted_save_leaves_the_old_index(tmp_path, monkeypatch, step):
    old = make()
    old.save(tmp_path)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    owner = {"save_file": files, "write_table": files.pq, "dumps": whole_files.json}[step]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, step, interrupt)
        make(200, seed=4).save(tmp_path)
    assert_same(old, HammingIndex.load(tmp_path))
    new = make(200, seed=4)
    new.save(tmp_path)
    assert_same(new, HammingIndex.load(tmp_path))
    assert len(list(tmp_path.iterdir())) == 5


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path, monkeypatch):
    """Nobody tidies up after a kill; real kills are in test_reliability.py."""
    old = make()
    old.save(tmp_path)

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    for owner, step in [(files.pq, "write_table"), (whole_files.os, "replace"), (whole_files.json, "dumps")]:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(whole_files.shutil, "rmtree", lambda path, ignore_errors: None)
            patch.setattr(owner, step, kill)
            make(200, seed=4).save(tmp_path)
        assert_same(old, HammingIndex.load(tmp_path))
    assert len(list(tmp_path.iterdir())) > 5
    make(200, seed=4).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def edit_header(**changes) -> callable:
    def edit(folder: Path) -> None:
        path = folder / "index.json"
        header = json.loads(path.read_text()) | changes
        del header["checksum"]  # as a stranger, or an older version, would
        path.write_text(json.dumps(header))

    return edit


def replace_header(make) -> callable:
    def replace(folder: Path) -> None:
        (folder / "index.json").unlink()
        make(folder / "index.json")

    return replace


def forge(folder: Path, change_tensors=None, change_rows=None, **changes) -> None:
    """Another content under right checksums, as a stranger could make it; faiss checks nothing."""
    header = json.loads((folder / "index.json").read_text())
    tensors = load_file(folder / header["files"]["codes"]["name"])
    rows = pq.read_table(folder / header["files"]["rows"]["name"])
    if change_tensors:
        change_tensors(tensors)
    kept = {name: header[name] for name in ("spec", "kind", "num_codes")}
    files.write_index(folder, kept | changes, tensors, change_rows(rows) if change_rows else rows)


def set_tensor(name: str, position, value) -> callable:
    return lambda folder: forge(folder, lambda tensors: tensors[name].__setitem__(position, value))


def cast_tensor(name: str, dtype) -> callable:
    return lambda folder: forge(folder, lambda tensors: tensors.update({name: tensors[name].astype(dtype)}))


def other_ids(ids) -> callable:
    return lambda folder: forge(folder, change_rows=lambda rows: rows.set_column(0, "id", pa.array(ids)))


def link_above(folder: Path) -> None:
    """On the second level, a link to a code that is on the first only."""

    def change(tensors: dict) -> None:
        levels, offsets = tensors["hnsw.levels"], tensors["hnsw.offsets"]
        tensors["hnsw.neighbors"][offsets[np.flatnonzero(levels > 1)[0]] + 64] = np.flatnonzero(levels == 1)[0]

    forge(folder, change)


def edit_spec(**changes) -> callable:
    return edit_header(spec={"num_bits": 20, "num_concepts": 4, "model_id": None, "revision": None} | changes)


def forge_rows(change) -> callable:
    return lambda folder: forge(folder, change_rows=change)


DAMAGES = {
    "no codes": (lambda folder: next(folder.glob("codes-*")).unlink(), "lacks its file codes-"),
    "no rows": (lambda folder: next(folder.glob("rows-*")).unlink(), "lacks its file rows-"),
    "codes changed": (lambda folder: flip_a_byte(next(folder.glob("codes-*"))), "codes-.*is damaged: its content"),
    "rows changed": (lambda folder: flip_a_byte(next(folder.glob("rows-*"))), "rows-.*is damaged: its content"),
    "codes cut off": (
        lambda folder: next(folder.glob("codes-*")).write_bytes(b"123"),
        "is damaged: 3 bytes instead of",
    ),
    "header that is no file": (replace_header(lambda path: path.mkdir()), "it is no regular file"),
    "header that never ends": (replace_header(os.mkfifo), "it is no regular file"),
    "header of 17 MB": (replace_header(lambda path: path.write_bytes(b" " * 17 * 2**20)), "17825792 bytes are more"),
    "header in Latin 1": (replace_header(lambda path: path.write_bytes(b'{"\xe9": 1}')), "index.json is damaged"),
    "header of brackets": (replace_header(lambda path: path.write_text("[" * 10**5)), "index.json is damaged"),
    "bits beyond memory": (edit_spec(num_bits=2**31), "codes have at most 16384 bits, got num_bits=2147483648"),
    "bits beyond numbers": (edit_spec(num_bits=2**64), "codes have at most 16384 bits"),
    "half a bit": (edit_spec(num_bits=20.5), "num_bits is a whole number, got 20.5"),
    "a list for a model": (edit_spec(model_id=["m"]), r"model_id is a text or None, got \['m'\]"),
    "a field too many": (edit_spec(colour="red"), "unexpected keyword argument 'colour'"),
    "a version in words": (edit_header(format_version="1"), "'format_version' should be a whole number, found \"1\""),
    "a length below zero": (edit_header(num_codes=-1), "tells of -1 codes of 3 bytes"),
    "a length of another type": (edit_header(num_codes="300"), "'num_codes' should be a whole number"),
    "a kind of another type": (edit_header(kind=["flat"]), "'kind' should be a text"),
    "a file without a name": (
        edit_header(files={"codes": {"name": 1}, "rows": {}}),
        "'name' should be a text, found 1",
    ),
    "floats for codes": (cast_tensor("codes", np.float32), r"hold codes F32 \(300, 3\)"),
    "signed codes": (cast_tensor("codes", np.int8), r"hold codes I8 \(300, 3\)"),
    "bits that are none": (set_tensor("codes", (7, 2), 0b0001), "leave the last 4 bits of the last byte unset"),
    "an id twice": (other_ids([0, 0, *range(2, 300)]), "ids must be distinct, 0 given more than once"),
    "ids that are no numbers": (other_ids(np.arange(300) + 0.5), r"ids are integers \(int64\) or strings, got double"),
    "an item without an id": (other_ids([None, *range(1, 300)]), "every item needs an id, 1 of 300 are None"),
    "no ids": (forge_rows(lambda rows: rows.rename_columns(["name", *rows.column_names[1:]])), "expected one 'id'"),
    "two columns of ids": (forge_rows(lambda rows: rows.append_column("id", rows["id"])), "expected one 'id'"),
    "rows that are missing": (forge_rows(lambda rows: rows.slice(1)), "and 299 rows"),
    "graph with a link to nowhere": (set_tensor("hnsw.neighbors", 0, 10**6), "its graph does not belong"),
    "graph with a link above": (link_above, "its graph does not belong"),
    "graph entered from nowhere": (set_tensor("hnsw.entry", 0, 2**40), "its graph does not belong"),
    "graph as high as a tower": (set_tensor("hnsw.entry", 1, 2**31), "its graph does not belong"),
    "graph of no height": (set_tensor("hnsw.levels", 0, 0), "its graph does not belong"),
    "graph with other offsets": (set_tensor("hnsw.offsets", 5, 2**63), "its graph does not belong"),
    "graph of floats": (cast_tensor("hnsw.levels", np.float32), "its graph does not belong"),
    "no graph": (lambda folder: forge(folder, lambda tensors: tensors.pop("hnsw.levels")), "hnsw.levels"),
    "header with another letter": (
        lambda folder: change_text(folder / "index.json", "concept 0", "concept 1"),
        "index.json is damaged .its content does not have the checksum",
    ),
    "header cut off": (lambda folder: (folder / "index.json").write_text('{"format_ver'), "index.json is damaged"),
    "header a list": (lambda folder: (folder / "index.json").write_text("[]"), "index.json is damaged"),
    "header without spec": (edit_header(spec={}), "index.json is damaged"),
    "header without files": (edit_header(files={}), "index.json is damaged"),
    "header with another length": (edit_header(num_codes=299), "tells of 299 codes of 3 bytes"),
    "header with another width": (edit_header(spec={"num_bits": 64, "num_concepts": 4}), "codes of 8 bytes"),
    "newer format": (edit_header(format_version=2), "format version 2, this package reads 1"),
    "unknown kind": (edit_header(kind="tree"), "index.json is damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_says_what_is_wrong(tmp_path, name):
    damage, message = DAMAGES[name]
    make(kind="hnsw").save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        HammingIndex.load(tmp_path)


def test_centres_of_other_codes(tmp_path):
    for change in (
        lambda tensors: tensors.update({"ivf.centres": np.zeros((4, 2), np.uint8)}),
        lambda tensors: tensors.update({"ivf.centres": np.zeros((4, 3), np.float32)}),
        lambda tensors: tensors.update({"ivf.centres": np.zeros((0, 3), np.uint8)}),
        lambda tensors: tensors.pop("ivf.centres"),
    ):
        make(kind="ivf").save(tmp_path)
        forge(tmp_path, change)
        with pytest.raises(ValueError, match="is damaged .*centres"):
            HammingIndex.load(tmp_path)


@pytest.mark.parametrize(
    "lists",
    [
        np.full(300, 7, np.int32),
        np.full(300, -1, np.int32),
        np.zeros(299, np.int32),
        np.zeros((300, 1), np.int32),
        np.zeros(300, np.float32),
    ],
)
def test_lists_of_other_codes(tmp_path, lists):
    make(kind="ivf").save(tmp_path)
    assert load_file(next(tmp_path.glob("codes-*")))["ivf.centres"].shape == (7, 3)
    forge(tmp_path, lambda tensors: tensors.update({"ivf.lists": lists}))
    with pytest.raises(ValueError, match="is damaged .its lists do not belong"):
        HammingIndex.load(tmp_path)


def test_lists_are_kept_and_not_made_anew(tmp_path):
    index = make(5_000, kind="ivf", num_bits=64)
    index.save(tmp_path / "index")
    index.add(random_codes(700, 64), [f"new {i}" for i in range(700)])
    index.save(tmp_path / "more")
    for folder, length in ((tmp_path / "index", 5_000), (tmp_path / "more", 5_700)):
        tensors = load_file(next(folder.glob("codes-*")))
        centres, lists = tensors["ivf.centres"], tensors["ivf.lists"]
        distances = np.bitwise_count(tensors["codes"][:, None] ^ centres).sum(-1, dtype=int)
        assert len(lists) == length and len(np.unique(lists)) > 40
        np.testing.assert_array_equal(distances[np.arange(length), lists], distances.min(1))
    # a search reads 16 lists: of the others it does not know
    forge(tmp_path / "more", lambda tensors: tensors["ivf.lists"].fill(0))
    lost = HammingIndex.load(tmp_path / "more")
    assert len(lost) == 5_700 and lost.search(random_codes(9, 64), 5).ids.shape == (9, 5)
    assert lost._approximate.arrays()["ivf.lists"].tolist() == [0] * 5_700
    # as older versions saved it
    forge(tmp_path / "index", lambda tensors: tensors.pop("ivf.lists"))
    assert_same(HammingIndex.load(tmp_path / "index"), make(5_000, kind="ivf", num_bits=64), num_bits=64)


def test_centres_of_a_sample(monkeypatch):
    """Of many codes few are trained on, and codes go through in blocks; what is found stays good."""
    codes, queries = random_codes(20_000, 64, clusters=100), random_codes(100, 64, seed=1, clusters=100)
    monkeypatch.setattr(approximate, "CODES_PER_BLOCK", 3_000)
    monkeypatch.setattr(InvertedLists, "MOST_LISTS", 30)
    trained_on = []
    train = faiss.IndexBinaryIVF.train
    monkeypatch.setattr(faiss.IndexBinaryIVF, "train", lambda self, x: (trained_on.append(len(x)), train(self, x))[1])
    index = HammingIndex.from_codes(codes, num_bits=64, num_concepts=4, kind="ivf")
    found = index.search(queries, 10).distances
    assert trained_on == [10_000]
    expected = HammingIndex.from_codes(codes, num_bits=64, num_concepts=4).search(queries, 10).distances
    assert (found == expected).mean() > 0.95
    assert len(index._approximate.arrays()["ivf.lists"]) == 20_000


def test_a_model_is_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a model or something else with a config.json"):
        make().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_the_card_is_that_of_the_codes(tmp_path):
    """One that somebody has written stays with the index that it is about, however that grows."""
    card = tmp_path / "README.md"
    HammingIndex(CodeSpec(8, 2, "org/old")).save(tmp_path)
    card.write_text(card.read_text() + "Mine.")
    grown = HammingIndex.load(tmp_path)
    grown.add(random_codes(3, 8))
    grown.save(tmp_path)
    assert "org/old" in card.read_text() and card.read_text().endswith("Mine.")
    HammingIndex(CodeSpec(16, 4, "org/new")).save(tmp_path)
    assert "org/new" in card.read_text() and "org/old" not in card.read_text() and "16 bits" in card.read_text()


def test_places_as_paths_and_as_texts(tmp_path):
    make(3).save(tmp_path / "a")
    for place in (tmp_path / "a", [tmp_path / "a"], str(tmp_path / "a")):
        assert len(open_index(place)) == 3


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([{}, {}], "3 codes, got 2 rows"),
        ([{"a": 1}, {"a": 2}], "3 codes, got 2 rows"),
        (pa.table([[1, 2, 3]] * 2, ["a", "a"]), "a column twice: a, a"),
    ],
)
def test_metadata_that_does_not_fit(metadata, message):
    with pytest.raises(ValueError, match=message):
        HammingIndex.from_codes(random_codes(3, 8), num_bits=8, num_concepts=2, metadata=metadata)


def test_columns_are_called_by_texts():
    index = HammingIndex.from_codes(
        random_codes(2, 8), num_bits=8, num_concepts=2, metadata=[{1: "a"}, {1: "b", "c": 3}]
    )
    assert index.get_metadata([0, 1]) == [{"1": "a", "c": None}, {"1": "b", "c": 3}]


def test_where_there_is_nothing():
    index = make(3)
    with pytest.raises(ValueError, match="nothing to search among: the index is empty, or no item has what was asked"):
        index.where({"label": "nobody"}).search(random_codes(1, 20), 1)
    without = HammingIndex.from_codes(random_codes(2, 8), num_bits=8, num_concepts=2)
    with pytest.raises(ValueError, match="no column 'label'; there are none: the items have no metadata"):
        without.where({"label": "wren"})


def test_new_files_have_the_permissions_of_new_files(tmp_path):
    os.umask(mask := os.umask(0o077))
    make().save(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_an_index_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    make(n=20).save(tmp_path)
    load, headers = HammingIndex._load, []

    def slow(folder, header, *args):
        headers.append(header)
        if len(headers) == 1:
            make(n=30).save(tmp_path)
        return load(folder, header, *args)

    monkeypatch.setattr(HammingIndex, "_load", slow)
    assert len(HammingIndex.load(tmp_path)) == 30
    assert [header["num_codes"] for header in headers] == [20, 30]


def test_no_index_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no index in .*index.json"):
        HammingIndex.load(tmp_path / "nowhere")


def test_another_model_is_refused_before_the_codes_are_read(tmp_path):
    make(model_id="org/model", revision="abc").save(tmp_path)
    next(tmp_path.glob("codes-*")).unlink()
    with pytest.raises(ValueError, match="made by org/model at revision abc, these are of model_id 'org/other'"):
        HammingIndex.load(tmp_path, model_id="org/other")
    with pytest.raises(ValueError, match="revision 'def'"):
        HammingIndex.load(tmp_path, model_id="org/model", revision="def")


# the Hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that plays the Hub: what is uploaded there is what is downloaded."""
    root = tmp_path / "hub"

    class Created:
        repo_id = "org/birds-index"

    def upload_folder(self, repo_id, folder_path, delete_patterns=None, **kwargs):
        for pattern in delete_patterns or []:
            for path in (root / repo_id).glob(pattern):
                path.unlink()
        shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
        return "https://hub/commit"

    def hf_hub_download(repo_id, filename, **kwargs):
        return str(root / repo_id / filename)

    def snapshot_download(repo_id, allow_patterns, **kwargs):
        assert "revision" in kwargs
        target = tmp_path / "cache"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for pattern in allow_patterns:
            for path in (root / repo_id).glob(pattern):
                shutil.copy(path, target)
        return str(target)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.create_repo", lambda self, **kwargs: Created)
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", hf_hub_download)
    monkeypatch.setattr("concepthash_hf.index.hamming.snapshot_download", snapshot_download)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_pushed_and_loaded(hub, kind):
    index = make(kind=kind, model_id="org/model", revision="abc")
    assert index.push_to_hub("birds-index") == "https://hub/commit"
    assert_same(index, HammingIndex.from_pretrained("org/birds-index"))
    index.remove(index.ids[:10])
    index.push_to_hub("birds-index")
    assert len(list((hub / "org" / "birds-index").glob("*-*.*"))) == 2  # those of before are gone
    assert_same(index, HammingIndex.from_pretrained("org/birds-index"))


def test_from_pretrained_takes_a_folder(tmp_path):
    index = make()
    index.save_pretrained(tmp_path)
    assert_same(index, HammingIndex.from_pretrained(tmp_path))


def test_no_pickle_in_it(tmp_path):
    make(kind="hnsw").save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".safetensors", ".parquet"}


class TestWhere:
    @pytest.fixture
    def index(self):
        rows = [
            {"label": f"class {i % 3}", "n": i, "flag": i % 2 == 0, "tags": [f"t{i % 4}"], "one": 1} for i in range(60)
        ]
        return HammingIndex.from_codes(random_codes(60, 20), num_bits=20, num_concepts=4, metadata=rows)

    def test_facets_are_what_it_takes(self, index):
        facets = index.facets(most=10)
        assert facets == {
            "flag": [False, True],
            "label": ["class 0", "class 1", "class 2"],
            "tags": [["t0"], ["t1"], ["t2"], ["t3"]],
        }
        for name, values in facets.items():
            assert sum(len(index.where({name: value})) for value in values) == 60
        assert HammingIndex.from_codes(random_codes(3, 20), num_bits=20, num_concepts=4).facets() == {}

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ({"colour": "red"}, "no column 'colour'; there are 'label', 'n'"),
            ({"id": 3}, "no column 'id'"),
            ({"n": "red"}, "n is of int64 and cannot be 'red'"),
            ({"label": {"a": 1}}, "label is of .*string and cannot be"),
            ({"label": ["class 1"] * 60}, r"label is of string, one value .* give one, not \['class 1', "),
            ({"label": ("class 1",) * 60}, "label is of string and cannot be"),
            ({"label": np.array(["class 1"] * 60)}, "label is of string and cannot be"),
            ({"n": [3]}, r"n is of int64, one value for each item: give one, not \[3\]"),
            ({"n": 2**70}, "n is of int64 and cannot be 1180591620717411303424"),
        ],
    )
    def test_what_cannot_be(self, index, where, error):
        with pytest.raises(ValueError, match=error):
            index.where(where)

    def test_it_is_independent(self, index):
        part = index.where({"label": "class 1"})
        part.remove(part.ids[:3])
        assert len(part) == 17 and len(index) == 60
        assert len(part.where({"flag": True})) + len(part.where({"flag": False})) == 17


@pytest.mark.parametrize("metadata", [True, False])
def test_growing_by_many_small_parts_leaves_few_chunks(metadata):
    """Every look-up goes through all of them."""
    codes, index = random_codes(3, 20), HammingIndex(CodeSpec(20, 4))
    rows = [{"n": n} | ({"late": str(n)} if n >= 300 else {}) for n in range(600)]
    for start in range(0, 600, 3):
        part = slice(start, start + 3)
        index.add(codes, [f"photo {n}" for n in range(600)[part]], rows[part] if metadata else None)
        if start % 30 == 0:
            assert len(index.ids) == start + 3  # which combines those of the ids alone
        assert all(column.num_chunks <= 5 for column in index._rows.table.columns)
    expected = [{"late": None, **row} if metadata else {} for row in rows]
    assert index.get_metadata([f"photo {n}" for n in range(600)]) == expected


@pytest.mark.parametrize("ids", [None, [f"photo {i * 7 % 60:02}é" for i in range(60)]])
def test_warm_changes_no_answer(ids):
    codes, queries = random_codes(60, 20), random_codes(3, 20, seed=1)
    cold, warm = (HammingIndex.from_codes(codes, ids, num_bits=20, num_concepts=4) for _ in range(2))
    warm.warm()
    asked = cold.ids[[7, 3, 3, 59]].tolist()
    assert warm.get_codes(asked).tolist() == cold.get_codes(asked).tolist() == codes[[7, 3, 3, 59]].tolist()
    assert warm.search(queries, 5, [1, 2, 0, 1]).ids.tolist() == cold.search(queries, 5, [1, 2, 0, 1]).ids.tolist()
    for index in (cold, warm):
        with pytest.raises(ValueError, match="not in the index: (-5, 1000|'', 'zebra')"):
            index.get_codes([asked[0], *([-5, 1000] if ids is None else ["", "zebra"])])
    for index in (cold, warm):  # what was built is not what is there after a change
        index.remove(asked[:1])
        assert index.get_codes(asked[1:2]).tolist() == codes[[3]].tolist()
        with pytest.raises(ValueError, match="not in the index"):
            index.get_codes(asked[:1])
    HammingIndex(CodeSpec(20, 4)).warm()


class TestMapped:
    @pytest.fixture(params=[64, 20, 136])
    def both(self, request, tmp_path):
        num_concepts = 4 if request.param != 136 else 2
        rows = [{"n": i} for i in range(500)]
        index = HammingIndex.from_codes(
            random_codes(500, request.param), num_bits=request.param, num_concepts=num_concepts, metadata=rows
        )
        index.save(tmp_path / "index")
        return HammingIndex.load(tmp_path / "index"), HammingIndex.load(tmp_path / "index", mapped=True)

    def test_its_answers_are_those_of_an_index_in_memory(self, both):
        in_memory, mapped = both
        queries = random_codes(7, mapped.num_bits, seed=1)
        logits = np.random.default_rng(2).normal(size=(3, mapped.num_bits))
        weights = np.arange(1, mapped.num_concepts + 1) / 2
        for ask in (
            lambda index: index.search(queries, 9),
            lambda index: index.search(queries, 500),
            lambda index: index.search(queries, 9, weights),
            lambda index: index.search_by_logits(logits, 9),
            lambda index: index.range_search(queries, mapped.num_bits // 2),
            lambda index: index.range_search(queries, 0),
            lambda index: index.where({"n": 3}).search(queries, 1),
        ):
            one, other = ask(in_memory), ask(mapped)
            assert one.distances.tolist() == other.distances.tolist()
            assert np.sort(one.concept_distances.sum(-1)).tolist() == np.sort(other.concept_distances.sum(-1)).tolist()
        assert mapped.get_codes([3, 499]).tolist() == in_memory.get_codes([3, 499]).tolist()

    def test_it_is_the_file_until_it_is_changed(self, both, tmp_path):
        _, mapped = both
        assert isinstance(mapped._codes, np.memmap) and not mapped._codes.flags.writeable
        before = mapped.get_codes(mapped.ids)
        mapped.add(before[:1], [1000], metadata=[{"n": 1000}])
        mapped.remove([0])
        assert not isinstance(mapped._codes, np.memmap)
        assert mapped.get_codes(mapped.ids).tolist() == [*before[1:].tolist(), before[0].tolist()]
        mapped.save(tmp_path / "index")
        again = HammingIndex.load(tmp_path / "index", mapped=True)
        assert again.get_codes(again.ids).tolist() == mapped.get_codes(mapped.ids).tolist()

    def test_what_is_removed_first_is_gone(self, both):
        for index in both:
            codes = index.get_codes(index.ids)
            index.remove([3, 0])
            assert index.ids.tolist() == [1, 2, *range(4, 500)]
            assert index.get_codes(index.ids).tolist() == np.delete(codes, [0, 3], axis=0).tolist()

    def test_bits_that_do_not_belong_to_a_code_are_found_before(self, tmp_path):
        index = HammingIndex.from_codes(random_codes(9, 20), num_bits=20, num_concepts=4)
        index._codes[5, -1] |= 1
        index.save(tmp_path)
        with pytest.raises(ValueError, match="damaged .*last 4 bits of the last byte"):
            HammingIndex.load(tmp_path, mapped=True)

    def test_a_new_version_of_the_files_leaves_an_open_one(self, both, tmp_path):
        in_memory, mapped = both
        queries = random_codes(3, mapped.num_bits, seed=1)
        expected = mapped.search(queries, 5).distances.tolist()
        in_memory.remove(in_memory.ids[:400])
        in_memory.save(tmp_path / "index")
        assert mapped.search(queries, 5).distances.tolist() == expected

    def test_damage_is_found_before(self, both, tmp_path):
        (file,) = (tmp_path / "index").glob("codes-*.safetensors")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            HammingIndex.load(tmp_path / "index", mapped=True)

    def test_other_kinds_and_empty_ones(self, tmp_path):
        HammingIndex(CodeSpec(20, 4)).save(tmp_path / "empty")
        empty = HammingIndex.load(tmp_path / "empty", mapped=True)
        assert len(empty) == 0
        empty.add(random_codes(3, 20))
        assert len(empty) == 3
        HammingIndex.from_codes(random_codes(300, 20), num_bits=20, num_concepts=4, kind="hnsw").save(
            tmp_path / "hnsw"
        )
        assert len(HammingIndex.load(tmp_path / "hnsw", mapped=True).search(random_codes(1, 20), 5).ids[0]) == 5
