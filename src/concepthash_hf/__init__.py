"""Interpretable image hashing with ConceptHash, Hugging Face style.

Names are imported when they are asked for: `concepthash_hf.codes` and `concepthash_hf.index` need no torch.
"""

from typing import TYPE_CHECKING

from ._version import __version__
from .auto_classes import register_when_imported
from .lazy_names import lazy_names

if TYPE_CHECKING:
    from .configuration_baseline import BaselineConfig, BaselineVisionConfig
    from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig
    from .hasher import ConceptHasher
    from .modeling_baseline import BaselineModel, BaselineVisionModel
    from .modeling_concepthash import (
        ConceptHashModel,
        ConceptHashOutput,
        ConceptHashVisionModel,
        ConceptHashVisionOutput,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "configuration_baseline": ("BaselineConfig", "BaselineVisionConfig"),
        "configuration_concepthash": ("ConceptHashConfig", "ConceptHashVisionConfig"),
        "hasher": ("ConceptHasher",),
        "modeling_baseline": ("BaselineModel", "BaselineVisionModel"),
        "modeling_concepthash": (
            *("ConceptHashModel", "ConceptHashOutput"),
            *("ConceptHashVisionModel", "ConceptHashVisionOutput"),
        ),
    },
)

register_when_imported()

__all__ = [
    "BaselineConfig",
    "BaselineModel",
    "BaselineVisionConfig",
    "BaselineVisionModel",
    "ConceptHashConfig",
    "ConceptHashModel",
    "ConceptHashOutput",
    "ConceptHashVisionConfig",
    "ConceptHashVisionModel",
    "ConceptHashVisionOutput",
    "ConceptHasher",
    "__version__",
]
