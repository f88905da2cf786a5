"""Only photos of the collection leave the house, small."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from bird_photos import NAMES, write_photos
from PIL import Image

from concepthash_hf.app.photos import THUMBNAIL, ServedPhotos
from concepthash_hf.index import HammingIndex
from concepthash_hf.photo_index import PhotoIndex, Source


@pytest.fixture
def birds(tmp_path) -> Path:
    return write_photos(tmp_path / "birds", 2)


def test_thumbnails_are_made_once_and_anew_for_another_photo(hasher, birds, tmp_path):
    photos, id = ServedPhotos(hasher.index(birds), tmp_path / "cache"), f"{NAMES[0]}/0.png"
    assert not (tmp_path / "cache").exists()
    small = photos.thumbnail(id)
    assert small.is_relative_to(tmp_path / "cache")
    with Image.open(small) as picture:
        assert picture.format == "JPEG" and picture.size == (THUMBNAIL, THUMBNAIL)
    made = small.stat().st_mtime_ns
    assert photos.thumbnail(id) == small and small.stat().st_mtime_ns == made
    shutil.copy(birds / NAMES[4] / "0.png", birds / NAMES[0] / "0.png")
    os.utime(birds / NAMES[0] / "0.png", ns=(1, 1))
    assert photos.thumbnail(id) != small


def foreign_paths(tmp_path: Path, birds: Path) -> dict[str, str]:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (40, 40), (255, 0, 0)).save(secret)
    (birds / "link.png").symlink_to(secret)
    (birds / "folder").symlink_to(tmp_path)
    os.mkfifo(birds / "pipe.png")
    return {
        "upwards": "../secret.png",
        "upwards from within": f"{NAMES[0]}/../../secret.png",
        "absolute": str(secret),
        "link": "link.png",
        "link of a folder": "folder/secret.png",
        "pipe": "pipe.png",
        "a folder": NAMES[0],
        "nothing": "nothing.png",
        "NUL": "a\0b",
        "URL": "file://" + str(secret),
    }


@pytest.mark.parametrize("is_foreign", [True, False])
def test_what_an_index_names_outside_of_the_collection_is_not_shown(hasher, birds, tmp_path, is_foreign):
    paths = foreign_paths(tmp_path, birds)
    assert Image.open(birds / paths["link"]).size == (40, 40), "the way is open"
    ids = [*paths, "own"]
    codes = np.zeros((len(ids), 2), np.uint8)
    rows = [{"path": path} for path in [*paths.values(), f"{NAMES[0]}/0.png"]]
    index = HammingIndex.from_codes(codes, ids, num_bits=12, num_concepts=3, metadata=rows)
    source = Source(hasher.name_or_path, {}, str(birds))
    photos = ServedPhotos(PhotoIndex(hasher, index, source, is_foreign=is_foreign), tmp_path / "cache")
    assert photos.photo("own").size == (32, 32)
    for id in paths:
        with pytest.raises(FileNotFoundError, match="in the folder of the collection"):
            photos.thumbnail(id)
    with pytest.raises(ValueError, match="not in the index"):
        photos.thumbnail("../secret.png")


def test_an_index_without_a_folder_shows_nothing(hasher, birds, tmp_path):
    index = hasher.index([birds / NAMES[0] / "0.png"])
    photos = ServedPhotos(index, tmp_path / "cache")
    with pytest.raises(FileNotFoundError):
        photos.photo(index.codes.ids[0])
