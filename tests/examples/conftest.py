"""What tests of the example scripts share."""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import forget_accelerate


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Runs a script with arguments, in this process and an empty folder; gives what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: torch.get_num_threads())  # other tests may be running beside

    def run(script: Path, *words: object) -> str:
        forget_accelerate()
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run
