"""Which checkpoint a run goes on from."""

import pytest

from concepthash_hf.checkpoints import find_checkpoint, newest_checkpoint


def test_the_newest_checkpoint_is_the_furthest(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-best", "partial-checkpoint-11"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "progress.json").write_text("{}")
    (tmp_path / "checkpoint-12").mkdir()  # of another program
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert newest_checkpoint(tmp_path / "checkpoint-12") is None


def test_a_checkpoint_or_the_folder_of_a_run(tmp_path):
    for name in ("checkpoint-2", "checkpoint-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "progress.json").write_text("{}")
    assert find_checkpoint(str(tmp_path)) == tmp_path / "checkpoint-10"
    assert find_checkpoint(str(tmp_path / "checkpoint-2")) == tmp_path / "checkpoint-2"
    assert find_checkpoint(None) is None
    for folder in (tmp_path / "nowhere", tmp_path / "checkpoint-2" / "inside"):
        with pytest.raises(ValueError, match=f"no checkpoint to resume from in {folder}: expected checkpoint-N"):
            find_checkpoint(str(folder))
