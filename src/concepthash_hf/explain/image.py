"""Why a photo has the code that it has: for every concept, its sub-code and where it looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import BaseImageProcessor

from ..codes import binarize, pack_bits, split_sub_codes
from ..data import decode_image
from ..modeling_concepthash import ConceptHashPreTrainedModel
from .attention import read_batch
from .crops import attended_box, photo_as_seen
from .figure_parts import (
    GAP,
    MARGIN,
    PAPER,
    bit_strip,
    bit_strip_height,
    concept_colour,
    draw_concept_heading,
    draw_text,
    outline,
    zeros_and_ones,
)
from .meaning import what_it_proves
from .overlay import overlay_attention


@dataclass(frozen=True)
class ConceptExplanation:
    """What one concept makes of a photo.

    Attributes:
        concept: its number, from 0.
        bits: booleans `(K / M,)`, its sub-code.
        attention: float32 `(h, w)`, the share of the last layer's attention that each patch gets, averaged over heads;
            0 outside of the concept's region, if the model has regions.
        crop: the part of the photo that it looks at most, from `attended_box`.
    """

    concept: int
    bits: np.ndarray
    attention: np.ndarray
    crop: Image.Image

    @property
    def sub_code(self) -> str:
        """The bits as text, such as "01101001"."""
        return zeros_and_ones(self.bits)


@dataclass(frozen=True)
class ImageExplanation:
    """Why a photo has the code that it has.

    Attributes:
        photo: what the model sees of it, a square, from `photo_as_seen`.
        code: uint8 `(ceil(K / 8),)`, the packed code.
        concepts: one explanation for each of the M concepts.
        read_out: how the model's concepts read a photo, see `ConceptHashVisionConfig`.
    """

    photo: Image.Image
    code: np.ndarray
    concepts: tuple[ConceptExplanation, ...]
    read_out: str = "attention"

    def to_dict(self) -> dict[str, Any]:
        """What a program reads."""
        return {"code": self.code.tolist(), "sub_codes": [concept.sub_code for concept in self.concepts]}

    @property
    def what_it_proves(self) -> str:
        """Whether this is a picture of attention or a guarantee, in words."""
        return what_it_proves(self.read_out)

    def overlay(self, concept: int, size: int = 144) -> Image.Image:
        """Where a concept looks: lit there, grey elsewhere, framed where it looks most.

        Args:
            concept: its number, from 0.
            size: width and height, in pixels.
        """
        explained, colour = self.concepts[concept], concept_colour(concept)
        lit = overlay_attention(self.thumbnail(size), explained.attention, colour)
        return outline(lit, attended_box(explained.attention, size), colour)

    def thumbnail(self, size: int = 144) -> Image.Image:
        """The photo as seen, `size` pixels wide and high."""
        return self.photo.resize((size, size), Image.Resampling.LANCZOS)

    def figure(self, caption: str = "", tile: int = 144) -> Image.Image:
        """The photo, and a column for each concept: where it looks, that part enlarged, its bits.

        Args:
            caption: a line above.
            tile: width and height of a picture in the figure, in pixels.

        Returns:
            An RGB picture on white.
        """
        bits_height = bit_strip_height(len(self.concepts[0].bits), tile)
        top = MARGIN + (26 if caption else 0)
        below = top + 24 + tile + GAP  # of the overlays
        size = (MARGIN * 2 + (1 + len(self.concepts)) * (tile + GAP) - GAP, below + tile + GAP + bits_height + MARGIN)
        figure = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(figure)
        draw_text(draw, (MARGIN, MARGIN), caption, size[0] - 2 * MARGIN, size=15)
        draw_text(draw, (MARGIN, top), "the photo as seen", tile, size=14)
        figure.paste(self.thumbnail(tile), (MARGIN, top + 24))
        for explained in self.concepts:
            left = MARGIN + (1 + explained.concept) * (tile + GAP)
            draw_concept_heading(draw, (left, top), explained.concept, tile)
            figure.paste(self.overlay(explained.concept, tile), (left, top + 24))
            figure.paste(explained.crop.resize((tile, tile), Image.Resampling.LANCZOS), (left, below))
            figure.paste(bit_strip(explained.bits, explained.concept, tile), (left, below + tile + GAP))
        return figure


def explain_image(
    model: ConceptHashPreTrainedModel, image_processor: BaseImageProcessor, image: Any
) -> ImageExplanation:
    """Explain the code of a photo, concept by concept (paper section 4, figures of concept attention).

    Args:
        model: in any mode, which it keeps; any attention implementation.
        image_processor: the model's.
        image: a path, URL, bytes or `PIL.Image.Image`, read by `data.decode_image`.

    Returns:
        The explanation; `.figure()` draws it.

    Raises:
        TypeError: if the model has no concepts.
        ValueError: if the picture cannot be read, or model and image processor do not fit each other.

    Example:
        `explain_image(model, processor, "jay.jpg").figure("a blue jay").save("jay.png")`
    """
    (explanation,) = explain_images(model, image_processor, [image])
    return explanation


def explain_images(
    model: ConceptHashPreTrainedModel, image_processor: BaseImageProcessor, images: Sequence[Any]
) -> list[ImageExplanation]:
    """Explain the codes of several photos, in one batch, or of none: see `explain_image`."""
    if not isinstance(model, ConceptHashPreTrainedModel):
        raise TypeError(
            f"a {type(model).__name__} has no concepts to explain; give a ConceptHashModel or ConceptHashVisionModel"
        )
    photos = [decode_image(image) for image in images]
    if not photos:
        return []
    pixel_values = image_processor(photos, return_tensors="pt")["pixel_values"]
    return explain_pixels(model, pixel_values, [photo_as_seen(photo, image_processor) for photo in photos])


def explain_pixels(
    model: ConceptHashPreTrainedModel, pixel_values: Tensor, photos: Sequence[Image.Image]
) -> list[ImageExplanation]:
    """Explain the codes of photos that are prepared already.

    Args:
        model: in any mode, which it keeps; any attention implementation.
        pixel_values: float `(B, 3, H, W)`, normalised by the model's image processor, on any device.
        photos: B squares, each what the model sees, from `photo_as_seen`.
    """
    code_logits, attentions = read_batch(model, pixel_values)
    bits = binarize(code_logits).cpu().numpy()
    read_out = model.base_model.config.read_out
    return [
        _explanation(photo, photo_bits, maps, read_out)
        for photo, photo_bits, maps in zip(photos, bits, attentions.cpu().numpy(), strict=True)
    ]


def _explanation(photo: Image.Image, bits: np.ndarray, attentions: np.ndarray, read_out: str) -> ImageExplanation:
    """Bits `(K,)` and attentions `(M, h, w)` of a photo, by concept."""
    sub_codes = split_sub_codes(bits, len(attentions))
    concepts = [
        ConceptExplanation(concept, sub_code, attention, photo.crop(attended_box(attention, photo.width)))
        for concept, (sub_code, attention) in enumerate(zip(sub_codes, attentions, strict=True))
    ]
    return ImageExplanation(photo, pack_bits(bits), tuple(concepts), read_out)
