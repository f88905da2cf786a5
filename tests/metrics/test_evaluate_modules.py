"""The folders that are pushed to the Hub as metric Spaces, loaded as a user loads them."""

import os
import runpy
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import evaluate
import numpy as np
import pytest
from huggingface_hub import RepoCard

from concepthash_hf.metrics import code_quality, retrieval_metrics

METRICS = files("concepthash_hf.metrics")
RETRIEVAL, QUALITY = (str(METRICS / name) for name in ("concepthash_retrieval", "concepthash_code_quality"))


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def load(*args, tmp_path, **kwargs):
    return evaluate.load(*args, cache_dir=str(tmp_path), **kwargs)


def test_batches_give_the_numbers_of_the_function(random_task, tmp_path):
    queries, query_labels, database, labels = random_task
    metric = load(RETRIEVAL, tmp_path=tmp_path)
    for start in range(0, 100, 40):
        part = slice(start, start + 40)
        metric.add_batch(predictions=database[part], references=labels[part], roles=["database"] * len(labels[part]))
    metric.add_batch(predictions=queries[:20], references=query_labels[:20], roles=["query"] * 20)
    for code, label in zip(queries[20:], query_labels[20:], strict=True):
        metric.add(predictions=code, references=label, roles="query")
    ours = metric.compute(top_k=7, at=[3], ties="stable")
    assert ours == retrieval_metrics(*random_task, top_k=7, at=[3], ties="stable")


def test_items_that_are_both_do_not_find_themselves(random_task, tmp_path):
    _, _, database, labels = random_task
    ours = load(RETRIEVAL, tmp_path=tmp_path).compute(
        predictions=database.tolist(), references=labels.tolist(), roles=["both"] * 100
    )
    ids = np.arange(100)
    assert ours == retrieval_metrics(database, labels, database, labels, query_ids=ids, database_ids=ids)


def test_multilabel(random_task, tmp_path):
    queries, query_labels, database, labels = random_task
    one_hot = np.eye(7, dtype=int)
    ours = load(RETRIEVAL, "multilabel", tmp_path=tmp_path).compute(
        predictions=np.concatenate([queries, database]),
        references=one_hot[np.concatenate([query_labels, labels])],
        roles=["query"] * 30 + ["database"] * 100,
    )
    assert ours == retrieval_metrics(*random_task)


SECOND_PROCESS = """
import sys
import evaluate
import numpy as np

codes, labels = np.arange(60, dtype=np.uint8).reshape(30, 2)[1::2], (np.arange(30) % 4)[1::2]
metric = evaluate.load(
    sys.argv[1], num_process=2, process_id=1, experiment_id="test", cache_dir=sys.argv[2], timeout=300
)
metric.add_batch(predictions=codes, references=labels, roles=["both"] * 15)
print(metric.compute())
"""


def test_two_processes(tmp_path):
    second = subprocess.Popen(
        [sys.executable, "-c", SECOND_PROCESS, RETRIEVAL, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )
    codes, labels, ids = np.arange(60, dtype=np.uint8).reshape(30, 2), np.arange(30) % 4, np.arange(30)
    metric = load(RETRIEVAL, tmp_path=tmp_path, num_process=2, process_id=0, experiment_id="test", timeout=300)
    metric.add_batch(predictions=codes[::2], references=labels[::2], roles=["both"] * 15)
    together = metric.compute()
    assert together == pytest.approx(
        retrieval_metrics(codes, labels, codes, labels, query_ids=ids, database_ids=ids), abs=1e-15
    )
    assert second.communicate(timeout=300)[0].strip() == "None"  # the first process alone gets the result


def test_code_quality(random_task, tmp_path):
    _, _, database, labels = random_task
    measurement = load(QUALITY, tmp_path=tmp_path)
    measurement.add_batch(predictions=database[:50], references=labels[:50])
    measurement.add_batch(predictions=database[50:], references=labels[50:])
    ours = measurement.compute(num_bits=16, num_concepts=4, class_families=[0, 0, 0, 1, 1, 2, 2])
    assert ours == code_quality(database, labels, 16, 4, [0, 0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("config", "roles", "message"),
    [
        ("default", ["query", "gallery"], "roles are query, database, both; got gallery"),
        ("default", ["query", "query"], "2 queries against a database of 0"),
        ("multi", [], 'configurations are "default" and "multilabel", got \'multi\''),
    ],
)
def test_bad_input(config, roles, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(RETRIEVAL, config, tmp_path=tmp_path).compute(predictions=[[1], [2]], references=[0, 0], roles=roles)


class TestTables:
    """What is filled in on the pages of the Spaces."""

    @pytest.fixture(params=[RETRIEVAL, QUALITY])
    def page(self, request):
        pytest.importorskip("gradio")
        return SimpleNamespace(**runpy.run_path(str(Path(request.param) / "app.py")))

    @pytest.fixture
    def options(self, page):
        return ["expected"] if len(page.EXAMPLE[0]) == 3 else [8, 2]

    @pytest.mark.parametrize("cell", [None, ""])
    def test_empty_rows_count_for_nothing(self, page, options, cell):
        with_empty = [[cell] * len(page.EXAMPLE[0]), *page.EXAMPLE, [], [cell] * len(page.EXAMPLE[0])]
        values = page.compute(page.EXAMPLE, *options)
        assert values and page.compute(with_empty, *options) == values

    def test_what_is_missing_is_said(self, page, options):
        from gradio import Error

        for rows in ([], [[]], [[None] * len(page.EXAMPLE[0])]):
            with pytest.raises(Error, match="the table is empty: fill in predictions, references"):
                page.compute(rows, *options)
        for cell in (None, ""):
            half = ["[1]", cell, *page.EXAMPLE[0][2:]]
            with pytest.raises(Error, match="row 2 of the table has no references: fill it in, or empty the row"):
                page.compute([page.EXAMPLE[0], half], *options)


@pytest.mark.parametrize("folder", [RETRIEVAL, QUALITY])
def test_is_ready_to_be_a_space(folder):
    space = files("concepthash_hf.metrics") / folder
    card = RepoCard.load(space / "README.md", ignore_metadata_errors=False)
    assert card.data.sdk == "gradio"
    assert "evaluate" in card.data.tags
    compile((space / card.data.app_file).read_text(), card.data.app_file, "exec")
    assert "concepthash_hf" in (space / "requirements.txt").read_text().split()
