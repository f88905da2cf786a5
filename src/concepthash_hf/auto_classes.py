"""The Auto classes of transformers know our models: they are told as soon as they are imported, and not before.

Telling them takes torch and all of transformers, which is why `import concepthash_hf` only leaves a note with Python's
import system: the modules of the Auto classes, and ours, call `_register` once they have been imported.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]
_CONFIGURATION, _MODELING = f"{_PACKAGE}.configuration_concepthash", f"{_PACKAGE}.modeling_concepthash"
_AUTO = "transformers.models.auto"
# the module of an Auto class -> the module of ours that it has to know
_NEEDS = {
    f"{_AUTO}.configuration_auto": _CONFIGURATION,
    f"{_AUTO}.modeling_auto": _MODELING,
    f"{_AUTO}.image_processing_auto": _MODELING,
    f"{_AUTO}.processing_auto": _MODELING,
}
_registered: set[str] = set()


def register_when_imported() -> None:
    """Register our models with every Auto class that is there, and with the others when they come."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _register()


def _register() -> None:
    """Register with what is there by now; while a module of ours is being imported it is too early, and later not."""
    for auto, ours in _NEEDS.items():
        if auto not in _registered and _is_ready(auto) and (ours not in sys.modules or _is_ready(ours)):
            _registered.add(auto)
            _REGISTER[auto]()


def _is_ready(name: str) -> bool:
    """Whether a module is imported to its end."""
    module = sys.modules.get(name)
    return module is not None and name not in _being_imported


_being_imported: set[str] = set()


class _Finder(MetaPathFinder):
    """Finds the modules that are waited for where Python finds them, and listens to their being imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _NEEDS and fullname not in _NEEDS.values():
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ListeningLoader(spec.loader)
        return spec


class _ListeningLoader(Loader):
    """Loads as another loader does, whose place in the module it leaves to that one."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        _being_imported.add(module.__name__)
        try:
            self._loader.exec_module(module)
        finally:
            _being_imported.discard(module.__name__)
        _register()


def _register_configs() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig

    for config in (ConceptHashConfig, ConceptHashVisionConfig):
        AutoConfig.register(config.model_type, config)


def _register_models() -> None:
    from transformers.models.auto.modeling_auto import AutoModel

    from .modeling_concepthash import ConceptHashModel, ConceptHashVisionModel

    for model in (ConceptHashModel, ConceptHashVisionModel):
        AutoModel.register(model.config_class, model)


def _register_image_processors() -> None:
    from transformers import CLIPImageProcessor
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig

    for config in (ConceptHashConfig, ConceptHashVisionConfig):
        AutoImageProcessor.register(config, image_processor_classes={"torchvision": CLIPImageProcessor})


def _register_processors() -> None:
    from transformers import CLIPImageProcessor
    from transformers.models.auto.processing_auto import AutoProcessor

    from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig

    for config in (ConceptHashConfig, ConceptHashVisionConfig):
        AutoProcessor.register(config, CLIPImageProcessor)


_REGISTER = {
    f"{_AUTO}.configuration_auto": _register_configs,
    f"{_AUTO}.modeling_auto": _register_models,
    f"{_AUTO}.image_processing_auto": _register_image_processors,
    f"{_AUTO}.processing_auto": _register_processors,
}
