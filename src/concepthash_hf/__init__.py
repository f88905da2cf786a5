"""Interpretable image hashing with ConceptHash, Hugging Face style."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPImageProcessor

from ._version import __version__
from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig
from .modeling_concepthash import (
    ConceptHashModel,
    ConceptHashOutput,
    ConceptHashVisionModel,
    ConceptHashVisionOutput,
)

for _config, _model in ((ConceptHashConfig, ConceptHashModel), (ConceptHashVisionConfig, ConceptHashVisionModel)):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _model)
    AutoImageProcessor.register(_config, image_processor_classes={"torchvision": CLIPImageProcessor})

__all__ = [
    "ConceptHashConfig",
    "ConceptHashModel",
    "ConceptHashOutput",
    "ConceptHashVisionConfig",
    "ConceptHashVisionModel",
    "ConceptHashVisionOutput",
    "__version__",
]
