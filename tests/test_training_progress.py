"""What a waiting person is told, and how often."""

import pytest

from concepthash_hf.training import ConceptHashTrainingArguments
from concepthash_hf.training_progress import Progress, every_so_many


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (50, 1), (100, 1), (101, 2), (880, 9)])
def test_runs_of_many_short_epochs_keep_and_tell_a_hundred(epochs, every, capsys, tmp_path):
    assert every_so_many(epochs) == every
    assert ConceptHashTrainingArguments(str(tmp_path), num_train_epochs=epochs).save_epochs == every
    progress = Progress(epochs, 0, 1, True)
    for epoch in range(epochs):
        progress.finish(epoch, {"loss": 1.0, "quantization": 0.5})
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 101 and lines[-1] == f"epoch {epochs}/{epochs}: loss 1.000 (quantization 0.500); 00:00 left"


def test_how_often_is_said(tmp_path):
    assert ConceptHashTrainingArguments(str(tmp_path), num_train_epochs=880, save_epochs=5).save_epochs == 5
    assert ConceptHashTrainingArguments(str(tmp_path), num_train_epochs=880, save_epochs=0).save_epochs == 0
