"""A saved model as config and weights that belong together: written as one, and a mixture of two models is refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME, cached_file

from .whole_files import one_writer, put_together, scratch_folder, sha256, write_json

CHECKSUMS = "weights_sha256"  # field of config.json: the file of weights, or all its shards, by name
# what a saved model consists of: of an older one nothing of it may be left
WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json")


def save_together(save: Callable[[Path], Any], folder: Path) -> None:
    """Save a model in place of the one that is there: whatever happens on the way, the folder holds one of them.

    Args:
        save: writes config and weights into a folder.
        folder: made if it is not there; files of other names stay.

    Raises:
        BlockingIOError: if another process is writing there.
        OSError: if a file cannot be written.
    """
    with one_writer(folder), scratch_folder(folder) as scratch:
        save(scratch)
        config = json.loads((scratch / CONFIG_NAME).read_text(encoding="utf-8"))
        config[CHECKSUMS] = {file.name: sha256(file) for file in sorted(scratch.glob("*.safetensors"))}
        write_json(scratch / CONFIG_NAME, dict(sorted(config.items())))
        put_together(scratch, folder, [file.name for pattern in WEIGHTS for file in folder.glob(pattern)])


def check_belong(source: str | Path, config: Mapping[str, Any], hub_kwargs: Mapping[str, Any]) -> None:
    """Refuse weights that were not saved with this config; older versions did not say which were.

    Args:
        source: folder or Hub id.
        config: what is in its config.json.
        hub_kwargs: `revision`, `subfolder`, `token`, ...

    Raises:
        ValueError: if a file of weights is damaged, or of another model.
    """
    if (checksums := config.get(CHECKSUMS)) is None:
        return
    if not isinstance(checksums, dict) or not checksums:
        raise ValueError(f"{CONFIG_NAME} of {source} is damaged: {CHECKSUMS} should list the files of weights")
    sub_folder = Path(source) / hub_kwargs.get("subfolder", "")
    present = {file.name for file in sub_folder.glob(WEIGHTS[0])}
    for name in sorted(checksums.keys() | present):
        try:
            path = cached_file(source, name, **hub_kwargs)
        except OSError:
            continue  # who reads the weights tells which is missing
        if path is not None and sha256(Path(path)) != checksums.get(name):
            raise ValueError(
                f"{source} is damaged or incomplete: {name} is not what was saved together with its {CONFIG_NAME}. "
                "Copy or download all files again (force_download=True), or save the model again"
            )
