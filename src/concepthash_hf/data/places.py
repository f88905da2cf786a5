"""Where the pictures of a table may lie: inside it, or in files below the folder that the user named."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as pc
from huggingface_hub import constants

from .decode import NOT_FETCHED, is_address, is_on_hub
from .labels import Photos

_ROWS_AT_A_TIME = 1000


class PlaceError(ValueError):
    """A table names a picture that lies where it may not."""


class Places:
    """Folders that pictures may be read from.

    Args:
        folders: all that is below them; nothing elsewhere is opened, also not by a symbolic link.
        follow_symlinks: whether symbolic links may point elsewhere.
        hub_id: a dataset of the Hub whose files may be fetched from there.
    """

    def __init__(self, *folders: str | Path, follow_symlinks: bool = False, hub_id: str | None = None) -> None:
        self._whole = os.path.abspath if follow_symlinks else os.path.realpath
        self._folders = [os.path.join(self._whole(folder), "") for folder in folders]
        self._shown = folders[0]
        self._hub_id = hub_id
        self._is_folder_allowed: dict[str, bool] = {}  # most photos share theirs with others

    def check(self, photos: Photos, column: str, source: str) -> Photos:
        """Rows that name nothing else; a stream is looked at as it is read.

        Args:
            photos: rows with an undecoded image column.
            column: its name.
            source: of the rows, for messages.

        Raises:
            PlaceError: at the first that does; says which and what to do.
        """
        if isinstance(photos, datasets.IterableDataset):
            return photos.map(partial(self._check_row, column, source), features=photos.features)
        row = 0
        for rows in photos.select_columns([column]).with_format("arrow").iter(_ROWS_AT_A_TIME):
            pictures = rows.column(column)
            for data_missing, path in zip(
                pc.is_null(pc.struct_field(pictures, "bytes")).to_pylist(),
                pc.struct_field(pictures, "path").to_pylist(),
                strict=True,
            ):
                if data_missing and path is not None:
                    self._require(path, f"{source}, row {row}")
                row += 1
        return photos

    def _check_row(self, column: str, source: str, row: dict[str, Any]) -> dict[str, Any]:
        picture = row[column]
        if picture is not None and picture["bytes"] is None and picture["path"] is not None:
            self._require(picture["path"], source)
        return row

    def _require(self, path: str, where: str) -> None:
        if is_address(path):
            if not self._is_of_hub_dataset(path):
                raise PlaceError(f"{where}: the picture {path!r} is {NOT_FETCHED}")
        elif not self._is_allowed(path):
            raise PlaceError(
                f"{where}: the picture {path!r} is not below {self._shown}, and is not opened; if you trust this "
                "table, give the folder of its pictures with data_dir=..."
            )

    def _is_of_hub_dataset(self, path: str) -> bool:
        file = path.rpartition("hf://datasets/")[2]
        return (
            self._hub_id is not None and is_on_hub(path) and file.startswith((f"{self._hub_id}@", f"{self._hub_id}/"))
        )

    def _is_allowed(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            return self._is_below(path)
        if folder not in self._is_folder_allowed:
            self._is_folder_allowed[folder] = self._is_below(folder)
        return self._is_folder_allowed[folder]

    def _is_below(self, path: str) -> bool:
        try:
            return os.path.join(self._whole(path), "").startswith(tuple(self._folders))
        except ValueError:  # a name that no file can have
            return False


def hub_places(hub_id: str) -> Places:
    """Where pictures of a dataset of the Hub may lie: in what was downloaded, or there."""
    return Places(constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE, hub_id=hub_id)
