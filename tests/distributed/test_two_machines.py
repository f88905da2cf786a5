"""What two launchers with a process each, as on two machines, make of what one process group would have."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bird_photos import save_untrained, write_photos
from runs import TinyPhotos, arguments, forget_accelerate, largest_difference, state_of, untrained
from safetensors.torch import load_file

from concepthash_hf.encoding import read_codes
from concepthash_hf.index import HammingIndex, open_index
from concepthash_hf.scripts.encode import main as encode
from concepthash_hf.training import train

FOLDER = Path(__file__).parent
ENCODE = FOLDER.parents[1] / "examples" / "encode.py"


def run_on_machines(meeting: str, script: Path, *words: object, cwd: Path) -> list[subprocess.CompletedProcess]:
    """Two launchers that meet on the loopback, each with a working folder of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {
        "c10d": ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "birds"],
        "static": ["--master_addr", "127.0.0.1", "--master_port", str(port)],
    }[meeting]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HOME": str(cwd / "cache")}
    started = []
    for rank in range(2):
        machine = cwd / f"machine-{rank}"
        machine.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)]
        command += ["--nproc_per_node", "1", *meet, str(script), *map(str, words)]
        started.append(
            subprocess.Popen(
                command, cwd=machine, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        ended = [(launcher, *launcher.communicate(timeout=500)) for launcher in started]
    finally:
        for launcher in started:
            launcher.kill()
    return [subprocess.CompletedProcess(launcher.args, launcher.returncode, *said) for launcher, *said in ended]


@pytest.fixture
def birds(tmp_path):
    return write_photos(tmp_path / "birds", 4)


@pytest.fixture
def saved(tmp_path):
    return save_untrained(tmp_path / "untrained")


def rows_of(folder: Path) -> list[tuple]:
    """All that was written of every photo, in order."""
    return [
        (code.tobytes(), row)
        for codes, rows in read_codes(folder)
        for code, row in zip(codes, rows.to_pylist(), strict=True)
    ]


def test_they_train_the_weights_of_one(tmp_path):
    for machine in run_on_machines("c10d", FOLDER / "train_on_machines.py", tmp_path / "run", cwd=tmp_path):
        assert machine.returncode == 0, machine.stderr[-5000:]
    forget_accelerate()
    alone = untrained(dropout=0.0, freeze_batch_norm=True)
    train(alone, TinyPhotos(64), arguments(tmp_path / "alone", num_train_epochs=3, per_device_train_batch_size=32))
    weights = [torch.load(tmp_path / f"machine-{rank}" / f"weights-{rank}.pt") for rank in range(2)]
    assert largest_difference(*weights) == 0
    assert largest_difference(weights[0], load_file(tmp_path / "run" / "model.safetensors")) == 0
    assert largest_difference(weights[0], state_of(alone)) < 1e-5
    assert largest_difference(weights[0], state_of(untrained(dropout=0.0, freeze_batch_norm=True))) > 0.01


def test_they_hash_the_rows_of_one(tmp_path, saved, birds):
    options = ["--model", str(saved), "--dataset", str(birds), "--batch_size", "2", "--photos_per_file", "4"]
    machines = run_on_machines("static", ENCODE, *options, "--output_dir", tmp_path / "codes", cwd=tmp_path)
    for machine in machines:
        assert machine.returncode == 0, machine.stderr[-5000:]
    assert ["on 2 process(es)" in machine.stdout for machine in machines] == [True, False]
    forget_accelerate()
    encode([*options, "--output_dir", str(tmp_path / "alone")])
    assert rows_of(tmp_path / "codes") == rows_of(tmp_path / "alone") and len(rows_of(tmp_path / "codes")) == 20
    index, alone = (HammingIndex.load(tmp_path / name / "index") for name in ("codes", "alone"))
    assert index.ids.tolist() == alone.ids.tolist()
    assert index.get_codes(index.ids).tolist() == alone.get_codes(alone.ids).tolist()


def test_folders_of_their_own_are_refused(tmp_path, saved, birds):
    options = ["--model", saved, "--dataset", birds, "--output_dir", "codes"]
    for machine in run_on_machines("static", ENCODE, *options, cwd=tmp_path):
        assert machine.returncode != 0
        assert "codes is not the same folder for all processes: give an absolute path" in machine.stderr


def test_halves_hashed_apart_are_searched_as_one(tmp_path, saved, birds):
    """Without a launcher or a disk that is shared: each machine has its photos and its index."""
    (tmp_path / "others").mkdir()
    for folder in sorted(birds.iterdir())[:2]:
        folder.rename(tmp_path / "others" / folder.name)
    for name in ("birds", "others"):
        forget_accelerate()
        encode(
            ["--model", str(saved), "--dataset", str(tmp_path / name), "--output_dir", str(tmp_path / f"of-{name}")]
        )
    index = open_index([str(tmp_path / f"of-{name}" / "index") for name in ("birds", "others")])
    assert [len(shard) for shard in index.shards] == [12, 8]
    ((codes, rows),) = read_codes(tmp_path / "of-others")
    assert index.search(codes, 1).distances.tolist() == [[0]] * 8
    assert index.get_metadata(rows["id"].to_pylist()) == rows.drop_columns("id").to_pylist()
