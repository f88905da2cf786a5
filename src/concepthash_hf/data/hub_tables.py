"""Datasets of the Hugging Face Hub, and copies of them on disk."""

from collections.abc import Mapping
from typing import Any

import datasets

from .labels import Photos
from .split_names import split_of


def read_hub(
    name_or_path: str,
    splits: Mapping[str, str] | None = None,
    *,
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> dict[str, Photos]:
    """Read a dataset of the Hub, or a local copy of one.

    Args:
        name_or_path: dataset id, or folder.
        splits: ours -> theirs, several joined by "+"; by their names if None.
        config_name: configuration.
        revision: commit, branch or tag.
        streaming: read it as it goes.

    Raises:
        ValueError: if it cannot be had, or none of its splits is to be trained on.
    """
    try:
        found = datasets.load_dataset(name_or_path, config_name, revision=revision, streaming=streaming)
    except Exception as error:  # offline, not there, gated, a script ...: each has its own exception
        raise ValueError(
            f"cannot load {name_or_path!r} from the Hugging Face Hub: {type(error).__name__}: {error}"
        ) from error
    return pick_splits(found, splits, name_or_path)


def pick_splits(found: Mapping[Any, Photos], splits: Mapping[str, str] | None, source: str) -> dict[str, Photos]:
    """Their splits as ours.

    Args:
        found: tables by their names.
        splits: ours -> theirs, several joined by "+"; by their names if None.
        source: for messages.

    Raises:
        ValueError: if a split is not there, two stand for the same, or none is to be trained on.
    """
    available = [str(name) for name in found]
    if not splits:
        splits = {}
        for name in available:
            if (ours := split_of(name)) in splits:
                raise _question(source, available)
            if ours is not None:
                splits[ours] = name
        if "train" not in splits and len(available) == 1:
            splits = {"train": available[0]}
    wanted = [name for names in splits.values() for name in names.split("+")]
    if "train" not in splits or not set(wanted) <= set(available):
        raise _question(source, available)
    return {ours: _joined([found[name] for name in names.split("+")]) for ours, names in splits.items()}


def _question(source: str, available: list[str]) -> ValueError:
    return ValueError(
        f"{source} has the splits {available}: say which to use with train_split=... and query_split=..."
    )


def _joined(tables: list[Photos]) -> Photos:
    return tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables)
