"""Photos through a DataLoader: items, labels, parts, bad pictures, streams."""

import dataclasses
import os

import datasets
import datasets.distributed
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from concepthash_hf.data import (
    BadImage,
    BadImageError,
    PhotoDataset,
    StreamingPhotoDataset,
    eval_transform,
    find_bad_images,
    list_photos,
    load_photos,
    train_transform,
)
from concepthash_hf.data.bad_images import BadImageLog, report_bad_images

from .test_decode import BAD


@pytest.fixture
def spoiled(class_folders):
    """The class folders with one truncated and one empty picture in train."""
    (class_folders / "train" / "wren" / "1.png").write_bytes(b"")
    broken = class_folders / "train" / "robin" / "2.png"
    broken.write_bytes(broken.read_bytes()[:80])
    return class_folders


def rows_of(loader) -> list[int]:
    return [int(label) for batch in loader for label in batch["labels"]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_photo_comes_once_with_its_label(class_folders, image_processor, num_workers):
    splits = load_photos(class_folders)
    loader = DataLoader(
        splits.torch_dataset("train", train_transform("paper", image_processor)), batch_size=4, num_workers=num_workers
    )
    batches = list(loader)
    assert [len(batch["labels"]) for batch in batches] == [4, 4, 1]
    assert batches[0]["pixel_values"].shape == (4, 3, 56, 56) and batches[0]["labels"].dtype == torch.int64
    assert rows_of(loader) == splits.train["label"][:] == loader.dataset.labels


def test_pixels_belong_to_the_row(class_folders, image_processor):
    splits = load_photos(class_folders)
    photos = splits.torch_dataset("query", eval_transform(image_processor))
    for row in (0, -1):
        path = splits.query[row]["image"]["path"]
        expected = image_processor(Image.open(path), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(photos[row]["pixel_values"], expected)
    with pytest.raises(IndexError):
        photos[4]


def test_bad_picture_raises_from_a_worker(spoiled, image_processor):
    photos = load_photos(spoiled).torch_dataset("train", eval_transform(image_processor))
    with pytest.raises(BadImageError, match=r"2\.png \(row 4\)"):
        list(DataLoader(photos, batch_size=3, num_workers=1))


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_bad_pictures_are_skipped_counted_and_reported(spoiled, image_processor, context, caplog):
    photos = load_photos(spoiled).torch_dataset("train", eval_transform(image_processor), on_bad_image="skip")
    workers = {"num_workers": 1 if context == "spawn" else 2, "multiprocessing_context": context} if context else {}
    loader = DataLoader(photos, batch_size=3, **workers)
    for _ in range(1 if context == "spawn" else 2):  # a second epoch does not count them twice
        assert len(rows_of(loader)) == 7
    bad = photos.report_bad_images()
    assert [(image.row, image.path[-11:]) for image in bad] == [(4, "robin/2.png"), (7, "/wren/1.png")]
    assert "2 unreadable pictures were skipped" in caplog.text and "robin/2.png" in caplog.text


def test_ten_bad_pictures_are_named_and_more_are_counted(caplog):
    bad = [BadImage(row, f"{row}.png", "empty") for row in range(11)]
    report_bad_images(bad[:10])
    assert "row 0: 0.png: empty" in caplog.text and "row 9: 9.png" in caplog.text and "more" not in caplog.text
    report_bad_images(bad)
    assert "... and 1 more" in caplog.text and "10.png" not in caplog.text


def test_a_forked_process_that_ends_takes_no_notes_with_it():
    log = BadImageLog("skip")
    log.add(BadImageError.of("a.png", "empty", 3))
    if (child := os.fork()) == 0:
        del log
        os._exit(0)
    os.waitpid(child, 0)
    assert log.found() == [BadImage(3, "a.png", "empty")]


def test_a_batch_without_any_readable_photo_says_so(spoiled, image_processor):
    photos = load_photos(spoiled).torch_dataset("train", eval_transform(image_processor), on_bad_image="skip")
    with pytest.raises(BadImageError, match="no other photo of its batch"):
        photos.__getitems__([4, 7])
    assert photos.__getitems__([]) == []


def test_unreadable_photos_can_be_taken_out_beforehand(spoiled, image_processor):
    splits = load_photos(spoiled)
    clean, bad = splits.without_bad_images(num_workers=1)
    assert clean.counts == {"classes": 3, "train": 7, "query": 4, "database": 7} and clean.database is clean.train
    assert [image.row for image in bad] == [4, 7] == [image.row for image in find_bad_images(splits.train)]
    assert len(rows_of(DataLoader(clean.torch_dataset("train", eval_transform(image_processor)), batch_size=4))) == 7
    assert clean.without_bad_images()[1] == []


def test_policy_is_checked(class_folders, image_processor):
    with pytest.raises(ValueError, match="'ignore'"):
        load_photos(class_folders).torch_dataset("train", eval_transform(image_processor), on_bad_image="ignore")


def test_several_labels_become_multi_hot(draw, tmp_path, image_processor):
    features = datasets.Features(
        image=datasets.Image(decode=False), label=datasets.List(datasets.ClassLabel(names=["red", "round", "small"]))
    )
    paths = [str(draw(tmp_path / f"{row}.png", seed=row)) for row in range(3)]
    photos = datasets.Dataset.from_dict({"image": paths, "label": [[0, 2], [1], []]}, features=features)
    (batch,) = DataLoader(PhotoDataset(photos, eval_transform(image_processor)), batch_size=3)
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]] and batch["labels"].dtype == torch.float32


def test_any_callable_transforms(class_folders):
    photos = load_photos(class_folders).torch_dataset("train", lambda image: torch.tensor(np.asarray(image)).sum())
    assert photos[0]["pixel_values"].ndim == 0


def test_unlabelled_photos_of_a_folder(class_folders, image_processor):
    photos = list_photos(class_folders)
    assert len(photos) == 13 and photos[0]["image"]["path"].endswith("test/great_tit/0.png")
    hashed = PhotoDataset(photos, eval_transform(image_processor), label_column=None)
    assert set(hashed[0]) == {"pixel_values"}
    with pytest.raises(ValueError, match="no labels"):
        _ = hashed.labels


def test_masks_follow_the_pixels(draw, tmp_path, image_processor):
    """A mask of the picture's bright part stays on the bright part."""
    mask = np.zeros((80, 120), np.uint8)
    mask[30:50, 40:90] = 3
    Image.fromarray(mask * 80).convert("RGB").save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    photos = datasets.Dataset.from_dict(
        {"image": [str(tmp_path / "picture.png")], "parts": [str(tmp_path / "mask.png")]},
        features=datasets.Features(image=datasets.Image(decode=False), parts=datasets.Image()),
    )
    for table in (photos, photos.cast_column("parts", datasets.Image(decode=False))):
        item = PhotoDataset(table, eval_transform(image_processor), label_column=None, parts_column="parts")[0]
        bright = item["pixel_values"][0] > item["pixel_values"][0].mean()
        assert item["parts"].unique().tolist() == [0, 3]
        assert ((item["parts"] == 3) == bright).float().mean() > 0.98


def test_columns_and_transforms_that_do_not_fit_are_named(class_folders, image_processor):
    splits = load_photos(class_folders)
    transform = eval_transform(image_processor)
    with pytest.raises(ValueError, match="no column 'photo'"):
        PhotoDataset(splits.train, transform, image_column="photo")
    with pytest.raises(ValueError, match="decode=False"):
        PhotoDataset(splits.train.cast_column("image", datasets.Image()), transform)
    with pytest.raises(ValueError, match="'label' should be a `datasets.ClassLabel`"):
        PhotoDataset(splits.train.cast_column("label", datasets.Value("int64")), transform)
    with pytest.raises(ValueError, match="no split 'dev'"):
        splits.torch_dataset("dev", transform)
    with pytest.raises(ValueError, match="no split 'name'"):
        splits.torch_dataset("name", transform)
    with pytest.raises(ValueError, match="no part annotations"):
        splits.torch_dataset("query", transform, with_parts=True)


def test_parts_need_a_transform_that_carries_them(class_folders, image_processor):
    (class_folders / "parts.jsonl").write_text('{"file": "train/robin/0.png", "parts": {"beak": [3, 4]}}')
    splits = load_photos(class_folders)
    with pytest.raises(ValueError, match="eval_transform"):
        splits.torch_dataset("train", train_transform("paper", image_processor), with_parts=True)
    item = splits.torch_dataset("train", train_transform("paper", image_processor))[0]
    assert set(item) == {"pixel_values", "labels"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_gives_the_same_items(spoiled, image_processor, num_workers):
    splits = load_photos(spoiled)
    transform = eval_transform(image_processor)
    stream = StreamingPhotoDataset(splits.train.to_iterable_dataset(num_shards=3), transform, on_bad_image="skip")
    loader = DataLoader(stream, batch_size=3, num_workers=num_workers)
    assert sorted(rows_of(loader)) == sorted(
        label for row, label in enumerate(splits.train["label"][:]) if row not in (4, 7)
    )
    assert {image.path[-11:] for image in stream.report_bad_images()} == {"robin/2.png", "/wren/1.png"}
    with pytest.raises(BadImageError):
        list(StreamingPhotoDataset(splits.train.to_iterable_dataset(), transform))


def test_a_shuffled_stream_has_another_order_every_epoch(class_folders, image_processor):
    photos = load_photos(class_folders).train.to_iterable_dataset().shuffle(seed=0, buffer_size=9)
    stream = StreamingPhotoDataset(photos, lambda image: torch.tensor(np.asarray(image)).float().mean())
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append([float(item["pixel_values"]) for item in stream])
    assert orders[0] == orders[2] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_toy_birds(image_processor):
    splits = load_photos("toy_birds")
    assert splits.counts["train"] >= 20 * 20 and splits.counts["classes"] >= 20 and len(splits.part_names) >= 5
    item = splits.torch_dataset("query", eval_transform(image_processor), with_parts=True)[0]
    assert item["parts"].shape == (56, 56) and set(item["parts"].unique().tolist()) <= set(
        range(len(splits.part_names) + 1)
    )
    assert (item["parts"] > 0).float().mean() > 0.05


def test_every_kind_of_bad_picture_is_skipped_and_reported(tmp_path, draw, image_processor, own_cache):
    """In a table that lists each of them, a missing file too, among two good photos."""
    for row, (make, _) in enumerate(BAD.values()):
        make(tmp_path / f"bad{row}.jpg")
    rows = [f"bad{row}.jpg,{'wren' if row % 2 else 'robin'}" for row in range(len(BAD))]
    draw(tmp_path / "good.png")
    lines = ["image,label,split", *(f"{row},train" for row in rows)]
    lines += ["good.png,wren,train", "good.png,robin,train", "good.png,wren,test"]
    (tmp_path / "photos.csv").write_text("\n".join(lines))
    photos = load_photos(tmp_path / "photos.csv").torch_dataset(
        "train", eval_transform(image_processor), on_bad_image="skip"
    )
    assert rows_of(DataLoader(photos, batch_size=len(photos))) == [1, 0]
    bad = photos.report_bad_images()
    assert [image.row for image in bad] == list(range(len(BAD)))
    for image, (_, reason) in zip(bad, BAD.values(), strict=True):
        assert reason.lower() in image.reason.lower()


def test_processes_share_a_stream(class_folders, image_processor):
    photos = load_photos(class_folders).train
    numbered = photos.remove_columns("label").add_column(
        "label", list(range(9)), feature=datasets.ClassLabel(num_classes=9)
    )
    seen = []
    for rank in (0, 1):
        part = datasets.distributed.split_dataset_by_node(numbered.to_iterable_dataset(), rank=rank, world_size=2)
        seen.append(rows_of(DataLoader(StreamingPhotoDataset(part, eval_transform(image_processor)), batch_size=4)))
    assert sorted(seen[0] + seen[1]) == list(range(9)) and abs(len(seen[0]) - len(seen[1])) <= 1


def test_splits_shuffle_a_stream_when_asked(class_folders, image_processor):
    splits = load_photos(class_folders)
    stream = dataclasses.replace(splits, train=splits.train.to_iterable_dataset(), database=None)
    assert stream.streaming and stream.database is stream.train
    transform = eval_transform(image_processor)
    plain = [item["labels"] for item in stream.torch_dataset("train", transform)]
    shuffled = [item["labels"] for item in stream.torch_dataset("train", transform, shuffle_seed=1)]
    assert plain == splits.train["label"][:] != shuffled and sorted(plain) == sorted(shuffled)
