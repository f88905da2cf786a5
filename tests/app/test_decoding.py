"""Pictures from strangers."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from concepthash_hf.app import decoding
from concepthash_hf.app.decoding import read_upload


def encoded(picture: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A file of a few bytes that promises any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "avif"])
def test_photos_of_all_usual_kinds(kind, tmp_path):
    data = encoded(Image.new("RGB", (30, 20), (200, 0, 0)), kind)
    (tmp_path / "photo").write_bytes(data)
    for given in (data, tmp_path / "photo", str(tmp_path / "photo")):
        photo = read_upload(given)
        assert photo.mode == "RGB" and photo.size == (30, 20)
        assert np.abs(np.asarray(photo, int) - [200, 0, 0]).max() < 12


def test_a_phone_photo_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_upload(encoded(Image.new("RGB", (30, 20)), "jpeg", exif=exif)).size == (20, 30)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "not a photo that can be read"),
        (b"GIF89a", "not a photo that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not a photo that can be read"),
        (encoded(Image.effect_noise((99, 99), 50), "jpeg")[:700], "cannot be read"),
        (png_header(100_000, 100_000), "too many pixels|x 100000 pixels"),
        (png_header(8_000, 8_000), "8000 x 8000 pixels; at most 50,000,000"),
        (encoded(Image.new("RGB", (2, 900))), "more elongated than"),
    ],
)
def test_what_is_refused(data, error):
    with pytest.raises(ValueError, match=error):
        read_upload(data)


def test_large_files_are_not_opened(monkeypatch, tmp_path):
    monkeypatch.setattr(decoding, "MOST_BYTES", 2**20)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(3 * 2**20)
    for given in (bytes(3 * 2**20), tmp_path / "large"):
        with pytest.raises(ValueError, match="a photo of 3 MB; at most 1 MB are taken"):
            read_upload(given)
