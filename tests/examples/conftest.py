"""What tests of the example scripts share."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import forget_accelerate

from concepthash_hf import launch


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Runs a script with arguments, in this process and an empty folder; gives what it prints.

    A wrong call, exit status 2, is raised with what it has printed, as exit status 1 is by Python itself.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "cores", torch.get_num_threads)  # other tests may be running beside

    def run(script: Path, *words: object) -> str:
        forget_accelerate()
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            if end.code != 2:
                raise
            said = capsys.readouterr().err
            raise SystemExit(said[said.index("error: ") :]) from None
        return capsys.readouterr().out

    return run
