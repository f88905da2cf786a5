"""A page of toy birds to look at."""

from collections.abc import Sequence

from PIL import Image

from .drawing import draw_bird
from .species import FAMILIES, SPECIES, Species


def contact_sheet(
    species: Sequence[Species] = SPECIES, per_species: int = 1, size: int = 192, gap: int = 6, seed: int = 0
) -> Image.Image:
    """Draws birds side by side, one row per family.

    Args:
        species: Which species.
        per_species: How many birds of each.
        size: Width and height of one bird in pixels.
        gap: White pixels between birds.
        seed: Seed of the first bird of each species; the others follow.
    """
    rows = [[s for s in species if s.family == family for _ in range(per_species)] for family in FAMILIES]
    rows = [row for row in rows if row]
    step = size + gap
    sheet = Image.new("RGB", (max(map(len, rows)) * step + gap, len(rows) * step + gap), "white")
    for y, row in enumerate(rows):
        for x, one in enumerate(row):
            bird = draw_bird(one, seed + x % per_species, size)
            sheet.paste(bird.image, (gap + x * step, gap + y * step))
    return sheet
