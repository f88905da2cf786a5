"""The benchmark of the data pipeline, on real photos."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "data_throughput.py"


@pytest.fixture
def benchmark():
    path = SCRIPT
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def test_decoding_costs_no_more_than_bare_torchvision(shared_dir, tmp_path):
    """One process in a few runs at 0.8 where others run at 1.0 to 1.2, so that up to three are asked."""
    output = tmp_path / "throughput.json"
    arguments = f"--folder {shared_dir}/data/flowers102 --num_photos 100 --num_workers 0 --rounds 7 --output {output}"
    best = {"paper": 0.0, "reference": 0.0}
    for _ in range(3):
        ran = subprocess.run([sys.executable, SCRIPT, *arguments.split()], capture_output=True, text=True, check=True)
        results = json.loads(output.read_text())["results"]
        assert set(results) == {"paper", "reference", "eval"}
        assert f"| paper | {results['paper']['photos_per_second_per_worker']:.0f} |" in ran.stdout
        best = {name: max(ratio, results[name]["ratio"]) for name, ratio in best.items()}
        if min(best.values()) >= 0.9:
            break
    assert min(best.values()) >= 0.9, best


def test_toy_photos_are_files_in_class_folders(benchmark, tmp_path):
    folder = benchmark.write_toy_photos(tmp_path, 5)
    assert len(list(folder.glob("*/*.jpg"))) == 5 and len(list(folder.iterdir())) >= 2
