"""The Auto classes of transformers know our models, as soon as they are imported, and without importing torch for it.

`import concepthash_hf` only leaves a note with Python's import system: the modules of the Auto classes, and ours, call
`_register` once they have been imported. transformers imports in circles, so nothing that is in the middle of one of
them may be needed then: models are registered by name, and by themselves once they are imported anyway.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ._version import LOWEST_TRANSFORMERS

_PACKAGE = __name__.rpartition(".")[0]
# configurations, and the module of the models of each
_MODULES = {
    f"{_PACKAGE}.configuration_concepthash": f"{_PACKAGE}.modeling_concepthash",
    f"{_PACKAGE}.configuration_baseline": f"{_PACKAGE}.modeling_baseline",
}
# while one of them is being imported, the others cannot be
_CONFIGURATIONS = {f"{_PACKAGE}.configuration_hashing", *_MODULES}
_AUTO = "transformers.models.auto"


def register_when_imported() -> None:
    """Register our models with every Auto class that is there, and with the others when they come."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _register()


class ModelByName:
    """Stands for a model's class until it is needed."""

    def __init__(self, config: type) -> None:
        self._config = config

    def __getattr__(self, attribute: str) -> Any:
        modeling = import_module(_MODULES[self._config.__module__])
        return getattr(getattr(modeling, _model_name(self._config)), attribute)


class ImageProcessorAlone:
    """What AutoProcessor gives for our models: their image processor."""

    @staticmethod
    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        """See `AutoImageProcessor.from_pretrained`."""
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(*args, **kwargs)


def _register_configs(auto: ModuleType) -> None:
    for config in _configs():
        auto.AutoConfig.register(config.model_type, config)


def _register_names(auto: ModuleType) -> None:
    for config in _configs():
        # not AutoModel.register, which looks at the class
        auto.MODEL_MAPPING.register(config, ModelByName(config))


def _register_image_processors(auto: ModuleType) -> None:
    for config in _configs():
        auto.IMAGE_PROCESSOR_MAPPING.register(config, {"torchvision": "CLIPImageProcessor"})


def _register_processors(auto: ModuleType) -> None:
    for config in _configs():
        auto.AutoProcessor.register(config, ImageProcessorAlone)


def _register_models(modeling: ModuleType) -> None:
    auto = import_module(f"{_AUTO}.modeling_auto")
    for config in _configs():
        if _MODULES[config.__module__] == modeling.__name__:
            auto.AutoModel.register(config, getattr(modeling, _model_name(config)), exist_ok=True)


def _configs() -> list[Any]:
    modules = [import_module(name) for name in _MODULES]
    return [getattr(module, name) for module in modules for name in module.__all__]


def _model_name(config: type) -> str:
    return f"{config.__name__.removesuffix('Config')}Model"


# in this order: names before the models themselves
_STEPS: dict[str, Callable[[ModuleType], None]] = {
    f"{_AUTO}.configuration_auto": _register_configs,
    f"{_AUTO}.modeling_auto": _register_names,
    f"{_AUTO}.image_processing_auto": _register_image_processors,
    f"{_AUTO}.processing_auto": _register_processors,
    **dict.fromkeys(_MODULES.values(), _register_models),
}
_done: set[str] = set()
_being_imported: set[str] = set()


def _register() -> None:
    """Do what can be done by now; while a configuration is being imported nothing can, and then this is called."""
    if _CONFIGURATIONS & _being_imported:
        return
    for name, step in _STEPS.items():
        if name in sys.modules and name not in _being_imported | _done:
            _done.add(name)
            step(sys.modules[name])


def _check_transformers() -> None:
    """Refuse a version that lacks what our models are made of; pip does, but not where it came with the machine."""
    import transformers
    from packaging.version import Version

    found = transformers.__version__
    if Version(found).release < Version(LOWEST_TRANSFORMERS).release:
        needed = f"transformers>={LOWEST_TRANSFORMERS}"
        raise ImportError(f"concepthash_hf needs {needed}, but {found} is installed; pip install '{needed}'")


class _Finder(MetaPathFinder):
    """Finds the modules that are waited for where Python finds them, and listens to their being imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _STEPS and fullname not in _CONFIGURATIONS:
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
        if module.__name__ in _CONFIGURATIONS:
            _check_transformers()
        _being_imported.add(module.__name__)
        try:
            self._loader.exec_module(module)
        finally:
            _being_imported.discard(module.__name__)
        _register()
