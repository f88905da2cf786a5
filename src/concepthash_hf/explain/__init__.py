"""Where concepts look, and pictures of it."""

from .overlay import CONCEPT_COLOURS, concept_sheet, overlay_attention

__all__ = ["CONCEPT_COLOURS", "concept_sheet", "overlay_attention"]
