"""Folders and tables as people have them: each with its right reading, or with a question."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from concepthash_hf.data import BadImageError, describe_photos, find_bad_images, list_photos, load_photos
from concepthash_hf.data.collection import load_collection
from concepthash_hf.data.split_names import split_of

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def photos(draw, tmp_path):
    """Draw pictures at paths, `{"robin/": 3}` for three in a folder; returns the root."""

    def lay_out(counts, root=tmp_path / "photos"):
        for number, (folder, count) in enumerate(counts.items()):
            for picture in range(count):
                draw(root / folder / f"{picture}.png", seed=100 * number + picture, width=16, height=12)
        return root

    return lay_out


def labels_of(splits):
    """The class name of every photo, by path from the folder of photos."""
    names = {}
    for split in (splits.train, splits.query):
        for row in split:
            path = row[splits.image_column]["path"].split("photos/", 1)[1]
            names[path] = splits.class_names[row[splits.label_column]]
    return names


def folders_of(photos):
    return {Path(row["image"]["path"]).parent.name for row in photos}


# ---------------------------------------------------------------------------------------------- folders of splits
@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set/test_set"),
        ("Training", "Testing"),
        ("TRAIN", "Val"),
        ("images/train-images", "images/test-images"),
        ("archive/data/train", "archive/data/test"),
        ("fold1 train", "fold1 test"),
    ],
)
def test_folders_of_splits_under_other_names(photos, train, test):
    root = photos({f"{train}/robin": 3, f"{train}/wren": 3, f"{test}/robin": 2, f"{test}/wren": 1})
    splits = load_photos(root)
    assert splits.class_names == ("robin", "wren")
    assert splits.counts == {"classes": 2, "train": 6, "query": 3, "database": 6}
    assert all(f"/{test}/" in row["image"]["path"] for row in splits.query)
    assert "splits: train from" in describe_photos(splits)


@pytest.mark.parametrize(
    ("layout", "seen"),
    [
        ({"train/robin": 2, "train/wren": 2, "test/robin": 1, "test/wren": 1, "dunnock": 2}, "'dunnock'"),
        ({"seg_train/a": 2, "seg_train/b": 2, "seg_test/a": 1, "seg_pred": 2}, "'seg_pred'"),
        ({"train/steam": 2, "train/diesel": 2, "bus": 2, "car": 2}, "'train'.*'bus', 'car'"),
        ({"val/a": 2, "val/b": 2, "validation/a": 2, "train/a": 2, "train/b": 2}, "two stand for the same split"),
        ({"test/a": 2, "test/b": 2, "val/a": 1, "val/b": 1}, "none is to train on"),
        ({"test": 2, "robin": 2, "wren": 2}, "'test'.*'robin', 'wren'"),
        ({"train": 2, "val": 2, "bus": 2}, "'train', 'val'.*'bus'"),
    ],
)
def test_splits_beside_others_are_a_question_with_what_was_seen(photos, layout, seen):
    with pytest.raises(ValueError, match=rf"which folders.*{seen}.*train_split="):
        load_photos(photos(layout))


def test_the_question_can_be_answered(photos):
    root = photos({"seg_train/a": 3, "seg_train/b": 3, "seg_test/a": 1, "seg_test/b": 1, "seg_pred": 2})
    splits = load_photos(root, train_split="seg_train", query_split="seg_test")
    assert splits.counts == {"classes": 2, "train": 6, "query": 2, "database": 6}
    assert "left out: 2 pictures" in describe_photos(splits)
    both = load_photos(root, train_split="seg_train+seg_test")
    assert both.counts["train"] + both.counts["query"] == 8
    vehicles = photos({"train/steam": 2, "train/diesel": 2, "bus": 2, "car": 2}, root.parent / "vehicles")
    assert load_photos(vehicles, train_split=".", class_level=1).class_names == ("bus", "car", "train")
    with pytest.raises(ValueError, match="no folder with pictures 'tran' in .*'seg_pred'"):
        load_photos(root, train_split="tran")


def test_a_class_may_be_called_train(photos):
    assert load_photos(photos({"train": 2, "bus": 2, "car": 2})).class_names == ("bus", "car", "train")


def test_splits_without_classes_are_no_classes(photos):
    with pytest.raises(ValueError, match="no class folders"):
        load_photos(photos({"train": 3, "test": 3}))


# -------------------------------------------------------------------------------------------- folders of classes
def test_a_folder_around_the_classes(photos):
    assert load_photos(photos({"PetImages/cat": 2, "PetImages/dog": 2})).class_names == ("cat", "dog")


def test_a_folder_with_pictures_of_its_own_is_a_class(photos):
    with pytest.raises(ValueError, match="only the class 'birds'"):
        load_photos(photos({"birds": 2, "birds/robin": 2, "birds/wren": 2}))


def test_pictures_deeper_than_the_classes(photos):
    root = photos({"Turdus/merula": 2, "Turdus/iliacus": 2, "Sturnus/vulgaris": 2, "Sciurus/vulgaris": 2})
    with pytest.raises(
        ValueError, match=r"which folders are the classes\?.*'Turdus'.*'iliacus', 'merula'.*class_level"
    ):
        load_photos(root)
    assert load_photos(root, class_level=1).class_names == ("Sciurus", "Sturnus", "Turdus")
    names = ("Sciurus vulgaris", "Sturnus vulgaris", "iliacus", "merula")
    assert load_photos(root, class_level=2).class_names == names


def test_a_class_with_pictures_and_folders_below_it_is_no_question(photos):
    root = photos({"robin": 2, "robin/2023": 1, "robin/2024": 1, "wren": 2})
    assert load_photos(root).class_names == ("robin", "wren")


def test_a_class_whose_pictures_lie_in_one_folder_below_it(photos):
    assert load_photos(photos({"robin/photos": 2, "wren/photos": 2})).class_names == ("robin", "wren")


@pytest.mark.parametrize("file", ["all_results.json", "evaluation.json", "model.safetensors"])
def test_own_outputs_are_no_photos(photos, draw, file):
    root = photos({"robin": 2, "wren": 2})
    draw(root / "outputs" / "photos-64-20260101" / "concepts.png")
    (root / "outputs" / "photos-64-20260101" / file).write_text("{}")
    splits = load_photos(root)
    assert splits.class_names == ("robin", "wren")
    draw(root / "search.png")
    draw(root / "explanation.png")
    assert "1 folders with outputs of this package" in describe_photos(splits)
    assert len(list_photos(root)) == len(load_collection(root)) == 4


def test_photos_in_a_class_may_be_called_as_own_figures_and_have_a_report(photos, draw):
    root = photos({"robin": 2, "wren": 2})
    draw(root / "robin" / "search.png")
    (root / "wren" / "report.html").write_text("about wrens")
    assert len(list_photos(root)) == 5


def test_a_folder_that_was_written_by_this_package_can_be_read_itself(photos):
    root = photos({"robin": 2, "wren": 2})
    (root / "all_results.json").write_text("{}")
    assert load_photos(root).class_names == ("robin", "wren")


def test_names_are_stripped_and_in_one_unicode_form(photos):
    root = photos({"train/wren ": 2, "train/Me\u0301sange": 2, "test/wren": 1, "test/M\u00e9sange": 1})
    splits = load_photos(root)
    assert splits.class_names == ("M\u00e9sange", "wren")
    assert sorted(splits.query["label"][:]) == [0, 1]


def test_links_that_lead_back_do_not_loop(photos):
    root = photos({"robin": 2, "wren": 2})
    (root / "wren" / "up").symlink_to(root)
    (root / "wren" / "here").symlink_to(root / "wren")
    splits = load_photos(root)
    assert splits.counts["train"] + splits.counts["query"] == 4
    assert "2 links to a folder that they are in" in describe_photos(splits)
    assert len(list_photos(root, follow_symlinks=True)) == 4


def test_links_to_themselves_are_no_folders_and_no_readable_pictures(photos):
    root = photos({"robin": 2, "wren": 2})
    for name in ("loop", "robin/loop.png"):
        (root / name).symlink_to(root / name)
    assert load_photos(root).class_names == ("robin", "wren")
    collection = load_collection(root)
    with pytest.raises(BadImageError, match=r"loop\.png .*symbolic links"):
        collection.image(collection.ids.index("robin/loop.png"))


def test_folders_that_cannot_be_opened(photos, monkeypatch):
    root = photos({"robin": 2, "wren": 2, "locked": 1})
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root, who may run the tests, can open everything
    with pytest.raises(BadImageError, match="locked: the folder cannot be opened: Permission denied"):
        load_photos(root)
    assert load_photos(root, on_bad_image="skip").class_names == ("robin", "wren")


def test_what_is_no_picture_is_counted(photos):
    root = photos({"robin": 2, "wren": 2})
    for name in ("a.txt", "b.TXT", "Thumbs.db", "README"):
        (root / "wren" / name).write_text("no picture")
    assert describe_photos(load_photos(root)).splitlines()[-2] == "  ignored, no pictures: 2 .txt, 1 no suffix, 1 .db"


# ------------------------------------------------------------------------------------------------ kinds of pictures
def test_avif_and_heic_are_photos(photos):
    pytest.importorskip("pillow_heif")
    root = photos({"robin": 2, "wren": 2})
    for name in ("3.avif", "4.heic", "5.HEIC"):
        suffix = Path(name).suffix.lower().replace(".heic", ".heif")
        Image.new("RGB", (32, 24), (200, 40, 40)).save(root / "wren" / name, format=suffix[1:].upper())
    splits = load_photos(root)
    assert splits.counts["train"] + splits.counts["query"] == 7
    collection = load_collection(root)
    assert {"wren/3.avif", "wren/4.heic", "wren/5.HEIC"} < set(collection.ids)
    assert find_bad_images(collection.photos) == []


@pytest.mark.parametrize("name", ["0.jxl", "0.NEF", "0.cr2"])
def test_a_format_that_cannot_be_read_is_listed_with_the_way_out(photos, name):
    """Also where a whole class is of it."""
    root = photos({"robin": 3, "wren": 3})
    (root / "phone").mkdir()
    (root / "phone" / name).write_bytes(b"\0\0\0\x1cftyp????" + bytes(50))
    with pytest.raises(BadImageError, match=rf"phone/{name}.*JPEG"):
        load_photos(root)
    splits = load_photos(root, on_bad_image="skip")
    assert splits.class_names == ("robin", "wren")
    assert f"unreadable, left out: 1 pictures: {root}/phone/{name}" in describe_photos(splits)
    collection = load_collection(root)
    (bad,) = find_bad_images(collection.photos)
    assert len(collection) == 7 and bad.path.endswith(name) and "JPEG" in bad.reason


def test_heic_without_the_package_for_it_is_listed_with_the_way_out(photos):
    root = photos({"robin": 3, "wren": 3})
    (root / "phone").mkdir()
    (root / "phone" / "0.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(50))
    script = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from concepthash_hf.data import describe_photos, load_photos\n"
        "print(describe_photos(load_photos(sys.argv[1], on_bad_image='skip')))\n"
        "load_photos(sys.argv[1])"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True)
    way_out = 'install pillow-heif: pip install "concepthash_hf[heif]"'
    assert "2 classes: robin, wren" in ran.stdout and "unreadable, left out: 1" in ran.stdout and way_out in ran.stdout
    assert "BadImageError" in ran.stderr and way_out in ran.stderr


def test_a_file_with_the_suffix_of_another_format_is_read(photos, draw):
    root = photos({"robin": 3, "wren": 3})
    (root / "wren" / "0.png").rename(root / "wren" / "0.heic")
    splits = load_photos(root)
    assert splits.counts["train"] + splits.counts["query"] == 6


def test_names_that_are_not_utf8_are_listed_and_the_rest_goes_on(photos):
    root = photos({"robin": 3, "wren": 3})
    os.rename(root / "wren" / "0.png", os.fsencode(root / "wren") + b"/caf\xe9.png")
    with pytest.raises(BadImageError, match=r"wren/caf\\xe9\.png.*have to be UTF-8"):
        load_photos(root)
    splits = load_photos(root, on_bad_image="skip")
    assert splits.counts["train"] + splits.counts["query"] == 5
    assert "UTF-8" in describe_photos(splits)
    collection = load_collection(root)
    (bad,) = find_bad_images(collection.photos)
    assert len(collection) == 6 and "UTF-8" in bad.reason


def test_large_pictures_are_read_where_the_limit_is_raised(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setenv("CONCEPTHASH_MAX_IMAGE_PIXELS", "100")
    root = photos({"robin": 2, "wren": 2})
    (bad, *_) = find_bad_images(load_photos(root).train)
    assert "max_image_pixels" in bad.reason
    splits = load_photos(root, max_image_pixels=200)
    assert find_bad_images(splits.train) == []
    assert len(splits.train) == 2
    assert os.environ["CONCEPTHASH_MAX_IMAGE_PIXELS"] == "200"  # for processes that this one starts
    with pytest.raises(ValueError, match="from 1, got 0"):
        load_photos(root, max_image_pixels=0)


# ----------------------------------------------------------------------------------------------- the label column
def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


ROWS = [f"a/{number}.png,{('robin', 'wren')[number % 2]}" for number in range(6)]
EXPECTED = {f"a/{number}.png": ("robin", "wren")[number % 2] for number in range(6)}


@pytest.fixture
def root(photos):
    return photos({"a": 6})


def test_a_label_column_of_floats_is_not_passed_over(root):
    content = [(root / "a" / f"{number}.png").read_bytes() for number in range(6)]
    table = pd.DataFrame({"image": content, "label": [0.0, 1.0] * 3, "photographer": ["Ann", "Bo", "Cy"] * 2})
    table.to_parquet(root / "photos.parquet")
    splits = load_photos(root / "photos.parquet")
    assert splits.label_column == "label" and splits.class_names == ("0", "1")
    table.loc[3, "label"] = None
    table.to_parquet(root / "photos.parquet")
    with pytest.raises(ValueError, match=r"photos\.parquet: 1 photos have no label in column 'label', .* row 3"):
        load_photos(root / "photos.parquet")
    table.loc[3, "label"] = 0.5
    table.to_parquet(root / "photos.parquet")
    with pytest.raises(ValueError, match=r"photos\.parquet, row 3: .*0\.5.*label_column="):
        load_photos(root / "photos.parquet")


def test_several_columns_that_could_hold_the_labels_are_a_question(root):
    rows = [f"{row.split(',')[0]},Aves,Passeriformes,{row.split(',')[1]}" for row in ROWS]
    file = write(root / "photos.csv", "\n".join(["filename,class,order,species", *rows]))
    with pytest.raises(ValueError, match=r"several .*\['class', 'species'\].*label_column="):
        load_photos(file)
    assert labels_of(load_photos(file, label_column="species")) == EXPECTED
    file = write(root / "photos.csv", "\n".join(["filename,y,photographer", *(f"{row},Ann" for row in ROWS)]))
    with pytest.raises(ValueError, match=r"several .*\['y', 'photographer'\]"):
        load_photos(file)


def test_names_of_columns_count_in_any_case(root):
    file = write(root / "photos.csv", "\n".join(["File Name,Species", *ROWS]))
    assert labels_of(load_photos(file)) == EXPECTED


@pytest.mark.parametrize("column", ["Split", "SPLIT", "set", "Subset"])
def test_a_column_of_splits_in_any_case(root, column):
    rows = [f"{row},{' Train' if number < 4 else 'TEST'}" for number, row in enumerate(ROWS)]
    splits = load_photos(write(root / "photos.csv", "\n".join([f"image,bird,{column}", *rows])))
    assert splits.counts == {"classes": 2, "train": 4, "query": 2, "database": 4}
    assert f"splits: column '{column}' of photos.csv" in describe_photos(splits)
    assert splits.label_column == "bird"


def test_a_column_called_split_may_hold_the_labels(root):
    file = write(root / "photos.csv", "\n".join(["image,split", *ROWS]))
    assert labels_of(load_photos(file, label_column="split")) == EXPECTED


def test_a_column_of_stages_without_training_divides_nothing(root):
    rows = [f"{row},{('test', 'val')[number % 2]}" for number, row in enumerate(ROWS)]
    file = write(root / "photos.csv", "\n".join(["image,label,stage", *rows]))
    assert labels_of(load_photos(file)) == EXPECTED


def test_texts_that_are_views_are_texts(root):
    views = {
        "image": pa.array(list(EXPECTED), pa.string_view()),
        "bird": pa.array(EXPECTED.values(), pa.string_view()),
    }
    pq.write_table(pa.table(views), root / "photos.parquet")
    assert labels_of(load_photos(root / "photos.parquet")) == EXPECTED


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["0", "1"], r"row 0.*\['0', '1'\]"),
        (["train", ""], r"row 1.*\[''\]"),
        (["train", "tran"], r"row 1.*tran"),
        (["train", "train/test"], r"row 1.*train/test"),
    ],
)
def test_splits_that_are_not_known_are_named_with_their_row(root, cells, named):
    rows = [f"{row},{cells[number % 2]}" for number, row in enumerate(ROWS)]
    with pytest.raises(ValueError, match=rf"photos\.csv, {named}"):
        load_photos(write(root / "photos.csv", "\n".join(["image,label,split", *rows])))
    lines = [{"image": f"a/{n}.png", "label": n % 2, "split": [0, None][n % 2]} for n in range(6)]
    file = write(root / "photos.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match=r"photos\.jsonl, row 0: .*\['0', 'None'\]"):
        load_photos(file)


def test_a_table_beside_class_folders_without_labels_adds_its_columns(photos):
    root = photos({"robin": 3, "wren": 3})
    rows = [f"{name}/{n}.png,{photographer}" for name in ("robin", "wren") for n, photographer in enumerate("ABC")]
    write(root / "metadata.csv", "\n".join(["file_name,photographer", *rows[:-1]]))
    (root / "wren" / "again.png").symlink_to(root / "wren" / "1.png")
    splits = load_photos(root)
    assert splits.class_names == ("robin", "wren")
    known = {
        row["image"]["path"].split("photos/")[1]: row["photographer"]
        for part in (splits.train, splits.query)
        for row in part
    }
    assert known == {**dict(row.split(",") for row in rows), "wren/2.png": None, "wren/again.png": "B"}
    assert "labels: the names of the folders" in describe_photos(splits)
    assert "also: the columns of metadata.csv" in describe_photos(splits)


def test_parts_of_the_folders_are_not_those_of_a_table_beside_them(photos):
    root = photos({"robin": 2, "wren": 2})
    write(root / "metadata.csv", "file_name,parts\nrobin/0.png,beak\nwren/1.png,tail")
    write(root / "parts.jsonl", json.dumps({"file": "robin/0.png", "parts": {"beak": [1, 2]}}))
    assert load_photos(root).part_names == ("beak",)


def test_a_table_of_paths_alone_beside_class_folders_adds_nothing(photos):
    root = photos({"robin": 2, "wren": 2})
    write(root / "metadata.csv", "file_name\nrobin/0.png\nwren/1.png")
    assert load_photos(root).class_names == ("robin", "wren")


@pytest.mark.parametrize(
    ("name", "column"), [("metadata.csv", "species"), ("train.csv", "species"), ("labels.csv", "diagnosis")]
)
def test_a_table_beside_class_folders_with_labels_is_what_counts(photos, name, column):
    root = photos({"monday": 3, "tuesday": 3})
    rows = [f"{day}/{n}.png,{('robin', 'wren')[n % 2]}" for day in ("monday", "tuesday") for n in range(3)]
    write(root / name, "\n".join([f"file_name,{column}", *rows]))
    write(root / "boxes.csv", "file_name,box\nmonday/0.png,1 2 3 4")
    splits = load_photos(root)
    assert splits.class_names == ("robin", "wren")
    assert f"labels: column {column!r} of {name}" in describe_photos(splits)


def test_a_table_of_another_name_beside_class_folders_does_not_count(photos):
    root = photos({"robin": 3, "wren": 3})
    write(root / "boxes.csv", "file_name,kind\nrobin/0.png,adult\nwren/0.png,young")
    assert load_photos(root).class_names == ("robin", "wren")


@pytest.mark.parametrize("name", ["labels.parquet", "labels.csv", "my birds.csv"])
def test_a_table_beside_folders_of_pictures(root, name):
    table = pd.DataFrame({"image": list(EXPECTED), "label": list(EXPECTED.values())})
    table.to_parquet(root / name) if name.endswith("parquet") else table.to_csv(root / name, index=False)
    assert labels_of(load_photos(root)) == EXPECTED


def test_paths_from_the_folder_of_the_pictures(root):
    shutil.copytree(root / "a", root / ".thumbnails")
    file = write(root / "labels.csv", "\n".join(["image,label", *(row.removeprefix("a/") for row in ROWS)]))
    assert labels_of(load_photos(file)) == EXPECTED


def test_paths_as_windows_writes_them(root):
    file = write(root / "labels.csv", "\r\n".join(["image,label", *(row.replace("/", "\\") for row in ROWS)]))
    assert labels_of(load_photos(file)) == EXPECTED


def test_of_several_columns_of_paths_the_one_whose_files_are_there(root):
    rows = [f"IMG{number},{row}" for number, row in enumerate(ROWS)]
    file = write(root / "photos.csv", "\n".join(["image,path,label", *rows]))
    for place in (file, root):
        splits = load_photos(place)
        assert splits.image_column == "path" and labels_of(splits) == EXPECTED


def test_pictures_themselves_go_before_their_paths(root):
    content = [(root / path).read_bytes() for path in EXPECTED]
    columns = {"data": content, "file_name": list(EXPECTED), "path": list(EXPECTED), "label": list(EXPECTED.values())}
    pd.DataFrame(columns).to_parquet(root / "photos.parquet")
    assert load_photos(root / "photos.parquet").image_column == "data"


def test_of_two_columns_of_one_name_the_first_holds_the_paths(root):
    file = write(root / "photos.csv", "\n".join(["File Name,label,file_name", *(f"{row},IMG" for row in ROWS)]))
    assert load_photos(file).image_column == "File Name"


# ---------------------------------------------------------------------------------------------------- tables
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets(root, encoding, separator):
    rows = [row.replace("wren", "m\u00e9sange").replace(",", separator) + separator for row in ROWS]
    file = write(root / "photos.csv", "\r\n".join([f"image{separator}label{separator}", *rows, separator]), encoding)
    expected = {path: name.replace("wren", "m\u00e9sange") for path, name in EXPECTED.items()}
    assert labels_of(load_photos(file)) == expected


def test_other_encodings_are_an_error_with_file_and_line(root):
    file = write(root / "photos.csv", "\n".join(["image,label", *ROWS, "a/0.png,m\u00e9sange"]), "cp1252")
    with pytest.raises(ValueError, match=r"photos\.csv, line 8: not UTF-8 \(byte 0xe9\).*save"):
        load_photos(file)
    with pytest.raises(ValueError, match="not UTF-8"):
        load_photos(write(root / "labels.csv", "image,label\na/0.png,\xe9", "cp1252").parent)


def test_the_index_of_to_csv_is_no_column(root):
    pd.DataFrame({"image": list(EXPECTED), "who": list(EXPECTED.values())}).to_csv(root / "photos.csv")
    assert labels_of(load_photos(root / "photos.csv")) == EXPECTED


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["image,label", "a/0.png,wren", "a/1.png,robin, the red one"], "line 3: 3 cells, but .* 2 columns"),
        (["image,label", "a/0.png,wren", "", "a/1.png"], "line 4: 1 cells"),
        (["image,label", 'a/0.png,"wr', 'en"', "a/1.png"], "line 4: 1 cells"),
        (["image,label", 'a/0.png,"wren', "a/1.png,robin"], "line 2: unexpected end.*quote"),
        (["image,label,label", "a/0.png,wren,robin"], "several columns are called 'label'"),
        (["image,label,", "a/0.png,wren,x"], "column 3 has no name in the header, but cells such as 'x'"),
        (["image,label"], "no rows"),
        ([""], "is empty"),
        (["image,label", ",wren", "a/1.png,robin"], "row 0: no path in column 'image'"),
        (["image,label", "a/0.png,wren", "a/1.png, "], "1 photos have no label in column 'label', the first in row 1"),
    ],
)
def test_tables_that_are_not_understood_are_named_with_the_place(root, lines, named):
    with pytest.raises(ValueError, match=rf"photos\.csv.*{named}"):
        load_photos(write(root / "photos.csv", "\n".join(lines)))


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (['{"image": "a/0.png", "label": 1}', "{'image': 1}"], r"line 2: expected a JSON object"),
        (['{"image": "a/0.png", "label": 1}', '{"image": "a/1.png", "label": "wren"}'], "row 1: column 'label'"),
        (['{"image": "a/0.png", "label": ["red", null]}'], "row 0: column 'label' has an empty label"),
        (['{"image": "a/0.png", "label": {"a": 1}}', '{"image": "a/1.png", "label": {"a": "x"}}'], "column 'label'"),
        (['{"image": "a/0.png", "label": 1e999}', '{"image": "a/1.png", "label": 1}'], "row 0: .* got inf"),
        (['{"image": null, "label": 1}', '{"image": "a/1.png", "label": 0}'], "row 0: no path"),
        (['{"image": "a/0.png", "label": null}', '{"image": "a/1.png", "label": 0}'], "no label .* row 0"),
        (['[{"image": "a/0.png"}, 3]'], "one of them is '3'"),
        ([""], "no rows"),
    ],
)
def test_json_that_is_not_understood_is_named_with_the_place(root, lines, named):
    with pytest.raises(ValueError, match=rf"photos\.jsonl.*{named}"):
        load_photos(write(root / "photos.jsonl", "\n".join(lines)))


def test_a_list_of_objects_with_a_byte_order_mark(root):
    rows = [{"image": path, "label": label} for path, label in EXPECTED.items()]
    file = write(root / "photos.json", json.dumps(rows, indent=1), "utf-8-sig")
    assert labels_of(load_photos(file)) == EXPECTED


@pytest.mark.parametrize("digit", ["\u0663", "\u00b2", "\u2167"])
def test_digits_that_are_not_ascii_are_names(root, digit):
    rows = [f"a/{number}.png,{digit if number % 2 else '1'}" for number in range(6)]
    file = write(root / "photos.csv", "\n".join(["image,label", *rows]))
    assert load_photos(file).class_names == ("1", digit)
    with pytest.raises(ValueError, match="not among the 2 class names"):
        load_photos(file, class_names=["robin", "wren"])


@pytest.mark.parametrize("kind", ["bytes", "struct", "categories"])
def test_parquet_as_pandas_writes_it(root, kind):
    content = [(root / path).read_bytes() for path in EXPECTED]
    table = pd.DataFrame({"image": content, "label": list(EXPECTED.values())})
    if kind == "struct":
        table["image"] = [{"bytes": data, "path": path} for data, path in zip(content, EXPECTED, strict=True)]
    if kind == "categories":
        table["label"] = table["label"].astype("category")
    table.to_parquet(root / "photos.parquet")
    shutil.rmtree(root / "a")
    splits = load_photos(root / "photos.parquet", query_fraction=0.34)
    assert splits.class_names == ("robin", "wren") and splits.counts["train"] == 4
    assert find_bad_images(splits.train) == find_bad_images(splits.query) == []


def test_rows_without_a_picture_are_unreadable_pictures(root):
    content = [(root / path).read_bytes() for path in EXPECTED]
    pd.DataFrame({"image": [None, *content[1:]], "label": list(EXPECTED.values())}).to_parquet(root / "photos.parquet")
    collection = load_collection(root / "photos.parquet")
    assert [bad.path for bad in find_bad_images(collection.photos)] == ["(no picture)"]


def test_a_separator_of_labels_that_are_no_texts(root):
    lines = [json.dumps({"image": f"a/{number}.png", "tags": number % 2}) for number in range(6)]
    file = write(root / "photos.jsonl", "\n".join(lines))
    assert load_photos(file, label_separator="|").class_names == ("0", "1")


def test_damaged_parquet_is_an_error_that_names_the_file(root):
    (root / "photos.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"photos\.parquet cannot be read as parquet"):
        load_photos(root / "photos.parquet")
    texts = pa.array([b"robin", b"wr\xe9n"]).view(pa.string())  # which are not UTF-8
    pq.write_table(pa.table({"image": list(EXPECTED)[:2], "label": texts}), root / "photos.parquet")
    with pytest.raises(ValueError, match=r"photos\.parquet cannot be read as parquet: .*UTF8"):
        load_photos(root / "photos.parquet")


def test_a_saved_dataset(root):
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["robin", "wren"]))
    paths = [str(root / path) for path in EXPECTED]
    datasets.Dataset.from_dict({"image": paths, "label": [0, 1] * 3}, features=features).save_to_disk(root / "saved")
    splits = load_photos(root / "saved", query_fraction=0.34)
    assert splits.class_names == ("robin", "wren") and splits.counts["train"] == 4
    assert find_bad_images(splits.train) == find_bad_images(splits.query) == []


# ---------------------------------------------------------------------------------------- several labels, ids
def test_rare_tags_stay_in_train_and_the_split_says_so(root):
    tags = [["common", "rare"], ["common", "seldom"], ["common", "seldom"], ["common"], [], ["common", "rare", "once"]]
    lines = [json.dumps({"image": f"a/{n}.png", "tags": names}) for n, names in enumerate(tags)]
    file = write(root / "photos.jsonl", "\n".join(lines))
    for seed in range(10):
        splits = load_photos(file, query_fraction=0.5, seed=seed)
        trained = {label for labels in splits.train["tags"][:] for label in labels}
        assert len(trained) == 4
        said = describe_photos(splits)
        assert "never asked for, too few photos: " in said and "once" in said.split("never asked for")[1]
        assert "without labels: 1" in said


def test_own_ids_and_columns_are_kept(root):
    rows = [f"{100 + n},{row},shelf {n},5" for n, row in enumerate(ROWS)]
    file = write(root / "photos.csv", "\n".join(["id,image,label,path,price", *rows]))
    collection = load_collection(file)
    by_id = {row["id"]: row for row in collection.rows}
    assert set(by_id) == {str(100 + n) for n in range(6)}
    for n, (path, label) in enumerate(EXPECTED.items()):
        row = by_id[str(100 + n)]
        assert (row["path"], row["label"], row["own_path"]) == (str(root / path), label, f"shelf {n}")


def test_ids_that_repeat_are_kept_as_a_column(root, caplog):
    rows = [f"{n // 2},{row}" for n, row in enumerate(ROWS)]
    collection = load_collection(write(root / "photos.csv", "\n".join(["id,image,label", *rows])))
    assert set(collection.ids) == set(EXPECTED)
    assert {row["id"]: row["own_id"] for row in collection.rows} == {f"a/{n}.png": str(n // 2) for n in range(6)}
    assert "more than once" in caplog.text


def test_what_was_understood_is_said(photos):
    root = photos({"wren": 3, "robin": 5, "dunnock": 3, "bunting": 3})
    said = describe_photos(load_photos(root)).splitlines()
    assert said[0] == "photos: 4 classes: bunting, dunnock, robin, ..."
    assert said[1] == "  photos: train 10, query 4, database the photos to train on"
    assert said[2:] == [
        "  labels: the names of the folders",
        "  queries: 4 of 14 photos are held out, since there is no test split",
    ]


# ------------------------------------------------------------------------------------------- tables of every shape
CELLS = {
    "label": st.sampled_from(["robin", " wren", "wren ", "7", "\u0663", "great tit, the", 'the "red" one', "Robin"]),
    "split": st.sampled_from(["train", "Train", " TRAIN", "test", "Testing"]),
    "place": st.sampled_from(["garden", "", "a;b", "line\nbreak"]),
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_csv_is_read_as_it_was_meant_or_refused_for_a_reason(root, data):
    """Encodings, separators, quotes, orders of columns; cells that are missing are refused with their row."""
    has_split = data.draw(st.booleans())
    columns = data.draw(st.permutations(["image", "label", "place", *["split"] * has_split]))
    rows = [
        {"image": f"a/{number % 6}.png", **{name: data.draw(cells) for name, cells in CELLS.items()}}
        for number in range(data.draw(st.integers(2, 8)))
    ]
    gap = data.draw(st.none() | st.tuples(st.integers(0, len(rows) - 1), st.sampled_from(["image", "label", "split"])))
    if gap is not None:
        rows[gap[0]][gap[1]] = data.draw(st.sampled_from(["", "  "]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text,
        columns,
        extrasaction="ignore",
        delimiter=data.draw(st.sampled_from(",;\t")),
        quoting=data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])),
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])),
    )
    writer.writeheader()
    writer.writerows(rows)
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    file = write(root / "photos.csv", text.getvalue(), encoding)

    names = [row["label"].strip() for row in rows]
    trained = [not has_split or split_of(row["split"]) == "train" for row in rows]
    classes = {name for name, is_trained in zip(names, trained, strict=True) if is_trained}
    try:
        splits = load_photos(file)
    except ValueError as error:
        if gap is not None and gap[1] in columns:
            assert f"row {gap[0]}" in str(error) and "photos.csv" in str(error)
        else:
            assert len(classes) < 2 or not set(names) <= classes
        return
    assert gap is None or gap[1] not in columns
    read = sorted(
        (Path(row["image"]["path"]).name, splits.class_names[row["label"]], row["place"])
        for part in (splits.train, splits.query)
        for row in part
    )
    if not all(trained):
        assert len(splits.train) == sum(trained)
    assert read == sorted((row["image"][2:], name, row["place"]) for row, name in zip(rows, names, strict=True))


# ----------------------------------------------------------------------------------------------- several tables
def test_parquet_files_in_parts_are_read_whole(root):
    for split, number in (("train", 3), ("test", 2)):
        for part in range(2):
            content = [(root / "a" / f"{n}.png").read_bytes() for n in range(number)]
            table = {
                "image": [{"bytes": b, "path": None} for b in content],
                "label": ["robin", "wren", "wren"][:number],
            }
            features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
            parts = datasets.Dataset.from_dict(table, features=features)
            parts.to_parquet(root / f"{split}-{part:05d}-of-00002.parquet")
    assert load_photos(root).counts == {"classes": 2, "train": 6, "query": 4, "database": 6}


def test_two_tables_for_one_split_are_a_question(root):
    for name in ("train.csv", "train_labels.csv", "test.csv"):
        write(root / name, "\n".join(["image,label", *ROWS]))
    with pytest.raises(ValueError, match=r"several tables.*train\.csv, train_labels\.csv"):
        load_photos(root)


def test_tables_of_splits_may_say_so_in_a_column(root):
    for split, rows in (("train", ROWS[:4]), ("test", ROWS[4:])):
        write(root / f"{split}.csv", "\n".join(["image,label,split", *(f"{row},{split}" for row in rows)]))
    assert load_photos(root).counts == {"classes": 2, "train": 4, "query": 2, "database": 4}


def test_a_table_of_a_split_without_labels_is_named(root):
    write(root / "train.csv", "\n".join(["image,label", *ROWS]))
    write(root / "test.csv", "image,id\na/0.png,1")
    with pytest.raises(ValueError, match=r"test\.csv: no column seems to hold classes"):
        load_photos(root)


def test_labels_beside_folders_that_are_no_classes(photos):
    root = photos({"images": 6, "masks": 6})
    rows = [f"images/{n}.png,{('benign', 'malign')[n % 2]}" for n in range(6)]
    for name in ("labels.csv", "metadata.csv"):
        write(root / name, "\n".join(["file_name,diagnosis", *rows]))
        assert load_photos(root).class_names == ("benign", "malign")
        (root / name).unlink()


def test_splits_of_a_table_can_be_named(root):
    rows = [f"{row},{number // 2} " for number, row in enumerate(ROWS)]
    file = write(root / "photos.csv", "\n".join(["image,label,split", *rows]))
    splits = load_photos(file, train_split="0+2", query_split="1")
    assert splits.counts == {"classes": 2, "train": 4, "query": 2, "database": 4}
    with pytest.raises(ValueError, match=r"no row with '7' in column 'split'; it holds \['0 ', '1 ', '2 '\]"):
        load_photos(file, train_split="0", query_split="7")
    with pytest.raises(ValueError, match="no column of splits"):
        load_photos(write(root / "photos.csv", "\n".join(["image,label", *ROWS])), train_split="0")


def test_options_that_do_not_apply_are_refused(root):
    with pytest.raises(ValueError, match="no folder of class folders: leave out class_level="):
        load_photos(write(root / "photos.csv", "\n".join(["image,label", *ROWS])), class_level=1)
    for name in ("train", "test"):
        write(root / f"{name}.txt", "a/0.png 0\na/1.png 1\n")
    with pytest.raises(ValueError, match="says itself what is to be trained on: leave out train_split="):
        load_photos(root, train_split="train")


def test_several_labels_in_the_names_of_folders(photos):
    splits = load_photos(photos({"red+small": 3, "red": 3, "small": 3}), label_separator="+")
    assert splits.multi_label and splits.class_names == ("red", "small")
