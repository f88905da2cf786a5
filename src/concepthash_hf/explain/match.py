"""Why two photos match, or do not: concept by concept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from transformers import BaseImageProcessor

from ..modeling_concepthash import ConceptHashPreTrainedModel
from .figure_parts import GAP, INK, MARGIN, MUTED, PAPER, bit_strip, bit_strip_height, draw_concept_heading, draw_text
from .image import ImageExplanation, explain_images


@dataclass(frozen=True)
class MatchExplanation:
    """Two photos side by side.

    Attributes:
        query: the photo that was asked with.
        match: the one it is compared with.
    """

    query: ImageExplanation
    match: ImageExplanation

    @property
    def differing(self) -> np.ndarray:
        """Booleans `(M, K / M)`: the bits that differ."""
        pairs = zip(self.query.concepts, self.match.concepts, strict=True)
        return np.stack([one.bits != other.bits for one, other in pairs])

    @property
    def distances(self) -> np.ndarray:
        """int64 `(M,)`: how many bits of each sub-code differ."""
        return self.differing.sum(axis=1)

    @property
    def distance(self) -> int:
        """How many bits of the code differ: the Hamming distance."""
        return int(self.differing.sum())

    def verdict(self, concept: int) -> str:
        """Whether a concept agrees, in words."""
        differing, bits = int(self.distances[concept]), self.differing.shape[1]
        return "agrees" if differing == 0 else f"differs in {differing} of {bits} bits"

    def to_dict(self) -> dict[str, Any]:
        """What a program reads."""
        return {
            "distance": self.distance,
            "concept_distances": self.distances.tolist(),
            "photos": [self.query.to_dict(), self.match.to_dict()],
        }

    def figure(self, captions: tuple[str, str] = ("query", "match"), tile: int = 144) -> Image.Image:
        """Both photos, and a column for each concept: where it looked in either, and the two sub-codes between.

        Bits that differ are underlined.

        Args:
            captions: a line for each photo.
            tile: width and height of a picture in the figure, in pixels.

        Returns:
            An RGB picture on white.
        """
        num_concepts, bits_per_concept = self.differing.shape
        bits_height = bit_strip_height(bits_per_concept, tile)
        first = MARGIN + 44  # top of the query's row, of the bits, of the match's row
        bits_top = first + tile + GAP + 2
        second = bits_top + 2 * bits_height + GAP
        size = (2 * MARGIN + (1 + num_concepts) * (tile + GAP) - GAP, second + tile + 22 + MARGIN)
        figure = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(figure)
        draw_text(draw, (MARGIN, first - 20), captions[0], tile)
        draw_text(draw, (MARGIN, second + tile + 4), captions[1], tile)
        draw_text(draw, (MARGIN, bits_top + bits_height - 10), self._summary(), tile, size=14)
        figure.paste(self.query.thumbnail(tile), (MARGIN, first))
        figure.paste(self.match.thumbnail(tile), (MARGIN, second))
        for concept in range(num_concepts):
            left = MARGIN + (1 + concept) * (tile + GAP)
            draw_concept_heading(draw, (left, MARGIN), concept, tile)
            ink = MUTED if self.distances[concept] == 0 else INK
            draw_text(draw, (left, first - 20), self.verdict(concept), tile, ink=ink)
            for photo, top in ((self.query, first), (self.match, second)):
                figure.paste(photo.overlay(concept, tile), (left, top))
            for photo, top in ((self.query, bits_top), (self.match, bits_top + bits_height)):
                strip = bit_strip(photo.concepts[concept].bits, concept, tile, self.differing[concept])
                figure.paste(strip, (left, top))
        return figure

    def _summary(self) -> str:
        return f"{self.distance} of {self.differing.size} bits differ"


def explain_match(
    model: ConceptHashPreTrainedModel, image_processor: BaseImageProcessor, query: Any, match: Any
) -> MatchExplanation:
    """Explain why two photos have similar codes, or do not: which concepts agree, and where each looked.

    Args:
        model: in any mode, which it keeps; any attention implementation.
        image_processor: the model's.
        query: a photo, as `explain_image` takes it.
        match: another.

    Returns:
        The explanation; `.figure()` draws it.

    Raises:
        TypeError: see `explain_image`.
        ValueError: see `explain_image`.

    Example:
        >>> match = explain_match(model, processor, "jay.jpg", "bunting.jpg")  # doctest: +SKIP
        >>> match.distance, match.distances  # doctest: +SKIP
        (5, array([0, 2, 0, 3]))
    """
    return MatchExplanation(*explain_images(model, image_processor, [query, match]))
