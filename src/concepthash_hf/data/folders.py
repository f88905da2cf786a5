"""Photos in folders: one folder a class, perhaps in one folder a split."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets

from .bad_images import BadImageLog, OnBadImage
from .columns import check_number_of_keys, to_dataset
from .labels import NotForTrainingError, tidy_name
from .pictures import IMAGE_SUFFIXES, PictureFinder, PictureFolder
from .split_names import SPLIT_ALIASES, is_filler, splits_by_name

PARTS_FILE = "parts.jsonl"
NAMES_IN_MESSAGE = 8


@dataclass(frozen=True)
class ClassFolders:
    """What was read from class folders.

    Attributes:
        tables: by split, with the columns "image", "label" (class names) and, if there are parts, "parts".
        notes: in words, what else is there.
    """

    tables: dict[str, datasets.Dataset]
    notes: tuple[str, ...]


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
    paths = list(PictureFinder(Path(folder), follow_symlinks, log).find().below())
    log.report()
    if not paths:
        raise ValueError(f"no pictures below {folder}; looked for files named {', '.join(sorted(IMAGE_SUFFIXES))}")
    return datasets.Dataset.from_dict({"image": paths}, features=datasets.Features(image=datasets.Image(decode=False)))


def read_class_folders(
    folder: Path,
    *,
    class_name: Callable[[str], str | None] = str,
    class_level: int | None = None,
    splits: Mapping[str, str] | None = None,
    follow_symlinks: bool = False,
    on_bad_image: OnBadImage = "raise",
) -> ClassFolders:
    """Read `<split>/<class>/**/<picture>`, or `<class>/**/<picture>` where there are no splits.

    Folders that hold nothing but one other folder are passed through: `archive/data/<class>`,
    `seg_train/seg_train/<class>`. What could be read in two ways is refused with what was seen: split folders beside
    others, two folders for one split, classes whose pictures all lie in several folders below them.

    Files that are not named as pictures, hidden files and folders, and folders that this package wrote are passed
    over. `parts.jsonl` beside the class folders or the splits gives part locations, a line `{"file": path from that
    folder, "parts": {name: [x, y]}}` a photo, in pixels of the upright picture.

    Args:
        folder: the folder.
        class_name: folder name to class name; None passes the folder over.
        class_level: which folders below a split name the classes, 1 for those directly in it; found by what is there
            if None.
        splits: folders by split, from `folder` on, several joined by "+"; "." is the folder itself. Found by their
            names if None.
        follow_symlinks: also follow symbolic links that leave the folder.
        on_bad_image: what to do about such links otherwise, "raise" or "skip".

    Raises:
        ValueError: if there are no pictures in class folders, or it is not clear which are the classes.
        BadImageError: for a symbolic link that leaves the folder.
    """
    log = BadImageLog(on_bad_image)
    finder = PictureFinder(folder, follow_symlinks, log)
    found = finder.find()
    log.report()
    by_split = _named_splits(found, splits) if splits else _split_folders(found)
    rows = {
        split: [
            (path, name)
            for part in parts
            for folder_name, class_folder in _class_folders(_unwrapped(part), class_level)
            if (name := class_name(folder_name)) is not None
            for path in class_folder.below()
        ]
        for split, parts in by_split.items()
    }
    for split, photos in rows.items():
        if not photos:
            where = by_split[split][0].path
            raise NotForTrainingError(
                f"no pictures in class folders in {where}: expected a folder for each class with its pictures in it, "
                f"e.g. {where / 'robin' / '1.jpg'}"
            )
    parts = _read_parts(folder / PARTS_FILE)
    check_number_of_keys(parts.values(), str(folder / PARTS_FILE))
    part_names = sorted({name for locations in parts.values() for name in locations})
    tables = {split: _to_table(photos, folder, parts, part_names) for split, photos in rows.items()}
    taken = {path for photos in rows.values() for path, _ in photos}
    notes = ["labels: the names of the folders", *_splits_in_words(folder, by_split)]
    left_out = [path for path in found.below() if path not in taken]
    if left_out:
        notes.append(f"left out: {len(left_out)} pictures that lie in no class folder, e.g. {left_out[0]}")
    return ClassFolders(tables, (*notes, *ignored_in_words(finder.ignored)))


def has_class_folders(folder: Path) -> bool:
    """Whether there are folders with pictures that could be classes: a look, for a table that lies beside them."""
    found = _unwrapped(PictureFinder(folder, True, BadImageLog("skip")).find())
    return len(found.folders) > 1 and not any(is_filler(child.name) for child in found.folders)


def ignored_in_words(ignored: Counter[str]) -> list[str]:
    """A line about what is no picture, or none."""
    if not ignored:
        return []
    listed = ", ".join(f"{count} {what}" for what, count in ignored.most_common(NAMES_IN_MESSAGE))
    return [f"ignored, no pictures: {listed}" + (" ..." if len(ignored) > NAMES_IN_MESSAGE else "")]


def _split_folders(found: PictureFolder) -> dict[str, list[PictureFolder]]:
    """The folders of every split; all is "train" where there are none."""
    found = _unwrapped(found)
    folders = found.folders
    split_of_name = splits_by_name([folder.name for folder in folders])
    named = [folder for folder in folders if folder.name in split_of_name]
    others = [folder for folder in folders if folder.name not in split_of_name]
    if not named or (len(named) == 1 and _is_vehicle(named[0], split_of_name) and others):
        return {"train": [found]}
    if others:
        raise _question(
            found, f"{_names(named)} look like splits, but beside them there are pictures in {_names(others)}"
        )
    if flat := [folder for folder in named if not folder.folders]:
        raise _question(found, f"{_names(named)} look like splits, but there are no class folders in {_names(flat)}")
    splits = [split_of_name[folder.name] for folder in named]
    if "train" not in splits:
        raise _question(found, f"{_names(named)} look like splits, but none is to train on")
    if len(set(splits)) < len(splits):
        raise _question(found, f"of the folders {_names(named)}, two stand for the same split")
    return {split: [folder] for split, folder in zip(splits, named, strict=True)}


def _is_vehicle(folder: PictureFolder, split_of_name: Mapping[str, str]) -> bool:
    """Whether a folder called "train" is a class: a split holds no pictures itself."""
    return split_of_name[folder.name] == "train" and bool(folder.pictures) and not folder.folders


def _named_splits(found: PictureFolder, splits: Mapping[str, str]) -> dict[str, list[PictureFolder]]:
    """The folders that the user said are the splits."""
    if "train" not in splits:
        raise _question(found, f"{', '.join(splits)} was given, but nothing to train on")
    return {split: [_folder_at(found, name) for name in names.split("+")] for split, names in splits.items()}


def _folder_at(found: PictureFolder, name: str) -> PictureFolder:
    here = found
    for part in Path(name).parts:
        inside = {folder.name: folder for folder in here.folders}
        if part not in inside:
            raise ValueError(
                f"there is no folder with pictures {name!r} in {found.path}; {here.path} has {_names(here.folders)}"
            )
        here = inside[part]
    return here


def _unwrapped(folder: PictureFolder) -> PictureFolder:
    """The folder that has the class or split folders, where there is only one way down to it."""
    while len(folder.folders) == 1 and folder.folders[0].folders and not folder.folders[0].pictures:
        folder = folder.folders[0]
    return folder


def _class_folders(folder: PictureFolder, level: int | None) -> list[tuple[str, PictureFolder]]:
    """Class folders with the names of the classes."""
    if level is None:
        for child in folder.folders:
            if not child.pictures and len(child.folders) > 1:
                raise NotForTrainingError(
                    f"which folders are the classes? In {folder.path} there is {_names(folder.folders)}, but "
                    f"{child.name!r} has no pictures itself, they lie in {_names(child.folders)} below it. Say which "
                    "folders name the classes: class_level=1 for the first, class_level=2 for those below them"
                )
        level = 1
    paths: list[tuple[PictureFolder, ...]] = [(child,) for child in folder.folders]
    for _ in range(level - 1):
        paths = [(*path, child) for path in paths for child in path[-1].folders]
    counts = Counter(path[-1].name for path in paths)
    # the same name in two places is two classes, told apart by what they are in
    return [
        (tidy_name(path[-1].name if counts[path[-1].name] == 1 else " ".join(part.name for part in path)), path[-1])
        for path in paths
    ]


def _question(found: PictureFolder, what: str) -> ValueError:
    return NotForTrainingError(
        f"which folders of {found.path} are the photos to train on? {what}. Say so with train_split=... and, if there "
        "are, query_split=..., database_split=...: names of folders in the one that is given, or train_split='.' if "
        "all of them are classes"
    )


def _names(folders: Iterable[PictureFolder]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(map(repr, names[:NAMES_IN_MESSAGE])) + (" ..." if len(names) > NAMES_IN_MESSAGE else "")


def _splits_in_words(folder: Path, by_split: Mapping[str, list[PictureFolder]]) -> list[str]:
    where = {
        split: " + ".join(part.path.relative_to(folder).as_posix() for part in parts)
        for split, parts in sorted(by_split.items(), key=lambda item: list(SPLIT_ALIASES).index(item[0]))
    }
    return [] if where == {"train": "."} else ["splits: " + ", ".join(f"{key} from {of}" for key, of in where.items())]


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
