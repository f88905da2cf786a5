"""CSV, JSON lines, parquet, and the reference's index files."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from concepthash_hf.data import eval_transform, find_bad_images, load_photos

pytestmark = pytest.mark.usefixtures("own_cache")

ROWS = [("a/0.png", "robin"), ("a/1.png", "wren"), ("a/2.png", "robin"), ("a/3.png", "wren"), ("a/4.png", "wren")]
TEST_ROWS = [("a/5.png", "wren"), ("a/6.png", "robin")]


@pytest.fixture
def folder(tmp_path, draw):
    for number in range(7):
        draw(tmp_path / "a" / f"{number}.png", seed=number)
    return tmp_path


def write_csv(path, rows, header="file_name,species", separator=","):
    path.write_text("\n".join([header, *(separator.join(row) for row in rows)]))


def check(splits, image_processor):
    assert splits.class_names == ("robin", "wren")
    assert splits.counts == {"classes": 2, "train": 5, "query": 2, "database": 5}
    assert splits.train[splits.label_column][:] == [0, 1, 0, 1, 1] and splits.query[splits.label_column][:] == [1, 0]
    assert splits.train[1][splits.image_column]["path"].endswith("a/1.png")
    (batch,) = DataLoader(splits.torch_dataset("query", eval_transform(image_processor)), batch_size=2)
    assert batch["pixel_values"].shape == (2, 3, 56, 56) and batch["labels"].tolist() == [1, 0]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_one_table_with_a_split_column(folder, image_processor, suffix):
    rows = [(*row, "train") for row in ROWS] + [(*row, "test") for row in TEST_ROWS]
    separator = "\t" if suffix == "tsv" else ","
    write_csv(
        folder / f"photos.{suffix}",
        rows,
        header=separator.join(("file_name", "species", "split")),
        separator=separator,
    )
    check(load_photos(folder / f"photos.{suffix}"), image_processor)


def test_a_table_for_each_split(folder, image_processor):
    write_csv(folder / "train.csv", ROWS)
    write_csv(folder / "test.csv", TEST_ROWS)
    check(load_photos(folder), image_processor)


def test_metadata_files_as_datasets_has_them(folder, image_processor):
    for split, rows in (("train", ROWS), ("test", TEST_ROWS)):
        (folder / split).mkdir()
        lines = [json.dumps({"file_name": f"../{path}", "label": label}) for path, label in rows]
        (folder / split / "metadata.jsonl").write_text("\n".join(lines))
    check(load_photos(folder), image_processor)


def test_json_lines_with_parts(folder, image_processor):
    rows = [{"image": path, "label": label, "split": "train", "parts": {"beak": [19, 14]}} for path, label in ROWS]
    rows += [
        {"image": path, "label": label, "split": "query", "parts": {"tail": [20, 15]}} for path, label in TEST_ROWS
    ]
    rows[0]["parts"]["crest"] = None  # as in all other rows
    (folder / "photos.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load_photos(folder / "photos.jsonl")
    check(splits, image_processor)
    assert set(splits.part_names) == {"beak", "tail"}
    item = splits.torch_dataset("query", eval_transform(image_processor), with_parts=True)[0]
    assert item["parts"].isnan().all(-1).tolist() == [name == "beak" for name in splits.part_names]

    rows[0]["parts"]["beak"][0] = 2**24 + 1  # which no float32 is exactly
    (folder / "far.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_photos(folder / "far.jsonl").train["parts"][0]["beak"] == [2**24, 14]


def test_parquet_with_the_pictures_inside(folder, image_processor):
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["robin", "wren"]))
    for split, rows in (("train", ROWS), ("test", TEST_ROWS)):
        columns = {
            "image": [{"bytes": (folder / path).read_bytes(), "path": path} for path, _ in rows],
            "label": [("robin", "wren").index(label) for _, label in rows],
        }
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")
    for path, _ in ROWS + TEST_ROWS:
        (folder / path).unlink()
    check(load_photos(folder), image_processor)


def test_pictures_inside_a_table_and_beside_it(folder):
    inside = {"bytes": (folder / "a" / "0.png").read_bytes(), "path": "gone.png"}
    pictures = [inside, None, *({"bytes": None, "path": path} for path, _ in ROWS[2:])]
    table = pa.table({"image": pictures, "label": [label for _, label in ROWS], "split": ["train"] * 4 + ["test"]})
    pq.write_table(table, folder / "photos.parquet")
    splits = load_photos(folder / "photos.parquet")
    assert [bad.path for bad in find_bad_images(splits.train)] == ["(no picture)"]
    assert find_bad_images(splits.query) == []


def test_names_stay_text(folder):
    """pandas would read 007 as 7 and "None" as nothing."""
    write_csv(
        folder / "photos.csv", [("a/0.png", "007"), ("a/1.png", "None"), ("a/2.png", "007"), ("a/3.png", "None")]
    )
    assert load_photos(folder / "photos.csv", query_fraction=0.5).class_names == ("007", "None")


def test_numbers_take_the_names_given(folder):
    write_csv(folder / "photos.csv", [("a/0.png", "1"), ("a/1.png", "0"), ("a/2.png", "1"), ("a/3.png", "0")])
    splits = load_photos(folder / "photos.csv", class_names=["robin", "wren"], query_fraction=0.5)
    assert splits.class_names == ("robin", "wren")
    for row in splits.train:
        assert row["species"] == (1 if row["file_name"]["path"][-5] in "02" else 0)
    with pytest.raises(ValueError, match="has the label 1, but there are 1 class names"):
        load_photos(folder / "photos.csv", class_names=["robin"])


def test_numbers_without_names_sort_as_numbers(folder):
    write_csv(folder / "photos.csv", [(f"a/{row}.png", str(label)) for row, label in enumerate([10, 2, 10, 2, 9, 9])])
    assert load_photos(folder / "photos.csv", query_fraction=0.5).class_names == ("2", "9", "10")


@pytest.mark.parametrize("kind", ["separator", "names", "numbers", "one-hot"])
def test_several_labels(folder, image_processor, kind):
    tags = [["red", "small"], ["small"], [], ["round", "red"], ["round"]]
    names = ["red", "round", "small"]
    as_kind = {
        "separator": lambda row: " | ".join(row),
        "names": lambda row: row,
        "numbers": lambda row: [names.index(tag) for tag in row],
        "one-hot": lambda row: [int(tag in row) for tag in names],
    }[kind]
    rows = [
        {"image": f"a/{row}.png", "tags": as_kind(row_tags), "split": "train"} for row, row_tags in enumerate(tags)
    ]
    rows.append({"image": "a/5.png", "tags": as_kind(["small", "round"]), "split": "test"})
    (folder / "photos.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"label_separator": "|"} if kind == "separator" else {}
    if kind in ("numbers", "one-hot"):
        options["class_names"] = names
    splits = load_photos(folder / "photos.jsonl", **options)
    assert splits.multi_label and splits.class_names == ("red", "round", "small")
    (batch,) = DataLoader(splits.torch_dataset("train", eval_transform(image_processor)), batch_size=5)
    expected = [[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert batch["labels"].tolist() == expected and batch["labels"].dtype == torch.float32


def test_several_labels_in_a_file_that_has_nothing_else(folder):
    tags = ["red", "red|small", "small", "small", "red", "red|small"]
    lines = [f"a/{row}.png,{names}" for row, names in enumerate(tags)]
    (folder / "photos.csv").write_text("\n".join(["image,tags", *lines]))
    splits = load_photos(folder / "photos.csv", label_separator="|", query_fraction=0.5)
    assert splits.multi_label and splits.class_names == ("red", "small")
    assert len(splits.train) + len(splits.query) == 6


def test_columns_can_be_named(folder):
    write_csv(folder / "photos.csv", [(*row, "x") for row in ROWS], header="where,what,other")
    with pytest.raises(ValueError, match="no column seems to hold pictures.*image_column="):
        load_photos(folder / "photos.csv")
    with pytest.raises(ValueError, match="several columns could hold classes.*label_column="):
        load_photos(folder / "photos.csv", image_column="where")
    splits = load_photos(folder / "photos.csv", image_column="where", label_column="what")
    assert splits.class_names == ("robin", "wren") and splits.image_column == "where"
    with pytest.raises(ValueError, match="no column 'who'.*label_column="):
        load_photos(folder / "photos.csv", image_column="where", label_column="who")


def test_unknown_split_and_missing_label_are_errors(folder):
    write_csv(folder / "photos.csv", [(*row, "tran") for row in ROWS], header="image,label,split")
    with pytest.raises(ValueError, match="'split' holds \\['tran'\\]"):
        load_photos(folder / "photos.csv")
    write_csv(folder / "photos.csv", [*ROWS, ("a/5.png", "")], header="image,label")
    with pytest.raises(ValueError, match="1 photos have no label in column 'label', the first in row 5"):
        load_photos(folder / "photos.csv")
    (folder / "photos.xlsx").write_text("")
    with pytest.raises(ValueError, match="not a table of photos"):
        load_photos(folder / "photos.xlsx")


def test_a_table_as_a_stream(folder, image_processor):
    rows = [(*row, "train") for row in ROWS] + [(*row, "test") for row in TEST_ROWS]
    write_csv(folder / "photos.csv", rows, header="file_name,species,split")
    with pytest.raises(ValueError, match="give class_names="):
        load_photos(folder / "photos.csv", streaming=True)
    splits = load_photos(folder / "photos.csv", streaming=True, class_names=["robin", "wren"])
    assert splits.streaming and splits.counts == {"classes": 2}
    for split, labels in (("train", [0, 1, 0, 1, 1]), ("query", [1, 0])):
        batches = list(DataLoader(splits.torch_dataset(split, eval_transform(image_processor)), batch_size=4))
        assert [int(label) for batch in batches for label in batch["labels"]] == labels
    with pytest.raises(ValueError, match="with_validation needs to see all photos"):
        splits.with_validation()


def test_a_stream_is_not_looked_through_for_formats_that_cannot_be_read(folder):
    (folder / "a" / "5.png").rename(folder / "a" / "5.NEF")
    rows = [(*row, "train") for row in ROWS] + [("a/5.NEF", "wren", "test")]
    write_csv(folder / "photos.csv", rows, header="file_name,species,split")
    splits = load_photos(folder / "photos.csv", streaming=True, class_names=["robin", "wren"])
    assert [row["file_name"]["path"] for row in splits.query] == [str(folder / "a" / "5.NEF")]


def write_index(folder, one_hot=False, **files):
    for name, rows in files.items():
        vectors = [
            " ".join("01"[label == column] for column in range(2)) if one_hot else str(label) for _, label in rows
        ]
        (folder / f"{name}.txt").write_text(
            "".join(f"{path} {v}\n" for (path, _), v in zip(rows, vectors, strict=True))
        )


@pytest.mark.parametrize("one_hot", [False, True])
def test_index_files_of_the_reference(folder, image_processor, one_hot):
    numbered = {
        name: [(path, ("robin", "wren").index(label)) for path, label in rows]
        for name, rows in (("train", ROWS), ("test", TEST_ROWS))
    }
    write_index(folder, one_hot, **numbered, database=numbered["train"][:4])
    (folder / "class_names.txt").write_text("robin\nwren\n\n")
    splits = load_photos(folder)
    assert splits.counts["database"] == 4 and not splits.multi_label
    assert load_photos(folder, class_names=["red", "brown"]).class_names == ("red", "brown")
    check(load_photos_without_database(folder), image_processor)
    (folder / "class_names.txt").unlink()
    assert load_photos(folder).class_names == ("0", "1")


def load_photos_without_database(folder):
    (folder / "database.txt").unlink()
    return load_photos(folder)


def test_index_files_relative_to_the_working_directory(folder, monkeypatch, image_processor):
    (folder / "lists").mkdir()
    write_index(
        folder / "lists",
        train=[(path, label == "wren") for path, label in ROWS],
        test=[("a/5.png", 1), ("a/6.png", 0)],
    )
    for name in ("train", "test"):
        file = folder / "lists" / f"{name}.txt"
        file.write_text(file.read_text().replace("True", "1").replace("False", "0"))
    (folder / "lists" / "class_names.txt").write_text("robin\nwren")
    monkeypatch.chdir(folder)
    check(load_photos(folder / "lists"), image_processor)


def test_index_files_with_a_byte_order_mark_whose_first_photo_is_gone(folder):
    (folder / "train.txt").write_text("a/0.png 0\na/1.png 1\n", encoding="utf-8-sig")
    (folder / "test.txt").write_text("a/2.png 0\n", encoding="utf-8-sig")
    (folder / "a" / "0.png").unlink()
    splits = load_photos(folder)
    assert [bad.path for bad in find_bad_images(splits.train)] == [str(folder / "a" / "0.png")]
    assert splits.query[0]["image"]["path"] == str(folder / "a" / "2.png")


def test_index_files_with_several_labels_and_odd_paths(folder, draw):
    draw(folder / "a b" / "7 8.png")
    (folder / "train.txt").write_text("a/0.png 1 0 1\na/1.png 0 1 0\na b/7 8.png 1 1 0\n")
    (folder / "test.txt").write_text("a/2.png 0 0 1\n")
    splits = load_photos(folder)
    assert splits.multi_label and splits.train["label"][:] == [[0, 2], [1], [0, 1]]
    assert splits.train[2]["image"]["path"].endswith("a b/7 8.png")


@pytest.mark.parametrize("line", ["a/0.png", "a/0.png wren", "a/0.png 3 4"])
def test_index_line_that_is_not_understood_is_named(folder, line):
    (folder / "train.txt").write_text(f"a/1.png 0\n\n{line}\n")
    (folder / "test.txt").write_text("a/2.png 0\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 3: expected a path"):
        load_photos(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"label": 12345678901234567890123},
            r"photos\.jsonl, row 1: column 'label' holds a number of more than 64 bits",
        ),
        ({"label": 1e300}, r"photos\.jsonl, row 1: .* should hold class names or whole numbers from 0, got 1e\+300"),
        ({"parts": {"beak": "left"}}, r"row 1: column 'parts' should hold {name: \[x, y\]} in pixels, got 'left'"),
        ({"parts": {"beak": [1, 2, 3]}}, r"row 1: column 'parts' should hold .*, got \[1, 2, 3\] for 'beak'"),
        (
            {"parts": {f"part {number}": [1, 2] for number in range(20_000)}},
            r"photos\.jsonl: column 'parts': 20000 different names, such as 'part 0', in objects; at most 1000",
        ),
        ({f"column {number}": 1 for number in range(20_000)}, r"photos\.jsonl has 20003 columns; at most 1000"),
    ],
)
def test_values_that_are_none(folder, rows, message):
    lines = [{"image": path, "label": number % 2, "split": "train"} for number, (path, _) in enumerate(ROWS)]
    lines[1] |= rows
    for key, value in rows.items():  # a column is of one kind
        if isinstance(value, float):
            lines = [line | {key: float(line[key])} for line in lines]
    (folder / "photos.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match=message):
        load_photos(folder / "photos.jsonl")


def test_parquet_of_too_many_columns(folder):
    parts = {f"part {number}": [1.0, 2.0] for number in range(1500)}
    pq.write_table(pa.Table.from_pylist([{"image": "a/0.png", "parts": parts}]), folder / "photos.parquet")
    with pytest.raises(ValueError, match=r"photos\.parquet has 1501 columns; at most 1000"):
        load_photos(folder / "photos.parquet")


def test_parts_that_are_something_else(folder):
    """A column that happens to have this name is one more column."""
    lines = [{"image": path, "label": label, "parts": 3} for path, label in ROWS]
    (folder / "photos.jsonl").write_text("\n".join(map(json.dumps, lines)))
    splits = load_photos(folder / "photos.jsonl")
    assert splits.part_names == () and set(splits.train["parts"]) == {3}


def test_names_of_thousands_of_digits(folder):
    number = {"robin": "1" * 5000, "wren": "2" * 5000}
    write_csv(folder / "photos.csv", [(path, number[name]) for path, name in ROWS])
    assert [len(name) for name in load_photos(folder / "photos.csv").class_names] == [5000, 5000]
