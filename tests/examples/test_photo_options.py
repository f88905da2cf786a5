"""What every script can be told about photos, under one name, and what it says of them first."""

from pathlib import Path

import pytest
from bird_photos import NAMES, save_untrained, write_photos

SCRIPTS = Path(__file__).parents[2] / "examples"
OPTIONS = (
    "--dataset --data_dir --image_column --label_column --label_separator --class_level --train_split --query_split "
    "--database_split --follow_symlinks --max_image_pixels"
).split()


@pytest.mark.parametrize("script", ["train", "encode", "evaluate", "explain", "search"])
def test_every_script_has_every_option(run_script, script, capsys):
    with pytest.raises(SystemExit) as ended:
        run_script(SCRIPTS / f"{script}.py", "--help")
    said = capsys.readouterr().out.replace(",", " ").split()  # since Python 3.13 commas stand between aliases
    assert ended.value.code == 0
    assert [option for option in OPTIONS if option not in said] == []


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture
def table(tmp_path):
    """A table whose labels could be in one of two columns."""
    write_photos(tmp_path / "photos", 3)
    rows = [f"{name}/{number}.png,Aves,{name}" for name in NAMES for number in range(3)]
    (tmp_path / "photos" / "birds.csv").write_text("\n".join(["file,class,species", *rows]))
    return tmp_path / "photos" / "birds.csv"


def test_a_question_ends_a_script_and_is_answered_by_its_option(run_script, table, saved):
    words = ["--model_name_or_path", saved, "--dataset", table, "--output_dir", "evaluation"]
    with pytest.raises(SystemExit, match=r"error: .*birds.csv: several .*\['class', 'species'\].*label_column="):
        run_script(SCRIPTS / "evaluate.py", *words)
    first, *lines = run_script(SCRIPTS / "evaluate.py", *words, "--label_column", "species").splitlines()
    assert first == f"birds: 5 classes: {', '.join(sorted(NAMES)[:3])}, ..."
    assert "  labels: column 'species' of birds.csv" in lines[:4]


def test_encoding_says_first_what_it_found(run_script, table, saved):
    (table.parent / NAMES[0] / "raw.nef").write_bytes(b"II*\0")
    table.unlink()
    printed = run_script(SCRIPTS / "encode.py", "--model", saved, "--dataset", table.parent, "--output_dir", "codes")
    assert printed.startswith("photos: 16 photos\n  labels: the names of the folders\n")
    assert "1 of them cannot be read" in printed and "raw.nef: a raw file of a camera: save it as JPEG" in printed
