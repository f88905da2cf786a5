"""Which hash model a folder or a Hub id holds, of all kinds that there are."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .configuration_baseline import BaselineConfig, BaselineVisionConfig
from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig
from .configuration_hashing import HashingConfig, HashingVisionConfig
from .modeling_baseline import BaselineModel, BaselineVisionModel
from .modeling_concepthash import ConceptHashModel, ConceptHashVisionModel
from .modeling_hashing import HashingPreTrainedModel

# whole model and tower
_KINDS: dict[type[PreTrainedConfig], tuple[type[HashingPreTrainedModel], type[HashingPreTrainedModel]]] = {
    ConceptHashConfig: (ConceptHashModel, ConceptHashVisionModel),
    BaselineConfig: (BaselineModel, BaselineVisionModel),
    ConceptHashVisionConfig: (ConceptHashVisionModel, ConceptHashVisionModel),
    BaselineVisionConfig: (BaselineVisionModel, BaselineVisionModel),
}


def load_hash_config(name_or_path: str | Path, **hub_kwargs: Any) -> HashingConfig | HashingVisionConfig:
    """Read the config of a saved hash model.

    Args:
        name_or_path: a folder or a Hub id.
        **hub_kwargs: `revision`, `token`, `cache_dir`, ... as for `from_pretrained`.

    Raises:
        ValueError: if there is another kind of model, or a damaged one.
        OSError: if there is none.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise (OSError if isinstance(error, OSError) else ValueError)(
            f"{name_or_path} is no saved model, or cannot be had: give a folder or a Hub id "
            f"({' '.join(str(error).split())})"
        ) from error
    if type(config) not in _KINDS:
        raise ValueError(
            f"{name_or_path} is a {config.model_type!r} model, which makes no codes: give a saved ConceptHash model, "
            "or train one on it"
        )
    return config


def class_of(config: PreTrainedConfig) -> type[HashingPreTrainedModel]:
    """The model that a config is of."""
    return _KINDS[type(config)][0]


def model_class(name_or_path: str | Path, *, tower: bool = False, **hub_kwargs: Any) -> Any:
    """The class that loads a saved hash model.

    Args:
        name_or_path: a folder or a Hub id.
        tower: of its tower alone, all it takes to hash.
        **hub_kwargs: as for `load_hash_config`.

    Raises:
        ValueError: if there is another kind of model, or a damaged one.
        OSError: if there is none.
    """
    return _KINDS[type(load_hash_config(name_or_path, **hub_kwargs))][int(tower)]
