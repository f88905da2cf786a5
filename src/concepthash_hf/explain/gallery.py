"""The concept gallery: for each concept, photos that share a sub-code, cropped to where the concept looks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .attention import ConceptReadings
from .crops import attended_box
from .figure_parts import GAP, MARGIN, MUTED, PAPER, bit_strip, bit_strip_height, draw_concept_heading, draw_text

MOST_GROUPS, MOST_PHOTOS = 6, 8
_FEW = 4
"""Photos: where the usual row has fewer, equal sub-codes are rare, and near ones are put together."""
_CENTRES_TRIED = 64


@dataclass(frozen=True)
class SubCodeGroup:
    """Photos to which a concept gives the same sub-code, or one that is near it.

    Attributes:
        concept: its number, from 0.
        bits: booleans `(K / M,)`, the sub-code, that of most of them.
        rows: int64 `(n,)`, which photos have it, or one near it.
        shown: int64, some of `rows`: of as many classes as possible.
        crops: RGB, the shown photos cropped to where the concept looks.
    """

    concept: int
    bits: np.ndarray
    rows: np.ndarray
    shown: np.ndarray
    crops: tuple[Image.Image, ...]


@dataclass(frozen=True)
class ConceptGallery:
    """What each concept sees.

    Attributes:
        groups: for each of the M concepts, the sub-codes that most photos share, the most frequent first.
        num_values: for each concept, how many different sub-codes the photos have.
        num_photos: n.
        radii: for each concept, in how many bits a sub-code may differ from its row's; 0 where equal ones are common.
    """

    groups: tuple[tuple[SubCodeGroup, ...], ...]
    num_values: tuple[int, ...]
    num_photos: int
    radii: tuple[int, ...]

    def figure(self, columns: int = 2) -> Image.Image:
        """Draw the gallery as one picture.

        Args:
            columns: concepts side by side.

        Returns:
            An RGB picture on white.
        """
        blocks = [self._block(concept) for concept in range(len(self.groups))]
        width, height = (max(block.size[axis] for block in blocks) for axis in (0, 1))
        lines = -(-len(blocks) // columns)
        size = (
            2 * MARGIN + columns * (width + 3 * GAP) - 3 * GAP,
            2 * MARGIN + lines * (height + 3 * GAP) - 3 * GAP,
        )
        figure = Image.new("RGB", size, PAPER)
        for position, block in enumerate(blocks):
            line, column = divmod(position, columns)
            figure.paste(block, (MARGIN + column * (width + 3 * GAP), MARGIN + line * (height + 3 * GAP)))
        return figure

    def _block(self, concept: int, label: int = 128) -> Image.Image:
        """One concept: a heading, and a row for each sub-code."""
        groups = self.groups[concept]
        tile = groups[0].crops[0].width
        row_height = max(tile, bit_strip_height(len(groups[0].bits), label) + 18)
        width = label + GAP + max(len(group.crops) for group in groups) * (tile + 2) - 2
        block = Image.new("RGB", (width, 24 + len(groups) * (row_height + GAP) - GAP), PAPER)
        draw = ImageDraw.Draw(block)
        draw_concept_heading(draw, (0, 0), concept, label)
        told = f"{self.num_values[concept]} different sub-codes among {self.num_photos} photos"
        if radius := self.radii[concept]:
            told += f"; rows: within {bits_in_words(radius)}"
        draw_text(draw, (label + GAP, 1), told, width - label - GAP, ink=MUTED)
        for position, group in enumerate(groups):
            top = 24 + position * (row_height + GAP)
            strip = bit_strip(group.bits, concept, label)
            middle = top + (row_height - strip.height - 18) // 2
            block.paste(strip, (0, middle))
            draw_text(draw, (0, middle + strip.height), _photos(len(group.rows)), label, ink=MUTED)
            for place, crop in enumerate(group.crops):
                block.paste(crop, (label + GAP + place * (tile + 2), top))
        return block


def concept_gallery(
    readings: ConceptReadings,
    photo_of: Callable[[int], Image.Image],
    num_groups: int = MOST_GROUPS,
    num_photos: int = MOST_PHOTOS,
    crop_size: int = 96,
) -> ConceptGallery:
    """Group photos by the sub-code that each concept gives them, and show where it looked.

    A concept that means something shows the same thing along a row, and different things from row to row. To not show
    one class only, the photos of a row are taken in turn from the classes that share its sub-code. Where few photos
    have equal sub-codes (half of the rows would have fewer than four photos), near ones are put together: within as
    few bits as it takes, a quarter of the sub-code at most.

    Args:
        readings: of n photos, from `read_concepts`.
        photo_of: gives the photo of a row of the readings, as the model sees it (`photo_as_seen`).
        num_groups: sub-codes of a concept, at most.
        num_photos: photos of a sub-code, at most.
        crop_size: width and height of the crops, in pixels.

    Returns:
        The gallery; `.figure()` draws it.

    Raises:
        ValueError: if nothing is to be shown.
    """
    if min(num_groups, num_photos, crop_size) < 1:
        raise ValueError(
            f"a gallery needs one group, one photo and one pixel at least, got num_groups={num_groups}, "
            f"num_photos={num_photos}, crop_size={crop_size}"
        )
    of_concept = [_Values.of(sub_codes) for sub_codes in np.moveaxis(readings.sub_codes, 1, 0)]
    radii = [values.radius(num_groups) for values in of_concept]
    chosen = [values.groups(num_groups, radius) for values, radius in zip(of_concept, radii, strict=True)]
    shown = [[_in_turn(rows, readings.labels)[:num_photos] for _, rows in groups] for groups in chosen]
    crops = _crop(readings, photo_of, shown, crop_size)
    groups = [
        tuple(
            SubCodeGroup(concept, bits, rows, some, tuple(crops[int(row), concept] for row in some))
            for (bits, rows), some in zip(chosen[concept], shown[concept], strict=True)
        )
        for concept in range(readings.num_concepts)
    ]
    num_values = tuple(len(values.bits) for values in of_concept)
    return ConceptGallery(tuple(groups), num_values, len(readings), tuple(radii))


@dataclass(frozen=True)
class _Values:
    """The different sub-codes (v, K / M) of one concept, the most frequent first, and the rows that have each."""

    bits: np.ndarray
    rows: list[np.ndarray]

    @classmethod
    def of(cls, sub_codes: np.ndarray) -> "_Values":
        values, group_of, counts = np.unique(sub_codes, axis=0, return_inverse=True, return_counts=True)
        rows_of = np.split(np.argsort(group_of.ravel(), kind="stable"), np.cumsum(counts)[:-1])
        order = np.argsort(-counts, kind="stable")
        return cls(values[order], [rows_of[group] for group in order])

    def groups(self, number: int, radius: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Sub-codes, and the rows whose own differ from them in so many bits at most; each row is in one group.

        One after the other the sub-code is taken, among the frequent ones, that most rows are near to.
        """
        sizes = np.array([len(rows) for rows in self.rows])
        left = np.ones(len(sizes), dtype=bool)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        while len(found) < number and left.any():
            centres = np.flatnonzero(left)[:_CENTRES_TRIED]
            near = ((self.bits[centres, None] != self.bits).sum(-1) <= radius) & left
            best = (near * sizes).sum(1).argmax()
            members = np.flatnonzero(near[best])
            found.append((self.bits[centres[best]], np.sort(np.concatenate([self.rows[value] for value in members]))))
            left[members] = False
        return sorted(found, key=lambda group: -len(group[1]))

    def radius(self, number: int) -> int:
        """The least at which the usual group is not small, or the most that still is near."""
        most = self.bits.shape[1] // 4
        for radius in range(most):
            if np.median([len(rows) for _, rows in self.groups(number, radius)]) >= _FEW:
                return radius
        return most


def _crop(
    readings: ConceptReadings,
    photo_of: Callable[[int], Image.Image],
    shown: list[list[np.ndarray]],
    size: int,
) -> dict[tuple[int, int], Image.Image]:
    """Crops by row and concept; a photo is read once for all concepts, and not kept."""
    concepts_of: dict[int, list[int]] = {}
    for concept, groups in enumerate(shown):
        for row in np.concatenate(groups).tolist():
            concepts_of.setdefault(row, []).append(concept)
    crops = {}
    for row, concepts in concepts_of.items():
        photo = photo_of(row)
        for concept in concepts:
            part = photo.crop(attended_box(readings.attentions[row, concept], photo.width))
            crops[row, concept] = part.resize((size, size), Image.Resampling.LANCZOS)
    return crops


def _in_turn(rows: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """One row of each class, then a second of each, and so on; classes with more rows first."""
    if labels is None:
        return rows
    _, class_of, counts = np.unique(labels[rows], axis=0, return_inverse=True, return_counts=True)
    class_of, turn = class_of.ravel(), np.zeros(len(rows), dtype=int)
    for label in range(len(counts)):
        turn[class_of == label] = np.arange(counts[label])
    return rows[np.lexsort((class_of, -counts[class_of], turn))]


def bits_in_words(number: int) -> str:
    """Such as "1 bit"."""
    return f"{number} bit" if number == 1 else f"{number} bits"


def _photos(number: int) -> str:
    return f"{number} photo" if number == 1 else f"{number} photos"
