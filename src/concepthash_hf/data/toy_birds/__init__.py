"""Toy birds: a small, fine-grained, fully annotated data set that is drawn on the spot.

A species is a combination of visible parts and is named after them ("red-crowned barred finch"); a family shares its
silhouette. Pose, scale, position, light and background vary and say nothing about the species. The exact outline of
every part is known, and one part of a bird can be changed with nothing else moving.
"""

from .dataset import toy_birds
from .drawing import ToyBird, change_part, draw_bird
from .folder import save_toy_birds
from .sheet import contact_sheet
from .species import FAMILIES, PARTS, SPECIES, VALUES, Species, find_species, split_species

__all__ = [
    "FAMILIES",
    "PARTS",
    "SPECIES",
    "VALUES",
    "Species",
    "ToyBird",
    "change_part",
    "contact_sheet",
    "draw_bird",
    "find_species",
    "save_toy_birds",
    "split_species",
    "toy_birds",
]
