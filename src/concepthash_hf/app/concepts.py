"""What each concept of a collection looks at, in words and pictures, and how sure that is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..codes import check_packed
from ..explain import ImageExplanation
from ..explain.shared_words import SharedWord, shared_words
from ..hits import has_label, label_in_words

_HALF = 0.5
_MOST_CROPS = 14
_THIRDS = (
    ("in the upper third", "at half height", "in the lower third"),
    ("in the left third", "halfway across", "in the right third"),
)


@dataclass(frozen=True)
class ConceptDescription:
    """What is known of a concept.

    Attributes:
        concept: its number, from 0.
        place: where it looks, in words.
        words: what photos share that agree in it.
        crops: what it looks at, in some photos.
    """

    concept: int
    place: str
    words: tuple[SharedWord, ...]
    crops: tuple[Image.Image, ...]

    @property
    def name(self) -> str | None:
        """The word that it is surely about; None if there is none."""
        return self.words[0].word if self.words and self.words[0].is_sure else None


def describe_concepts(
    explanations: Sequence[ImageExplanation],
    codes: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
    num_bits: int,
    num_concepts: int,
) -> list[ConceptDescription]:
    """Describe the concepts of a collection.

    Args:
        explanations: of some of its photos.
        codes: of photos of it, packed, uint8 `(n, ceil(K / 8))`.
        rows: what is known of the n photos.
        num_bits: K.
        num_concepts: M.
    """
    check_packed(codes, num_bits)
    names, has = words_of_rows(rows)
    labels = [label_in_words(row["label"]) if has_label(dict(row)) else str(number) for number, row in enumerate(rows)]
    classes = np.unique(labels, return_inverse=True)[1].ravel()
    words = shared_words(codes, num_bits, num_concepts, classes, has, names)
    return [
        ConceptDescription(
            concept,
            _place([each.concepts[concept].attention for each in explanations]),
            tuple(words[concept]),
            tuple(each.concepts[concept].crop for each in explanations[:_MOST_CROPS]),
        )
        for concept in range(num_concepts)
    ]


def words_of_rows(rows: Sequence[Mapping[str, Any]], most_values: int = 50) -> tuple[list[str], np.ndarray]:
    """What can be said of photos: the words of their class names, and values of metadata.

    Args:
        rows: of n photos.
        most_values: of a column; one with more says nothing that photos share.

    Returns:
        A texts, and bool `(n, A)`.
    """
    said: list[set[str]] = [set() for _ in rows]
    columns = sorted({name for row in rows for name in row} - {"label", "split"})
    for number, row in enumerate(rows):
        if has_label(dict(row)):
            said[number] |= set(re.findall(r"[^\W\d_][\w'-]+", label_in_words(row["label"]).lower()))
    for name in columns:
        values = {row.get(name) for row in rows if isinstance(row.get(name), str | int | bool)}
        if 2 <= len(values) <= most_values:
            for number, row in enumerate(rows):
                if row.get(name) in values:
                    said[number].add(f"{name}: {row[name]}")
    names = sorted(set().union(*said))
    place = {name: column for column, name in enumerate(names)}
    has = np.zeros((len(rows), len(names)), dtype=bool)
    for number, texts in enumerate(said):
        has[number, [place[text] for text in texts]] = True
    return names, has


def _place(attentions: Sequence[np.ndarray]) -> str:
    """Where a concept looks, from its maps `(h, w)`."""
    areas, peaks = [], np.zeros((2, 3), dtype=int)
    for attention in attentions:
        falling = np.sort(attention.ravel())[::-1].cumsum()
        areas.append((np.searchsorted(falling, _HALF * falling[-1]) + 1) / attention.size)
        for axis, position in enumerate(np.unravel_index(attention.argmax(), attention.shape)):
            peaks[axis, 3 * position // attention.shape[axis]] += 1
    where = [
        f"{names[counts.argmax()]} (in {counts.max()} of {len(attentions)} photos)"
        for names, counts in zip(_THIRDS, peaks, strict=True)
        if counts.max() > len(attentions) / 2
    ]
    spot = f"Half of what it looks at lies on {np.mean(areas):.0%} of a photo"
    return f"{spot}, mostly {' and '.join(where)}." if where else f"{spot}, at no place in particular."
