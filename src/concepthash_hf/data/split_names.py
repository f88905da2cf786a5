"""Which split a folder, a file, a Hub split or a cell of a table stands for."""

import re
from collections.abc import Iterable

SPLIT_ALIASES = {
    "train": ("train", "training", "trainset", "trn"),
    "query": ("test", "testing", "testset", "query", "queries"),
    "database": ("database", "gallery"),
    "validation": ("validation", "valid", "val", "dev"),
}
# words that people put beside: training_set, test-images, train_labels.csv
_FILLERS = frozenset(
    "set data dataset split subset image images img imgs photo photos picture pictures file files folder label labels "
    "metadata annotations list".split()
)
_WORD = re.compile(r"[^\W\d_]+|\d+")


def split_of(name: object) -> str | None:
    """The split that a name stands for, in any case and with words such as "set" or "images" beside it.

    Example:
        >>> split_of("Training_set"), split_of("val"), split_of("trainer"), split_of("test 2")
        ('train', 'validation', None, None)
    """
    split, others = _split_and_others(name)
    return split if not others else None


def is_filler(name: str) -> bool:
    """Whether a name says only that there are pictures or such: no class is called so.

    Example:
        >>> is_filler("Images"), is_filler("image_files"), is_filler("wren photos")
        (True, True, False)
    """
    return all(word in _FILLERS for word in _WORD.findall(name.lower()))


def splits_by_name(names: Iterable[str]) -> dict[str, str]:
    """Name -> split, for names that stand for one.

    Names with a further word do where several splits have the same one: `seg_train` and `seg_test`.

    Example:
        >>> splits_by_name(["seg_train", "seg_test", "seg_pred"])
        {'seg_train': 'train', 'seg_test': 'query'}
        >>> splits_by_name(["train", "test", "robin"])
        {'train': 'train', 'test': 'query'}
        >>> splits_by_name(["express_train", "tram"])
        {}
    """
    read = {name: _split_and_others(name) for name in names}
    families: dict[tuple[str, ...], set[str]] = {}
    for split, others in read.values():
        if split is not None:
            families.setdefault(others, set()).add(split)
    return {
        name: split
        for name, (split, others) in read.items()
        if split is not None and (not others or {"train"} < families[others])
    }


def _split_and_others(name: object) -> tuple[str | None, tuple[str, ...]]:
    """The one split that words of the name stand for, and its other words."""
    words = [word for word in _WORD.findall(str(name).lower()) if word not in _FILLERS]
    splits = {word: split for split, aliases in SPLIT_ALIASES.items() for word in words if word in aliases}
    split = next(iter(splits.values())) if len(set(splits.values())) == 1 else None
    return split, tuple(word for word in words if word not in splits)
