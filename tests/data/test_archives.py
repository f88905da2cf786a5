"""Miniature replicas of the official archives."""

import shutil
import uuid

import numpy as np
import pytest
from scipy.io import savemat
from torch.utils.data import DataLoader

from concepthash_hf.data import BENCHMARKS, eval_transform, load_photos
from concepthash_hf.language import clean_class_name


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def write_birds(root, draw, classes, used, image_ids, class_folder, parts):
    """The files that CUB and NABirds share: photo i is of class used[i % len(used)], every third is a test photo."""
    files = {image: f"{class_folder(used[i % len(used)])}/{i}.jpg" for i, image in enumerate(image_ids)}
    for i, file in enumerate(files.values()):
        draw(root / "images" / file, seed=i, width=60 + i, height=50)
    write(root / "images.txt", *files.items())
    write(root / "image_class_labels.txt", *((image, used[i % len(used)]) for i, image in enumerate(image_ids)))
    write(root / "train_test_split.txt", *((image, int(i % 3 > 0)) for i, image in enumerate(image_ids)))
    write(root / "classes.txt", *classes)
    write(root / "bounding_boxes.txt", *((image, 1.0, 2.0, 30.0 + i, 20.0) for i, image in enumerate(image_ids)))
    write(root / "parts" / "parts.txt", *enumerate(parts, 1))
    write(
        root / "parts" / "part_locs.txt",
        *(
            (image, p, 10.0 * p + i, 25.0, int(p != 2))
            for i, image in enumerate(image_ids)
            for p in range(1, len(parts) + 1)
        ),
    )


@pytest.fixture
def cub(tmp_path, draw):
    classes = {1: "001.Black_footed_Albatross", 2: "002.Laysan_Albatross"}
    root = tmp_path / "CUB_200_2011"
    write_birds(root, draw, classes.items(), [1, 2], range(1, 13), classes.get, ["back", "beak", "left eye"])
    return root


@pytest.fixture
def nabirds(tmp_path, draw):
    classes = {0: "Birds", 1: "Ducks, Geese, and Swans", 295: "Common Eider (Adult male)", 1003: "Oak Titmouse"}
    ids = [str(uuid.UUID(int=i * 7919)) for i in range(12)]
    root = tmp_path / "nabirds"
    write_birds(root, draw, classes.items(), [1003, 295], ids, "{:04d}".format, ["bill", "crown", "nape"])
    write(root / "hierarchy.txt", (1, 0), (295, 1), (1003, 0))
    return root


@pytest.fixture
def aircraft(tmp_path, draw):
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    photos = {
        "train": [("0034309", "707-320"), ("0034310", "An-12")],
        "val": [("0734309", "Model B200")],
        "test": [("1034309", "An-12"), ("1034310", "707-320"), ("1034311", "Model B200")],
    }
    family = {"707-320": "Boeing 707", "An-12": "An-12", "Model B200": "King Air"}
    for part, rows in photos.items():
        write(data / f"images_variant_{part}.txt", *rows)
        write(data / f"images_family_{part}.txt", *((image, family[variant]) for image, variant in rows))
        for image, _ in rows:
            draw(data / "images" / f"{image}.jpg", seed=int(image))
    write(data / "variants.txt", ("707-320",), ("An-12",), ("Model B200",))
    return data


@pytest.fixture
def cars(tmp_path, draw):
    root = tmp_path / "cars"
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    (root / "devkit").mkdir(parents=True)

    def annotations(folder, labels):
        fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
        table = np.empty((1, len(labels)), dtype=[(name, object) for name in fields])
        for i, label in enumerate(labels):
            fname = f"{i + 1:05d}.jpg"
            table[0, i] = (39, 116, 569, 375, label, fname)
            draw(root / folder / fname, seed=i)
        return {"annotations": table}

    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    savemat(root / "devkit" / "cars_train_annos.mat", annotations("cars_train", [2, 1, 2, 1]))
    savemat(root / "cars_test_annos_withlabels.mat", annotations("cars_test", [1, 2, 2]))
    return root


def check(splits, counts, class_names, image_processor):
    assert splits.counts == {"classes": len(class_names), **counts, "database": counts["train"]}
    assert splits.class_names == class_names
    for split in ("train", "query"):
        (batch,) = DataLoader(splits.torch_dataset(split, eval_transform(image_processor)), batch_size=64)
        assert len(batch["labels"]) == counts[split]
    paths = [row["image"]["path"] for photos in (splits.train, splits.query) for row in photos]
    assert len(set(paths)) == counts["train"] + counts["query"]


def test_cub(cub, image_processor):
    splits = load_photos(cub)
    check(splits, {"train": 8, "query": 4}, ("001.Black_footed_Albatross", "002.Laysan_Albatross"), image_processor)
    assert [clean_class_name(name) for name in splits.class_names] == ["Black footed Albatross", "Laysan Albatross"]
    assert splits.name == "cub200" and "CNS-TR-2011-001" in splits.citation
    for row in splits.train:
        assert splits.class_names[row["label"]] in row["image"]["path"]
    first = splits.query[0]  # image 1
    assert first["bbox"] == [1.0, 2.0, 30.0, 20.0]
    assert splits.part_names == ("back", "beak", "left eye")
    assert first["parts"] == {"back": [10.0, 25.0], "beak": None, "left eye": [30.0, 25.0]}
    item = splits.torch_dataset("query", eval_transform(image_processor), with_parts=True)[0]
    assert item["parts"][:, 0].isnan().tolist() == [False, True, False]
    assert load_photos(cub.parent).counts == splits.counts  # the folder the archive was unpacked in


def test_birds_without_boxes_and_parts(cub):
    (cub / "bounding_boxes.txt").unlink()
    shutil.rmtree(cub / "parts")
    splits = load_photos(cub)
    assert splits.train.column_names == ["image", "label"] and splits.parts_column is None


def test_nabirds(nabirds, image_processor):
    splits = load_photos(nabirds)
    check(splits, {"train": 8, "query": 4}, ("Common Eider (Adult male)", "Oak Titmouse"), image_processor)
    assert splits.name == "nabirds" and splits.part_names == ("bill", "crown", "nape")
    for row in splits.train:
        assert row["image"]["path"].split("/")[-2] == ("0295", "1003")[row["label"]]


def test_classes_of_one_name_stay_apart(nabirds):
    write(nabirds / "classes.txt", (295, "Common Eider"), (1003, "Common Eider"))
    assert load_photos(nabirds).class_names == ("Common Eider 295", "Common Eider 1003")


def test_aircraft(aircraft, image_processor):
    splits = load_photos(aircraft)
    check(splits, {"train": 3, "query": 3}, ("707-320", "An-12", "Model B200"), image_processor)
    assert splits.train["label"][:] == [0, 1, 2] and splits.query["label"][:] == [1, 0, 2]
    families = load_photos(aircraft.parents[1], label_column="family")
    assert families.class_names == ("An-12", "Boeing 707", "King Air")


def test_cars(cars, image_processor):
    splits = load_photos(cars)
    names = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
    check(splits, {"train": 4, "query": 3}, names, image_processor)
    assert splits.train["label"][:] == [1, 0, 1, 0] and splits.query["label"][:] == [0, 1, 1]
    assert splits.train[0]["bbox"] == [38.0, 115.0, 531.0, 260.0]  # from 1-based, inclusive corners
    labels = (cars / "cars_test_annos_withlabels.mat").rename(cars / "devkit" / "cars_test_annos_withlabels.mat")
    assert load_photos(cars).query["label"][:] == [0, 1, 1]
    labels.unlink()
    with pytest.raises(ValueError, match="put cars_test_annos_withlabels.mat into"):
        load_photos(cars)


def test_inat_birds_are_picked_out(tmp_path, draw, monkeypatch):
    taxa = (
        "00001_Animalia_Chordata_Aves_Accipitriformes_Accipitridae_Accipiter_cooperii",
        ("00002_Animalia_Chordata_Aves_Passeriformes_Paridae_Parus_major"),
    )
    for split in ("train", "val"):
        for taxon in (
            *taxa,
            "00003_Plantae_Tracheophyta_Liliopsida_Liliales_Liliaceae_Lilium_martagon",
            "00004_Animalia_Arthropoda_Insecta_Hemiptera_Cicadidae_Avesia_minor",
        ):
            draw(tmp_path / split / taxon / "1.jpg")
    small = BENCHMARKS["inat_birds"].__class__(
        title="", num_classes=2, num_train=2, num_query=2, homepage="", data_dir=""
    )
    monkeypatch.setitem(BENCHMARKS, "inat_birds", small)
    splits = load_photos("inat_birds", data_dir=tmp_path)
    assert splits.class_names == ("Accipiter_cooperii", "Parus_major")
    assert clean_class_name(splits.class_names[1]) == "Parus major"


@pytest.mark.parametrize("name", ["cub200", "nabirds", "aircraft", "cars196"])
def test_counts_of_a_benchmark_are_checked(request, name):
    folder = request.getfixturevalue("cars" if name == "cars196" else name.removesuffix("200"))
    expected = BENCHMARKS[name]
    with pytest.raises(ValueError) as caught:
        load_photos(name, data_dir=folder)
    assert f"{expected.num_classes:,} classes" in str(caught.value) and "incomplete" in str(caught.value)


def test_both_numbers_are_said(aircraft, monkeypatch):
    def entry(**counts):
        given = {
            "title": "FGVC-Aircraft",
            "num_classes": 3,
            "num_train": 3,
            "num_query": 3,
            "homepage": "",
            "data_dir": "",
        }
        monkeypatch.setitem(BENCHMARKS, "aircraft", BENCHMARKS["aircraft"].__class__(**{**given, **counts}))

    entry()
    assert load_photos("aircraft", data_dir=aircraft).counts["train"] == 3
    entry(num_query=3_333)
    with pytest.raises(ValueError, match=r"FGVC-Aircraft has 3,333 query photos, but .*data holds 3:"):
        load_photos("aircraft", data_dir=aircraft)
