"""How photos are to be read: for `load_photos`, and for the command line of every script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .bad_images import OnBadImage


def _option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What both a program and a command line can say.

    Attributes:
        data_dir: where a benchmark's unpacked archive, class folders or index files are, instead of the Hub. Of a
            table, a folder that its pictures may be read from, beside its own.
        image_column: name of the image column; found by the rule of `columns` if None.
        label_column: name of the label column; found by the rule of `columns` if None.
        label_separator: what stands between several labels in one text, e.g. "|".
        class_level: which folders name the classes, 1 for the first; found by what is there if None.
        train_split: what to train on: split(s) of a Hub dataset, or folder(s) in the one given, joined by "+".
        query_split: what to ask with.
        database_split: what to search; what is trained on if None.
        follow_symlinks: follow symbolic links out of a folder.
        max_image_pixels: pictures of more pixels are refused; PIL's limit if None.
    """

    data_dir: str | None = _option(
        "A benchmark's unpacked official archive, instead of the Hub; of a table, where else its pictures may lie."
    )
    image_column: str | None = _option("Column of a table with the pictures or their paths.")
    label_column: str | None = _option("Column of a table with the labels.")
    label_separator: str | None = _option('What stands between several labels in one text, such as "|".')
    class_level: int | None = _option("Which folders name the classes: 1 for the first, 2 for those below them.")
    train_split: str | None = _option("Split or folder to train on; several joined by +.")
    query_split: str | None = _option("Split or folder to ask with.")
    database_split: str | None = _option("Split or folder to search; default what is trained on.")
    follow_symlinks: bool = _option("Follow symbolic links that leave the folder.", False)
    max_image_pixels: int | None = _option("Refuse pictures of more pixels; default 89 million, as PIL has it.")

    def __post_init__(self) -> None:
        if self.class_level is not None and self.class_level < 1:
            raise ValueError(f"class_level counts from 1, the folders below that of a split; got {self.class_level}")

    @property
    def splits(self) -> dict[str, str]:
        """The splits that were named, theirs by ours."""
        named = {"train": self.train_split, "query": self.query_split, "database": self.database_split}
        return {split: names for split, names in named.items() if names is not None}


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of options by name those that somebody has given; the others are None, or a switch that is off."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


@dataclass(frozen=True, kw_only=True)
class LoadOptions(ReadOptions):
    """Everything that `load_photos` can be told.

    Attributes:
        class_names: names by label, where labels are numbers, or a stream's labels are texts.
        config_name: configuration of a Hub dataset.
        revision: of a Hub dataset.
        template: the text a class name is put into; the benchmark's, or "a photo of a {}".
        query_fraction: part of each class to ask with where there is no test split.
        seed: which photos those are, and which toy birds are drawn.
        streaming: read as they come, for what is too large to download (Hub datasets, parquet). Folders list their
            paths only and are as good as streams.
        on_bad_image: what to do about links out of a folder and files that no installed package can read: "raise",
            or "skip" and report. Other pictures are not opened here: for the unreadable ones see
            `PhotoSplits.torch_dataset`.
    """

    class_names: Sequence[str] | None = None
    config_name: str | None = None
    revision: str | None = None
    template: str | None = None
    query_fraction: float = 0.2
    seed: int = 0
    streaming: bool = False
    on_bad_image: OnBadImage = "raise"
