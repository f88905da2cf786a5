"""examples/search.py, as its users run it."""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from bird_photos import NAMES, save_untrained, write_photos
from PIL import Image
from transformers import AutoImageProcessor

from concepthash_hf import ConceptHashModel
from concepthash_hf.codes import sub_code_distances
from concepthash_hf.data import decode_image, eval_transform
from concepthash_hf.data.collection import load_collection
from concepthash_hf.encoding import add_codes, code_spec, encode_collection
from concepthash_hf.index import HammingIndex

SCRIPT = Path(__file__).parents[2] / "examples" / "search.py"


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("birds") / "photos", 4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture(scope="module")
def index_folder(tmp_path_factory, birds, saved):
    folder = tmp_path_factory.mktemp("codes")
    model = ConceptHashModel.from_pretrained(saved)
    transform = eval_transform(AutoImageProcessor.from_pretrained(saved))
    encode_collection(model, load_collection(birds), transform, folder)
    index = HammingIndex(code_spec(model))
    add_codes(index, folder)
    index.save(folder / "index")
    return folder / "index"


@pytest.fixture
def run(run_script, saved, index_folder):
    def script(*words, model=saved, index=index_folder):
        return run_script(SCRIPT, "--model", model, "--index", index, *words)

    return script


def hits_in(printed: str) -> list[list[str]]:
    """Per hit: rank, distance, distances by concept, the rest."""
    return [line.split() for line in printed.splitlines() if line.startswith(" ") and line.split()[0].isdigit()]


def distances_to(saved, index_folder, code) -> dict[str, np.ndarray]:
    """Every item's distance by concept, measured without an index."""
    index = HammingIndex.load(index_folder)
    per_concept = sub_code_distances(code, index.get_codes(index.ids), 12, 3)
    return dict(zip(index.ids.tolist(), per_concept, strict=True))


def check_hits(hits: list[list[str]], truth: dict[str, np.ndarray], weights=(1, 1, 1)) -> None:
    measured = {id: float(per_concept @ np.array(weights)) for id, per_concept in truth.items()}
    assert [int(hit[0]) for hit in hits] == list(range(1, len(hits) + 1))
    assert [float(hit[1]) for hit in hits] == sorted(measured.values())[: len(hits)]
    for hit in hits:
        id = hit[-1].strip("()")
        assert float(hit[1]) == measured[id]
        assert list(map(int, hit[2:5])) == truth[id].tolist()
        assert " ".join(hit[5:-1]) == id.split("/")[0].replace("_", " ")


def test_a_photo(run, saved, birds, index_folder, tmp_path):
    photo = birds / NAMES[2] / "1.png"
    printed = run("--images", photo, "-k", 7)
    transform = eval_transform(AutoImageProcessor.from_pretrained(saved))
    pixel_values = transform(decode_image(photo))[None]
    code = ConceptHashModel.from_pretrained(saved).get_hash_codes(pixel_values).numpy()
    hits = hits_in(printed)
    assert len(hits) == 7
    check_hits(hits, distances_to(saved, index_folder, code))
    assert np.asarray(Image.open(tmp_path / "search.png")).std() > 20


def test_words_also_new_ones_and_a_photo(run, saved, birds, index_folder, tmp_path):
    words = [NAMES[0].replace("_", " "), "spotted owl of the night"]
    printed = run("--text", *words, "--images", birds / NAMES[2] / "1.png", "--output", "found.png")
    found, *blocks = printed.split("\n\n")
    assert found == f"20 photos in {index_folder}"
    assert [block.splitlines()[0] for block in blocks[:3]] == ["1.png", *words]
    assert all(len(hits_in(block)) == 10 for block in blocks[:3])
    model = ConceptHashModel.from_pretrained(saved)
    check_hits(
        hits_in(blocks[1]),
        distances_to(saved, index_folder, model.get_text_hash_codes(model.class_embeddings[:1]).numpy()),
    )
    assert (tmp_path / "found.png").is_file() and not (tmp_path / "search.png").exists()


def test_some_concepts(run, saved, birds, index_folder):
    photo = birds / NAMES[2] / "1.png"
    transform = eval_transform(AutoImageProcessor.from_pretrained(saved))
    code = ConceptHashModel.from_pretrained(saved).get_hash_codes(transform(decode_image(photo))[None]).numpy()
    printed = run("--images", photo, "--concepts", "1", "3=0.5")
    check_hits(hits_in(printed), distances_to(saved, index_folder, code), weights=(1, 0, 0.5))


def test_a_small_index_gives_all_it_has(run):
    assert len(hits_in(run("--text", "owl", "-k", 1000))) == 20


def test_photos_are_shown_from_where_the_user_says(run, birds, tmp_path):
    assert "say with --dataset where they are" in run("--text", "owl", "--output", "without.png")
    assert "--dataset" not in run("--text", "owl", "--output", "with.png", "--dataset", birds)
    moved = birds.rename(birds.with_name("moved"))
    try:
        assert "--dataset" not in run("--text", "owl", "--output", "moved.png", "--dataset", moved)
    finally:
        moved.rename(birds)
    without, found, again = (pixels(tmp_path / name) for name in ("without.png", "with.png", "moved.png"))
    assert without.shape == found.shape and np.abs(found - without).mean() > 20
    np.testing.assert_array_equal(again, found)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path), int)


def test_nothing_is_opened_that_an_index_names(run, saved, birds, tmp_path):
    """Addresses, pipes, files elsewhere and links to them, as ids and as paths, with and without `--dataset`."""
    private = tmp_path / "private.png"
    Image.new("RGB", (32, 32), (255, 0, 255)).save(private)
    folder = tmp_path / "photos"
    shutil.copytree(birds, folder)
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(private)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"
        names = [
            address,
            f"simplecache::{address}",
            str(private),
            "../private.png",
            "pipe.png",
            "link.png",
            "\0",
            "\x1b[2Jx",
        ]
        index = HammingIndex(code_spec(ConceptHashModel.from_pretrained(saved)))
        index.add(
            np.zeros((len(names), 2), np.uint8), names, {"path": names, "label": ["\x1b]0;owned\x07"] * len(names)}
        )
        index.save(tmp_path / "index")
        for options in ([], ["--dataset", folder]):
            printed = run("--text", "owl", *options, index=tmp_path / "index")
            assert len(hits_in(printed)) == len(names)
            assert "\x1b" not in printed and "\\x1b[2Jx" in printed
            colours = pixels(tmp_path / "search.png").reshape(-1, 3)
            assert not (colours == (255, 0, 255)).all(axis=1).any()
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: give photos as --images or words as --text"),
        (["--images", "nowhere.jpg"], "error: unreadable picture nowhere.jpg: no such file"),
        (
            ["--text", "owl", "--concepts", "4"],
            "error: --concepts takes numbers from 1 to 3, or such as 2=0.5; got '4'",
        ),
        (["--text", "owl", "--concepts", "beak"], "got 'beak'"),
        (["--text", "owl", "--concepts", "1=heavy"], "got '1=heavy'"),
        (["--text", "owl", "--concepts", "1=-2"], "error: concept_weights are finite, not negative"),
        (["--text", "owl", "-k", "0"], "error: k is a number of items from 1"),
    ],
)
def test_mistakes(run, words, message):
    with pytest.raises(SystemExit, match=message):
        run(*words)


def test_codes_of_another_model(run, tmp_path):
    other = save_untrained(tmp_path / "other", seed=1)
    with pytest.raises(SystemExit, match="error: the codes of this index were made by untrained"):
        run("--text", "owl", model=other)


def test_a_model_without_words(run, saved, birds, index_folder, tmp_path):
    model = ConceptHashModel.from_pretrained(saved)
    model.text_model = None
    model.config.text_config = None
    model.save_pretrained(tmp_path / "mute")
    AutoImageProcessor.from_pretrained(saved).save_pretrained(tmp_path / "mute")
    with pytest.raises(SystemExit, match="error: .*mute reads no words: it was saved without its text tower"):
        run("--text", "owl", model=tmp_path / "mute")
    assert len(hits_in(run("--images", birds / NAMES[2] / "1.png", model=tmp_path / "mute"))) == 10


@pytest.mark.parametrize(
    ("ids", "metadata", "written"),
    [
        ([5, 0, 9], {"label": [0, 1, 0]}, {"0 (5)", "1 (0)", "0 (9)"}),
        ([5, 0, 9], None, {"5", "0", "9"}),
        (["a/x.png", "y", "z"], {"label": ["", None, "wren"], "path": [None, "gone.png", "z"]}, None),
        (["a", "b", "c"], {"label": [["red", "small"], [], ["red"]], "path": [1, 2, 3]}, None),
    ],
)
def test_an_index_of_ones_own(run, tmp_path, ids, metadata, written):
    """Of codes from anywhere: no model named, labels that are numbers or missing, paths that are none."""
    codes = np.array([[0, 0], [255, 240], [15, 0]], np.uint8)
    HammingIndex.from_codes(codes, ids, num_bits=12, num_concepts=3, metadata=metadata).save(tmp_path / "own")
    printed = run("--text", "owl", index=tmp_path / "own")
    found = {" ".join(hit[5:]) for hit in hits_in(printed)}
    assert len(found) == 3 and (written is None or found == written)
    assert np.asarray(Image.open(tmp_path / "search.png")).std() > 5


def test_words_that_the_model_cannot_tell_apart(run, caplog):
    run("--text", "Spotted Owl", "spotted owl", NAMES[0])
    assert "these names are one and the same to the text model: 'Spotted Owl' = 'spotted owl'" in caplog.text
    caplog.clear()
    run("--text", *NAMES[:2])
    assert not caplog.text


def test_no_such_index(run):
    with pytest.raises(SystemExit, match="error: "):
        run("--text", "owl", index="./nowhere")
