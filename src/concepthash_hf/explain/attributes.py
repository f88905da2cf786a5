"""What a concept means in words: attributes over-represented among the photos with one sub-code, or one bit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import hypergeom

from ..json_files import read_mapping
from .attention import ConceptReadings

BitsGroup = tuple[int, int | None, str, np.ndarray]


@dataclass(frozen=True)
class AttributeTable:
    """Which attributes the photos of a class have.

    Attributes:
        names: A names.
        of_class: bool `(C, A)`.
    """

    names: tuple[str, ...]
    of_class: np.ndarray

    def of_photos(self, labels: np.ndarray) -> np.ndarray:
        """The attributes of photos by their labels, int `(n,)` -> bool `(n, A)`."""
        return self.of_class[labels]


@dataclass(frozen=True)
class AttributeLift:
    """An attribute that photos with some bits have more often than others.

    Attributes:
        concept: 0, 1, ..., M - 1.
        bit: position in the sub-code, or None where the whole sub-code is meant.
        value: the bits, such as "01101001", or "1".
        attribute: its name.
        lift: share of the photos with these bits that have the attribute, over the share of all photos.
        count: photos with these bits and the attribute.
        num_with_bits: photos with these bits.
        num_with_attribute: photos with the attribute.
        p_value: chance of this count or a larger one if bits and attribute had nothing to do with each other
            (hypergeometric). Too small where all photos of a class have the same attributes, since those share bits
            as well; and not corrected for the number of attributes looked at.
    """

    concept: int
    bit: int | None
    value: str
    attribute: str
    lift: float
    count: int
    num_with_bits: int
    num_with_attribute: int
    p_value: float


def load_attributes(file: str | Path, class_names: Sequence[str], threshold: float = 50) -> AttributeTable:
    """Read attributes of classes.

    Args:
        file: JSON with "attributes" (A names), "classes" (names) and "percent", for each class a list of A numbers: of
            how many photos, or annotators, the attribute holds, 0 to 100.
        class_names: C names, by label.
        threshold: percent from which on a class has an attribute.

    Raises:
        ValueError: if the file has another form, or is of another dataset: it lacks some of the classes.
    """
    try:
        table = read_mapping(file)
        percent = np.array(table["percent"], dtype=float)
        classes, names = list(table["classes"]), tuple(table["attributes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{file} is no table of attributes: expected JSON with "attributes", "classes" and "percent" ({error!r})'
        ) from error
    if percent.shape != (len(classes), len(names)):
        raise ValueError(
            f"{file} has percentages of shape {percent.shape} for {len(classes)} classes and {len(names)} attributes"
        )
    if missing := [name for name in class_names if name not in classes]:
        raise ValueError(
            f"{file} is an attribute table of another dataset: it lacks {len(missing)} of {len(class_names)} classes "
            f"({', '.join(missing[:3])} ...); it has {', '.join(classes[:3])} ..."
        )
    rows = [classes.index(name) for name in class_names]
    return AttributeTable(names, percent[rows] >= threshold)


def photo_attributes(rows: Sequence[dict[str, str]]) -> tuple[tuple[str, ...], np.ndarray]:
    """Attributes of photos that have one value each, as those of the toy birds: `{"crown": "red", ...}`.

    Args:
        rows: n, with the same keys.

    Returns:
        Names such as "crown: red", of all values that occur, and bool `(n, A)`.
    """
    names = sorted({f"{key}: {value}" for row in rows for key, value in row.items()})
    position = {name: column for column, name in enumerate(names)}
    present = np.zeros((len(rows), len(names)), dtype=bool)
    for number, row in enumerate(rows):
        present[number, [position[f"{key}: {value}"] for key, value in row.items()]] = True
    return tuple(names), present


def attribute_lifts(
    readings: ConceptReadings,
    attributes: np.ndarray,
    names: Sequence[str],
    min_count: int = 5,
    max_p_value: float = 0.001,
    top: int = 5,
    groups: Iterable[BitsGroup] | None = None,
) -> list[AttributeLift]:
    """Find the attributes most over-represented for every value of every sub-code, and for both values of every bit.

    Args:
        readings: of n photos.
        attributes: bool `(n, A)`.
        names: A names.
        min_count: photos with bits and attribute, at least; rarer sub-code values are left out.
        max_p_value: of what is reported. With hundreds of attributes looked at for hundreds of values, a lax bound
            reports chance.
        top: attributes at most for the same bits, by lift.
        groups: photos to look at in place of these: concept, bit or None, value, and booleans `(n,)`, which have it.

    Returns:
        By concept, whole sub-codes before bits, frequent values before rare ones, larger lifts first.

    Raises:
        ValueError: if attributes and photos, or names, do not fit.
    """
    if attributes.shape != (len(readings), len(names)):
        raise ValueError(
            f"attributes of shape {attributes.shape} for {len(readings)} photos and {len(names)} names of attributes"
        )
    total = attributes.sum(0)
    found = []
    for concept, bit, value, chosen in _groups(readings.sub_codes, min_count) if groups is None else groups:
        size, counts = int(chosen.sum()), attributes[chosen].sum(0)
        p_values = hypergeom.sf(counts - 1, len(readings), total, size)
        with np.errstate(divide="ignore", invalid="ignore"):
            lifts = (counts / size) / (total / len(readings))
        kept = np.flatnonzero((counts >= min_count) & (p_values <= max_p_value) & (lifts > 1))
        for attribute in kept[np.lexsort((p_values[kept], -lifts[kept]))][:top]:
            found.append(
                AttributeLift(
                    concept=concept,
                    bit=bit,
                    value=value,
                    attribute=names[attribute],
                    lift=float(lifts[attribute]),
                    count=int(counts[attribute]),
                    num_with_bits=size,
                    num_with_attribute=int(total[attribute]),
                    p_value=float(p_values[attribute]),
                )
            )
    return found


def _groups(sub_codes: np.ndarray, min_count: int) -> Iterator[BitsGroup]:
    """Concept, bit, value, and which photos have it."""
    for concept, rows in enumerate(np.moveaxis(sub_codes, 1, 0)):
        values, member, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        for value in np.argsort(-sizes, kind="stable"):
            if sizes[value] >= min_count:
                yield concept, None, "".join(map(str, values[value].astype(int))), member.ravel() == value
        for bit in range(rows.shape[1]):
            for value in (1, 0):
                if (chosen := rows[:, bit] == value).sum() >= min_count:
                    yield concept, bit, str(value), chosen
