"""Concept attention laid over photos, with numpy and PIL alone."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import BaseImageProcessor

from ..modeling_concepthash import ConceptHashPreTrainedModel
from .attention import read_batch
from .figure_parts import GAP, MARGIN, PAPER, concept_colour, draw_concept_heading, draw_text


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
    grey = pixels.mean(-1, keepdims=True) * 0.5 + 75
    lit = 0.6 * pixels + 0.4 * np.asarray(colour, dtype=np.float32)
    return Image.fromarray((weights * lit + (1 - weights) * grey).clip(0, 255).astype(np.uint8))


def concept_sheet(
    model: ConceptHashPreTrainedModel,
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
    attentions = read_batch(model, pixel_values)[1].cpu().numpy()
    photos = _to_images(pixel_values, image_processor)
    num_photos, num_concepts = attentions.shape[:2]
    caption_height = 20 if captions is not None else 0
    row_height = caption_height + tile + 2 * GAP
    width = 2 * MARGIN + (1 + num_concepts) * (tile + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + 24 + num_photos * row_height - 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)

    def left(column: int) -> int:
        return MARGIN + column * (tile + GAP)

    for concept in range(num_concepts):
        draw_concept_heading(draw, (left(concept + 1), MARGIN), concept, tile)
    for row, photo in enumerate(photos):
        top = MARGIN + 24 + row * row_height
        if captions is not None:
            draw_text(draw, (MARGIN, top), captions[row], width - 2 * MARGIN)
        sheet.paste(photo.resize((tile, tile), Image.Resampling.LANCZOS), (left(0), top + caption_height))
        for concept in range(num_concepts):
            looked = overlay_attention(photo, attentions[row, concept], concept_colour(concept))
            looked = looked.resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(looked, (left(concept + 1), top + caption_height))
    return sheet


def _to_images(pixel_values: Tensor, image_processor: BaseImageProcessor) -> list[Image.Image]:
    mean = torch.tensor(image_processor.image_mean).view(3, 1, 1)
    std = torch.tensor(image_processor.image_std).view(3, 1, 1)
    pixels = ((pixel_values.cpu().float() * std + mean) * 255).round().clamp(0, 255).byte()
    return [Image.fromarray(photo.permute(1, 2, 0).numpy()) for photo in pixels]
