"""The one door: names, Hub datasets, what is unknown."""

import dataclasses
import json

import datasets
import pytest

from concepthash_hf.data import BENCHMARKS, benchmark_table, describe_photos, eval_transform, known_names, load_photos
from concepthash_hf.data.changes import separated
from concepthash_hf.data.labels import encode_labels

from .conftest import picture

pytestmark = pytest.mark.usefixtures("own_cache")


def hub_copy(root, splits, features, **columns):
    """Parquet files as a dataset lies on the Hub: what `load_dataset` reads there and here is the same."""
    for seed, (split, rows) in enumerate(splits.items()):
        table = {"image": [picture(10 * seed + row) for row in range(rows)]}
        table |= {name: [values[row % len(values)] for row in range(rows)] for name, values in columns.items()}
        (root / "data").mkdir(parents=True, exist_ok=True)
        file = root / "data" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(table, features=datasets.Features(image=datasets.Image(), **features)).to_parquet(
            file
        )
    return root


BIRDS = datasets.ClassLabel(names=["wren", "robin"])


@pytest.mark.parametrize("streaming", [False, True])
def test_hub_dataset(tmp_path, image_processor, streaming):
    root = hub_copy(
        tmp_path / "birds",
        {"train": 6, "validation": 3, "test": 4},
        {"bird": BIRDS, "bbox": datasets.Value("string")},
        bird=[0, 1],
        bbox=["x"],
    )
    splits = load_photos(root, streaming=streaming)
    assert splits.class_names == ("wren", "robin") and splits.label_column == "bird" and splits.streaming == streaming
    if not streaming:
        assert splits.counts == {"classes": 2, "train": 6, "query": 4, "database": 6, "validation": 3}
    items = list(splits.torch_dataset("query", eval_transform(image_processor)))
    assert [item["labels"] for item in items] == [0, 1, 0, 1] and items[0]["pixel_values"].shape == (3, 56, 56)


def test_hub_dataset_with_other_split_names(tmp_path):
    root = hub_copy(tmp_path / "birds", {"night": 6, "day": 4}, {"label": BIRDS}, label=[0, 1])
    with pytest.raises(ValueError, match=r"has the splits \['day', 'night'\].*train_split="):
        load_photos(root)
    splits = load_photos(root, train_split="night", query_split="day", database_split="night+day")
    assert splits.counts == {"classes": 2, "train": 6, "query": 4, "database": 10}
    assert "asked with and searched: day, so that each of these photos finds itself" in describe_photos(splits)


def test_two_splits_for_one_need_a_choice(tmp_path):
    root = hub_copy(tmp_path / "birds", {"train": 4, "valid": 2, "dev": 2}, {"label": BIRDS}, label=[0, 1])
    with pytest.raises(ValueError, match=r"has the splits \[.*\]: say which to use with train_split="):
        load_photos(root)


@pytest.mark.parametrize(
    ("query", "database", "both"),
    [
        ("day", None, False),
        ("day", "night", False),
        ("night", None, True),
        ("day", "day", True),
        ("night", "day", False),
    ],
)
def test_photos_that_find_themselves_are_said(tmp_path, query, database, both):
    root = hub_copy(tmp_path / "birds", {"night": 6, "day": 4}, {"label": BIRDS}, label=[0, 1])
    splits = load_photos(root, train_split="night", query_split=query, database_split=database)
    assert ("each of these photos finds itself" in describe_photos(splits)) == both


def test_one_split_alone_is_divided(tmp_path):
    root = hub_copy(tmp_path / "birds", {"night": 10}, {"label": BIRDS}, label=[0, 1])
    assert load_photos(root).counts == {"classes": 2, "train": 8, "query": 2, "database": 8}
    with pytest.raises(ValueError, match="a stream needs a split of its own for the queries"):
        load_photos(root, streaming=True)


def test_several_class_columns_need_a_choice(tmp_path):
    family = datasets.ClassLabel(names=["a", "b", "c"])
    root = hub_copy(
        tmp_path / "planes",
        {"train": 6, "test": 3},
        {"variant": BIRDS, "family": family},
        variant=[0, 1],
        family=[0, 1, 2],
    )
    with pytest.raises(ValueError, match=r"several columns could hold classes: \['variant', 'family'\]"):
        load_photos(root)
    assert load_photos(root, label_column="family").class_names == ("a", "b", "c")


def test_hidden_test_labels_are_an_error(tmp_path):
    root = hub_copy(tmp_path / "birds", {"train": 4}, {"label": BIRDS}, label=[0, 1])
    hub_copy(tmp_path / "birds", {"test": 2}, {"label": BIRDS}, label=[-1])
    with pytest.raises(ValueError, match="query photos are not labelled"):
        load_photos(root)


def test_saved_dataset_dict(tmp_path, class_folders):
    splits = load_photos(class_folders)
    datasets.DatasetDict(train=splits.train, test=splits.query).save_to_disk(tmp_path / "saved")
    assert load_photos(tmp_path / "saved").counts == splits.counts


def test_classes_named_differently_by_split_are_numbered_together(tmp_path):
    saved = {}
    for split, names in (("train", ["wren", "robin", "tit"]), ("test", ["robin", "tit", "wren"])):
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
        saved[split] = datasets.Dataset.from_dict(
            {"image": [picture(i) for i in range(3)], "label": [0, 1, 2]}, features
        )
    datasets.DatasetDict(saved).save_to_disk(tmp_path / "saved")
    splits = load_photos(tmp_path / "saved")
    assert splits.class_names == ("wren", "robin", "tit") and splits.query["label"][:] == [1, 2, 0]


def test_benchmark_from_a_copy(tmp_path, monkeypatch):
    """A benchmark's own columns and splits, here from a local copy in place of the Hub id."""
    features = {"variant": datasets.ClassLabel(names=["707-320", "An-12"]), "family": datasets.ClassLabel(3)}
    root = hub_copy(
        tmp_path / "planes", {"train": 4, "validation": 2, "test": 3}, features, variant=[0, 1], family=[0, 1, 2]
    )
    counts = {"num_classes": 2, "num_train": 6, "num_query": 3}
    entry = BENCHMARKS["aircraft"]
    small = dataclasses.replace(entry, hub_id=str(root), revision="0123", **counts)
    monkeypatch.setitem(BENCHMARKS, "aircraft", small)
    splits = load_photos("aircraft")
    assert splits.counts == {"classes": 2, "train": 6, "query": 3, "database": 6}
    assert splits.label_column == "variant" and splits.name == "aircraft" and "1306.5151" in splits.citation
    assert load_photos("aircraft", template="a drawing of a {}").template == "a drawing of a {}"
    assert splits.source.endswith(" at 0123") and load_photos("aircraft", revision="4567").source.endswith(" at 4567")
    # of other labels or splits there is another number
    assert load_photos("aircraft", label_column="family").counts["classes"] == 3
    assert load_photos("aircraft", train_split="train").counts["train"] == 4


@pytest.mark.parametrize(("what", "number"), [("classes", 3), ("train", 5), ("train", 7), ("query", 2)])
def test_another_copy_of_a_benchmark_is_refused(tmp_path, monkeypatch, what, number):
    splits = {"train": 4, "validation": 2, "test": 3}
    root = hub_copy(tmp_path / "planes", splits, {"variant": BIRDS}, variant=[0, 1])
    counts = {"num_classes": 2, "num_train": 6, "num_query": 3} | {f"num_{what}": number}
    small = dataclasses.replace(BENCHMARKS["aircraft"], hub_id=str(root), revision=None, **counts)
    monkeypatch.setitem(BENCHMARKS, "aircraft", small)
    with pytest.raises(ValueError, match=f"has {number} {what}.*holds .*incomplete or another version"):
        load_photos("aircraft")


def test_a_column_of_class_labels_goes_before_texts_of_a_usual_name(tmp_path):
    features = {"label": BIRDS, "species": datasets.Value("string")}
    root = hub_copy(tmp_path / "birds", {"train": 4, "test": 2}, features, label=[0, 1], species=["a", "b"])
    assert load_photos(root).label_column == "label"


def test_a_column_called_split_holds_no_classes(tmp_path):
    text = datasets.Value("string")
    root = hub_copy(
        tmp_path / "birds",
        {"train": 4, "test": 2},
        {"bird": text, "Split": text},
        bird=["wren", "robin"],
        Split=["a", "b"],
    )
    assert load_photos(root).class_names == ("robin", "wren")


def test_parts_are_named_in_the_order_of_their_points(tmp_path, image_processor):
    point = datasets.List(datasets.Value("float32"))
    features = {"label": BIRDS, "parts": {"tail": point, "beak": point}}
    parts = {"tail": [20.0, 15.0], "beak": None}
    root = hub_copy(tmp_path / "birds", {"train": 4, "test": 2}, features, label=[0, 1], parts=[parts])
    for place in (root, next(root.glob("data/train*"))):
        splits = load_photos(place, query_fraction=0.5)
        assert splits.part_names == ("tail", "beak")
        item = splits.torch_dataset("query", eval_transform(image_processor), with_parts=True)[0]
        assert item["parts"].isnan().all(-1).tolist() == [False, True]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'cub' is neither.*toy_birds, cub200, nabirds.*owner/name"):
        load_photos("cub")
    with pytest.raises(ValueError, match="neither"):
        load_photos("./not/there")


def test_hub_id_that_cannot_be_had():
    with pytest.raises(ValueError, match="cannot load 'nobody/nothing' from the Hugging Face Hub.*toy_birds"):
        load_photos("nobody/nothing")


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_benchmark_without_its_source_says_where_to_get_it(name):
    entry = BENCHMARKS[name]
    with pytest.raises(ValueError) as caught:
        load_photos(name)
    message = str(caught.value)
    assert entry.homepage in message and entry.data_dir in message and "data_dir" in message
    assert (entry.hub_id or "no copy") in message


def test_table_of_benchmarks_has_every_row():
    table = benchmark_table().splitlines()
    assert len(table) == len(BENCHMARKS) + 2 and known_names() == ["toy_birds", *BENCHMARKS]
    assert any("5,994 / 5,794" in line and "bentrevett" in line for line in table)
    assert all(line.count("|") == table[0].count("|") for line in table)


def test_registry_agrees_with_method_section_5():
    assert {
        name: (entry.num_classes, entry.num_train, entry.num_query) for name, entry in BENCHMARKS.items()
    }.items() >= {
        "cub200": (200, 5_994, 5_794),
        "nabirds": (555, 23_929, 24_633),
        "aircraft": (100, 6_667, 3_333),
        "cars196": (196, 8_144, 8_041),
        "food101": (101, 75_750, 25_250),
    }.items()
    assert [name for name, entry in BENCHMARKS.items() if entry.revision] == ["aircraft"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["wren", " robin "], [0, 1]),
        ([1, 0], [1, 0]),
        ([1.0, 0.0], [1, 0]),
        (["1", "0"], [1, 0]),
        ([" 1", "0 "], [1, 0]),
        ([["robin", "wren"], ["wren"]], [[1, 0], [0]]),
        (["wren", "eagle"], "label 'eagle', which is none of the 2 class names"),
        ([0, 2], "label 2, "),
        ([0, -1], "label -1, "),
        ([0.0, 0.5], "label 0.5, "),
        (["0", "2"], "label '2', "),
        (["wren", None], "label None, "),
    ],
)
def test_labels_of_a_stream(labels, expected):
    stream = datasets.Dataset.from_dict({"bird": labels}).to_iterable_dataset()
    numbered = encode_labels({"train": stream}, "bird", ["wren", "robin"])["train"]
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            list(numbered)
    else:
        assert [row["bird"] for row in numbered] == expected


def test_large_lists_of_labels_become_lists():
    features = datasets.Features(row=datasets.Value("int64"), bird=datasets.LargeList(BIRDS))
    labels = datasets.Dataset.from_dict({"row": [0, 1], "bird": [[0], [0, 1]]}, features=features)
    encoded = encode_labels({"train": labels}, "bird")["train"]
    assert encoded.features["bird"] == datasets.List(BIRDS) and encoded["bird"][:] == [[0], [0, 1]]


def test_texts_of_labels_in_a_stream_are_separated():
    stream = datasets.Dataset.from_dict({"bird": ["wren | robin", None, "|"]}).to_iterable_dataset()
    assert [row["bird"] for row in separated(stream, "bird", "|")] == [["wren", "robin"], [], []]


def test_one_label_in_one_split_and_several_in_another(tmp_path, draw):
    for name in ("a", "b"):
        draw(tmp_path / f"{name}.png")
    labels = {"train": ["a", "b"], "test": [["a", "b"], ["b"]]}
    for split, of_split in labels.items():
        rows = [{"image": f"{name}.png", "label": label} for name, label in zip("ab", of_split, strict=True)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load_photos(tmp_path)
    assert splits.train["label"][:] == [[0], [1]] and splits.query["label"][:] == [[0, 1], [1]]


def test_names_for_numbers_that_are_names_themselves(tmp_path):
    numbers = datasets.ClassLabel(names=["0", "1"])
    root = hub_copy(tmp_path / "birds", {"train": 4, "test": 4}, {"label": numbers}, label=[0, 1, 1, 0])
    splits = load_photos(root, class_names=["robin", "wren"])
    assert splits.class_names == ("robin", "wren")
    assert splits.train["label"][:] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        (["0", "1"], ["1", "0"], [1, 0]),  # names, though they are numbers
        (["robin", "wren"], [" wren ", "robin "], [1, 0]),
        ([[0], [1]], ["wren", "robin"], [[0], [1]]),  # numbers, and no one-hot vectors
        ([[1, 0], [0, 1]], ["wren", "robin"], [[0], [1]]),
    ],
)
def test_labels_with_names_given(labels, class_names, expected):
    photos = datasets.Dataset.from_dict({"row": [0, 1], "bird": labels})
    encoded = encode_labels({"train": photos}, "bird", class_names)["train"]
    assert encoded["bird"][:] == expected
    feature = encoded.features["bird"]
    assert getattr(feature, "feature", feature).names == [name.strip() for name in class_names]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"train": [[0, 1], [2]], "query": [[0, 1], [1, 0]]}, [[0, 1], [1, 0]]),  # numbers of two classes
        ({"train": [[1, 0, 0], [0, 1, 1]], "query": [[1, 1, 1]]}, [[0, 1, 2]]),  # one-hot
        ({"train": [[1, 0, 0], [0, 1, 1]], "query": [[]], "validation": [[0, 1, 0]]}, [[]]),
    ],
)
def test_numbers_and_one_hot_vectors_are_told_apart_by_all_splits(labels, expected):
    splits = {
        split: datasets.Dataset.from_dict({"row": range(len(rows)), "bird": rows}) for split, rows in labels.items()
    }
    encoded = encode_labels(splits, "bird", ["wren", "robin", "tit"])
    assert encoded["query"]["bird"][:] == expected
    assert {label for row in encoded["train"]["bird"][:] for label in row} == {0, 1, 2}


def test_a_folder_with_a_dot_in_its_name(class_folders):
    moved = class_folders.rename(class_folders.with_name("my.photos"))
    assert load_photos(moved).name == "my.photos"


@pytest.mark.parametrize("level", [0, -2])
def test_folders_are_counted_from_one(class_folders, level):
    with pytest.raises(ValueError, match=f"class_level counts from 1.*got {level}"):
        load_photos(class_folders, class_level=level)
