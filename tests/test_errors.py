"""Damaged and foreign files, of every kind that is read: one error that says which file, never a traceback.

Hypothesis makes them of valid ones. A kind that turns up in the field is added here first.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from common import forget_checksums, tiny_clip_config, tiny_model, to_reference_names
from huggingface_hub.errors import StrictDataclassError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from runs import TinyPhotos, arguments, untrained

from concepthash_hf import ConceptHashModel
from concepthash_hf.checkpoints import read_progress
from concepthash_hf.convert import convert_reference_checkpoint
from concepthash_hf.data import PhotoSplits, load_photos
from concepthash_hf.encoding import read_plan
from concepthash_hf.index import HammingIndex
from concepthash_hf.json_files import read_mapping
from concepthash_hf.training import train

# the same examples in every run: what another seed finds is mended in a change of its own
SETTINGS = settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
# what a script shows as one line, see launch.run_script
EXPLAINED = (ValueError, OSError, StrictDataclassError)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
)


def places(values: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything in a JSON value."""
    below = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(place for key, value in below for place in places(value, (*path, key)))]


def changed(values: Any, data: st.DataObject) -> Any:
    """Something in a JSON value is replaced or left out."""
    values = deepcopy(values)
    *above, last = data.draw(st.sampled_from([place for place in places(values) if place]))
    holder = values
    for key in above:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(ANYTHING)
    else:
        del holder[last]
    return values


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A valid one of everything."""
    folder = tmp_path_factory.mktemp("made")
    codes = np.arange(40, dtype=np.uint8).reshape(20, 2)
    HammingIndex.from_codes(codes, num_bits=16, num_concepts=4).save(folder / "index")
    train(untrained(), TinyPhotos(), arguments(folder / "run", save_epochs=1))
    tiny_model().save_pretrained(folder / "model")
    forget_checksums(folder / "model")
    plan = {
        **{"format_version": 2, "spec": {"num_bits": 16, "num_concepts": 4, "model_id": "m", "revision": "r"}},
        **{"collection": "birds", "num_photos": 20, "ids": "0", "photos_per_file": 8, "num_files": 3},
    }
    (folder / "encoding.json").write_text(json.dumps(plan))
    return folder


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "index": ("index/index.json", lambda file: HammingIndex.load(file.parent)),
    "codes": ("encoding.json", lambda file: read_plan(file.parent)),
    "checkpoint": ("run/checkpoint-2/progress.json", lambda file: read_progress(file.parent)),
    "model": ("model/config.json", lambda file: ConceptHashModel.from_pretrained(file.parent)),
}


@pytest.mark.parametrize("kind", FILES)
@given(data=st.data())
@SETTINGS
def test_json_of_another_shape(made, tmp_path, kind, data):
    """It loads, or one error names the place; checksums are left out, as a stranger would."""
    name, load = FILES[kind]
    folder = shutil.copytree(made, tmp_path / "copy", dirs_exist_ok=True)
    values = json.loads((folder / name).read_text())
    values.pop("checksum", None)
    (folder / name).write_text(json.dumps(changed(values, data)))
    try:
        load(folder / name)
    except EXPLAINED as error:
        assert str(folder) in str(error) or isinstance(error, StrictDataclassError), error


@pytest.mark.parametrize("kind", FILES)
@given(content=st.one_of(st.binary(max_size=50), st.from_type(dict).map(str).map(str.encode), st.just(b"[" * 10**5)))
@SETTINGS
def test_what_is_no_json(made, tmp_path, kind, content):
    name, load = FILES[kind]
    folder = shutil.copytree(made, tmp_path / "copy", dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(EXPLAINED) as error:
        load(folder / name)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"nul", b"[" * 10**5])
def test_a_file_of_families_or_measurements(tmp_path, content):
    (tmp_path / "families.json").write_bytes(content)
    with pytest.raises(ValueError, match="families.json"):
        read_mapping(tmp_path / "families.json")


TABLES: dict[str, Callable[[Path, list], Any]] = {
    "jsonl": lambda file, rows: file.write_text("\n".join(map(json.dumps, rows))),
    "json": lambda file, rows: file.write_text(json.dumps(rows)),
    "csv": lambda file, rows: write_csv(file, rows),
    "parquet": lambda file, rows: pq.write_table(pa.Table.from_pylist(rows), file),
}


def write_csv(file: Path, rows: list) -> None:
    """As spreadsheets and pandas do: every value is its text."""
    with file.open("w", newline="", errors="replace") as opened:
        writer = csv.DictWriter(opened, ["file_name", "label", "split", "parts"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row if isinstance(row, dict) else {"label": row} for row in rows)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Eight pictures, and rows that list them; nothing is left in the user's cache."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(folder / f"{number}.png")
    splits = ["train"] * 6 + ["test"] * 2
    rows = [
        {"file_name": f"{number}.png", "label": "ab"[number % 2], "split": split, "parts": {"head": [1, 2]}}
        for number, split in enumerate(splits)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield folder, rows


def look_through(splits: PhotoSplits) -> None:
    """All that training does with photos: every one is decoded."""
    photos = splits.torch_dataset("train", lambda picture: torch.zeros(1))
    assert all("labels" in photos[row] for row in range(len(photos)))


@pytest.mark.parametrize("kind", TABLES)
@given(data=st.data())
@SETTINGS
def test_tables_of_photos_of_another_shape(photos, kind, data):
    """It is read, or one error names the file or the picture."""
    folder, rows = photos
    file = folder / f"photos.{kind}"
    file.unlink(missing_ok=True)
    try:
        TABLES[kind](file, changed(rows, data))
    except (pa.ArrowException, OverflowError, AttributeError, TypeError):
        assume(False)  # what parquet itself cannot hold
    try:
        look_through(load_photos(file))
    except EXPLAINED as error:
        assert "photos" in str(error), error


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@given(position=st.integers(0, 10**9), content=st.binary(max_size=20))
@SETTINGS
def test_damaged_tables_of_photos(photos, kind, position, content):
    folder, rows = photos
    file = folder / f"photos.{kind}"
    TABLES[kind](file, rows)
    damaged = bytearray(file.read_bytes())
    position %= len(damaged)
    damaged[position : position + len(content)] = content
    file.write_bytes(damaged)
    try:
        look_through(load_photos(file))
    except EXPLAINED as error:
        assert "photos" in str(error), error


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A checkpoint as the authors' implementation writes it."""
    file = tmp_path_factory.mktemp("reference") / "last.pth"
    torch.save(to_reference_names(tiny_model()), file)
    convert_reference_checkpoint(file, tiny_clip_config())  # it is a valid one
    return file


@given(position=st.integers(0, 10**9), how=st.sampled_from(["flip", "cut", "zeros"]))
@SETTINGS
def test_damaged_pth_files(reference, tmp_path, position, how):
    content = bytearray(reference.read_bytes())
    position %= len(content)
    if how == "flip":
        content[position] ^= 1
    elif how == "cut":
        del content[position:]
    else:
        content[position : position + 100] = bytes(len(content[position : position + 100]))
    (tmp_path / "last.pth").write_bytes(content)
    try:
        convert_reference_checkpoint(tmp_path / "last.pth", tiny_clip_config())
    except ValueError:
        pass  # it names the file, or the tensors that do not fit
