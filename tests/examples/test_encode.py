"""examples/encode.py, as its users run it."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from bird_photos import NAMES, save_untrained, write_photos
from runs import files_in, forget_accelerate

from concepthash_hf import ConceptHashModel
from concepthash_hf.encoding import code_spec, read_codes, read_plan
from concepthash_hf.index import HammingIndex

SCRIPT = Path(__file__).parents[2] / "examples" / "encode.py"
KILLED = Path(__file__).with_name("encode_until_killed.py")


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """40 photos and one that is none."""
    folder = write_photos(tmp_path_factory.mktemp("birds"), 8)
    (folder / NAMES[2] / "broken.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture
def run(run_script):
    return partial(run_script, SCRIPT)


@pytest.fixture(scope="module")
def options(saved, birds):
    return ["--model", str(saved), "--dataset", str(birds), "--batch_size", "2", "--photos_per_file", "4"]


def run_two(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """Two CPU processes, as `torchrun --nproc_per_node 2` starts them."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HOME": str(cwd / "cache")}
    command = [*launch, str(SCRIPT), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500, check=False)


def codes_in(folder: Path) -> dict[str, bytes]:
    """Codes by id; each id is there once."""
    pairs = [
        (id, code.tobytes())
        for codes, rows in read_codes(folder)
        for id, code in zip(rows.column("id").to_pylist(), codes, strict=True)
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_codes_index_and_a_word_about_it(run, saved, birds, options, tmp_path):
    printed = run(*options, "--output_dir", "codes")
    assert "41 photos in" in printed and "on 1 process(es)" in printed
    assert "1 of them cannot be read, see codes/unreadable.jsonl" in printed
    assert f"{birds / NAMES[2] / 'broken.jpg'}: not a picture" in printed

    codes = codes_in(tmp_path / "codes")
    assert sorted(codes) == sorted(f"{name}/{number}.png" for name in NAMES for number in range(8))
    index = HammingIndex.load(tmp_path / "codes" / "index")
    assert index.spec == code_spec(ConceptHashModel.from_pretrained(saved))
    assert index.ids.tolist() == list(codes)
    assert index.get_codes(index.ids).tobytes() == b"".join(codes.values())
    (wren,) = index.get_metadata([f"{NAMES[1]}/3.png"])
    assert wren["label"] == NAMES[1] and wren["path"] == str(birds / NAMES[1] / "3.png")


def test_in_bfloat16(run, options, tmp_path):
    run(*options, "--output_dir", "codes", "--mixed_precision", "bf16")
    assert read_plan(tmp_path / "codes")["mixed_precision"] == "bf16"


def test_compiled(run, options, tmp_path):
    run(*options, "--output_dir", "codes")
    run(*options, "--output_dir", "others", "--torch_compile")
    assert codes_in(tmp_path / "others") == codes_in(tmp_path / "codes")


def test_compiled_without_a_compiler(options, tmp_path):
    environment = os.environ | {"CXX": "/no/compiler", "PATH": "", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    words = [*options, "--output_dir", "codes", "--torch_compile"]
    command = [sys.executable, str(SCRIPT), *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: InvalidCxxCompiler: No working C++ compiler found" in done.stderr


def test_in_the_precision_of_the_launcher(run, options, tmp_path, monkeypatch):
    run(*options, "--output_dir", "codes")
    assert read_plan(tmp_path / "codes")["mixed_precision"] == "no"
    forget_accelerate()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run(*options, "--output_dir", "others")
    assert read_plan(tmp_path / "others")["mixed_precision"] == "bf16"


def test_killed_in_the_middle(run, options, tmp_path):
    """One process, killed by signal 9; two go on. Every photo is there once, as after an undisturbed run."""
    run(*options, "--output_dir", "whole")
    killed = subprocess.run([sys.executable, KILLED, *options, "--output_dir", "codes"], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = {name: content for name, content in files_in(tmp_path / "codes").items() if name.endswith(".parquet")}
    assert len(left) == 3 and not (tmp_path / "codes" / "index").exists()

    two = run_two(*options, "--output_dir", "codes", cwd=tmp_path)
    assert two.returncode == 0, two.stderr[-5000:]
    assert two.stdout.count("41 photos in") == 1 and "on 2 process(es)" in two.stdout
    assert codes_in(tmp_path / "codes") == codes_in(tmp_path / "whole")
    assert len(HammingIndex.load(tmp_path / "codes" / "index")) == 40
    (bad,) = (tmp_path / "codes" / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(bad)["id"] == f"{NAMES[2]}/broken.jpg"
    for name, content in left.items():
        assert (tmp_path / "codes" / name).read_bytes() == content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "nowhere"], "error: 'nowhere' is neither a known dataset nor a file or folder"),
        (["--database", "nonsense"], "error: this is no address of a PostgreSQL database"),
        (["--database", "postgresql://localhost:1/x"], "error: the PostgreSQL server .* is not there"),
    ],
)
def test_mistakes(run, options, words, message):
    with pytest.raises(SystemExit, match=message):
        run(*options, "--output_dir", "codes", *words)


def test_no_such_model(run, birds):
    with pytest.raises(SystemExit, match="error: "):
        run("--model", "nowhere", "--dataset", birds, "--output_dir", "codes")
