"""A table of a stranger opens what lies beside it and in it, and nothing else."""

import os
import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from concepthash_hf.data import PhotoDataset, decode_image, eval_transform, load_collection, load_photos
from concepthash_hf.data.decode import BadImageError, decode_mask
from concepthash_hf.data.places import Places, hub_places

pytestmark = pytest.mark.usefixtures("own_cache")

LABELS = ["robin", "wren", "robin", "wren", "wren", "robin"]
SPLITS = ["train", "train", "train", "train", "test", "train"]


@pytest.fixture
def folder(tmp_path, draw):
    """A stranger's folder; `private.png` lies beside it."""
    draw(tmp_path / "private.png", seed=99)
    for number in range(len(LABELS)):
        draw(tmp_path / "theirs" / "a" / f"{number}.png", seed=number)
    (tmp_path / "theirs" / "link.png").symlink_to(tmp_path / "private.png")
    (tmp_path / "theirs" / "up").symlink_to(tmp_path)
    return tmp_path / "theirs"


@pytest.fixture
def server(folder):
    """Serves the private picture, and notes who asks."""
    asked = []

    class Noting(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Noting, directory=folder.parent))
    Thread(target=served.serve_forever, daemon=True).start()
    served.address, served.asked = f"http://127.0.0.1:{served.server_port}/private.png", asked
    yield served
    served.shutdown()
    served.server_close()


def paths_with(last):
    return [f"a/{number}.png" for number in range(len(LABELS) - 1)] + [last]


def table_with(last):
    return pd.DataFrame({"image": paths_with(last), "label": LABELS, "split": SPLITS})


def write_csv(folder, last):
    table_with(last).to_csv(folder / "photos.csv", index=False)
    return folder / "photos.csv"


def write_json_lines(folder, last):
    table_with(last).to_json(folder / "photos.jsonl", orient="records", lines=True)
    return folder / "photos.jsonl"


def write_parquet_of_paths(folder, last):
    table_with(last).to_parquet(folder / "photos.parquet")
    return folder / "photos.parquet"


def write_parquet_of_pictures(folder, last):
    table = table_with(last)
    inside = [{"bytes": (folder / path).read_bytes(), "path": path} for path in table["image"][:-1]]
    table["image"] = [*inside, {"bytes": None, "path": last}]
    table.to_parquet(folder / "photos.parquet")
    return folder / "photos.parquet"


def write_saved(folder, last):
    file = write_parquet_of_pictures(folder, last)
    datasets.Dataset.from_pandas(pd.read_parquet(file)).save_to_disk(folder / "saved")
    return folder / "saved"


def write_parts_of_a_dataset(folder, last):
    file = write_parquet_of_pictures(folder, last)
    (folder / "hub" / "data").mkdir(parents=True)
    file.rename(folder / "hub" / "data" / "train-00000-of-00001.parquet")
    return folder / "hub"


def write_index_files(folder, last):
    rows = [f"{path} {LABELS[number] == 'wren':d}" for number, path in enumerate(paths_with(last))]
    (folder / "train.txt").write_text("\n".join(rows))
    (folder / "test.txt").write_text("\n".join(rows[:2]))
    return folder


TABLES = [write_csv, write_json_lines, write_parquet_of_paths, write_parquet_of_pictures]
WRITERS = [*TABLES, write_saved, write_parts_of_a_dataset]


def read_all(splits, image_processor):
    for split in ("train", "query"):
        list(DataLoader(splits.torch_dataset(split, eval_transform(image_processor)), batch_size=4))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_no_address_of_a_table_is_fetched(folder, server, write, chain):
    given = write(folder, chain + server.address)
    row = 5 if write is write_parts_of_a_dataset else 4  # without the one to ask with, which comes before it
    message = (
        rf", train, row {row}: the picture '{chain}{server.address}' is an address in a table, which is not fetched"
    )
    for load in (load_photos, load_collection):
        with pytest.raises(ValueError, match=message):
            load(given)
    assert server.asked == []


@pytest.mark.parametrize("write", TABLES)
def test_a_stream_fetches_no_address(folder, server, write):
    splits = load_photos(write(folder, server.address), streaming=True, class_names=["robin", "wren"])
    for photos in (splits.train, pickle.loads(pickle.dumps(splits.train))):  # as it comes to workers that are spawned
        with pytest.raises(ValueError, match="an address in a table, which is not fetched"):
            list(photos)
    assert server.asked == []


def test_index_files_have_no_addresses(folder, server, image_processor):
    with pytest.raises(BadImageError, match="no such file"):
        read_all(load_photos(write_index_files(folder, server.address)), image_processor)
    assert server.asked == []


@pytest.mark.parametrize("streaming", [False, True])
def test_other_columns_of_pictures_are_left_alone(folder, server, image_processor, streaming):
    elsewhere = [{"bytes": None, "path": server.address}] * len(LABELS)
    columns = table_with("a/5.png").to_dict("list") | {"mask": elsewhere, "more": [[one] for one in elsewhere]}
    columns["image"] = [{"bytes": (folder / path).read_bytes(), "path": path} for path in columns["image"]]
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["robin", "wren"]),
        split=datasets.Value("string"),
        mask=datasets.Image(),
        more=datasets.List(datasets.Image()),
    )
    table = datasets.Dataset.from_dict(columns, features=features).with_format("arrow")[:]
    pq.write_table(table.replace_schema_metadata(features.arrow_schema.metadata), folder / "photos.parquet")
    splits = load_photos(folder / "photos.parquet", streaming=streaming)
    read_all(splits, image_processor)
    row = next(iter(splits.train))
    assert row["mask"]["path"] == row["more"][0]["path"] == server.address
    if not streaming:
        assert len(load_collection(folder / "photos.parquet")) == len(LABELS)
    assert server.asked == []


@pytest.mark.parametrize("write", [*WRITERS, write_index_files])
@pytest.mark.parametrize(
    "place", ["{0}/private.png", "../private.png", "../theirs-too/a.png", "link.png", "up/private.png"]
)
def test_no_file_elsewhere_is_opened(folder, write, place):
    if write in (write_saved, write_parts_of_a_dataset):  # whose paths are those of the working directory
        place = str(folder / place)
    given = write(folder, place.format(folder.parent))
    for load in (load_photos, load_collection):
        with pytest.raises(ValueError, match=r"is not below .*, and is not opened.*data_dir="):
            load(given)


def test_a_name_that_no_folder_can_have(folder):
    with pytest.raises(ValueError, match=r"is not below .*, and is not opened"):
        load_photos(write_json_lines(folder, "a\0b/0.png"))


def test_the_folder_of_the_pictures_can_be_said(folder, image_processor):
    file = write_csv(folder, str(folder.parent / "private.png"))
    splits = load_photos(file, data_dir=str(folder.parent))
    read_all(splits, image_processor)
    assert len(splits.train) + len(splits.query) == len(LABELS)
    assert "private.png" in load_collection(file, data_dir=str(folder.parent)).ids
    linked = write_csv(folder, "link.png")
    assert "link.png" in load_collection(linked, follow_symlinks=True).ids


def test_pictures_of_a_row_are_not_fetched_and_own_addresses_are(folder, server, image_processor):
    own = decode_image(server.address)
    np.testing.assert_array_equal(np.asarray(own), np.asarray(decode_image(folder.parent / "private.png")))
    assert server.asked
    server.asked.clear()
    row = {"bytes": None, "path": server.address}
    with pytest.raises(BadImageError, match=r"\(row 3\): an address in a table"):
        decode_image(row, row=3)
    columns = {"image": [{"bytes": (folder / "a" / "0.png").read_bytes(), "path": None}], "parts": [row]}
    plain = datasets.Image(decode=False)
    photos = datasets.Dataset.from_dict(columns, features=datasets.Features(image=plain, parts=plain))
    transform = eval_transform(image_processor)
    with pytest.raises(BadImageError, match="an address in a table"):
        PhotoDataset(photos, transform, label_column=None, parts_column="parts")[0]
    assert server.asked == []


def test_pipes_are_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(BadImageError, match="a pipe or device"):
        decode_image(folder / "pipe.png")
    with pytest.raises(BadImageError, match="a pipe or device"):
        decode_image({"bytes": None, "path": str(folder / "pipe.png")})


HUB = "hf://datasets/org/birds@main/owl.jpg"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (HUB, True),
        (f"zip://a/owl.jpg::{HUB[:-7]}owls.zip", True),
        ("hf://datasets/org/birds-of-others@main/owl.jpg", False),
        ("hf://datasets/me/private/owl.jpg", False),
        (f"file:///etc/owl.jpg::{HUB}", False),
        (f"http://127.0.0.1/{HUB}", False),
        (f"zip://a::http://127.0.0.1/x.zip::{HUB}", False),
        (f"{HUB}::http://127.0.0.1/x", False),
    ],
)
def test_of_the_hub_only_files_of_the_dataset_itself(path, allowed):
    photos = datasets.Dataset.from_dict({"image": [path]}, datasets.Features(image=datasets.Image(decode=False)))
    if allowed:
        hub_places("org/birds").check(photos, "image", "org/birds")
    else:
        with pytest.raises(ValueError, match="an address in a table"):
            hub_places("org/birds").check(photos, "image", "org/birds")
    with pytest.raises(ValueError, match="an address in a table"):
        Places("photos").check(photos, "image", "photos")


def test_masks_keep_their_values(folder):
    """A mask of numbers is no colour picture."""
    values = np.arange(200, dtype=np.uint8).reshape(10, 20)
    Image.fromarray(values).save(folder / "mask.png")
    np.testing.assert_array_equal(np.asarray(decode_mask({"bytes": None, "path": str(folder / "mask.png")})), values)
