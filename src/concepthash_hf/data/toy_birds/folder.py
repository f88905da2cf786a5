"""Toy birds as files, to try what is done with photos of one's own."""

from pathlib import Path

from .drawing import draw_bird
from .species import SPECIES

_FIRST_SEED = 10**9  # far from those of `toy_birds`


def save_toy_birds(folder: str | Path, per_species: int = 10, size: int = 96) -> None:
    """Write toy birds that no training has seen, in a folder for each species.

    Args:
        folder: made if it is not there.
        per_species: pictures of each.
        size: side of a picture, in pixels.
    """
    for species in SPECIES:
        place = Path(folder) / species.name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(per_species):
            draw_bird(species, _FIRST_SEED + number, size).image.save(place / f"{number}.png")
