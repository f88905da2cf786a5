"""The benchmark of speed compares like with like."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def benchmark():
    path = Path(__file__).parents[2] / "examples" / "benchmarks" / "metrics_speed.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def test_both_sides_measure_the_same(benchmark):
    args = benchmark.Arguments(num_queries=300, num_database=400, num_classes=9)
    task = benchmark.make_task(args)
    ours, usual, bounds = (way(task)() for way in (benchmark.our_way, benchmark.usual_way, benchmark.bounds))
    assert bounds["pessimistic"] < usual["map"] < bounds["optimistic"]
    assert ours["map"] == pytest.approx(usual["map"], abs=2e-3)
    assert bounds["optimistic"] - bounds["pessimistic"] > 1e-3


def test_a_side_is_measured(benchmark):
    args = benchmark.Arguments(num_queries=30, num_database=40, num_classes=3, num_threads=1)
    values = benchmark.measure(benchmark.our_way, args, rounds=3)
    assert len(values["seconds_of_each_round"]) == 3
    assert values["seconds"] == sorted(values["seconds_of_each_round"])[1]
    assert values["peak_memory_mib"] > 50 and values["memory_growth_mib"] >= 0
