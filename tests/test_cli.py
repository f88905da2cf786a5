"""The command `concepthash`, as people type it."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from configparser import ConfigParser
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
from bird_photos import NAMES, save_untrained, write_photos
from hub_server import TOKEN, HubServer
from PIL import Image
from runs import forget_accelerate
from test_hasher import phone_photo

import concepthash_hf.data.load
from concepthash_hf import ConceptHasher, ConceptHashModel
from concepthash_hf.data.toy_birds import toy_birds
from concepthash_hf.hasher import open_photo_index
from concepthash_hf.index import HammingIndex
from concepthash_hf.scripts.encode import main as encode
from concepthash_hf.toy_clip import save_toy_clip

COMMANDS = "demo photos train index search explain report evaluate duplicates serve export push".split()
ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "faiss", "scipy")


def concepthash(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "concepthash_hf", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )


@pytest.fixture
def typed(monkeypatch, tmp_path, capsys):
    """Runs a command in this process, which has torch already; gives its lines."""
    from concepthash_hf.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object, status: int = 0) -> list[str]:
        forget_accelerate()  # a command is a process of its own
        monkeypatch.setattr(sys, "argv", ["concepthash", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed, code = capsys.readouterr(), ended.value.code or 0
        error, code = (code, 1) if isinstance(code, str) else (printed.err, code)
        assert code == status, error
        return (printed.out if status == 0 else error).splitlines()

    return run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture
def birds(tmp_path):
    return write_photos(tmp_path / "birds", 4)


def test_it_is_installed_under_its_name():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    module, function = setup["options.entry_points"]["console_scripts"].strip().partition("= ")[2].split(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_help_teaches_and_imports_nothing_heavy():
    """Measured in what is imported: that is what takes the time, on any machine."""
    code = f"""
import sys
from concepthash_hf.cli import main
for words in [["--help"]] + [[name, "--help"] for name in {COMMANDS}]:
    sys.argv = ["concepthash", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
assert not [name for name in {HEAVY} if name in sys.modules]
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Example: concepthash") == len(COMMANDS)


def test_codes_and_index_do_without_torch(tmp_path):
    """Where there is none: importing it fails."""
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import datasets
import numpy as np
from concepthash_hf import codes
from concepthash_hf.index import HammingIndex, near_duplicates, open_index
packed = codes.pack_bits(np.eye(8, dtype=np.uint8))
index = HammingIndex.from_codes(packed, num_bits=8, num_concepts=2)
assert index.search(packed[:1], 2).distances.tolist() == [[0, 2]]
index.save(sys.argv[1])
assert open_index(sys.argv[1]).search(packed[:1], 2, {0: 1}).distances.tolist() == [[0, 1]]
assert codes.hamming_distance(packed[0], packed[1]) == 2
assert near_duplicates(packed, 1, 8) == []
"""
    command = [sys.executable, "-c", code, str(tmp_path / "index")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("first", ["transformers", "concepthash_hf"])
def test_auto_classes_know_the_models_whoever_is_imported_first(saved, first):
    second = {"transformers": "concepthash_hf", "concepthash_hf": "transformers"}[first]
    code = f"""
import {first}, {second}
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor
assert type(AutoConfig.from_pretrained({str(saved)!r})).__name__ == "ConceptHashConfig"
assert type(AutoModel.from_pretrained({str(saved)!r})).__name__ == "ConceptHashModel"
assert type(AutoImageProcessor.from_pretrained({str(saved)!r})).__name__ == "CLIPImageProcessor"
assert type(AutoProcessor.from_pretrained({str(saved)!r})).__name__ == "CLIPImageProcessor"
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_wrong_call_is_a_line_and_a_hint(typed, birds):
    birds.rename(birds.with_name("birds.v2"))
    assert "no index in outputs/index-birds.v2 yet" in typed("index", "birds.v2", status=2)[-1]
    birds.with_name("birds.v2").rename(birds)
    assert typed("index", status=2)[-1] == "Error: Missing argument 'PHOTOS'."
    assert "there is no index in outputs/index-birds yet" in typed("index", birds, status=2)[-1]
    assert "Missing option '--index'" in typed("search", "owl", status=2)[-1]
    assert "unrecognized arguments: --colour red" in typed("photos", birds, "--colour", "red", status=2)[-1]
    assert typed("photos", "no/such/photos", status=1)[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train birds --nun_bits 32", r"unrecognized arguments: --nun_bits 32 \(did you mean --num_bits\?\)"),
        ("train --nun_bits 32", r"--nun_bits 32 \(did you mean --num_bits"),
        ("train birds others", r"unrecognized arguments: others \(photos are named once, before the options\)"),
        ("train birds --num_train_epochs 0", "num_train_epochs must be at least 1, got 0"),
        ("train birds --preset quick", "argument --preset: .*quick"),
        ("train birds --cache_frozen_layers maybe", "cache_frozen_layers"),
        ("evaluate --model m --colour red", "unrecognized arguments: --colour red"),
        ("report birds --model m --num_photos few", "argument --num_photos.*few"),
        ("index birds --model m --class_level", "argument --class_level.*expected one argument"),
        ("photos birds --labelcolumn x", "did you mean --label_column"),
    ],
)
def test_a_wrong_call_of_a_command_that_scripts_understand(typed, words, message):
    """Nothing is loaded, made or asked for before that is known."""
    (error,) = typed(*words.split(), status=2)
    assert re.match(f"error: .*{message}", error), error
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_photos_are_asked_for_and_not_guessed(typed, saved, command):
    (error,) = typed(command, "--model", saved, status=2)
    assert error.startswith("error: which photos? Name a folder")


def test_photos_may_be_said_as_in_the_scripts(typed, birds, clip):
    """What comes next works, too: it names them as the command does."""
    small = ["--num_train_epochs", 1, "--num_bits", 16, "--adapter_dim", 8, "--output_dir", "model"]
    lines = typed("train", "--dataset", birds, "--model", clip, *small)
    assert lines[-1] == f"next: concepthash index {birds} --model model"
    lines = typed("evaluate", "--model", "model", "--output_dir", "measured", "--dataset", birds)
    assert lines[-1] == f"next: concepthash report {birds} --model model"
    (*_, error) = typed("evaluate", birds, "--dataset", birds, "--model", "model", status=2)
    assert "named twice" in error


def test_nothing_is_not_the_same_as_zero(typed, birds):
    (error,) = typed("photos", birds, "--max_image_pixels", 0, status=1)
    assert "a number of pixels from 1" in error
    (error,) = typed("photos", birds, "--class_level", 0, status=2)
    assert "class_level counts from 1" in error


def test_photos_says_what_is_understood(typed, birds):
    (birds / NAMES[0] / "raw.nef").write_bytes(b"II*\0")
    first, *_, last = typed("photos", birds)
    assert first.startswith("birds: 5 classes: ") and last == f"next: concepthash train {birds} --output_dir my_model"
    found = json.loads("\n".join(typed("photos", birds, "--json")))
    assert found["classes"] == 5 and found["class_names"] == sorted(NAMES)
    flat = birds / NAMES[0]
    first, *_, last = typed("photos", flat)
    assert first == f"{NAMES[0]}: 5 photos" and last.startswith(f"next: concepthash index {flat}")


def test_two_indexes_are_searched_as_one(typed, birds, saved, tmp_path):
    expected = ConceptHasher(saved).index(birds).search(str(birds / NAMES[2] / "1.png"), k=20)
    (tmp_path / "more").mkdir()
    for name in NAMES[:2]:
        (birds / name).rename(tmp_path / "more" / name)
    for photos in (birds, tmp_path / "more"):
        typed("index", photos, "--model", saved)
    both = ["--index", "outputs/index-birds", "--index", "outputs/index-more"]
    asked = ["search", birds / NAMES[2] / "1.png", "-k", 20]
    (found,) = json.loads("\n".join(typed(*asked, *both, "--json")))
    assert {hit["id"]: hit["distance"] for hit in found["hits"]} == {hit.id: hit.distance for hit in expected}
    Path("outputs/shards.json").write_text('{"shards": ["index-birds", "index-more"]}')
    assert json.loads("\n".join(typed(*asked, "--index", "outputs", "--json"))) == [found]
    assert typed(*asked, *both)[0] == "20 photos in outputs/index-birds, outputs/index-more"
    assert "in one shard only" in typed(*asked, *both[:2], *both[:2], status=1)[-1]
    Path("outputs/index-birds/shards.json").write_text('{"shards": [".", "../index-more"]}')
    assert json.loads("\n".join(typed(*asked, *both[:2], "--json"))) == [found]


def test_a_photo_whose_name_begins_as_an_option_does(typed, birds, saved, tmp_path):
    typed("index", birds, "--model", saved)
    shutil.copy(birds / NAMES[2] / "1.png", tmp_path / "-1.png")
    lines = typed("search", "--index", "outputs/index-birds", "-k", 1, "--", "-1.png")
    assert lines[-1].startswith("next: concepthash explain ./-1.png birds/")
    assert typed(*shlex.split(lines[-1])[2:])[0].startswith("./-1.png and birds/")


def test_from_photos_to_hits_to_why(typed, birds, saved, tmp_path):
    first, *_, summary, last = typed("index", birds, "--model", saved)
    assert first == "birds: 20 photos" and summary == "20 photos in outputs/index-birds: +20 new, 0 changed, 0 gone"
    assert last == f"next: concepthash search birds/{min(NAMES)}/0.png --index outputs/index-birds"
    photo = birds / NAMES[2] / "1.png"
    lines = typed("search", photo, "spotted owl", "--index", "outputs/index-birds", "-k", 3)
    assert lines[0] == "20 photos in outputs/index-birds" and lines[2] == "1.png" and "spotted owl" in lines
    assert np.asarray(Image.open(tmp_path / "search.png")).std() > 20
    assert lines[-1].startswith(f"next: concepthash explain birds/{NAMES[2]}/1.png birds/")
    found = json.loads("\n".join(typed("search", photo, "--index", "outputs/index-birds", "--json")))
    expected = ConceptHasher(saved).index(birds).search(str(photo), k=10)
    assert found == [json.loads(json.dumps(expected.to_dict()))]
    first, *_ = lines = typed(*lines[-1].removeprefix("next: concepthash ").split())
    assert re.fullmatch(rf"birds/{NAMES[2]}/1.png and birds/.*: \d+ of 12 bits differ", first)
    assert lines[-1].startswith("next: concepthash ") and (tmp_path / "explanation.png").is_file()
    assert typed("explain", photo, "--model", saved)[:2] == [
        f"{photo}: 12 bits in 3 concepts",
        f"  concept 1: {sub_code(saved, photo)}",
    ]
    explained = json.loads("\n".join(typed("explain", photo, photo, "--model", saved, "--json")))
    assert (explained["distance"], explained["concept_distances"]) == (0, [0, 0, 0])
    assert explained["photos"][0]["sub_codes"][0] == sub_code(saved, photo)
    weighted = typed("search", photo, "--index", "outputs/index-birds", "--concepts", "1", "--concepts", "3=0.5")
    assert weighted[2] == "1.png"
    assert (
        "takes numbers from 1 to 3"
        in typed("search", photo, "--index", "outputs/index-birds", "--concepts", "4", status=2)[-1]
    )


def test_where_pictures_go(typed, birds, saved, tmp_path):
    typed("index", birds, "--model", saved)
    photo, index = birds / NAMES[2] / "1.png", "outputs/index-birds"
    for words in (["search", photo, "--index", index], ["explain", photo, "--model", saved]):
        last = typed(*words, "--output", "found.txt", status=2)[-1]
        assert last == "error: --output found.txt is no name of a picture: let it end in .png, .jpg or .pdf"
        for name in ("new/folder/found.JPG", "found.pdf"):
            typed(*words, "--output", name)
        with Image.open(tmp_path / "new/folder/found.JPG") as picture:
            picture.verify()
        assert (tmp_path / "found.pdf").read_bytes().startswith(b"%PDF")


def sub_code(saved, photo) -> str:
    return "".join(map(str, ConceptHasher(saved).encode(photo, output="sub_codes")[0, 0].astype(int)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "tiny-clip"
    save_toy_clip(folder, NAMES, image_size=32)
    return folder


def test_every_last_line_works_as_it_is_typed(typed, birds, clip):
    """From training on a table to why two photos match, with nothing known but what was printed."""
    rows = [f"{photo.relative_to(birds)},{photo.parent.name},{photo.stem}" for photo in sorted(birds.rglob("*.png"))]
    (birds / "photos.csv").write_text("\n".join(["file_name,kind,number", *rows]))
    small = ["--num_train_epochs", 1, "--num_bits", 16, "--adapter_dim", 8]
    table = ["birds/photos.csv", "--label_column", "kind"]
    lines = typed("photos", *table)
    assert lines[-1] == "next: concepthash train birds/photos.csv --output_dir my_model --label_column kind"
    lines = typed(*shlex.split(lines[-1])[2:], "--model", clip, *small)
    seen = []
    while lines[-1].startswith("next: concepthash ") and len(seen) < 5:
        _, _, *words = shlex.split(lines[-1])
        seen.append(words[0])
        lines = typed(*words)
    assert seen[:3] == ["index", "search", "explain"] and seen[3] in ("index", "report")
    # another model of the same photos gets an index of its own
    words = ["train", *table, "--model", clip, *small, "--output_dir", "second"]
    assert typed(*words)[-1].endswith("--model second --index second-index --label_column kind")
    assert typed("index", "birds", "--model", "second")[-2].startswith("20 photos in outputs/index-birds: +20 new")


def test_the_demo_to_its_end_and_again(typed, monkeypatch):
    few = partial(toy_birds, train_per_species=2, test_per_species=1)
    monkeypatch.setattr(concepthash_hf.data.load, "toy_birds", few)
    lines = typed("demo", "--num_train_epochs", 1)
    assert lines[0].startswith("toy_birds: 24 classes: ")
    assert "240 photos in outputs/demo/index: +240 new, 0 changed, 0 gone" in lines
    assert len([line for line in lines if line.startswith("next: ")]) == 1 and lines[-1].startswith("next: ")
    assert typed(*shlex.split(lines[-1])[2:])[0].endswith("of 32 bits differ")
    again = typed("demo", "--num_train_epochs", 1)
    assert "240 photos in outputs/demo/index: +0 new, 0 changed, 0 gone" in again
    assert not [line for line in again if line.startswith("epoch ")]
    (Path("outputs/demo/model") / "README.md").unlink()  # as if it had been killed before it was done
    assert "mAP" in "\n".join(typed("demo", "--num_train_epochs", 1))


def test_ctrl_c_while_training_says_how_to_go_on(birds, clip, tmp_path):
    words = ["train", birds, "--model", clip, "--num_bits", 16, "--adapter_dim", 8, "--num_train_epochs", 400]
    command = [sys.executable, "-m", "concepthash_hf", *map(str, words)]
    settings = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "bufsize": 1}
    process = subprocess.Popen(command, **settings)
    while not (line := process.stdout.readline()).startswith("epoch 4/400"):
        assert line, process.communicate()[1]
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    last = error.splitlines()[-1]
    found = re.match(
        r"stopped by SIGINT: (\d+) epochs are kept in (outputs/\S+); go on with (--resume_\w+ \S+)$", last
    )
    assert process.returncode == 130 and found, error
    assert (tmp_path / found[2] / f"checkpoint-{found[1]}").is_dir()
    again = concepthash(*words[:-1], found[1], *found[3].split(), folder=tmp_path)
    assert again.returncode == 0 and f"model in {found[2]}" in again.stdout, again.stderr


def test_a_model_is_pushed_to_its_end(saved, tmp_path, monkeypatch):
    """To a Hub that listens here; the last line loads the model from it."""
    hub = HubServer()
    try:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
        for name, value in (settings | {"HF_HUB_DISABLE_XET": "1"}).items():
            monkeypatch.setenv(name, value)
        ran = concepthash("push", saved, "birds", folder=tmp_path)
        assert ran.returncode == 0, ran.stderr
        uploaded, last = ran.stdout.splitlines()
        assert uploaded.startswith(f"uploaded: {hub.url}/someone/birds/commit/") and last.startswith(
            "next: python -c "
        )
        words = shlex.split(last.removeprefix("next: "))
        ran = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.stdout.startswith("ConceptHasher('someone/birds': 12 bits, 3 concepts"), ran.stderr
        refused = concepthash("push", tmp_path, "birds", folder=tmp_path)
        assert refused.returncode == 1 and refused.stderr.splitlines()[-1].startswith("error: ")
    finally:
        hub.close()


def test_a_collection_that_changes(typed, birds, saved):
    typed("index", birds, "--model", saved, "--index", "index")
    shutil.copy(birds / NAMES[0] / "0.png", birds / NAMES[3] / "copy.png")
    (birds / NAMES[1] / "0.png").write_bytes(b"no picture")
    (birds / NAMES[2] / "0.png").unlink()
    lines = typed("index", birds, "--index", "index")
    assert lines[-2] == "19 photos in index: +1 new, 0 changed, 1 gone, 1 unreadable"
    assert any(line.startswith(f"  unreadable: {birds / NAMES[1] / '0.png'}: not a picture") for line in lines)
    groups = json.loads("\n".join(typed("duplicates", "--index", "index", "--json")))
    assert any({f"{NAMES[0]}/0.png", f"{NAMES[3]}/copy.png"} <= set(group) for group in groups)
    moved = birds.rename(birds.with_name("moved"))
    assert typed("index", moved, "--index", "index")[-2].endswith("+0 new, 0 changed, 0 gone, 1 unreadable")
    other = write_photos(birds.with_name("other"), 1)
    error = typed("index", other, "--index", "index", status=1)[-1]
    assert error == f"error: this is an index of {moved}, not of {other}: give another folder for the index"
    assert len(HammingIndex.load("index")) == 19


def test_another_model_a_model_without_processor_and_a_second_writer(typed, birds, saved, tmp_path):
    typed("index", birds, "--model", saved, "--index", "index")
    other = save_untrained(tmp_path / "other", seed=1)
    assert "made by untrained at revision" in typed("search", "owl", "--index", "index", "-m", other, status=1)[-1]
    assert "made by untrained at revision" in typed("index", birds, "--index", "index", "-m", other, status=1)[-1]
    (other / "preprocessor_config.json").unlink()
    assert "no image processor in" in typed("index", birds, "--index", "new", "-m", other, status=1)[-1]
    assert not (tmp_path / "new").exists()
    assert len(open_photo_index("index")) == 20


def test_a_phone_photo_has_one_code_from_python_script_and_command(typed, saved, tmp_path, capsys):
    phone = tmp_path / "phone"
    phone.mkdir()
    photo = phone_photo(phone / "phone.jpg")
    code = ConceptHasher(saved).encode(photo)
    typed("index", phone, "--model", saved, "--index", "index")
    encode(["--model", str(saved), "--dataset", str(phone), "--output_dir", str(tmp_path / "codes")])
    capsys.readouterr()
    for folder in (tmp_path / "index", tmp_path / "codes" / "index"):
        assert HammingIndex.load(folder).get_codes(["phone.jpg"]).tolist() == code.tolist()
    found = json.loads(
        "\n".join(typed("search", photo, "--index", tmp_path / "codes" / "index", "-m", saved, "--json"))
    )
    assert found[0]["hits"][0] | {"id": "phone.jpg", "distance": 0} == found[0]["hits"][0]


def test_ctrl_c_keeps_what_is_hashed(birds, saved, tmp_path):
    """A real process, stopped while it hashes 3,000 photos."""
    for name in NAMES:
        for number in range(600):
            os.link(birds / name / f"{number % 4}.png", birds / name / f"more-{number}.png")
    words = ["index", birds, "--model", saved, "--index", tmp_path / "index"]
    command = [sys.executable, "-m", "concepthash_hf", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    assert "photos" in process.stdout.readline(), process.communicate()[1]
    seen = ""
    while "hashing:" not in seen:
        assert (character := process.stderr.read(1)), seen
        seen += character
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same again goes on from there" in error.splitlines()[-1]
    kept = len(HammingIndex.load(tmp_path / "index"))
    assert 0 < kept < 3020
    again = concepthash(*words)
    assert f"+{3020 - kept} new, 0 changed, 0 gone" in again.stdout, again.stderr


# --- what goes wrong: one line, and nothing is lost


def test_photos_that_have_moved(typed, birds, saved):
    """They are found by what is kept, said to be missed, and seen again as soon as somebody says where they are."""
    photo = birds.with_name("query.png")
    shutil.copy(birds / NAMES[2] / "1.png", photo)
    typed("index", birds, "--model", saved, "--index", "index")
    moved = birds.rename(birds.with_name("moved"))
    lines = typed("search", photo, "--index", "index")
    assert lines[2] == "query.png" and "say with --dataset where they are" in lines[-1]
    assert typed("index", birds, "--index", "index", status=1)[-1].startswith("error: ")
    assert len(HammingIndex.load("index")) == 20
    lines = typed("search", photo, "--index", "index", "--dataset", moved)
    assert lines[-1].startswith(f"next: concepthash explain query.png moved/{NAMES[2]}/1.png")
    with pytest.raises(FileNotFoundError, match=f"'{NAMES[0]}/0.png' is not in {birds}; if .* have moved, say where"):
        open_photo_index("index").photo(f"{NAMES[0]}/0.png")


def test_photos_in_no_file_are_shown_from_their_collection(typed, birds, saved):
    """Pictures in the cells of a table."""
    paths = sorted(birds.rglob("*.png"))
    cells = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    kinds = [path.parent.name for path in paths]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": cells, "label": kinds}, features=features)
    table.to_parquet("birds.parquet")
    typed("index", "birds.parquet", "--model", saved, "--index", "index")
    index = open_photo_index("index")
    assert {index.photo(id).tobytes() for id in index.ids} == {Image.open(path).tobytes() for path in paths}
    assert not [line for line in typed("search", paths[6], "--index", "index") if "not shown" in line]


@pytest.mark.parametrize("command", ["photos", "index", "train", "evaluate", "report"])
def test_a_folder_without_photos(typed, saved, command):
    Path("empty", "below").mkdir(parents=True)
    model = ["--model", saved] if command != "photos" else []
    (error,) = typed(command, "empty", *model, status=1)
    assert re.match("error: no pictures .*empty", error)
    assert not [path for path in Path().rglob("*") if path.is_file() and not path.name.startswith(".")]


def test_words_for_a_model_without_words(typed, birds, saved, tmp_path):
    model = ConceptHashModel.from_pretrained(saved)
    model.text_model = model.config.text_config = None
    model.save_pretrained(tmp_path / "mute")
    shutil.copy(saved / "preprocessor_config.json", tmp_path / "mute")
    typed("index", birds, "--model", "mute", "--index", "index")
    (error,) = typed("search", "owl", "--index", "index", status=1)
    assert error.endswith(
        "mute reads no words: it was saved without its text tower. Search with photos, or with a model that has it "
        "(keep_text_model=True, the default)"
    )


def test_a_model_without_its_image_processor(typed, birds, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    photo = birds / NAMES[0] / "0.png"
    for words in (["index", birds], ["train", birds], ["evaluate", birds], ["report", birds], ["explain", photo]):
        error = typed(*words, "--model", "bare", status=1)[-1]
        assert error.startswith("error: there is no image processor in bare, without which photos get other codes")
    assert typed("export", "onnx", "--model", "bare", status=1)[-1].startswith("error: there is no image processor")
    assert not list(Path().glob("outputs/index*")) and not Path("onnx").exists()


def test_two_commands_write_one_collection(birds, saved, tmp_path):
    """Together and from nothing: one is told to wait, or comes after the other; every photo is there once."""
    for name in NAMES:
        for number in range(20):
            os.link(birds / name / f"{number % 4}.png", birds / name / f"more-{number}.png")
    words = ["index", birds, "--model", saved, "--index", tmp_path / "index"]
    command = [sys.executable, "-m", "concepthash_hf", *map(str, words)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **settings) for _ in range(2)]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in both]
    for printed, error, status in ended:
        if status:
            assert status == 1 and "another process is writing into" in error.splitlines()[-1]
        else:
            assert re.search(r"120 photos in .*: \+(120|0) new", printed), error
    assert sorted(status for *_, status in ended) in ([0, 0], [0, 1])
    assert len(set(open_photo_index(tmp_path / "index").ids)) == 120


def test_no_such_index_or_model(typed, birds):
    (error,) = typed("search", "owl", "--index", "nowhere", status=1)
    assert error.startswith(
        "error: there is no index nowhere: no such folder, and none that could be had from the Hub"
    )
    assert "nowhere" in typed("index", birds, "--model", "nowhere", status=1)[-1]
    assert not Path("outputs").exists()


class TestServe:
    @pytest.fixture
    def indexed(self, birds, saved, tmp_path):
        ConceptHasher(saved).index(birds).save(tmp_path / "index")
        return tmp_path / "index"

    def test_on_this_machine_alone_until_it_is_stopped(self, indexed, tmp_path):
        command = [sys.executable, "-m", "concepthash_hf", "serve", str(indexed), "--port", "0"]
        process = subprocess.Popen(
            [*command, "--cache_dir", str(tmp_path / "cache")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            line = process.stdout.readline().strip()
            assert line.startswith("open http://127.0.0.1:"), process.communicate()
            url = line.removeprefix("open ")
            with urllib.request.urlopen(f"{url}/health", timeout=60) as answer:
                assert json.load(answer)["photos"] == 20
            stranger = urllib.request.Request(f"{url}/health", headers={"Host": "photos.example"})
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(stranger, timeout=60)
            # the next address of this machine is not listened on
            with (
                pytest.raises(OSError),
                socket.create_connection(("127.0.0.2", int(url.rpartition(":")[2])), timeout=5),
            ):
                pass
            again = concepthash("serve", indexed, "--port", url.rpartition(":")[2])
            assert again.returncode == 1 and "give another --port" in again.stderr.splitlines()[-1]
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=60)
            assert process.returncode == 0 and "Traceback" not in error
        finally:
            process.kill()
            process.wait()

    def test_without_gradio_it_says_what_to_install(self, indexed):
        code = f"""
import sys
sys.modules["gradio"] = None  # not to be had
sys.argv = ["concepthash", "serve", {str(indexed)!r}]
from concepthash_hf.cli import main
main()
"""
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 1
        assert ran.stderr.splitlines()[-1] == 'error: the page needs gradio: pip install "concepthash_hf[app]"'

    def test_what_is_no_index(self, typed, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "no index in" in typed("serve", tmp_path / "empty", status=1)[-1]
