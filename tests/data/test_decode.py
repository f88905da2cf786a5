"""Every kind of picture, bad ones too, and what is made of it."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, ImageOps

from concepthash_hf.data import BadImageError, decode_image

from .conftest import picture


def pixels(image) -> np.ndarray:
    decoded = decode_image(image)
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


def reference(path) -> np.ndarray:
    """What PIL's documentation tells one to do."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation, suffix):
    path = tmp_path / f"rotated.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(path, exif=exif)
    assert np.array_equal(pixels(path), reference(path))
    if suffix == "png":  # lossless: undoing by hand gives the drawn picture's size and corner
        assert pixels(path).shape == ((40, 30, 3) if orientation >= 5 else (30, 40, 3))


def test_a_rotation_in_xmp_alone_is_undone(tmp_path):
    path = tmp_path / "rotated.jpg"
    picture().save(path, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    assert pixels(path).shape == (40, 30, 3) and np.array_equal(pixels(path), reference(path))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "1"])
def test_a_turned_tiff_is_read_as_its_bytes_are(tmp_path, mode, compression):
    """PIL maps uncompressed ones into memory with the sides swapped, if it is given their path."""
    path = tmp_path / "turned.tif"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().convert(mode).save(path, exif=exif, compression=compression)
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        expected = np.asarray(decode_image(ImageOps.exif_transpose(image)))
    assert expected.shape == (40, 30, 3) and np.array_equal(pixels(path), expected)


@pytest.mark.parametrize(
    ("suffix", "draft", "size"),
    [
        ("jpg", 256, (800, 600)),  # a half has 600, a quarter 300 of the 512 pixels wanted
        ("jpg", 150, (400, 300)),
        ("jpg", 20, (200, 150)),
        ("jpg", 301, (1600, 1200)),
        ("jpg", None, (1600, 1200)),
        ("png", 20, (1600, 1200)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_has_twice_the_pixels_that_are_wanted(tmp_path, suffix, draft, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(width=1600, height=1200).save(path := tmp_path / f"large.{suffix}", exif=exif)
    drafted = decode_image(path, draft=draft)
    assert drafted.size == (size if orientation == 1 else size[::-1])
    small = (draft or 100, draft or 100)
    resized, expected = (np.asarray(decoded.resize(small), int) for decoded in (drafted, decode_image(path)))
    assert np.abs(resized - expected).max() <= 4 and np.abs(resized - expected).mean() < 0.5


def test_a_draft_of_what_is_in_memory_is_all_of_it():
    assert decode_image(picture(width=1600, height=1200), draft=20).size == (1600, 1200)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("CMYK", "jpg"), ("CMYK", "tif"), ("L", "jpg"), ("L", "png"), ("1", "png"), ("YCbCr", "jpg"), ("RGB", "bmp")],
)
def test_colour_spaces_equal_the_reference(tmp_path, mode, suffix):
    path = tmp_path / f"picture.{suffix}"
    picture().convert(mode).save(path)
    assert np.array_equal(pixels(path), reference(path))
    assert pixels(path).std() > 20


def test_palette_equals_the_reference(tmp_path):
    path = tmp_path / "palette.png"
    picture().quantize(64).save(path)
    assert Image.open(path).mode == "P"
    assert np.array_equal(pixels(path), reference(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_composited_over_white(tmp_path, mode):
    path = tmp_path / "alpha.png"
    rgba = picture().convert("RGBA")
    rgba.putalpha(Image.fromarray(np.linspace(0, 255, 30 * 40).reshape(30, 40).astype(np.uint8)))
    (rgba.quantize(64) if mode == "P" else rgba.convert(mode)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
        straight = np.asarray(stored.convert("RGBA")).astype(float)
    alpha = straight[..., 3:] / 255
    expected = straight[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(path) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_alpha_of_pictures_in_memory(mode):
    colours = {"RGBa": picture(), "La": picture().convert("L"), "PA": picture().quantize(64)}[mode]
    held = colours.convert(mode.upper())
    held.putalpha(128)
    held = held.convert(mode)
    assert held.mode == mode
    expected = np.asarray(colours.convert("RGB"), float) * 128 / 255 + 127
    assert np.abs(pixels(held) - expected).max() <= 2


def test_black_on_transparent_does_not_become_black():
    logo = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    logo.putpixel((3, 3), (0, 0, 0, 255))
    values = pixels(logo)
    assert values[3, 3].tolist() == [0, 0, 0] and (values.reshape(-1, 3).max(-1) == 255).sum() == 63


def test_transparent_colour_of_an_rgb_png_is_white(tmp_path):
    path = tmp_path / "trns.png"
    Image.new("RGB", (4, 4), (1, 2, 3)).save(path, transparency=(1, 2, 3))
    assert (pixels(path) == 255).all()


def test_sixteen_bit_grey_keeps_the_high_byte(tmp_path):
    path = tmp_path / "deep.png"
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(path)
    assert np.array_equal(pixels(path)[..., 0], values >> 8)  # PIL's own convert clips at 255: a white picture


def test_sixteen_bit_pgm(tmp_path):
    values = np.linspace(0, 65535, 256).astype(">u2").reshape(16, 16)
    path = tmp_path / "deep.pgm"
    path.write_bytes(b"P5 16 16 65535\n" + values.tobytes())
    assert np.array_equal(pixels(path)[..., 1], values >> 8)


def test_animation_gives_its_first_frame(tmp_path):
    path = tmp_path / "animated.gif"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (pixels(path) == [255, 0, 0]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1), (3, 50)])
def test_slivers_are_accepted(image_processor, size):
    from concepthash_hf.data import eval_transform, train_transform

    sliver = decode_image(Image.new("RGB", size, "teal"))
    for transform in (eval_transform(image_processor), train_transform("paper", image_processor)):
        values = transform(sliver)
        assert values.shape == (3, 56, 56) and values.std((1, 2)).max() < 1e-3  # teal all over, nothing padded


def truncated(path):
    picture(width=300, height=300).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


def bomb(path):
    Image.new("1", (20_000, 20_000)).save(path, "PNG")


BAD = {
    "truncated": (truncated, "truncated"),
    "zero byte": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "not a picture": (lambda path: path.write_text("hello"), "not a picture"),
    "decompression bomb": (bomb, "decompression bomb"),
    "missing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "directory"),
    "broken link": (lambda path: path.symlink_to(path.parent / "gone.jpg"), "no such file"),
    "32 bits a channel": (lambda path: Image.new("F", (8, 8), 0.5).save(path, "TIFF"), "32 bits"),
    "sliver": (lambda path: Image.new("RGB", (1, 101)).save(path, "PNG"), "more elongated than 100 : 1"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_pictures_name_file_row_and_reason(tmp_path, kind):
    path = tmp_path / "bad.jpg"
    make, reason = BAD[kind]
    make(path)
    with pytest.raises(BadImageError) as caught:
        decode_image({"path": str(path), "bytes": None}, row=7)
    assert caught.value.path == str(path) and caught.value.row == 7
    assert str(path) in str(caught.value) and "row 7" in str(caught.value)
    assert reason.lower() in caught.value.reason.lower()
    again = pickle.loads(pickle.dumps(caught.value))  # as a DataLoader worker sends it
    assert str(again) == str(caught.value)
    assert (again.path, again.reason, again.row) == (caught.value.path, caught.value.reason, 7)


def test_raw_files_are_refused_though_a_thumbnail_is_in_them(tmp_path):
    picture().save(tmp_path / "photo.tif")
    raw = (tmp_path / "photo.tif").rename(tmp_path / "photo.NEF")
    with pytest.raises(BadImageError, match="a raw file of a camera"):
        decode_image(raw)


def test_bomb_limit_is_pil_s_own(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    picture(width=100, height=100).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6_000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadImageError, match="100 x 100 pixels"):
        decode_image(path)
    for enough in (10_000, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", enough)
        assert decode_image(path).size == (100, 100)


def test_bytes_paths_and_pictures_give_the_same(tmp_path):
    path = tmp_path / "picture.png"
    picture().save(path)
    data = path.read_bytes()
    forms = [
        path,
        str(path),
        data,
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
        Image.open(path),
        f"file://{path}",
    ]
    assert all(np.array_equal(pixels(form), pixels(path)) for form in forms)


def test_embedded_bytes_are_named_in_errors():
    with pytest.raises(BadImageError, match=r"5 bytes in the dataset\) \(row 2\)"):
        decode_image({"bytes": b"hello", "path": None}, row=2)
    with pytest.raises(BadImageError, match=r"picture wren\.jpg \(row 2\)"):
        decode_image({"bytes": b"hello", "path": "wren.jpg"}, row=2)
    with pytest.raises(BadImageError, match="no picture"):
        decode_image({"bytes": None, "path": None})
    with pytest.raises(TypeError, match="got int"):
        decode_image(3)


def test_truncated_bytes_are_never_a_grey_half():
    buffer = io.BytesIO()
    picture(width=300, height=300).save(buffer, "JPEG")
    for cut in (2, 100, 700, 2000):
        with pytest.raises(BadImageError):
            decode_image(buffer.getvalue()[:cut])
