"""Checkpoints to resume training from: a folder `checkpoint-<epochs done>` with all of Accelerate's state."""

import json
import shutil
from pathlib import Path

from accelerate import Accelerator

PREFIX = "checkpoint-"


def save_checkpoint(accelerator: Accelerator, output_dir: str | Path, epochs_done: int, step: int) -> None:
    """Keep the state of a run in place of its older checkpoints.

    It is written beside, then renamed: a run that is killed leaves the last checkpoint whole.

    Args:
        accelerator: of the run; all processes call this.
        output_dir: folder of the run.
        epochs_done: finished epochs.
        step: finished optimizer steps.
    """
    final = Path(output_dir) / f"{PREFIX}{epochs_done}"
    partial = final.with_name(f"partial-{final.name}")
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()  # each process writes a part of it
    if accelerator.is_main_process:
        (partial / "progress.json").write_text(json.dumps({"epochs_done": epochs_done, "step": step}))
        older = [folder for folder in _checkpoints(output_dir) if folder != final]
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for folder in older:
            shutil.rmtree(folder)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, checkpoint: Path) -> tuple[int, int]:
    """Take over the state in a checkpoint; give the epochs and steps that are done."""
    accelerator.load_state(str(checkpoint))
    progress = json.loads((checkpoint / "progress.json").read_text())
    return progress["epochs_done"], progress["step"]


def newest_checkpoint(output_dir: str | Path) -> Path | None:
    """The checkpoint of a run's folder that is furthest, or None."""
    return max(_checkpoints(output_dir), key=_epochs_done, default=None)


def find_checkpoint(resume_from: str | None) -> Path | None:
    """The checkpoint that is meant: itself, or the newest of a run's folder; None for None.

    Raises:
        ValueError: if there is none.
    """
    if resume_from is None:
        return None
    folder = Path(resume_from)
    checkpoint = folder if (folder / "progress.json").is_file() else newest_checkpoint(folder)
    if checkpoint is None:
        raise ValueError(f"no checkpoint to resume from in {folder}: expected {PREFIX}N folders or one of them")
    return checkpoint


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """Ours, by name and content: folders of other people with such names are left alone."""
    folders = Path(output_dir).glob(f"{PREFIX}*/progress.json")
    return [file.parent for file in folders if file.parent.name.removeprefix(PREFIX).isdecimal()]


def _epochs_done(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))
