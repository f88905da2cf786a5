"""Concept attention laid over photos, with numpy and PIL alone."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from transformers import BaseImageProcessor

from ..modeling_concepthash import ConceptHashModel, ConceptHashVisionModel, evaluating

# Okabe and Ito's palette, told apart under every common colour blindness; concepts beyond it start over
CONCEPT_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)

_GAP, _MARGIN = 6, 12
_PAPER, _INK = (255, 255, 255), (60, 60, 60)


def overlay_attention(image: Image.Image, attention: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """Show where a concept looks: the photo there, with a tint of the concept's colour, and dimmed to grey elsewhere.

    Args:
        image: RGB, the pixels that the model saw.
        attention: `(h, w)`, not negative, one value a patch; shown by the square root of its share of the largest.
        colour: RGB, 0 to 255.

    Returns:
        RGB of the size of `image`.
    """
    relative = np.sqrt(attention / max(float(attention.max()), 1e-12))  # its amplitude: a few patches hold most of it
    grid = Image.fromarray((255 * relative).astype(np.uint8))
    weights = np.asarray(grid.resize(image.size, Image.Resampling.BICUBIC), dtype=np.float32)[..., None] / 255
    pixels = np.asarray(image, dtype=np.float32)
    grey = pixels.mean(-1, keepdims=True) * 0.5 + 60
    lit = 0.7 * pixels + 0.3 * np.asarray(colour, dtype=np.float32)
    return Image.fromarray((weights * lit + (1 - weights) * grey).clip(0, 255).astype(np.uint8))


@torch.no_grad()
def concept_sheet(
    model: ConceptHashModel | ConceptHashVisionModel,
    pixel_values: Tensor,
    image_processor: BaseImageProcessor,
    captions: Sequence[str] | None = None,
    tile: int = 144,
) -> Image.Image:
    """A sheet with a row for each photo: the photo, then where each concept looks.

    Args:
        model: in any mode, which it keeps; any attention implementation.
        pixel_values: float `(B, 3, H, W)`, normalised by `image_processor`.
        image_processor: the model's; says how to undo the normalisation.
        captions: a line above each row.
        tile: width and height of a picture in the sheet, in pixels.

    Returns:
        An RGB picture on white.

    Raises:
        ValueError: if there is not one caption for every photo.
    """
    if captions is not None and len(captions) != len(pixel_values):
        raise ValueError(f"{len(captions)} captions for {len(pixel_values)} photos")
    device = next(model.parameters()).device
    with evaluating(model):
        output = model(pixel_values.to(device), output_attentions=True)
    attentions = output.concept_attentions.float().cpu().numpy()
    num_photos, num_concepts, num_patches = attentions.shape
    side = round(num_patches**0.5)
    photos = _to_images(pixel_values, image_processor)

    font, heading = ImageFont.load_default(size=13), ImageFont.load_default(size=14)
    caption_height = 20 if captions is not None else 0
    row_height = caption_height + tile + 2 * _GAP
    width = 2 * _MARGIN + (1 + num_concepts) * (tile + _GAP) - _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + 22 + num_photos * row_height), _PAPER)
    draw = ImageDraw.Draw(sheet)

    def left(column: int) -> int:
        return _MARGIN + column * (tile + _GAP)

    for concept in range(num_concepts):
        colour = CONCEPT_COLOURS[concept % len(CONCEPT_COLOURS)]
        draw.rectangle((left(concept + 1), _MARGIN + 3, left(concept + 1) + 11, _MARGIN + 14), fill=colour)
        draw.text((left(concept + 1) + 18, _MARGIN), f"concept {concept + 1}", _INK, heading)
    for row, photo in enumerate(photos):
        top = _MARGIN + 24 + row * row_height
        if captions is not None:
            draw.text((_MARGIN, top), captions[row], _INK, font)
        sheet.paste(photo.resize((tile, tile), Image.Resampling.LANCZOS), (left(0), top + caption_height))
        for concept in range(num_concepts):
            colour = CONCEPT_COLOURS[concept % len(CONCEPT_COLOURS)]
            looked = overlay_attention(photo, attentions[row, concept].reshape(side, -1), colour)
            looked = looked.resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(looked, (left(concept + 1), top + caption_height))
    return sheet


def _to_images(pixel_values: Tensor, image_processor: BaseImageProcessor) -> list[Image.Image]:
    mean = torch.tensor(image_processor.image_mean).view(3, 1, 1)
    std = torch.tensor(image_processor.image_std).view(3, 1, 1)
    pixels = ((pixel_values.cpu().float() * std + mean) * 255).round().clamp(0, 255).byte()
    return [Image.fromarray(photo.permute(1, 2, 0).numpy()) for photo in pixels]
