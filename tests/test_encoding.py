"""Hashing a collection into a folder: every photo once, whatever happens on the way."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from bird_photos import NAMES, NUM_BITS, NUM_CONCEPTS, save_untrained, write_photos
from PIL import Image
from real_photos import photo_files
from runs import Killed, files_in, forget_accelerate
from transformers import AutoImageProcessor

from concepthash_hf import ConceptHashModel, ConceptHashVisionModel, whole_files
from concepthash_hf.data import decode_image, eval_transform
from concepthash_hf.data.collection import Collection, load_collection
from concepthash_hf.encoding import add_codes, code_spec, encode_collection, read_codes, read_plan
from concepthash_hf.index import CodeSpec, HammingIndex
from concepthash_hf.interruption import Interrupted


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """35 photos, and two files that are none."""
    folder = write_photos(tmp_path_factory.mktemp("birds"), 7)
    (folder / NAMES[0] / "empty.png").touch()
    (folder / NAMES[3] / "text.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture
def model(saved):
    forget_accelerate()
    return ConceptHashModel.from_pretrained(saved)


@pytest.fixture(scope="module")
def transform(saved):
    return eval_transform(AutoImageProcessor.from_pretrained(saved))


@pytest.fixture(scope="module")
def collection(birds):
    return load_collection(birds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, saved, collection, transform):
    """The folder of an undisturbed run."""
    forget_accelerate()
    folder = tmp_path_factory.mktemp("whole")
    model = ConceptHashModel.from_pretrained(saved)
    encode_collection(model, collection, transform, folder, batch_size=4, photos_per_file=10)
    return folder


def rows_in(folder) -> list[dict]:
    files = sorted(str(file) for file in folder.glob("*.parquet"))
    return list(datasets.Dataset.from_parquet(files, cache_dir=str(folder / "cache")))


def test_every_readable_photo_once_with_its_code(whole, collection, model, transform):
    rows = rows_in(whole)
    unreadable = {f"{NAMES[0]}/empty.png", f"{NAMES[3]}/text.jpg"}
    readable = [row for row, id in enumerate(collection.ids) if id not in unreadable]
    assert [row["id"] for row in rows] == [collection.ids[row] for row in readable]
    assert len(rows) == 35
    pixel_values = torch.stack([transform(collection.image(row)) for row in readable])
    assert [row["code"] for row in rows] == model.get_hash_codes(pixel_values).tolist()
    assert len({tuple(row["code"]) for row in rows}) > 5
    for row, number in zip(rows, readable, strict=True):
        assert {name: row[name] for name in ("path", "label", "split")} == {
            name: collection.rows[number][name] for name in ("path", "label", "split")
        }


def test_load_dataset_opens_it(whole, tmp_path):
    found = datasets.load_dataset("parquet", data_files=f"{whole}/*.parquet", split="train", cache_dir=str(tmp_path))
    assert found.features["code"] == datasets.List(datasets.Value("uint8"), length=2)
    codes = np.array(found["code"][:], np.uint8)
    np.testing.assert_array_equal(codes, np.concatenate([codes for codes, _ in read_codes(whole)]))
    assert codes.shape == (35, 2)


def test_unreadable_photos_are_listed(whole, collection, model, transform):
    found = encode_collection(model, collection, transform, whole, photos_per_file=10)
    listed = [json.loads(line) for line in (whole / "unreadable.jsonl").read_text().splitlines()]
    assert {row["id"] for row in listed} == {f"{NAMES[0]}/empty.png", f"{NAMES[3]}/text.jpg"}
    assert [asdict(bad) for bad in found] == [{key: row[key] for key in ("row", "path", "reason")} for row in listed]
    reasons = {row["id"]: row["reason"] for row in listed}
    assert "empty" in reasons[f"{NAMES[0]}/empty.png"] and "not a picture" in reasons[f"{NAMES[3]}/text.jpg"]
    for row in listed:
        assert collection.ids[row["row"]] == row["id"]
        assert (whole / row["file"]).is_file()


def kill_at(model, batch: int):
    """Let hashing die at its n-th batch, from 1; count the photos that it hashes."""
    hash_photos, counts = model.get_hash_codes, []

    def count(pixel_values):
        counts.append(len(pixel_values))
        if len(counts) == batch:
            raise Killed
        return hash_photos(pixel_values)

    model.get_hash_codes = count
    return counts


@pytest.mark.parametrize("batch", [1, 2, 5, 11])
def test_going_on_after_a_kill(whole, saved, collection, transform, tmp_path, batch):
    forget_accelerate()
    settings = {"photos_per_file": 10, "batch_size": 4}  # three batches a file
    model = ConceptHashVisionModel.from_pretrained(saved)
    kill_at(model, batch)
    with pytest.raises(Killed):
        encode_collection(model, collection, transform, tmp_path / "codes", **settings)
    left = files_in(tmp_path / "codes")
    files = [name for name in left if name.endswith(".parquet")]
    assert len(files) == (batch - 1) // 3
    with pytest.raises(ValueError, match="missing or damaged: run the command"):
        list(read_codes(tmp_path / "codes"))

    model = ConceptHashVisionModel.from_pretrained(saved)
    counts = kill_at(model, 0)
    encode_collection(model, collection, transform, tmp_path / "codes", **settings)
    assert rows_in(tmp_path / "codes") == rows_in(whole)
    assert sum(counts) == 35 - sum(len(codes) for codes, _ in list(read_codes(whole))[: len(files)])
    for name in files:
        assert (tmp_path / "codes" / name).read_bytes() == left[name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_batch_and_keeps_finished_files(
    whole, saved, collection, model, transform, tmp_path, number
):
    hash_photos, counts = model.get_hash_codes, []

    def stopped_at_the_fourth(pixel_values):
        counts.append(len(pixel_values))
        if len(counts) == 4:
            signal.raise_signal(number)
        return hash_photos(pixel_values)

    model.get_hash_codes = stopped_at_the_fourth
    settings = {"photos_per_file": 10, "batch_size": 4}  # three batches a file
    with pytest.raises(Interrupted, match=f"1 of 4 files of codes are in {tmp_path}; the same command") as caught:
        encode_collection(model, collection, transform, tmp_path, **settings)
    assert caught.value.signal == number and len(counts) == 4
    forget_accelerate()
    encode_collection(ConceptHashModel.from_pretrained(saved), collection, transform, tmp_path, **settings)
    assert rows_in(tmp_path) == rows_in(whole)


def test_what_is_done_is_not_done_again(whole, collection, model, transform, tmp_path):
    shutil.copytree(whole, tmp_path / "codes")
    before = files_in(tmp_path / "codes")
    counts = kill_at(model, 1)
    encode_collection(model, collection, transform, tmp_path / "codes", photos_per_file=10)
    assert not counts
    assert files_in(tmp_path / "codes") == before


def test_half_a_file_is_written_anew(whole, collection, model, transform, tmp_path):
    shutil.copytree(whole, tmp_path / "codes")
    first, second, *_ = sorted((tmp_path / "codes").glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:100])
    (tmp_path / "codes" / ".writing-1").mkdir()
    second.rename(tmp_path / "codes" / ".writing-1" / second.name)
    encode_collection(model, collection, transform, tmp_path / "codes", photos_per_file=10)
    assert rows_in(tmp_path / "codes") == rows_in(whole)
    assert not list((tmp_path / "codes").glob(".writing*"))


def flip_bit(path, position: int) -> bytes:
    """Flip one bit of a file; gives what was in it."""
    content = path.read_bytes()
    changed = bytearray(content)
    changed[position // 8 % len(content)] ^= 1 << position % 8
    path.write_bytes(changed)
    return content


def test_no_flipped_bit_gives_other_rows(whole, tmp_path):
    """300 single bits of a file, of which half hit what is read: the rows are the same, or it is called damaged."""
    shutil.copytree(whole, tmp_path / "codes")
    (first, *_) = sorted((tmp_path / "codes").glob("*.parquet"))
    expected = [(codes.tolist(), rows.to_pylist()) for codes, rows in read_codes(whole)]
    size, damaged = 8 * first.stat().st_size, 0
    for position in range(0, size, size // 300):
        content = flip_bit(first, position)
        try:
            assert [(codes.tolist(), rows.to_pylist()) for codes, rows in read_codes(tmp_path / "codes")] == expected
        except ValueError as error:
            assert f"{first} is missing or damaged: run the command" in str(error)
            damaged += 1
        first.write_bytes(content)
    assert damaged > 100


def test_only_the_damaged_file_is_done_again(whole, collection, model, transform, tmp_path, caplog):
    folder = tmp_path / "a=b"  # which is no partition
    shutil.copytree(whole, folder)
    _, second, *_ = sorted(folder.glob("*.parquet"))
    before = files_in(folder)
    table = pq.ParquetFile(second).read()
    codes = table["code"].combine_chunks().flatten().to_numpy().copy()
    codes[3] ^= 16
    codes = pa.FixedSizeListArray.from_arrays(pa.array(codes), 2)
    pq.write_table(table.set_column(table.schema.get_field_index("code"), table.schema.field("code"), codes), second)
    counts = kill_at(model, 0)
    encode_collection(model, collection, transform, folder, photos_per_file=10)
    assert sum(counts) == 9  # and one that cannot be read
    assert f"{second} is damaged: its photos are hashed again" in caplog.text
    assert rows_in(folder) == rows_in(whole)
    assert {name: content for name, content in files_in(folder).items() if name in before} == before


def test_a_file_in_the_place_of_another_is_damaged(whole, tmp_path):
    """Of fewer photos; of other photos, some of which are unreadable."""
    *full, last = sorted(file.name for file in whole.glob("*.parquet"))
    listed = [json.loads(line)["file"] for line in (whole / "unreadable.jsonl").read_text().splitlines()]
    other = next(name for name in full if name != listed[0])
    assert listed[0] != last
    for number, taken in enumerate((last, listed[0])):
        codes = shutil.copytree(whole, tmp_path / str(number))
        shutil.copy(codes / taken, codes / other)
        with pytest.raises(ValueError, match=f"{codes / other} is missing or damaged"):
            list(read_codes(codes))


def test_folders_of_format_1_are_read_and_gone_on_with(whole, collection, model, transform, tmp_path):
    """Their files have no checksum."""
    shutil.copytree(whole, tmp_path / "codes")
    plan_file = tmp_path / "codes" / "encoding.json"
    plan = json.loads(plan_file.read_text()) | {"format_version": 1}
    del plan["checksum"]
    plan_file.write_text(json.dumps(plan))
    files = sorted((tmp_path / "codes").glob("*.parquet"))
    for file in files:
        table = pq.ParquetFile(file).read()
        about = {name: value for name, value in table.schema.metadata.items() if name != b"sha256"}
        pq.write_table(table.replace_schema_metadata(about), file)
    files[1].unlink()
    counts = kill_at(model, 0)
    encode_collection(model, collection, transform, tmp_path / "codes", photos_per_file=10)
    assert sum(counts) == 9  # and one that cannot be read
    assert rows_in(tmp_path / "codes") == rows_in(whole)
    assert read_plan(tmp_path / "codes")["format_version"] == 1


def test_two_at_a_time_are_refused(whole, collection, model, transform, tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_WAIT", 0.1)
    code = f"from concepthash_hf.whole_files import *\nimport time\nwith one_writer({str(tmp_path)!r}):\n"
    code += "    print('ready', flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(BlockingIOError, match="another process is writing into"):
            encode_collection(model, collection, transform, tmp_path)
        other.kill()
    assert not list(tmp_path.glob("*.parquet"))


def test_in_bfloat16(whole, collection, model, transform, tmp_path):
    computed = set()
    model.vision_model.encoder.layers[0].mlp.register_forward_hook(lambda _, __, output: computed.add(output.dtype))
    forget_accelerate()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    encode_collection(model, collection, transform, tmp_path, accelerator=accelerator)
    assert computed == {torch.bfloat16}
    found, expected = (np.array([row["code"] for row in rows_in(folder)], np.uint8) for folder in (tmp_path, whole))
    assert 0.9 < (np.unpackbits(found) == np.unpackbits(expected)).mean()

    forget_accelerate()
    with pytest.raises(ValueError, match="begun with other mixed_precision: bf16, now no"):
        encode_collection(model, collection, transform, tmp_path)


def test_drafts_of_large_photos(shared_dir, model, transform, tmp_path):
    """Photos of birds in the size of a camera's: nearly the same codes, and never both kinds in one folder."""
    (tmp_path / "birds").mkdir()
    for number, file in enumerate(photo_files(shared_dir, 12)):
        with Image.open(file) as photo:
            photo.resize((8 * photo.width, 8 * photo.height)).save(tmp_path / "birds" / f"{number}.jpg", quality=95)
    collection = load_collection(tmp_path / "birds")
    encode_collection(model, collection, transform, tmp_path / "whole")
    encode_collection(model, collection, transform, tmp_path / "drafts", draft=transform.shorter_side)
    found, expected = (
        np.array([row["code"] for row in rows_in(tmp_path / name)], np.uint8) for name in ("drafts", "whole")
    )
    assert (np.unpackbits(found) == np.unpackbits(expected)).mean() > 0.95
    with pytest.raises(ValueError, match=f"begun with other draft: {transform.shorter_side}, now None"):
        encode_collection(model, collection, transform, tmp_path / "drafts")


def test_a_draft_is_what_is_hashed(model, transform, tmp_path):
    """Of 64 pixels of noise 8 are decoded."""
    (tmp_path / "noise").mkdir()
    files = [tmp_path / "noise" / f"{number}.jpg" for number in range(6)]
    for file in files:
        Image.effect_noise((64, 64), 200).convert("RGB").save(file)
    encode_collection(model, load_collection(tmp_path / "noise"), transform, tmp_path / "codes", draft=4)
    whole, drafts = (
        model.get_hash_codes(torch.stack([transform(decode_image(file, draft=draft)) for file in files])).tolist()
        for draft in (None, 4)
    )
    assert [row["code"] for row in rows_in(tmp_path / "codes")] == drafts != whole


def test_plans_of_before_knew_neither_precision_nor_drafts(whole, collection, model, transform, tmp_path):
    shutil.copytree(whole, tmp_path / "codes")
    plan = json.loads((whole / "encoding.json").read_text())
    del plan["mixed_precision"], plan["draft"], plan["checksum"]
    (tmp_path / "codes" / "encoding.json").write_text(json.dumps(plan))
    encode_collection(model, collection, transform, tmp_path / "codes", photos_per_file=10)
    assert read_plan(tmp_path / "codes")["mixed_precision"] == "no"
    assert read_plan(tmp_path / "codes")["draft"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "2"}, "'format_version' should be a whole number, found \"2\""),
        ({"num_photos": -1}, "-1 photos, 10 a file, do not make 4 files"),
        ({"num_photos": -5, "num_files": 0}, "-5 photos, 10 a file, do not make 0 files"),
        ({"num_files": 10**9}, "37 photos, 10 a file, do not make 1000000000 files"),
        ({"photos_per_file": 0}, "37 photos, 0 a file"),
        ({"photos_per_file": None}, "'photos_per_file' should be a whole number, found null"),
        ({"spec": []}, r"'spec' should be an object, found \[\]"),
        ({"spec": {"num_bits": 12}}, "missing 1 required positional argument: 'num_concepts'"),
        ({"spec": {"num_bits": "12", "num_concepts": 3}}, "num_bits is a whole number, got '12'"),
        ({"ids": 5}, "'ids' should be a text, found 5"),
    ],
)
def test_a_plan_of_another_shape(whole, tmp_path, changes, message):
    plan = json.loads((whole / "encoding.json").read_text())
    (tmp_path / "encoding.json").write_text(json.dumps(plan | changes))
    with pytest.raises(ValueError, match="encoding.json is damaged"):
        read_plan(tmp_path)
    del plan["checksum"]
    (tmp_path / "encoding.json").write_text(json.dumps(plan | changes))
    with pytest.raises(ValueError, match=f"encoding.json is damaged .*{message}"):
        read_plan(tmp_path)


def test_a_repaired_photo(saved, transform, model, tmp_path):
    folder = write_photos(tmp_path / "birds", 2)
    broken = folder / NAMES[1] / "0.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:50])
    codes = tmp_path / "codes"
    (bad,) = encode_collection(model, load_collection(folder), transform, codes, photos_per_file=3)
    assert bad.path == str(broken)
    broken.write_bytes(content)
    (codes / json.loads((codes / "unreadable.jsonl").read_text())["file"]).unlink()
    assert encode_collection(model, load_collection(folder), transform, codes, photos_per_file=3) == []
    assert (codes / "unreadable.jsonl").read_text() == ""
    assert len(rows_in(codes)) == 10


def test_no_photo_of_a_file_or_batch_is_readable(model, transform, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").touch()
    bad = encode_collection(
        model, load_collection(folder), transform, tmp_path / "codes", batch_size=2, photos_per_file=3
    )
    assert [image.row for image in bad] == [0, 1, 2, 3, 4]
    assert [codes.shape for codes, _ in read_codes(tmp_path / "codes")] == [(0, 2), (0, 2)]


def test_decoding_in_other_processes(whole, collection, model, transform, tmp_path):
    settings = {"batch_size": 4, "photos_per_file": 10}
    encode_collection(model, collection, transform, tmp_path / "codes", num_workers=1, **settings)
    assert rows_in(tmp_path / "codes") == rows_in(whole)


def test_another_model_other_photos_other_files(whole, birds, collection, model, transform, tmp_path):
    before = files_in(whole)
    other = ConceptHashModel.from_pretrained(save_untrained(tmp_path / "other", seed=1))
    fewer = load_collection(birds / NAMES[0])
    with pytest.raises(ValueError, match="begun with other model: sha256:.*, now sha256:"):
        encode_collection(other, collection, transform, whole, photos_per_file=10)
    with pytest.raises(ValueError, match="begun with other photos: 37 with .*, now 8 with"):
        encode_collection(model, fewer, transform, whole, photos_per_file=10)
    with pytest.raises(ValueError, match="begun with other photos_per_file: 10, now 11"):
        encode_collection(model, collection, transform, whole, photos_per_file=11)
    with pytest.raises(ValueError, match="photos_per_file must be at least 1, got 0"):
        encode_collection(model, collection, transform, tmp_path / "new", photos_per_file=0)
    assert files_in(whole) == before


def test_killed_before_anything_was_there(collection, model, transform, tmp_path):
    (tmp_path / ".writing-1").mkdir()
    (tmp_path / ".writing-1" / "encoding.json").write_text("{")
    (tmp_path / ".writing.lock").touch()
    encode_collection(model, collection, transform, tmp_path)
    assert len(rows_in(tmp_path)) == 35


def test_a_folder_of_somebody_else(collection, model, transform, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no folder of codes: .*encoding.json is not there"):
        encode_collection(model, collection, transform, tmp_path)
    assert list(files_in(tmp_path)) == ["thesis.tex"]


def test_photos_of_other_names_are_others(collection, model, transform, tmp_path):
    photos, folder = write_photos(tmp_path / "photos", 2), tmp_path / "codes"
    encode_collection(model, load_collection(photos), transform, folder)
    (photos / NAMES[1] / "1.png").rename(photos / NAMES[1] / "2.png")
    with pytest.raises(ValueError, match="begun with other photos: 10 with ids of hash .*, now 10 with"):
        encode_collection(model, load_collection(photos), transform, folder)


def test_photos_that_moved_are_not_hashed_again(model, transform, tmp_path):
    photos, folder = write_photos(tmp_path / "photos", 2), tmp_path / "codes"
    encode_collection(model, load_collection(photos), transform, folder)
    counts = kill_at(model, 0)
    encode_collection(model, load_collection(photos.rename(tmp_path / "moved")), transform, folder)
    assert not counts


def test_a_newer_format(whole, tmp_path):
    plan = json.loads((whole / "encoding.json").read_text())
    del plan["checksum"]
    (tmp_path / "encoding.json").write_text(json.dumps(plan | {"format_version": 3}))
    with pytest.raises(ValueError, match="has format 3, newer than this package knows"):
        read_plan(tmp_path)


def test_into_an_index(whole, model):
    spec = CodeSpec(**read_plan(whole)["spec"])
    assert spec == code_spec(model)
    index = HammingIndex(spec)
    add_codes(index, whole)
    rows = rows_in(whole)
    assert index.ids.tolist() == [row["id"] for row in rows]
    assert index.get_codes(index.ids).tolist() == [row["code"] for row in rows]
    assert index.get_metadata(index.ids[:2]) == [
        {name: row[name] for name in row if name not in ("id", "code")} for row in rows[:2]
    ]
    with pytest.raises(ValueError, match="already in the index"):
        add_codes(index, whole)
    other = HammingIndex(CodeSpec(NUM_BITS, NUM_CONCEPTS, "other", "sha256:0"))
    with pytest.raises(ValueError, match="made by other at revision sha256:0"):
        add_codes(other, whole)
    assert len(index) == 35 and len(other) == 0


def test_photos_of_which_nothing_is_known_but_their_ids(collection, model, transform, tmp_path):
    few = Collection("few", collection.photos.select(range(3)), collection.rows.select(range(3)).select_columns("id"))
    encode_collection(model, few, transform, tmp_path)
    add_codes(index := HammingIndex(code_spec(model)), tmp_path)
    assert index.ids.tolist() == few.ids and index.get_metadata(few.ids) == [{}] * 3


def test_an_index_half_done_adds_nothing(whole, model, tmp_path):
    shutil.copytree(whole, tmp_path / "codes")
    max((tmp_path / "codes").glob("*.parquet")).unlink()
    index = HammingIndex(code_spec(model))
    with pytest.raises(ValueError, match="missing or damaged"):
        add_codes(index, tmp_path / "codes")
    assert len(index) == 0


def test_the_spec_of_a_model_is_that_of_its_weights(saved, model, tmp_path):
    spec = code_spec(model)
    assert (spec.num_bits, spec.num_concepts, spec.model_id) == (NUM_BITS, NUM_CONCEPTS, "untrained")
    shutil.copytree(saved, tmp_path / "a copy")
    copy = code_spec(ConceptHashVisionModel.from_pretrained(tmp_path / "a copy"))
    assert copy.model_id == "a copy" and copy.revision == spec.revision
    with torch.no_grad():
        model.vision_model.hash_head.projection.weight[0, 0] += 1e-3
    assert code_spec(model).revision != spec.revision


def test_a_corrected_label_and_a_replaced_photo_lose_their_old_rows(model, transform, tmp_path):
    photos, folder = write_photos(tmp_path / "photos", 3), tmp_path / "codes"
    table = photos / "photos.csv"
    split = ("train", "train", "test")
    lines = [f"{name}/{number}.png,{name},{split[number]}" for name in NAMES for number in range(3)]
    table.write_text("\n".join(["file,label,split", *lines]))
    encode_collection(model, load_collection(table), transform, folder, photos_per_file=5)
    before = files_in(folder)
    lines[0] = f"{NAMES[0]}/0.png,{NAMES[1]},train"
    table.write_text("\n".join(["file,label,split", *lines]))
    shutil.copy(photos / NAMES[4] / "0.png", photos / NAMES[3] / "2.png")
    encode_collection(model, load_collection(table), transform, folder, photos_per_file=5)
    rows = {row["id"]: row for row in rows_in(folder)}
    assert rows[f"{NAMES[0]}/0.png"]["label"] == NAMES[1]
    assert rows[f"{NAMES[3]}/2.png"]["code"] == rows[f"{NAMES[4]}/0.png"]["code"]
    after = files_in(folder)
    assert [name for name in before if name.endswith(".parquet") and before[name] == after[name]] == [
        "codes-00001-of-00003.parquet"  # of ten photos to train on, the second five
    ]
