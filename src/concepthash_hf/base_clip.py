"""The CLIP that a model is built on: its config, its weights, and how to recognise them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, CLIPConfig, CLIPModel
from transformers.utils import CONFIG_NAME, cached_file, extract_commit_hash


def load_clip_config(clip_name_or_path: str | Path, **hub_kwargs: Any) -> CLIPConfig:
    """Read the config of a CLIP.

    Args:
        clip_name_or_path: a Hub id or a folder.
        **hub_kwargs: `revision`, `token`, `cache_dir`, ... as for `from_pretrained`.

    Raises:
        ValueError: if this is no CLIP with both towers.
    """
    try:
        config = AutoConfig.from_pretrained(clip_name_or_path, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(f"{clip_name_or_path} is no CLIP that can be loaded: {error}") from error
    if not isinstance(config, CLIPConfig):
        raise ValueError(
            f"{clip_name_or_path} holds a {config.model_type!r} model; a CLIP with both towers (model_type 'clip') is "
            "needed, such as openai/clip-vit-base-patch32"
        )
    return config


def load_clip(clip_name_or_path: str | Path, **hub_kwargs: Any) -> CLIPModel:
    """Load a CLIP in float32, whatever it was saved in.

    Args:
        clip_name_or_path: a Hub id or a folder.
        **hub_kwargs: `revision`, `token`, `cache_dir`, ... as for `from_pretrained`.

    Raises:
        ValueError: if this is no CLIP with both towers, or its weights are damaged.
        OSError: if it has no weights.
    """
    load_clip_config(clip_name_or_path, **hub_kwargs)
    try:
        return CLIPModel.from_pretrained(clip_name_or_path, dtype=torch.float32, **hub_kwargs)
    except SafetensorError as error:
        raise ValueError(
            f"the weights of the CLIP {clip_name_or_path} are damaged or incomplete ({error}); copy or download them "
            "again"
        ) from error


def clip_commit(clip_name_or_path: str | Path, **hub_kwargs: Any) -> str | None:
    """The commit that a Hub id stands for now; None for a folder."""
    return extract_commit_hash(cached_file(clip_name_or_path, CONFIG_NAME, **hub_kwargs), None)


def tower_weights(clip: CLIPModel, tower: str) -> dict[str, Tensor]:
    """What a ConceptHash model takes from one tower of a CLIP, by the names that both have for it.

    Args:
        clip: the whole CLIP.
        tower: `vision_model` or `text_model`.
    """
    # CLIP's last vision layer norm comes after what is read here
    return {
        name: tensor
        for name, tensor in clip.state_dict().items()
        if name.startswith(f"{tower}.") and not name.startswith("vision_model.post_layernorm.")
    }


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
