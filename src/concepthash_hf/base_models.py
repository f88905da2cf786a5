"""The models that a hash model is built on: their configs, weights and processors, and how to recognise them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    CLIPImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.utils import CONFIG_NAME, cached_file, extract_commit_hash

from .backbones import at_image_size, family_of, weights_by_our_names
from .configuration_hashing import HashingConfig
from .language import load_text_model

# where a model was saved without its image processor: what its family was trained with
_PIXEL_STATISTICS = {
    "clip_vision_model": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "dinov2": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "dinov2_with_registers": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "vit": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
    "siglip_vision_model": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}


def load_base_config(name_or_path: str | Path, **hub_kwargs: Any) -> PreTrainedConfig:
    """Read the config of a model to build on.

    Args:
        name_or_path: a Hub id or a folder.
        **hub_kwargs: `revision`, `token`, `cache_dir`, ... as for `from_pretrained`.

    Raises:
        ValueError: if there is none that can be loaded.
    """
    try:
        return AutoConfig.from_pretrained(name_or_path, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name_or_path} holds no model that can be loaded: {error}") from error


def vision_config_of(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of a model's vision transformer: its own, or that of its vision tower.

    Raises:
        ValueError: if it has none of a family that can be built on.
    """
    vision = getattr(config, "vision_config", None) or config
    try:
        family_of(vision)
    except ValueError as error:
        raise ValueError(f"{config.name_or_path}: {error}") from None
    return vision


def text_config_of(config: PreTrainedConfig) -> PreTrainedConfig | None:
    """The config of a model's text tower; None for a model of photos alone."""
    if (text := getattr(config, "text_config", None)) is not None:
        return text
    return None if hasattr(config, "patch_size") else config


def load_vision_model(name_or_path: str | Path, **hub_kwargs: Any) -> PreTrainedModel:
    """Load a vision transformer in float32, whatever it was saved in.

    Args:
        name_or_path: a Hub id or a folder, of it alone or of a model with a vision tower.
        **hub_kwargs: `revision`, `token`, `cache_dir`, ... as for `from_pretrained`.

    Raises:
        ValueError: if it is of no family that can be built on, or its weights are damaged.
        OSError: if it has no weights.
    """
    config = load_base_config(name_or_path, **hub_kwargs)
    family = family_of(vision_config_of(config))
    try:
        if hasattr(config, "vision_config"):
            return AutoModel.from_pretrained(name_or_path, dtype=torch.float32, **hub_kwargs).vision_model
        return family.model.from_pretrained(
            name_or_path, dtype=torch.float32, **(family.model_kwargs or {}), **hub_kwargs
        )
    except SafetensorError as error:
        raise ValueError(
            f"the weights of {name_or_path} are damaged or incomplete ({error}); copy or download them again"
        ) from error


def place_of(name_or_path: str | Path) -> str:
    """A folder by its whole path, which is the same from wherever it is asked for; a Hub id as it is."""
    return str(Path(name_or_path).absolute()) if Path(name_or_path).exists() else str(name_or_path)


def commit_of(name_or_path: str | Path, **hub_kwargs: Any) -> str | None:
    """The commit that a Hub id stands for now; None for a folder."""
    return extract_commit_hash(cached_file(name_or_path, CONFIG_NAME, **hub_kwargs), None)


# tower -> the fields of a config that say where it is from, and at which revision
_BASE_FIELDS = {
    "vision_model": ("base_model_name_or_path", "base_model_revision"),
    "text_model": ("text_base_name_or_path", "text_base_revision"),
}


@dataclass(frozen=True)
class Base:
    """Where the weights of a tower are.

    Attributes:
        tower: `vision_model` or `text_model`.
        name_or_path: a Hub id or a folder.
        revision: of the Hub.
        field: of the config, where it stands; also the argument of `from_pretrained` to say that it is elsewhere.
    """

    tower: str
    name_or_path: str
    revision: str | None
    field: str

    @classmethod
    def of(cls, config: HashingConfig, tower: str) -> "Base | None":
        """As a config has it; None if it names none. A text tower may be of the same model as the vision tower."""
        has_own = getattr(config, _BASE_FIELDS[tower][0]) is not None
        field, revision_field = _BASE_FIELDS[tower if has_own else "vision_model"]
        name_or_path = getattr(config, field)
        return None if name_or_path is None else cls(tower, name_or_path, getattr(config, revision_field), field)

    def moved_to(self, places: Mapping[str, str]) -> "Base":
        """The same, where it is now.

        Args:
            places: by field. What is said of a tower's own field goes before what is said of the model that it was in.
        """
        for field in (_BASE_FIELDS[self.tower][0], self.field):
            if places.get(field, self.name_or_path) != self.name_or_path:
                return Base(self.tower, places[field], None, field)
        return self

    def weights(self, config: HashingConfig, **hub_kwargs: Any) -> dict[str, Tensor]:
        """What a model takes for the tower, by the names that it has for it, as it lies there.

        Args:
            config: of the model.
            **hub_kwargs: `token`, `cache_dir`, ... as for `from_pretrained`.

        Raises:
            ValueError: if the base cannot be loaded.
            OSError: if it has no weights.
        """
        if self.revision is not None:
            hub_kwargs["revision"] = self.revision
        if self.tower == "text_model":
            weights = load_text_model(self.name_or_path, **hub_kwargs).state_dict()
        else:
            weights = weights_by_our_names(load_vision_model(self.name_or_path, **hub_kwargs))
        if not config.vision_config.apply_last_norm:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith("last_layer_norm.")}
        return {f"{self.tower}.{name}": tensor for name, tensor in weights.items()}

    def fitted(self, weights: Mapping[str, Tensor], config: HashingConfig) -> dict[str, Tensor]:
        """These weights with position embeddings for the model's image size."""
        if self.tower == "text_model":
            return dict(weights)
        return at_image_size(weights, config.vision_config.backbone_config, prefix="vision_model.")

    def __str__(self) -> str:
        return self.name_or_path if self.revision is None else f"{self.name_or_path} at revision {self.revision}"


def load_pixel_processor(name_or_path: str | Path) -> Any | None:
    """The image processor that was saved with a model; None if there is none."""
    try:
        return AutoImageProcessor.from_pretrained(name_or_path)
    except (OSError, ValueError):
        return None


def processed_size(processor: Any) -> int | None:
    """Side of the square photos that an image processor makes; None if they are not square."""
    crops = getattr(processor, "do_center_crop", False)
    size = processor.crop_size if crops else processor.size
    if "height" in size:
        return size["height"] if size["height"] == size["width"] else None
    return size.get("shortest_edge") if crops else None  # without a crop, the other edge is as long as it comes


def matching_image_processor(processor: Any | None, model_type: str, image_size: int) -> CLIPImageProcessor:
    """The image processor of a hash model: the base's colours, our size (METHOD: test pixels).

    Shorter side to round(8/7 of the image size), bicubic, centre crop.

    Args:
        processor: the base's own, whose mean and standard deviation are kept; None for those of its family.
        model_type: of the vision transformer.
        image_size: side of the photos in pixels.
    """
    mean, std = (processor.image_mean, processor.image_std) if processor else _PIXEL_STATISTICS[model_type]
    return CLIPImageProcessor(
        size={"shortest_edge": round(image_size * 8 / 7)}, crop_size=image_size, image_mean=mean, image_std=std
    )


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and float32 values, in the order of the names.

    Args:
        weights: tensors by name, of any floating dtype, on any device.

    Example:
        >>> fingerprint({"a": torch.zeros(2)}) == fingerprint({"a": torch.zeros(2, dtype=torch.float16)})
        True
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
