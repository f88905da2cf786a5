"""New models on a pretrained backbone: what is read from where, before a model is made of it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from .base_models import (
    Base,
    commit_of,
    load_base_config,
    load_pixel_processor,
    place_of,
    processed_size,
    text_config_of,
    vision_config_of,
)
from .configuration_concepthash import ConceptHashConfig
from .configuration_hashing import HashingConfig, side
from .presets import Preset, model_fields

# named where a backbone has no text tower of its own
A_TEXT_MODEL = "openai/clip-vit-base-patch32"


def config_on(
    vision: str | Path,
    text: str | Path | None,
    template: str | Sequence[str],
    keep_text_model: bool,
    preset: Preset,
    config_kwargs: Mapping[str, Any],
) -> ConceptHashConfig:
    """The config of a new model on these bases.

    Args:
        vision: Hub id or folder of the backbone, or of a model with a vision tower.
        text: Hub id or folder of the model with the text tower; None for none.
        template: the prompt(s) around a class name.
        keep_text_model: whether the model is to have the text tower.
        preset: name of the recipe, see `presets`.
        config_kwargs: fields of `ConceptHashConfig` and `ConceptHashVisionConfig`; they overrule the preset.

    Raises:
        ValueError: if a base cannot be used, or a field is not known.
    """
    check_known(config_kwargs, ConceptHashConfig)
    recipe = model_fields(
        preset, vision_config_of(load_base_config(vision)), config_kwargs.get("read_out", "attention")
    )
    text_config = None
    if text is not None and keep_text_model:
        text_config = cast(PreTrainedConfig, text_config_of(load_base_config(text))).to_dict() | {"dtype": None}
    fields: dict[str, Any] = base_fields(vision) | {
        "text_config": text_config,
        "prompt_template": template if isinstance(template, str) else list(template),
    }
    if text is not None and str(text) != str(vision):
        fields |= {"text_base_name_or_path": place_of(text), "text_base_revision": commit_of(text)}
    return ConceptHashConfig(**fields | recipe | dict(config_kwargs))


def base_fields(vision: str | Path) -> dict[str, Any]:
    """Fields of the config of any hash model on a backbone: what it is, and where it is from.

    Args:
        vision: Hub id or folder of the backbone, or of a model with a vision tower.

    Raises:
        ValueError: if it cannot be used.
    """
    base = load_base_config(vision)
    # the dtype that the weights were saved in is not that of the model
    backbone = vision_config_of(base).to_dict() | {"dtype": None, "image_size": _image_size(vision, base)}
    if (shared_width := getattr(base, "projection_dim", None)) is not None:
        backbone["projection_dim"] = shared_width  # CLIP's vision config may say another
    return {
        "vision_config": {"backbone_config": backbone},
        "base_model_name_or_path": place_of(vision),
        "base_model_revision": commit_of(vision),
    }


def check_known(config_kwargs: Mapping[str, Any], config_class: type[HashingConfig]) -> None:
    """Refuse fields that a config does not have.

    Raises:
        ValueError: names them, and those that there are.
    """
    known = config_class.known_kwargs() - {"vision_config", "text_config"}  # which are those of the bases
    if unknown := config_kwargs.keys() - known:
        raise ValueError(f"{config_class.__name__} has no {sorted(unknown)}; it has {sorted(known)}")


def check_classes(names: Sequence[str], class_embeddings: Tensor | None) -> None:
    """Refuse names that are no classes, and embeddings that are not theirs.

    Args:
        names: C distinct names.
        class_embeddings: `(C, t)`; None where a method needs none.

    Raises:
        ValueError: if they are not.
    """
    if not names or len(set(names)) != len(names):
        raise ValueError(
            f"class names must be distinct and at least one, got {len(names)}, {len(set(names))} distinct"
        )
    if class_embeddings is None:
        return
    if class_embeddings.ndim != 2 or len(class_embeddings) != len(names):
        raise ValueError(
            f"{len(names)} class names need class embeddings of shape ({len(names)}, t), got "
            f"{tuple(class_embeddings.shape)}"
        )
    if not bool(class_embeddings.isfinite().all()):
        raise ValueError("class embeddings must be finite numbers")


def first_names(class_names: Sequence[str | Sequence[str]]) -> list[str]:
    """Of each class, where some have several.

    Raises:
        ValueError: if there is one name in place of a list.
    """
    if isinstance(class_names, str):
        raise ValueError(f"class names are a list, got the string {class_names!r}")
    return [name if isinstance(name, str) else name[0] for name in class_names]


def text_source(vision: str | Path, text: str | Path | None) -> str | Path | None:
    """Where the text tower is: what was given, or the backbone's own model if it has one.

    Args:
        vision: Hub id or folder of the backbone's model.
        text: what was given.

    Raises:
        ValueError: if what was given has none.
    """
    if text is None:
        return vision if text_config_of(load_base_config(vision)) is not None else None
    if text_config_of(load_base_config(text)) is None:
        raise ValueError(f"{text} has no text tower; give a text model, such as {A_TEXT_MODEL}")
    return text


def load_bases(model: PreTrainedModel) -> None:
    """Take over the weights of the models that a new one is built on.

    Args:
        model: with `config.base_model_name_or_path`.

    Raises:
        ValueError: if a base cannot be loaded.
        OSError: if it has no weights.
    """
    config = model.config
    expected = {name for name, _ in model.named_parameters()}
    towers = ["vision_model"] + ["text_model"] * (config.text_config is not None)
    for base in (Base.of(config, tower) for tower in towers):
        assert base is not None
        result = model.load_state_dict(base.fitted(base.weights(config), config), strict=False)
        expected &= set(result.missing_keys)
        assert not result.unexpected_keys, result.unexpected_keys
    lost = expected & {name for name, p in model.named_parameters() if p in set(model.backbone_parameters())}
    assert not lost, lost


def check_names_fit(class_names: Sequence[Any], config_kwargs: Mapping[str, Any]) -> None:
    """Refuse class names beside another number of classes or other names.

    Raises:
        ValueError: if they do not fit each other.
    """
    names = first_names(class_names)
    num_labels, id2label = config_kwargs.get("num_labels", len(names)), config_kwargs.get("id2label")
    if num_labels != len(names) or (id2label is not None and list(id2label.values()) != names):
        raise ValueError(
            f"{len(names)} class names do not fit num_labels={num_labels} and id2label={id2label}; the names "
            "alone are enough"
        )


def to_dtype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """To another dtype, but for what `from_pretrained` keeps in float32 too: BatchNorms, objectives and buffers."""
    kept = re.compile("|".join(model._keep_in_fp32_modules_strict))
    for name, parameter in model.named_parameters():
        if not kept.search(name):
            parameter.data = parameter.data.to(dtype)
    config = model.config
    for part in (config, config.vision_config, config.vision_config.backbone_config, config.text_config):
        if part is not None:
            part.dtype = dtype


def _image_size(vision: str | Path, base: PreTrainedConfig) -> int:
    """Of the photos that the backbone's image processor makes, if that suits its patches; else its own."""
    backbone = vision_config_of(base)
    processor = load_pixel_processor(vision)
    processed = processed_size(processor) if processor is not None else None
    suits = processed is not None and processed % side(backbone.patch_size) == 0
    return processed if suits else side(backbone.image_size)  # type: ignore[return-value]
