"""Nothing is lost by kills, damages and races: the small run of examples/benchmarks/reliability.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmarks" / "reliability.py"
# of each kind; loading a model takes longer than loading an index
DAMAGES = {"index": 600, "codes": 250, "model": 100, "training": 50}


@pytest.mark.parametrize("kind", DAMAGES)
def test_nothing_is_lost(kind, tmp_path):
    numbers = ["--kills", 5, "--damages", DAMAGES[kind], "--races", 3]
    command = [sys.executable, SCRIPT, "--kinds", kind, *numbers, "--output", tmp_path / "results.jsonl"]
    ran = subprocess.run(
        list(map(str, command)),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    rows = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    found = {row["trial"]: row["found"] for row in rows}
    assert found["kills"]["whole in the end"] == 5 and found["kills"]["left behind"] == 0
    assert found["races"]["whole in the end"] == 3
    assert sum(found["damages"].values()) == DAMAGES[kind]
    assert found["damages"]["refused, by name"] > DAMAGES[kind] / 3
