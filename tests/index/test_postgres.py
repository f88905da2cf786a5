"""What an index in a real PostgreSQL server does beyond the contract of all indexes."""

import json
import os
import runpy
import signal
import sys
import threading
import time
from datetime import date
from pathlib import Path

import numpy as np
import psycopg
import pytest
import torch
from bird_photos import NAMES, save_untrained, write_photos
from runs import forget_accelerate

from concepthash_hf.index import CodeSpec, HammingIndex
from concepthash_hf.index.postgres import PostgresIndex

from .oracle import check_search, concept_distances, random_codes

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = CodeSpec(20, 4, "org/model", "1")
HOSTILE_NAMES = ['x"; DROP TABLE bystander; --', "Ärger 🐦", "{table}", "select", "a'b\\n"]


@pytest.fixture
def index(make_postgres_index) -> PostgresIndex:
    """300 codes; every third is of class 0."""
    index = make_postgres_index(SPEC)
    metadata = [{"label": f"class {i % 3}", "number": i, "tags": ["all", f"t{i % 2}"]} for i in range(300)]
    index.add(random_codes(300, 20), ids=[f"photo {i}" for i in range(300)], metadata=metadata)
    return index


@pytest.fixture
def uri(postgres_server) -> str:
    return postgres_server.get_uri()


def test_another_machine_sees_the_same(index, uri):
    other = PostgresIndex(uri, table=index.table)
    assert other.spec == SPEC
    queries = random_codes(5, 20, seed=1)
    index.remove(["photo 3"])
    other.add(queries[:1], ids=["new"])
    for machine in (index, other):
        assert len(machine) == 300
        assert "new" in machine.range_search(queries, 0)[0][0]
    np.testing.assert_array_equal(index.search(queries, 9).ids, other.search(queries, 9).ids)
    other.close()
    assert len(other) == 300  # connected anew


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CodeSpec(24, 4), "has codes of 20 bits in 4 concepts, not of 24 in 4"),
        (CodeSpec(20, 5), "has codes of 20 bits in 4 concepts, not of 20 in 5"),
        (CodeSpec(20, 4, "org/other"), "made by org/model at revision 1"),
        (CodeSpec(20, 4, "org/model", "2"), "revision '2'"),
    ],
)
def test_an_index_of_other_codes(index, uri, spec, message):
    with pytest.raises(ValueError, match=message):
        PostgresIndex(uri, spec, table=index.table)


def test_one_revision_is_one_model_wherever_it_lies(index, uri):
    assert PostgresIndex(uri, CodeSpec(20, 4, "a copy of it", "1"), table=index.table).spec == SPEC


def test_no_such_index(uri):
    with pytest.raises(ValueError, match="no index 'nothing': give a spec to create it"):
        PostgresIndex(uri, table="nothing")


def test_a_table_of_somebody_else(uri):
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE bystander (note text)")
        try:
            with pytest.raises(ValueError, match="a table 'bystander' that is no index"):
                PostgresIndex(uri, SPEC, table="bystander")
        finally:
            connection.execute("DROP TABLE bystander")


@pytest.mark.parametrize("name", ["", "x" * 49, "ä" * 25, "nul\0", "%s"])
def test_names_that_postgres_would_cut_or_refuse(uri, name):
    with pytest.raises(ValueError, match="a table has a name of 1 to 48 bytes"):
        PostgresIndex(uri, SPEC, table=name)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_are_names(uri, name):
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE bystander (note text)")
        index = PostgresIndex(uri, SPEC, table=name)
        values = {name: name, "%s": "%(codes)s"}
        index.add(random_codes(3, 20), metadata=[{**values, "n": i} for i in range(3)])
        index.build_hnsw()
        assert len(index.where(values)) == 3
        assert index.where({**values, "n": 2}).search(random_codes(1, 20), 1).ids.tolist() == [[2]]
        assert PostgresIndex(uri, table=name).spec == SPEC
        index.drop()
        with pytest.raises(ValueError, match="no index"):
            PostgresIndex(uri, table=name)
        assert connection.execute("SELECT count(*) FROM bystander").fetchone() == (0,)
        connection.execute("DROP TABLE bystander")


@pytest.mark.parametrize("weights", [None, [0.5, 2, 0, 1]])
@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({"label": "class 0"}, range(0, 300, 3)),
        ({"label": "class 1", "tags": ["t1"]}, range(1, 300, 6)),
        ({}, range(300)),
    ],
)
def test_search_where(index, condition, kept, weights):
    codes, queries, kept = random_codes(300, 20)[kept], random_codes(7, 20, seed=1), list(kept)
    names = np.array([f"photo {i}" for i in kept], dtype=object)
    part = index.where(condition)
    per_concept = concept_distances(queries, codes, 20, 4)
    distances = per_concept.sum(-1) if weights is None else per_concept @ np.array(weights)
    assert len(part) == len(kept)
    check_search(part.search(queries, 20, weights), names, distances, per_concept, 20)
    within = part.range_search(queries, 6)
    for query, near in enumerate(per_concept.sum(-1)):
        assert set(within[query][0]) == set(names[near <= 6])


def test_where_after_where(index):
    part = index.where({"label": "class 1"}).where({"tags": ["t1"]})
    assert len(part) == 50
    assert part.get_metadata(["photo 7"])[0]["number"] == 7
    with pytest.raises(ValueError, match="not in the index: 'photo 8'"):
        part.get_metadata(["photo 7", "photo 8"])
    nothing = part.where({"label": "class 0"})
    assert len(nothing) == 0
    with pytest.raises(ValueError, match="empty"):
        nothing.search(random_codes(1, 20), 1)
    with pytest.raises(ValueError, match="from 1 to the 50 of the index, got 51"):
        part.search(random_codes(1, 20), 51)


def test_a_part_is_not_changed(index):
    part = index.where({"label": "class 1"})
    for change in (lambda: part.add(random_codes(1, 20), ["x"]), lambda: part.remove(["photo 1"]), part.drop):
        with pytest.raises(ValueError, match="use the whole index"):
            change()
    assert len(index) == 300


def test_hnsw(make_postgres_index, uri):
    codes, queries = random_codes(2000, 64, clusters=40), random_codes(20, 64, seed=1, clusters=40)
    # so few codes the server would rather read through
    index = PostgresIndex(f"{uri}&options=-c%20enable_seqscan%3Doff", table=make_postgres_index(CodeSpec(64, 4)).table)
    labels = [f"class {i % 10}" for i in range(2000)]
    index.add(codes[:1600], metadata={"label": labels[:1600]})
    index.build_hnsw()
    index.add(codes[1600:], metadata={"label": labels[1600:]})
    per_concept = concept_distances(queries, codes, 64, 4)
    expected = np.sort(per_concept.sum(-1))
    found = index.search(queries, 10)
    assert hnsw_scans(index, uri) == 20
    assert (found.distances == expected[:, :10]).mean() > 0.95
    np.testing.assert_array_equal(found.concept_distances, per_concept[np.arange(20)[:, None], found.ids])

    check_search(index.search(queries, 5, [1, 0, 2, 0]), np.arange(2000), per_concept @ [1, 0, 2, 0.0], per_concept, 5)
    assert len(index.range_search(queries[:1], 12)[0][0]) == (per_concept[0].sum(-1) <= 12).sum()
    of_class = index.where({"label": "class 3"}).search(queries, 10)
    assert set((of_class.ids % 10).ravel()) == {3}
    # more than HNSW can give
    np.testing.assert_array_equal(index.search(queries[:2], 1500).distances, expected[:2, :1500])
    index.remove(np.arange(1980))
    np.testing.assert_array_equal(index.search(queries, 20).distances, np.sort(per_concept[:, 1980:].sum(-1)))

    index.drop_hnsw()
    per_concept = per_concept[:, 1980:]
    check_search(index.search(queries, 7), np.arange(1980, 2000), per_concept.sum(-1), per_concept, 7)
    index.close()


def hnsw_scans(index: PostgresIndex, uri: str) -> int:
    """How often the server has searched by HNSW, which it counts when a connection ends."""
    index.close()
    with psycopg.connect(uri, autocommit=True) as connection:
        for _ in range(100):
            (scans,) = connection.execute(
                "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", [f"{index.table}_hnsw"]
            ).fetchone()
            if scans:
                break
            time.sleep(0.05)
    return scans


def test_what_postgres_cannot_keep(index):
    refused = [
        ({"ids": ["nul\0"]}, "cannot keep"),
        ({"ids": ["".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9000, 9000)))]}, "cannot keep"),
        ({"ids": ["x"], "metadata": [{"label": "nul\0"}]}, "cannot keep"),
        ({"ids": ["x"], "metadata": [{"share": float("nan")}]}, "JSON, which this row is not.*share"),
        ({"ids": ["x"], "metadata": [{"taken": date(2024, 5, 1)}]}, "JSON, which this row is not.*taken"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message):
            index.add(random_codes(1, 20), **arguments)
    assert len(index) == 300


def test_machines_that_number_at_once(make_postgres_index, uri):
    name = make_postgres_index(SPEC).table
    failures = []

    def add(seed: int) -> None:
        try:
            machine = PostgresIndex(uri, SPEC, table=name)
            for batch in range(5):
                machine.add(random_codes(10, 20, seed=seed * 10 + batch))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    index = PostgresIndex(uri, table=name)
    assert sorted(index.search(random_codes(1, 20), 200).ids[0].tolist()) == list(range(200))


def test_machines_that_create_at_once(uri):
    opened, failures = [], []

    def create() -> None:
        try:
            opened.append(PostgresIndex(uri, SPEC, table="at once"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(opened) == 4
    opened[0].drop()


def test_threads_take_turns(index):
    queries = random_codes(20, 20, seed=1)
    expected = index.search(queries, 5).ids
    found = [None] * 20

    def ask(query: int) -> None:
        found[query] = index.search(queries[query : query + 1], 5).ids[0]

    threads = [threading.Thread(target=ask, args=(query,)) for query in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack(found), expected)


def test_a_server_that_is_not_there():
    with pytest.raises(ConnectionError, match="host localhost, port 1, dbname photos.*not there") as caught:
        PostgresIndex("postgresql://me:secret@localhost:1/photos", SPEC)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("conninfo", ["just words", "postgresql://me:secret@host:port:1/x?y", "http://host/x"])
def test_no_address(conninfo):
    with pytest.raises(ValueError, match="no address of a PostgreSQL database; expected such as") as caught:
        PostgresIndex(conninfo, SPEC)
    assert "secret" not in str(caught.value)


def test_a_server_that_goes_away_in_the_middle(index, postgres_server, uri):
    """Killed while a batch comes in: the batch is not there, everything else is, and the same index goes on."""
    queries = random_codes(5, 20, seed=1)
    before = index.search(queries, 300)

    adding = threading.Event()

    def kill() -> None:
        copying = "SELECT 1 FROM pg_stat_progress_copy WHERE tuples_processed > 100"
        with psycopg.connect(uri, autocommit=True) as connection:
            while adding.is_set() and not connection.execute(copying).fetchone():
                time.sleep(0.001)
        os.kill(postgres_server.get_pid(), signal.SIGQUIT)  # no farewell to anybody

    killer = threading.Thread(target=kill)
    adding.set()
    killer.start()
    try:
        with pytest.raises(ConnectionError, match="went away.*Nothing is half done"):
            index.add(random_codes(200_000, 20), ids=[f"new {i}" for i in range(200_000)])
        with pytest.raises(ConnectionError):
            index.search(queries, 5)
    finally:
        adding.clear()
        killer.join()
        postgres_server.get_postmaster_info().process.wait()
        postgres_server.ensure_postgres_running()
    after = index.search(queries, 300)
    assert len(index) == 300
    np.testing.assert_array_equal(after.ids, before.ids)
    index.add(random_codes(2, 20), ids=["new 0", "new 1"])
    assert len(index) == 302


def test_a_database_without_pgvector(uri):
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("CREATE DATABASE plain")
        try:
            with pytest.raises(ValueError, match="has no pgvector.*CREATE EXTENSION vector"):
                PostgresIndex(uri.replace("postgres:@/postgres", "reader:@/plain"), SPEC)
        finally:
            connection.execute("DROP DATABASE plain WITH (FORCE)")
            connection.execute("DROP ROLE reader")


def test_an_index_that_was_dropped_by_hand(index, uri):
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {index.table}")
    with pytest.raises(ValueError, match="no longer in the database"):
        index.add(random_codes(1, 20), ids=["x"])
    with pytest.raises(ValueError, match="no longer in the database"):
        index.search(random_codes(1, 20), 1)
    assert len(PostgresIndex(uri, CodeSpec(64, 4), table=index.table)) == 0  # its entry was left


def test_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "concepthash_hf.index.postgres")
    monkeypatch.setitem(sys.modules, "pgvector", None)
    with pytest.raises(ImportError, match=r"pip install 'concepthash_hf\[pgvector\]'"):
        import concepthash_hf.index.postgres  # noqa: F401


def test_the_same_as_in_memory(index):
    """Not only equal up to ties: the order of equal distances is that of insertion in both."""
    queries = random_codes(30, 20, seed=1)
    memory = HammingIndex(SPEC)
    memory.add(random_codes(300, 20), ids=[f"photo {i}" for i in range(300)])
    for weights in (None, {0: 1.5, 3: 0.25}):
        ours, theirs = (one.search(queries, 300, weights) for one in (index, memory))
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        np.testing.assert_array_equal(ours.distances, theirs.distances)
        np.testing.assert_array_equal(ours.concept_distances, theirs.concept_distances)


def test_from_photos_to_hits_by_the_examples(uri, tmp_path, monkeypatch, capsys):
    """encode.py fills a table, search.py finds in it."""
    photos, model = write_photos(tmp_path / "photos", 3), save_untrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)

    def run(script: str, *words: object) -> str:
        forget_accelerate()
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [script, "--model", str(model), *map(str, words)])
        threads = torch.get_num_threads()
        try:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
        return capsys.readouterr().out

    encode = ("--dataset", photos, "--output_dir", "codes", "--database", uri, "--table", "birds")
    assert "birds in the database, 15 codes" in run("encode.py", *encode)
    with pytest.raises(SystemExit, match="error: already in the index"):
        run("encode.py", *encode)
    search = ("--images", photos / NAMES[0] / "1.png", "--k", 15, "--concepts", 1, "2=3")
    in_database = run("search.py", "--index", uri, "--table", "birds", *search).replace(uri, "codes/index")
    assert in_database == run("search.py", "--index", "codes/index", *search)
    assert in_database.count(".png)") == 15
    PostgresIndex(uri, table="birds").drop()


def test_the_benchmark(uri, tmp_path, monkeypatch):
    script, output = EXAMPLES / "benchmarks" / "postgres_search.py", tmp_path / "found.json"
    words = ["--database", uri, "--num_codes", "2000", "--num_queries", "5", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    runpy.run_path(str(script), run_name="__main__")
    found = json.loads(output.read_text())
    for name in ("exact", "by concept", "filtered"):
        assert found["searches"][name]["recall"] == 1
    assert found["searches"]["HNSW"]["recall"] > 0.9
    assert (
        found["arguments"]["num_codes"] == 2000
        and str(tmp_path) not in output.read_text()
        and uri not in output.read_text()
    )
    with pytest.raises(ValueError, match="no index"):
        PostgresIndex(uri, table="postgres_search_benchmark")
