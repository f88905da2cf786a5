"""Folders of class folders."""

import json

import pytest

from concepthash_hf.data import BadImageError, list_photos, load_photos


def test_train_and_test_folders(class_folders):
    splits = load_photos(class_folders)
    assert splits.class_names == ("great_tit", "robin", "wren") == splits.query_class_names
    assert splits.counts == {"classes": 3, "train": 9, "query": 4, "database": 9}
    assert splits.database is splits.train and splits.name == "birds" and splits.source == str(class_folders)
    for photos in (splits.train, splits.query):
        for row in photos:
            assert splits.class_names[row["label"]] == row["image"]["path"].split("/")[-2]
            assert row["image"]["bytes"] is None  # not read: nothing holds the pictures


def test_folder_without_splits_holds_out_queries_of_every_class(class_folders):
    splits = load_photos(class_folders / "train", query_fraction=0.3, seed=1)
    assert splits.counts == {"classes": 3, "train": 6, "query": 3, "database": 6}
    assert sorted(splits.query["label"][:]) == [0, 1, 2]
    paths = [row["image"]["path"] for photos in (splits.train, splits.query) for row in photos]
    assert len(set(paths)) == 9
    again = load_photos(class_folders / "train", query_fraction=0.3, seed=1)
    assert again.query["image"][:] == splits.query["image"][:]
    assert (
        load_photos(class_folders / "train", query_fraction=0.3, seed=2).query["image"][:] != splits.query["image"][:]
    )


@pytest.mark.parametrize(("theirs", "ours"), [("val", "validation"), ("gallery", "database")])
def test_other_splits(class_folders, draw, theirs, ours):
    for name in ("robin", "wren", "great_tit"):
        draw(class_folders / theirs / name / "9.png", seed=9)
    splits = load_photos(class_folders)
    assert splits.counts[ours] == 3 and splits.counts["train"] == 9


def test_validation_gives_the_queries_where_there_is_no_test(class_folders):
    (class_folders / "test").rename(class_folders / "valid")
    splits = load_photos(class_folders)
    assert splits.counts == {"classes": 3, "train": 9, "query": 4, "database": 9} and splits.validation is None


def test_database_may_bring_classes_that_are_not_trained_on(class_folders, draw):
    for split in ("test", "database"):
        for name in ("dunnock", "wren"):
            draw(class_folders / split / name / "9.png", seed=9)
    for name in ("robin", "great_tit"):
        draw(class_folders / "database" / name / "8.png", seed=9)
        draw(class_folders / "validation" / name / "7.png", seed=9)
    splits = load_photos(class_folders)
    assert splits.class_names == ("great_tit", "robin", "wren")
    assert splits.query_class_names == ("dunnock", "great_tit", "robin", "wren")
    for photos, names in (
        *((photos, splits.query_class_names) for photos in (splits.query, splits.database)),
        *((photos, splits.class_names) for photos in (splits.train, splits.validation)),
    ):
        assert all(row["image"]["path"].split("/")[-2] == names[row["label"]] for row in photos)


def test_parts_beside_the_folders(class_folders):
    lines = [
        {"file": "train/robin/0.png", "parts": {"beak": [3.5, 4], "left eye": [7, 8.25]}},
        {"file": "test/wren/0.png", "parts": {"tail": [1, 2]}},
        {"file": "test/wren/not_there.png", "parts": {}},
    ]
    (class_folders / "parts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    splits = load_photos(class_folders)
    assert splits.part_names == ("beak", "left eye", "tail") and splits.parts_column == "parts"
    parts = {row["image"]["path"][-11:]: row["parts"] for photos in (splits.train, splits.query) for row in photos}
    assert parts["robin/0.png"] in (
        {"beak": [3.5, 4.0], "left eye": [7.0, 8.25], "tail": None},
        {"beak": None, "left eye": None, "tail": None},  # test/robin/0.png, which has no line
    )
    assert parts["/wren/0.png"] == {"beak": None, "left eye": None, "tail": [1.0, 2.0]}
    assert splits.train[2]["parts"]["left eye"] == [7.0, 8.25]


@pytest.mark.parametrize("line", ['{"file": "a.png"}', "not json", '{"file": "a.png", "parts": {"beak": [1]}}'])
def test_bad_parts_file_names_the_line(class_folders, line):
    (class_folders / "parts.jsonl").write_text('{"file": "a.png", "parts": {}}\n' + line)
    with pytest.raises(ValueError, match=r"parts\.jsonl, line 2: expected"):
        load_photos(class_folders)


def test_a_parts_file_of_too_many_parts(class_folders):
    parts = {f"part {number}": [1, 2] for number in range(1001)}
    (class_folders / "parts.jsonl").write_text(json.dumps({"file": "train/robin/0.png", "parts": parts}))
    with pytest.raises(ValueError, match=r"parts\.jsonl: 1001 different names.* at most 1000"):
        load_photos(class_folders)


def test_other_files_hidden_ones_and_deeper_folders(class_folders, draw):
    (class_folders / "train" / "wren" / "notes.txt").write_text("not a photo")
    (class_folders / "train" / "wren" / ".hidden.png").write_text("not a photo")
    (class_folders / ".git").mkdir()
    (class_folders / "papers" / "2019").mkdir(parents=True)
    draw(class_folders / "train" / "wren" / "2019" / "may" / "1.JPG")
    splits = load_photos(class_folders)
    assert splits.counts["train"] == 10
    assert sum(row["image"]["path"].endswith("wren/2019/may/1.JPG") for row in splits.train) == 1


def test_tables_without_pictures_beside_the_folders_are_none_of_them(class_folders):
    for split in ("train", "test"):
        (class_folders / f"{split}.csv").write_text("class,number\nrobin,4\nwren,3\n")
    assert load_photos(class_folders).counts == {"classes": 3, "train": 9, "query": 4, "database": 9}


def test_links_inside_are_followed_and_links_out_are_not(class_folders, draw, tmp_path, caplog):
    wren = class_folders / "train" / "wren"
    (wren / "again.png").symlink_to(wren / "0.png")
    (tmp_path / "notes.txt").touch()
    (wren / "notes.txt").symlink_to(tmp_path / "notes.txt")  # no picture, and nobody opens it
    assert load_photos(class_folders).counts["train"] == 10

    outside = draw(tmp_path / "elsewhere" / "secret.png")
    (wren / "link.png").symlink_to(outside)
    with pytest.raises(BadImageError, match=r"link\.png: a symbolic link that leaves the folder"):
        load_photos(class_folders)
    splits = load_photos(class_folders, on_bad_image="skip")
    assert splits.counts["train"] == 10 and "1 unreadable pictures were skipped" in caplog.text
    assert load_photos(class_folders, follow_symlinks=True).counts["train"] == 11


def test_a_link_to_nothing_is_named_without_a_row(class_folders, tmp_path, caplog):
    link = class_folders / "train" / "wren" / "link.png"
    link.symlink_to(tmp_path / "nowhere.png")
    load_photos(class_folders, on_bad_image="skip")
    assert f"\n  {link}: a symbolic link to {tmp_path / 'nowhere.png'}, where nothing is" in caplog.text


def test_linked_class_folder_out_of_the_folder(class_folders, draw, tmp_path):
    draw(tmp_path / "elsewhere" / "1.png")
    (class_folders / "train" / "dunnock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadImageError, match="dunnock"):
        load_photos(class_folders)
    assert load_photos(class_folders, follow_symlinks=True).counts["classes"] == 4


def test_a_link_to_the_whole_folder_is_fine(class_folders, tmp_path):
    (tmp_path / "link").symlink_to(class_folders)
    assert load_photos(tmp_path / "link").counts["train"] == 9


def test_empty_folders_are_errors(tmp_path, draw):
    with pytest.raises(ValueError, match="no pictures in .*expected a folder for each class"):
        load_photos(tmp_path)
    with pytest.raises(ValueError, match="no pictures below"):
        list_photos(tmp_path)
    draw(tmp_path / "flat.png")
    with pytest.raises(ValueError, match="expected a folder for each class"):
        load_photos(tmp_path)


def test_one_class_is_an_error(tmp_path, draw):
    for number in range(3):
        draw(tmp_path / "wren" / f"{number}.png")
    with pytest.raises(ValueError, match="only the class 'wren'.*two classes or more"):
        load_photos(tmp_path)


def test_test_classes_that_train_lacks_are_named(class_folders, draw):
    draw(class_folders / "test" / "dunnock" / "1.png")
    draw(class_folders / "test" / "Wren" / "1.png")
    with pytest.raises(ValueError, match="2 classes of the query photos have no photo in train.*: Wren, dunnock"):
        load_photos(class_folders)


def test_validation_classes_that_train_lacks_are_named(class_folders, draw):
    draw(class_folders / "val" / "dunnock" / "1.png")
    with pytest.raises(ValueError, match="1 classes of the validation photos have no photo in train.*: dunnock"):
        load_photos(class_folders)


def test_real_cub100(shared_dir):
    splits = load_photos(shared_dir / "data" / "cub100")
    assert splits.counts == {"classes": 100, "train": 2_999, "query": 2_903, "database": 2_999}
    assert len(splits.part_names) == 15 and splits.class_names[0] == "American_Goldfinch"
    shown = sum(point is not None for parts in splits.train["parts"][:] for point in parts.values())
    assert 9 < shown / 2_999 < 15


def test_real_flowers102(shared_dir):
    splits = load_photos(shared_dir / "data" / "flowers102")
    assert splits.counts == {"classes": 102, "train": 2_037, "query": 1_836, "database": 2_037}
    assert splits.parts_column is None
