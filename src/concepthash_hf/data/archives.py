"""The benchmarks as their authors distribute them, unpacked."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from scipy.io import loadmat

from .columns import to_dataset
from .folders import read_class_folders
from .labels import is_number

Tables = dict[str, datasets.Dataset]


@dataclass(frozen=True)
class Archive:
    """How an unpacked archive looks and how to read it.

    Attributes:
        folder: the folder to give, as the archive names it.
        has: files and folders in it that tell it from others.
        read: reads it into tables by split and class names by label.
    """

    folder: str
    has: tuple[str, ...]
    read: Callable[[Path], tuple[Tables, list[str]]]

    def find(self, folder: Path) -> Path | None:
        """The archive's folder, if it is this one or right below it."""
        for candidate in (folder, folder / self.folder):
            if all((candidate / name).exists() for name in self.has):
                return candidate
        return None


def read_birds(root: Path) -> tuple[Tables, list[str]]:
    """CUB-200-2011 or NABirds: text files that join on an image id.

    Only classes with photos count (NABirds lists 1,011 nodes of a hierarchy, 555 of which have photos); labels follow
    the class ids. Further columns are "bbox", `[x, y, width, height]` in pixels, and "parts".
    """
    paths = _lines(root / "images.txt")
    class_of = _lines(root / "image_class_labels.txt")
    is_train = _lines(root / "train_test_split.txt")
    boxes = _lines(root / "bounding_boxes.txt") if (root / "bounding_boxes.txt").is_file() else {}
    part_names, located = _read_part_locations(root / "parts") if (root / "parts").is_dir() else ([], {})

    titles = _lines(root / "classes.txt")
    ids = sorted(
        set(class_of.values()), key=lambda number: (len(number), number) if is_number(number) else (0, number)
    )
    names = _unique([titles[number] for number in ids], ids)
    name_of = dict(zip(ids, names, strict=True))

    def table(images: list[str]) -> datasets.Dataset:
        columns: dict[str, list] = {
            "image": [str(root / "images" / paths[image]) for image in images],
            "label": [name_of[class_of[image]] for image in images],
        }
        if boxes:
            columns["bbox"] = [[float(number) for number in boxes[image].split()] for image in images]
        if part_names:
            columns["parts"] = [{name: located.get((image, name)) for name in part_names} for image in images]
        return to_dataset(columns, part_names)

    splits = {"train": "1", "query": "0"}
    return {
        split: table([image for image in paths if is_train[image] == flag]) for split, flag in splits.items()
    }, names


def read_aircraft(root: Path) -> tuple[Tables, list[str]]:
    """FGVC-Aircraft: train + validation are the training set; labels follow `variants.txt`.

    Further columns are "family" and "manufacturer".
    """

    def table(*parts: str) -> datasets.Dataset:
        levels: dict[str, dict[str, str]] = {}
        for level in ("variant", "family", "manufacturer"):
            files = [root / f"images_{level}_{part}.txt" for part in parts]
            if level == "variant" or all(file.is_file() for file in files):
                levels[level] = {image: name for file in files for image, name in _lines(file).items()}
        images = list(levels["variant"])
        columns = {level: [names[image] for image in images] for level, names in levels.items()}
        paths = [str(root / "images" / f"{image}.jpg") for image in images]
        return to_dataset({"image": paths, "label": columns.pop("variant"), **columns})

    names = [line for line in (root / "variants.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return {"train": table("train", "val"), "query": table("test")}, names


def read_cars(root: Path) -> tuple[Tables, list[str]]:
    """Stanford Cars: MATLAB annotations, labels follow `cars_meta.mat`.

    A further column is "bbox", `[x, y, width, height]` in pixels.

    Raises:
        ValueError: if the labels of the test photos are missing: the archive's devkit has them left out.
    """
    labelled = "cars_test_annos_withlabels.mat"
    test_file = next((file for file in (root / labelled, root / "devkit" / labelled) if file.is_file()), None)
    if test_file is None:
        raise ValueError(
            f"the labels of the test photos are a file of their own: put {labelled} into {root / 'devkit'}"
        )
    names = loadmat(root / "devkit" / "cars_meta.mat", squeeze_me=True)["class_names"].tolist()

    def table(file: Path, folder: str) -> datasets.Dataset:
        annotations = [_fields(row) for row in loadmat(file, squeeze_me=True)["annotations"].ravel()]
        return to_dataset(
            {
                "image": [str(root / folder / row["fname"]) for row in annotations],
                "label": [names[int(row["class"]) - 1] for row in annotations],
                "bbox": [
                    _box(*(float(row[f"bbox_{key}"]) for key in ("x1", "y1", "x2", "y2"))) for row in annotations
                ],
            }
        )

    train = table(root / "devkit" / "cars_train_annos.mat", "cars_train")
    return {"train": train, "query": table(test_file, "cars_test")}, names


def read_inat_birds(root: Path) -> tuple[Tables, list[str]]:
    """The birds among iNaturalist 2021's class folders, named genus and species; `val/` gives the queries."""

    def species(folder: str) -> str | None:
        ranks = folder.split("_")  # number, kingdom, phylum, class, order, family, genus, species
        return "_".join(ranks[6:]) if ranks[3:4] == ["Aves"] else None

    tables = read_class_folders(root, class_name=species).tables
    return {"train": tables["train"], "query": tables["validation"]}, sorted(set(tables["train"]["label"]))


ARCHIVES = {
    "nabirds": Archive("nabirds", ("images.txt", "train_test_split.txt", "hierarchy.txt"), read_birds),
    "cub200": Archive("CUB_200_2011", ("images.txt", "train_test_split.txt", "image_class_labels.txt"), read_birds),
    "aircraft": Archive("fgvc-aircraft-2013b/data", ("variants.txt", "images_variant_train.txt"), read_aircraft),
    "cars196": Archive("stanford_cars", ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat"), read_cars),
}
"""Archives that can be told by how they look; NABirds before CUB, whose files it also has."""


def find_archive(folder: Path) -> tuple[str, Path] | None:
    """Which benchmark's unpacked archive a folder is, and where it starts."""
    for name, archive in ARCHIVES.items():
        if (root := archive.find(folder)) is not None:
            return name, root
    return None


def _lines(file: Path) -> dict[str, str]:
    """First word of each line -> the rest."""
    pairs = (line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    return {key: rest.strip() for key, rest in pairs}


def _read_part_locations(folder: Path) -> tuple[list[str], dict[tuple[str, str], list[float]]]:
    """Part names, and `[x, y]` by image id and part name for the parts that are visible."""
    names = _lines(folder / "parts.txt")
    located = {}
    for line in (folder / "part_locs.txt").read_text(encoding="utf-8").splitlines():
        image, part, x, y, visible = line.split()
        if visible == "1":
            located[image, names[part]] = [float(x), float(y)]
    return list(names.values()), located


def _unique(names: list[str], ids: list[str]) -> list[str]:
    """The names, with the class id after those that several classes share."""
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} {number}" for name, number in zip(names, ids, strict=True)]


def _fields(row: Any) -> dict[str, Any]:
    return dict(zip(row.dtype.names, row, strict=True))


def _box(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """MATLAB's corners, counted from 1 and inclusive, to `[x, y, width, height]`."""
    return [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
