"""A full and a read-only disk, for every script: one line that says what cannot be written, and why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bird_photos import NAMES, save_untrained, write_photos
from transformers import AutoImageProcessor

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import eval_transform, load_collection
from concepthash_hf.encoding import add_codes, code_spec, encode_collection
from concepthash_hf.index import HammingIndex
from concepthash_hf.toy_clip import save_toy_clip


def test_a_full_and_a_read_only_disk(tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disks can be mounted here")
    photos = write_photos(tmp_path / "photos", 5)
    saved = save_untrained(tmp_path / "model")
    model = ConceptHashModel.from_pretrained(saved)
    encode_collection(
        model, load_collection(photos), eval_transform(AutoImageProcessor.from_pretrained(saved)), tmp_path / "codes"
    )
    index = HammingIndex(code_spec(model))
    add_codes(index, tmp_path / "codes")
    index.save(tmp_path / "index")
    words = [saved, tmp_path / "model-clip-whole", photos, tmp_path / "index", tmp_path]
    save_toy_clip(words[1], NAMES, image_size=32)
    ran = subprocess.run(
        ["unshare", "-rm", sys.executable, str(Path(__file__).with_name("full_disk.py")), *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    ends = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(ends) == 6, ran.stderr[-3000:]
    for script, disk, message in ends:
        reason = {"full": "No space left on device| MB left", "fixed": "Read-only file system"}[disk]
        assert message.startswith("error: ") and f"{tmp_path / disk}" in message, (script, disk, message)
        assert any(part in message for part in reason.split("|")), (script, disk, message)
