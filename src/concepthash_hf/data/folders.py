"""Photos in folders: one folder a class."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import datasets

from .bad_images import BadImageLog, OnBadImage
from .columns import split_of, to_dataset
from .decode import BadImageError

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
PARTS_FILE = "parts.jsonl"


def list_photos(
    folder: str | Path, *, follow_symlinks: bool = False, on_bad_image: OnBadImage = "raise"
) -> datasets.Dataset:
    """All pictures below a folder, without labels, for hashing: one column, "image", undecoded, ordered by path.

    Args:
        folder: where to look, also in the folders below it.
        follow_symlinks: also follow symbolic links that leave the folder.
        on_bad_image: what to do about such links otherwise, "raise" or "skip".

    Raises:
        ValueError: if there is no picture.
        BadImageError: for a symbolic link that leaves the folder.
    """
    log = BadImageLog(on_bad_image)
    paths = list(_pictures(Path(folder), os.path.realpath(folder), follow_symlinks, log))
    log.report()
    if not paths:
        raise ValueError(f"no pictures below {folder}; looked for files named {', '.join(sorted(IMAGE_SUFFIXES))}")
    return datasets.Dataset.from_dict({"image": paths}, features=datasets.Features(image=datasets.Image(decode=False)))


def read_class_folders(
    folder: Path,
    *,
    class_name: Callable[[str], str | None] = str,
    follow_symlinks: bool = False,
    on_bad_image: OnBadImage = "raise",
) -> dict[str, datasets.Dataset]:
    """Read `<split>/<class>/**/<picture>`, or `<class>/**/<picture>` where there are no splits.

    Files that are not named as pictures, hidden files and hidden folders are passed over. `parts.jsonl` beside the
    class folders or the splits gives part locations, a line `{"file": path from that folder, "parts": {name: [x, y]}}`
    a photo, in pixels of the upright picture.

    Args:
        folder: the folder.
        class_name: folder name to class name; None passes the folder over.
        follow_symlinks: also follow symbolic links that leave the folder.
        on_bad_image: what to do about such links otherwise, "raise" or "skip".

    Returns:
        Tables by split with the columns "image", "label" (class names) and, if there are parts, "parts".

    Raises:
        ValueError: if there are no pictures in class folders.
        BadImageError: for a symbolic link that leaves the folder.
    """
    log = BadImageLog(on_bad_image)
    root = os.path.realpath(folder)
    split_folders = {split: child for child in _subfolders(folder) if (split := split_of(child.name))}
    if "train" not in split_folders:
        split_folders = {"train": folder}
    rows = {
        split: [
            (path, name)
            for class_folder in _subfolders(child)
            if (name := class_name(class_folder.name)) is not None
            for path in _pictures(class_folder, root, follow_symlinks, log)
        ]
        for split, child in split_folders.items()
    }
    log.report()
    for split, found in rows.items():
        if not found:
            raise ValueError(
                f"no pictures in {split_folders[split]}: expected a folder for each class with its pictures in it, "
                f"e.g. {split_folders[split] / 'robin' / '1.jpg'}"
            )
    parts = _read_parts(folder / PARTS_FILE)
    part_names = sorted({name for locations in parts.values() for name in locations})
    return {split: _to_table(found, folder, parts, part_names) for split, found in rows.items()}


def _to_table(
    rows: list[tuple[str, str]], folder: Path, parts: Mapping[str, Mapping[str, list[float]]], part_names: list[str]
) -> datasets.Dataset:
    paths, classes = zip(*rows, strict=True)
    columns: dict[str, list] = {"image": list(paths), "label": list(classes)}
    if parts:
        located = [parts.get(Path(path).relative_to(folder).as_posix(), {}) for path in paths]
        columns["parts"] = [{name: found.get(name) for name in part_names} for found in located]
    return to_dataset(columns, part_names)


def _read_parts(file: Path) -> dict[str, dict[str, list[float]]]:
    if not file.is_file():
        return {}
    parts = {}
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                parts[row["file"]] = {name: [float(x), float(y)] for name, (x, y) in row["parts"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f'{file}, line {number}: expected {{"file": ..., "parts": {{name: [x, y]}}}}, '
                    f"got {line.strip()[:80]!r}"
                ) from error
    return parts


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _pictures(folder: Path, root: str, follow_symlinks: bool, log: BadImageLog) -> Iterator[str]:
    """Paths of all pictures below a folder, in order."""
    if folder.is_symlink() and not _stays(folder, root, follow_symlinks, log):
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _pictures(Path(entry.path), root, follow_symlinks, log)
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
            if not entry.is_symlink() or _stays(entry.path, root, follow_symlinks, log):
                yield entry.path


def _stays(link: str | Path, root: str, follow_symlinks: bool, log: BadImageLog) -> bool:
    """Whether a symbolic link may be followed."""
    target = os.path.realpath(link)
    if follow_symlinks or os.path.commonpath([target, root]) == root:
        return True
    log.add(
        BadImageError.of(
            str(link), f"a symbolic link that leaves the folder, to {target}; follow_symlinks=True allows it"
        )
    )
    return False
