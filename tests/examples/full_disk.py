"""Run by `unshare -rm`: every script that writes, onto a full disk or onto one that is read-only.

Prints a JSON line for each: script, disk, and how it ended.
"""

import contextlib
import io
import json
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from runs import forget_accelerate

EXAMPLES = Path(__file__).parents[2] / "examples"


def main(model: str, clip: str, photos: str, index: str, place: Path) -> None:
    """Mount, fill, run."""
    full, fixed = place / "full", place / "fixed"
    for disk in (full, fixed):
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    with contextlib.suppress(OSError), open(full / "filled", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    subprocess.run(["mount", "-o", "remount,ro", fixed], check=True)
    small = ["--num_train_epochs", "1", "--per_device_train_batch_size", "8"]

    def commands(disk: Path) -> dict[str, list[str]]:
        out = str(disk / "out")
        return {
            "train": ["--dataset", photos, "--model_name_or_path", clip, "--output_dir", out, *small],
            "encode": ["--model", model, "--dataset", photos, "--output_dir", out],
            "evaluate": ["--model_name_or_path", model, "--dataset", photos, "--output_dir", out],
            "explain": ["--model_name_or_path", model, "--dataset", photos, "--output_dir", out],
            "search": ["--model", model, "--index", index, "--text", "finch", "--output", str(disk / "search.png")],
        }

    for disk, names in ((full, ("train", "encode", "evaluate")), (fixed, ("train", "explain", "search"))):
        for name in names:
            print(json.dumps([name, disk.name, run(name, commands(disk)[name])]), flush=True)


def run(name: str, words: list[str]) -> str:
    """The message that a script exits with."""
    forget_accelerate()
    sys.argv = [name, *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            return str(end)
        except BaseException:
            return traceback.format_exc()
    return "it worked"


if __name__ == "__main__":
    main(*sys.argv[1:5], Path(sys.argv[5]))
