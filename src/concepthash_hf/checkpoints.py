"""Checkpoints to resume training from: a folder `checkpoint-<epochs done>` with all of Accelerate's state.

They are written after every epoch, so they leave out what a run that goes on has anyway: frozen weights of the models
that it builds on, which `Settings.fixed` knows by their fingerprint. `progress.json` is written last: what is done, by
what settings, and the checksum of every other file.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from accelerate.utils.constants import SAFE_WEIGHTS_NAME
from safetensors import SafetensorError
from torch import Tensor, nn

from .json_files import check_fields, read_object, write_object
from .modeling_hashing import HashingPreTrainedModel
from .together import on_main_process
from .whole_files import finish, is_left_behind, naming_errors, sha256, sync_folder

PREFIX = "checkpoint-"
PROGRESS = "progress.json"

_PARTIAL = f"partial-{PREFIX}"
_REMEDY = "resume from another checkpoint, or train anew"
_SHOWN = 3  # differences in a message

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What a run was started with, as JSON.

    Attributes:
        fixed: what must be the same to go on: model, photos.
        free: what may be changed on the way: learning rate, seed.
    """

    fixed: Mapping[str, Any]
    free: Mapping[str, Any]


def frozen_weights(model: HashingPreTrainedModel) -> dict[str, Tensor]:
    """What a model has from the models it was built on and training leaves as it is, by name."""
    frozen = {parameter for parameter in model.backbone_parameters() if not parameter.requires_grad}
    return {name: parameter for name, parameter in model.named_parameters() if parameter in frozen}


def save_checkpoint(
    accelerator: Accelerator, output_dir: str | Path, epochs_done: int, step: int, settings: Settings
) -> None:
    """Keep the state of a run in place of its older checkpoints.

    It is written beside, then renamed: whenever a run is killed, there is a whole checkpoint, if there was one before.

    Args:
        accelerator: of the run; all processes call this.
        output_dir: folder of the run.
        epochs_done: finished epochs.
        step: finished optimizer steps.
        settings: of the run.

    Raises:
        OSError: if it cannot be written; the last checkpoint stays.
    """
    final = Path(output_dir) / f"{PREFIX}{epochs_done}"
    partial = final.with_name(f"{_PARTIAL}{epochs_done}")
    hook = accelerator.register_save_state_pre_hook(_leave_out_frozen)
    with naming_errors(final):
        try:
            accelerator.save_state(str(partial))
        except RuntimeError as error:  # what torch.save makes of a full disk
            raise OSError(f"cannot write {final}: {error}") from error
        finally:
            hook.remove()
    accelerator.wait_for_everyone()  # each process writes a part of it
    progress = {"epochs_done": epochs_done, "step": step, "fixed": settings.fixed, "free": settings.free}
    on_main_process(accelerator, lambda: _finish(partial, final, progress))


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """What is done in a checkpoint: "epochs_done", "step" and, but for those of old versions, settings and checksums.

    Raises:
        ValueError: if it is damaged.
    """
    path = checkpoint / PROGRESS
    progress = read_object(path, {"epochs_done": int, "step": int}, _REMEDY)
    if "files" in progress:
        check_fields(progress, {"files": dict, "fixed": dict, "free": dict}, str(path), _REMEDY)
    if progress["epochs_done"] < 0 or progress["step"] < 0:
        raise ValueError(f"{path} is damaged (less than nothing is done): {_REMEDY}")
    return progress


def check_goes_on(checkpoint: Path, settings: Settings, num_train_epochs: int) -> None:
    """Refuse the checkpoint of another run; say what else is different.

    Args:
        checkpoint: to resume from.
        settings: of the run that goes on.
        num_train_epochs: that it is to reach.

    Raises:
        ValueError: if model or photos are others, more epochs are done than asked for, or it is damaged.
    """
    progress = read_progress(checkpoint)
    if progress["epochs_done"] > num_train_epochs:
        raise ValueError(
            f"{checkpoint} has {progress['epochs_done']} epochs done, more than --num_train_epochs {num_train_epochs}"
        )
    if "files" not in progress:
        logger.warning("%s is of an older version and does not know its settings: they are not compared", checkpoint)
        return
    if found := list(_differences(progress["fixed"], settings.fixed)):
        raise ValueError(
            f"{checkpoint} is of another run ({_in_words(found)}): go on with what it was trained with, or train anew"
        )
    if found := list(_differences(progress["free"], settings.free)):
        logger.warning("going on from %s with other settings: %s", checkpoint, _in_words(found))


def load_checkpoint(accelerator: Accelerator, checkpoint: Path) -> tuple[int, int]:
    """Take over the state in a checkpoint; give the epochs and steps that are done.

    Raises:
        ValueError: if it cannot be loaded; what `remove_others` has found whole, can.
    """
    progress = read_progress(checkpoint)
    hook = accelerator.register_load_state_pre_hook(_load_weights)
    try:
        accelerator.load_state(str(checkpoint))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError) as error:
        raise ValueError(f"{checkpoint} cannot be loaded ({error}): {_REMEDY}") from error
    finally:
        hook.remove()
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
    checkpoint = folder if (folder / PROGRESS).is_file() else newest_checkpoint(folder)
    if checkpoint is None:
        raise ValueError(
            f"no checkpoint to resume from in {folder}: expected {PREFIX}N folders or one of them. A run that was "
            "stopped before its first checkpoint begins anew, without --resume_from_checkpoint"
        )
    return checkpoint


def is_unfinished(path: Path) -> bool:
    """Whether this is something in a run's folder that a killed run has not finished: good for nothing."""
    return path.name.startswith(_PARTIAL) or is_left_behind(path)


def remove_others(output_dir: str | Path, checkpoint: Path | None) -> None:
    """Leave in a run's folder no checkpoint but the one that it goes on from, if that is whole.

    What a killed run has not finished is good for nothing, and the checkpoint of a run that is written over would be
    taken for one of this run.

    Args:
        output_dir: folder of the run.
        checkpoint: that the run goes on from, in this folder or elsewhere; None where it begins anew.

    Raises:
        ValueError: if a file of the checkpoint is damaged or missing.
    """
    if checkpoint is not None:
        _check_files(checkpoint, read_progress(checkpoint).get("files", {}))
    unfinished = Path(output_dir).glob(f"{_PARTIAL}*")
    others = [folder for folder in _checkpoints(output_dir) if not (checkpoint and folder.samefile(checkpoint))]
    for folder in (*unfinished, *others):
        shutil.rmtree(folder)


def _leave_out_frozen(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
    """Of FSDP and DeepSpeed, which save by themselves, there are no weights here."""
    for model, state in zip(models, weights, strict=False):
        for name in _frozen_names(model):
            del state[name]


def _load_weights(models: list[nn.Module], folder: str) -> None:
    """Take over what was saved, in place of Accelerate: of the models in this list it would expect all weights."""
    for model in models:
        found = model.load_state_dict(safetensors.torch.load_file(Path(folder) / SAFE_WEIGHTS_NAME), strict=False)
        if found.unexpected_keys or not set(found.missing_keys) <= _frozen_names(model):
            raise ValueError("its weights are of another model")
    models.clear()


def _frozen_names(model: nn.Module) -> set[str]:
    """Of `frozen_weights`, as a model calls them that may be wrapped for several processes."""
    frozen = set(frozen_weights(extract_model_from_parallel(model)).values())
    return {name for name, parameter in model.named_parameters() if parameter in frozen}


def _finish(partial: Path, final: Path, progress: dict[str, Any]) -> None:
    with naming_errors(final):
        files = [file for file in partial.rglob("*") if file.is_file()]
        for file in files:
            finish(file)
        checksums = {file.relative_to(partial).as_posix(): sha256(file) for file in files}
        write_object(partial / PROGRESS, progress | {"files": checksums})
        older = _checkpoints(final.parent)
        partial.rename(final)
        sync_folder(final.parent)
        for folder in older:
            shutil.rmtree(folder)


def _check_files(checkpoint: Path, files: Mapping[str, str]) -> None:
    for name, checksum in files.items():
        file = checkpoint / name
        if not file.is_file():
            raise ValueError(f"{file} is missing: {_REMEDY}")
        if sha256(file) != checksum:
            raise ValueError(f"{file} is damaged, its content does not have the checksum it was saved with: {_REMEDY}")


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """What both know, and know differently; a newer version may know more."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before.keys() & now.keys():
            yield from _differences(before[key], now[key], f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {_shown(before)}, now {_shown(now)}"


def _in_words(differences: list[str]) -> str:
    more = len(differences) - _SHOWN
    return "; ".join(sorted(differences)[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """Ours, by name and content: folders of other people with such names are left alone."""
    folders = Path(output_dir).glob(f"{PREFIX}*/{PROGRESS}")
    return [file.parent for file in folders if file.parent.name.removeprefix(PREFIX).isdecimal()]


def _epochs_done(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))
