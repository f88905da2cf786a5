"""Where concepts look, what they mean, whether that is true, and pictures of it."""

from .attention import ConceptReadings, read_concepts
from .attributes import AttributeLift, AttributeTable, attribute_lifts, load_attributes, photo_attributes
from .contact_sheet import Found, Hit, contact_sheet
from .crops import attended_box, photo_as_seen
from .diversity import diversity
from .drawing import CONCEPT_COLOURS
from .faithfulness import deletion_insertion, faithfulness
from .families import class_codes, class_tree, draw_tree, family_agreement
from .gallery import ConceptGallery, SubCodeGroup, concept_gallery
from .image import ConceptExplanation, ImageExplanation, explain_image, explain_images
from .localisation import localisation
from .match import MatchExplanation, explain_match
from .overlay import concept_sheet, overlay_attention
from .report import ConceptSummary, Neighbour, QueryResult, Report
from .selectivity import selectivity
from .stability import stability
from .tables import Table, measurement_tables
from .vocabulary import PhraseScore, closest_phrases

__all__ = [
    "CONCEPT_COLOURS",
    "AttributeLift",
    "AttributeTable",
    "ConceptExplanation",
    "ConceptGallery",
    "ConceptReadings",
    "ConceptSummary",
    "Found",
    "Hit",
    "ImageExplanation",
    "MatchExplanation",
    "Neighbour",
    "PhraseScore",
    "QueryResult",
    "Report",
    "SubCodeGroup",
    "Table",
    "attended_box",
    "attribute_lifts",
    "class_codes",
    "class_tree",
    "closest_phrases",
    "concept_gallery",
    "concept_sheet",
    "contact_sheet",
    "deletion_insertion",
    "diversity",
    "draw_tree",
    "explain_image",
    "explain_images",
    "explain_match",
    "faithfulness",
    "family_agreement",
    "load_attributes",
    "localisation",
    "measurement_tables",
    "overlay_attention",
    "photo_as_seen",
    "photo_attributes",
    "read_concepts",
    "selectivity",
    "stability",
]
