"""Every code block of docs/start.md runs as it stands, from top to bottom, where a newcomer is: photos and a model."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from bird_photos import BIRDS, save_untrained
from PIL import Image

from concepthash_hf.cli import main
from concepthash_hf.data.toy_birds import draw_bird

PAGE = Path(__file__).parents[1] / "docs" / "start.md"


def test_every_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_untrained(tmp_path / "my_model")
    for bird, name in zip(BIRDS, ("robin", "wren"), strict=False):
        (tmp_path / "my_photos" / name).mkdir(parents=True)
        for number in range(1, 7):
            draw_bird(bird, number, 64).image.save(tmp_path / "my_photos" / name / f"{number}.jpg")
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.S)
    assert [language for language, _ in blocks] == ["bash"] * 5 + ["python"] * 2
    known: dict = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), known)
            continue
        for line in block.splitlines():
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, ended.value.code
    printed = capsys.readouterr().out
    assert "12 photos in outputs/index-my_photos: +12 new, 0 changed, 0 gone" in printed
    assert printed.count("+0 new, 0 changed, 0 gone") == 2  # the command and Python
    for picture in ("search.png", "explanation.png", "why.png"):
        assert np.asarray(Image.open(tmp_path / picture)).std() > 10
