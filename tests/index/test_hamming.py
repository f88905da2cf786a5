"""What only the index in memory does: kinds, files, the Hub, and any sequence of changes."""

import doctest
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import concepthash_hf.index.files as files
import concepthash_hf.index.hamming as hamming
from concepthash_hf.index import HammingIndex

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
    assert results.failed == 0 and results.attempted == 7


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

    owner = {"save_file": files, "write_table": files.pq, "dumps": files.json}[step]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, step, interrupt)
        make(200, seed=4).save(tmp_path)
    assert_same(old, HammingIndex.load(tmp_path))
    new = make(200, seed=4)
    new.save(tmp_path)
    assert_same(new, HammingIndex.load(tmp_path))
    assert not list(tmp_path.glob("*.part")) and len(list(tmp_path.iterdir())) == 5


def test_a_killed_save_leaves_the_old_index(tmp_path, monkeypatch):
    """Nobody tidies up after a kill."""
    old = make()
    old.save(tmp_path)

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    for owner, step in [(files.pq, "write_table"), (files.os, "replace"), (files.json, "dumps")]:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
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


def edit_header(**changes) -> callable:
    def edit(folder: Path) -> None:
        path = folder / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def forge_graph(folder: Path) -> None:
    """A link to nowhere, under a right checksum: faiss would read outside its memory."""
    from safetensors.numpy import load_file

    header = json.loads((folder / "index.json").read_text())
    tensors = load_file(folder / header["files"]["codes"]["name"])
    tensors["hnsw.neighbors"][0] = 10**6
    rows = pq.read_table(folder / header["files"]["rows"]["name"])
    files.write_index(folder, {name: header[name] for name in ("spec", "kind", "num_codes")}, tensors, rows)


DAMAGES = {
    "no codes": (lambda folder: next(folder.glob("codes-*")).unlink(), "lacks its file codes-"),
    "no rows": (lambda folder: next(folder.glob("rows-*")).unlink(), "lacks its file rows-"),
    "codes changed": (lambda folder: flip_a_byte(next(folder.glob("codes-*"))), "codes-.*is damaged: its content"),
    "rows changed": (lambda folder: flip_a_byte(next(folder.glob("rows-*"))), "rows-.*is damaged: its content"),
    "codes cut off": (
        lambda folder: next(folder.glob("codes-*")).write_bytes(b"123"),
        "is damaged: 3 bytes instead of",
    ),
    "header cut off": (lambda folder: (folder / "index.json").write_text('{"format_ver'), "index.json is damaged"),
    "header a list": (lambda folder: (folder / "index.json").write_text("[]"), "index.json is damaged"),
    "header without spec": (edit_header(spec={}), "index.json is damaged"),
    "header without files": (edit_header(files={}), "index.json is damaged"),
    "header with another length": (edit_header(num_codes=299), "tells of 299 codes of 3 bytes"),
    "header with another width": (edit_header(spec={"num_bits": 64, "num_concepts": 4}), "codes of 8 bytes"),
    "newer format": (edit_header(format_version=2), "format version 2, this package reads 1"),
    "unknown kind": (edit_header(kind="tree"), "index.json is damaged"),
    "forged graph": (forge_graph, "its graph does not belong to its codes"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_says_what_is_wrong(tmp_path, name):
    damage, message = DAMAGES[name]
    make(kind="hnsw").save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        HammingIndex.load(tmp_path)


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
