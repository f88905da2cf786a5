"""The reference implementation's index files: `train.txt`, `test.txt`, `database.txt`, `class_names.txt`."""

import re
from pathlib import Path

import datasets

from .columns import to_dataset

CLASS_NAMES_FILE = "class_names.txt"

_INDEX_LINE = re.compile(r"(?P<path>.*?\S)(?P<labels>(\s+[0-9]+)+)\s*")


def read_index_files(folder: Path) -> tuple[dict[str, datasets.Dataset], list[str] | None]:
    """Read the reference's index files: a line a photo, its path, then a label or one-hot vector.

    `train.txt` and `test.txt`, optionally `database.txt`, and `class_names.txt` with a name a line. Paths are relative
    to the folder, or, as the reference has it, to the working directory.

    Returns:
        Tables by split, and the class names if given. Labels are lists where any photo has several.

    Raises:
        ValueError: for a line that cannot be understood; it says which.
    """
    rows = {split: _read_index(folder / f"{split_file}.txt") for split, split_file in _index_files(folder).items()}
    single = all(len(labels) == 1 for found in rows.values() for _, labels in found)
    tables = {}
    for split, found in rows.items():
        paths, labels = zip(*found, strict=True)
        base = folder if (folder / paths[0]).exists() or not Path(paths[0]).exists() else Path()
        tables[split] = to_dataset(
            {"image": [str(base / path) for path in paths], "label": [row[0] if single else row for row in labels]}
        )
    names_file = folder / CLASS_NAMES_FILE
    if not names_file.is_file():
        return tables, None
    return tables, [name for line in names_file.read_text(encoding="utf-8-sig").splitlines() if (name := line.strip())]


def has_index_files(folder: Path) -> bool:
    """Whether a folder holds the reference's index files."""
    return {"train", "query"} <= _index_files(folder).keys()


def _index_files(folder: Path) -> dict[str, str]:
    files = {"train": "train", "query": "test", "database": "database"}
    return {split: name for split, name in files.items() if (folder / f"{name}.txt").is_file()}


def _read_index(file: Path) -> list[tuple[str, list[int]]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        match = _INDEX_LINE.fullmatch(line)
        numbers = [int(label) for label in match["labels"].split()] if match else []
        if match is None or (len(numbers) > 1 and not set(numbers) <= {0, 1}):
            raise ValueError(
                f"{file}, line {number}: expected a path, then a label or a vector of 0 and 1, got {line[:80]!r}"
            )
        one_hot = len(numbers) > 1
        rows.append((match["path"], [label for label, on in enumerate(numbers) if on] if one_hot else numbers))
    if not rows:
        raise ValueError(f"{file} lists no photos")
    return rows
