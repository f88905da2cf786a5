"""Where concepts look and what they mean, in pictures, and whether that is true, in measurements (`measures`)."""

from .attention import ConceptReadings, read_concepts
from .contact_sheet import contact_sheet
from .gallery import ConceptGallery, concept_gallery
from .image import ImageExplanation, explain_image, explain_images
from .match import MatchExplanation, explain_match
from .measures import measure_concepts
from .overlay import concept_sheet, overlay_attention
from .report import Report
from .vocabulary import closest_phrases

__all__ = [
    "ConceptGallery",
    "ConceptReadings",
    "ImageExplanation",
    "MatchExplanation",
    "Report",
    "closest_phrases",
    "concept_gallery",
    "concept_sheet",
    "contact_sheet",
    "explain_image",
    "explain_images",
    "explain_match",
    "measure_concepts",
    "overlay_attention",
    "read_concepts",
]
