"""All photos that there are, each with an id of its own."""

import json
import logging
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from concepthash_hf.data import list_photos, load_photos
from concepthash_hf.data.collection import load_collection
from concepthash_hf.data.toy_birds import SPECIES


def save_photo(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


@pytest.fixture
def classes(tmp_path):
    """Three photos of each of two classes."""
    for name in ("robin", "wren"):
        for number in range(3):
            save_photo(tmp_path / "birds" / name / f"{number}.png")
    return tmp_path / "birds"


def test_a_folder_of_classes(classes):
    collection = load_collection(classes)
    assert len(collection) == 6
    assert sorted(collection.ids) == [f"{name}/{number}.png" for name in ("robin", "wren") for number in range(3)]
    for row in collection.rows:
        assert row["path"] == str(classes / row["id"])
        assert row["label"] == row["id"].split("/")[0]
    splits = load_photos(classes)
    queries = {image["path"] for image in splits.query["image"]}
    assert {row["path"] for row in collection.rows if row["split"] == "query"} == queries


def test_photos_and_rows_belong_together(tmp_path):
    for number in range(12):
        save_photo(tmp_path / "xy"[number % 2] / f"{number}.png", (20 * number, 0, 0))
    collection = load_collection(tmp_path)
    for row, known in enumerate(collection.rows):
        number = int(known["id"].split("/")[1].removesuffix(".png"))
        assert collection.image(row).getpixel((0, 0)) == (20 * number, 0, 0)


def test_ids_stay_when_the_folder_moves(classes, monkeypatch):
    ids = load_collection(classes).ids
    moved = classes.rename(classes.with_name("moved"))
    assert load_collection(moved).ids == ids
    monkeypatch.chdir(moved.parent)
    assert load_collection("moved").ids == ids
    monkeypatch.chdir(moved)
    assert load_collection(".").ids == ids


def test_a_folder_without_classes(tmp_path, caplog):
    for name in ("a.png", "2024/b.png", "2024/05/c.png"):
        save_photo(tmp_path / name)
    collection = load_collection(tmp_path)
    assert sorted(collection.ids) == ["2024/05/c.png", "2024/b.png", "a.png"]
    assert collection.rows.column_names == ["id", "path"]
    assert "taking all 3 pictures" in caplog.text and "without classes" in caplog.text


def test_folders_that_can_be_read_in_two_ways_have_photos_all_the_same(tmp_path, caplog):
    for name in ("2023/05/a.png", "2023/06/b.png", "2024/05/c.png"):
        save_photo(tmp_path / name)
    assert load_collection(tmp_path).rows.column_names == ["id", "path"]
    assert "which folders are the classes?" in caplog.text
    assert set(load_collection(tmp_path, class_level=1).rows["label"]) == {"2023", "2024"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_level": 7}, "no pictures in class folders"),
        ({"image_column": "zzz"}, "no column 'zzz'"),
        ({"label_column": "zzz"}, "no column 'zzz'"),
        ({"train_split": "zzz"}, "no folder with pictures 'zzz'"),
    ],
)
def test_what_is_said_of_the_photos_is_not_passed_over(classes, options, message):
    with pytest.raises(ValueError, match=message):
        load_collection(classes, **options)


def test_a_damaged_table_is_not_passed_over(classes):
    (classes / "metadata.csv").write_text("file_name,label\nrobin/0.png,red\nwren/0.png,blue,too much\n")
    with pytest.raises(ValueError, match=r"metadata\.csv, line 3: 3 cells, but the header has 2 columns"):
        load_collection(classes)


def test_a_table_without_classes(tmp_path, caplog):
    save_photo(tmp_path / "a.png")
    save_photo(tmp_path / "b.png")
    (tmp_path / "metadata.csv").write_text("file_name\na.png\nb.png\n")
    assert load_collection(tmp_path).ids == ["a.png", "b.png"]
    assert "no column seems to hold classes" in caplog.text


def test_pictures_beside_the_classes_are_not_forgotten_in_silence(classes, caplog):
    save_photo(classes / "stray.png")
    assert len(load_collection(classes)) == 6
    assert "1 pictures below" in caplog.text and "stray.png" in caplog.text


def test_nothing_to_say_of_ordinary_folders(classes, caplog):
    with caplog.at_level(logging.WARNING):
        load_collection(classes)
    assert not caplog.records


def test_train_test_and_database(tmp_path):
    for split, names in {"train": "ab", "test": "cd", "database": "cd"}.items():
        for name in names:
            save_photo(tmp_path / split / name / "1.png")
    rows = load_collection(tmp_path).rows
    found = sorted((row["id"], row["label"], row["split"]) for row in rows)
    assert found == [
        ("database/c/1.png", "c", "database"),
        ("database/d/1.png", "d", "database"),
        ("test/c/1.png", "c", "query"),
        ("test/d/1.png", "d", "query"),
        ("train/a/1.png", "a", "train"),
        ("train/b/1.png", "b", "train"),
    ]


def test_what_a_table_knows_comes_along(classes):
    lines = [f"{name}/{n}.png,{name},{n},{'garden' if n else ''}" for name in ("robin", "wren") for n in range(3)]
    (classes / "photos.csv").write_text("\n".join(["file_name,species,number,place", *lines]))
    rows = load_collection(classes / "photos.csv").rows
    assert sorted(rows["id"]) == sorted(line.split(",")[0] for line in lines)
    for row in rows:
        name, number = row["id"].removesuffix(".png").split("/")
        assert (row["label"], row["number"], row["place"]) == (name, number, "garden" if int(number) else "")


def test_columns_called_as_those_of_an_index_are_the_table_s_own(classes):
    rows = [f"{name}/{n}.png,{name},train,a,b,c,d" for name in ("robin", "wren") for n in range(2)]
    header = "file_name,species,split,code,origin,file_size,label"
    (classes / "photos.csv").write_text("\n".join([header, *rows]))
    collection = load_collection(classes / "photos.csv", label_column="species")
    own = {"own_code": "a", "own_origin": "b", "own_file_size": "c", "own_label": "d"}
    for row in collection.rows:
        assert row == {name: row[name] for name in ("id", "path", "label")} | {"split": row["split"], **own}


@pytest.mark.parametrize("ids", [["", "b", "c", "d"], [1.5, 2.5, 3.5, 4.5], [1, 2, 3, None]])
def test_ids_with_gaps_or_fractions_are_a_column(classes, ids, caplog):
    paths = [f"{name}/{number}.png" for name in ("robin", "wren") for number in range(2)]
    rows = [{"image": path, "label": path[:4], "id": id} for path, id in zip(paths, ids, strict=True)]
    (classes / "photos.jsonl").write_text("\n".join(map(json.dumps, rows)))
    collection = load_collection(classes / "photos.jsonl")
    assert {row["id"]: row["own_id"] for row in collection.rows} == dict(zip(paths, ids, strict=True))
    assert "is kept as 'own_id'" in caplog.text


def test_several_labels(tmp_path):
    for number in range(4):
        save_photo(tmp_path / f"{number}.png")
    rows = [{"image": f"{number}.png", "tags": ["red", "small"] if number % 2 else ["blue"]} for number in range(4)]
    (tmp_path / "photos.jsonl").write_text("\n".join(map(json.dumps, rows)))
    labels = {row["id"]: row["label"] for row in load_collection(tmp_path / "photos.jsonl").rows}
    assert {id: sorted(names) for id, names in labels.items()} == {row["image"]: row["tags"] for row in rows}


@pytest.mark.parametrize("names", [[None] * 4, ["1.png"] * 4])
def test_photos_without_paths_of_their_own_are_numbered(tmp_path, names):
    save_photo(tmp_path / "one.png")
    content = (tmp_path / "one.png").read_bytes()
    photos = datasets.Dataset.from_dict(
        {"image": [{"bytes": content, "path": name} for name in names], "label": [0, 1, 0, 1]},
        features=datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"])),
    )
    photos.to_parquet(tmp_path / "photos.parquet")
    collection = load_collection(tmp_path / "photos.parquet")
    assert collection.ids == [0, 1, 2, 3]
    assert "path" not in collection.rows.column_names
    assert collection.image(2).size == (8, 8)


def test_names_of_pictures_in_a_table_are_ids_as_they_are(tmp_path, monkeypatch):
    save_photo(tmp_path / "one.png")
    names = ["https://birds.example/1.png", "birds/2.png", "other/2.png"]
    photos = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": (tmp_path / "one.png").read_bytes(), "path": name} for name in names],
            "label": ["a", "b", "b"],
        },
        features=datasets.Features(image=datasets.Image(), label=datasets.Value("string")),
    )
    photos.to_parquet(tmp_path / "photos.parquet")
    assert sorted(load_collection(tmp_path / "photos.parquet").ids) == sorted(names)
    monkeypatch.chdir(tmp_path)
    assert sorted(load_collection("photos.parquet").ids) == sorted(names)


def test_photos_in_files_here_and_inside_a_table_there(classes):
    pictures = [{"bytes": (classes / name / "0.png").read_bytes(), "path": None} for name in ("robin", "wren")]
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
    inside = datasets.Dataset.from_dict({"image": pictures, "label": ["robin", "wren"]}, features=features)
    inside.to_parquet(classes / "train.parquet")
    (classes / "test.csv").write_text("image,label\nrobin/1.png,robin\nwren/2.png,wren\n")
    paths = load_collection(classes).rows["path"][:]
    assert paths == [None, None, str(classes / "robin" / "1.png"), str(classes / "wren" / "2.png")]


def test_ids_are_paths_from_the_folder_that_pictures_may_lie_in(classes, tmp_path):
    rows = [f"{photo},{photo.parent.name}" for photo in sorted(classes.glob("*/*.png"))]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "photos.csv").write_text("\n".join(["file,label", *rows]))
    collection = load_collection(tmp_path / "lists" / "photos.csv", data_dir=str(classes))
    assert sorted(collection.ids) == [f"{name}/{number}.png" for name in ("robin", "wren") for number in range(3)]


def test_toy_birds():
    collection = load_collection("toy_birds")
    splits = load_photos("toy_birds")
    assert len(collection) == len(splits.train) + len(splits.query)
    assert set(collection.rows["label"]) == {species.name for species in SPECIES}
    assert collection.rows[len(splits.train)]["label"] == splits.class_names[splits.query[0]["label"]]


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="no pictures below"):
        load_collection(tmp_path)
    with pytest.raises(ValueError, match="neither a known dataset nor a file or folder"):
        load_collection(str(tmp_path / "nowhere"))


def test_all_pictures_of_real_photos(shared_dir):
    folder = shared_dir / "data" / "cub100" / "test"
    collection = load_collection(folder)
    paths = [image["path"] for image in list_photos(folder)["image"]]
    assert sorted(collection.rows["path"]) == paths
    assert len(set(collection.rows["label"])) == 100


def test_files_that_no_name_says_are_pictures(classes, caplog):
    """A table may name them all the same."""
    (classes / "photos.csv").write_text("file,label\n0,a\n1,b\n")
    for number in range(2):
        (classes / "wren" / f"{number}.png").rename(classes / f"{number}")
    for picture in classes.glob("*/*.png"):
        picture.unlink()
    assert load_collection(classes / "photos.csv").ids == ["0", "1"]
    assert not caplog.records


def test_a_path_with_a_dot_is_the_same_path(classes, caplog):
    rows = [f"./{photo.relative_to(classes)},{photo.parent.name}" for photo in sorted(classes.glob("*/*.png"))]
    (classes / "photos.csv").write_text("\n".join(["file,label", *rows]))
    assert len(load_collection(classes / "photos.csv")) == 6
    assert not caplog.records


def test_pictures_in_tables_without_classes_say_so(tmp_path):
    save_photo(tmp_path / "one.png")
    content = {"bytes": (tmp_path / "one.png").read_bytes(), "path": None}
    photos = datasets.Dataset.from_dict({"image": [content] * 3, "kind": ["a"] * 3})
    photos.cast_column("image", datasets.Image()).to_parquet(tmp_path / "tables" / "photos.parquet")
    with pytest.raises(ValueError, match="only the class .a. to train on"):
        load_collection(tmp_path / "tables")


@pytest.mark.parametrize("value", [3, 2.5, True])
def test_a_column_of_numbers_here_and_texts_there(tmp_path, value):
    for split, weights in (("train", (value, None)), ("test", ("heavy", "heavy"))):
        for kind in "ab":
            save_photo(tmp_path / split / f"{kind}.png")
        rows = [
            {"image": f"{split}/{kind}.png", "label": kind, "weight": weight}
            for kind, weight in zip("ab", weights, strict=True)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_collection(tmp_path).rows["weight"][:] == [str(value), None, "heavy", "heavy"]


def test_columns_are_texts_and_numbers_whatever_a_table_holds(tmp_path):
    save_photo(tmp_path / "one.png")
    picture = (tmp_path / "one.png").read_bytes()
    columns = {
        "taken": [datetime(2024, 1, 1), None],
        "sent": pa.array([datetime(2024, 1, 1, 12, tzinfo=UTC)] * 2, pa.timestamp("ms", "UTC")),
        "day": [date(2024, 1, 1), date(2024, 1, 2)],
        "hour": [time(12, 30), time(1)],
        "lasts": [timedelta(minutes=2), timedelta(milliseconds=500)],
        "price": [Decimal("2.50"), None],
        "raw": pa.array([b"x", b"y"], pa.large_binary()),
        "n": [1, 2],
    }
    pq.write_table(pa.table({"image": [picture] * 2, "label": ["a", "b"], **columns}), tmp_path / "photos.parquet")
    first, second = load_collection(tmp_path / "photos.parquet").rows
    assert first == {
        **{"id": 0, "label": "a", "split": first["split"], "taken": "2024-01-01T00:00:00", "day": "2024-01-01"},
        **{"sent": "2024-01-01T12:00:00+00:00", "hour": "12:30:00", "lasts": 120, "price": 2.5, "n": 1},
    }
    assert (second["taken"], second["hour"], second["lasts"], second["price"]) == (None, "01:00:00", 0.5, None)


def test_a_link_out_is_named_once_and_not_where_it_is_followed(class_folders, draw, tmp_path, caplog):
    (class_folders / "train" / "wren" / "link.png").symlink_to(draw(tmp_path / "elsewhere" / "secret.png"))
    assert len(load_collection(class_folders)) + 1 == len(load_collection(class_folders, follow_symlinks=True))
    assert caplog.text.count("link.png") == 1


def test_links_out_of_a_folder_without_classes(tmp_path):
    save_photo(tmp_path / "photos" / "a.png")
    save_photo(tmp_path / "elsewhere" / "b.png", "blue")
    (tmp_path / "photos" / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    assert load_collection(tmp_path / "photos").ids == ["a.png"]
    assert load_collection(tmp_path / "photos", follow_symlinks=True).ids == ["a.png", "b.png"]
