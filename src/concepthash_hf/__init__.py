"""Interpretable image hashing with ConceptHash, Hugging Face style.

Names are imported when they are asked for: `concepthash_hf.codes` and `concepthash_hf.index` need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .auto_classes import register_when_imported

if TYPE_CHECKING:
    from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig
    from .hasher import ConceptHasher
    from .modeling_concepthash import (
        ConceptHashModel,
        ConceptHashOutput,
        ConceptHashVisionModel,
        ConceptHashVisionOutput,
    )

_MODULES = {
    "configuration_concepthash": ("ConceptHashConfig", "ConceptHashVisionConfig"),
    "hasher": ("ConceptHasher",),
    "modeling_concepthash": (
        *("ConceptHashModel", "ConceptHashOutput"),
        *("ConceptHashVisionModel", "ConceptHashVisionOutput"),
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

register_when_imported()


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ConceptHashConfig",
    "ConceptHashModel",
    "ConceptHashOutput",
    "ConceptHashVisionConfig",
    "ConceptHashVisionModel",
    "ConceptHashVisionOutput",
    "ConceptHasher",
    "__version__",
]
