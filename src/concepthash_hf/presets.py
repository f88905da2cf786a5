"""Recipes by name: how a new model is made on a backbone, and how it is trained.

`paper` is the published design and its training (paper, section 4). `fast`, the default, is what did best on real
photos in twenty minutes on two cores; docs/results.md says how it was found, choice by choice.
"""

from typing import Any, Literal

from transformers import PreTrainedConfig

Preset = Literal["fast", "paper"]
# optimizer steps of the fast recipe on a small set; a large one is seen FAST_EPOCHS times
FAST_STEPS, FAST_EPOCHS = 880, 8
PUBLISHED_EPOCHS = 100
# a cache of frozen layers that is larger than this is not made unasked
LARGEST_CACHE = 8e9


def model_fields(preset: Preset, backbone: PreTrainedConfig, read_out: str = "attention") -> dict[str, Any]:
    """Fields of the config of a new model.

    Args:
        preset: its name.
        backbone: config of the vision transformer.
        read_out: how concepts read a photo, see `ConceptHashVisionConfig`.

    Returns:
        Nothing for `paper`, whose values are the config's defaults. For `fast`: concept tokens that are parameters
        themselves join at two thirds of the depth, at the scale of the patch tokens and added to the CLS token, and
        are read after the last layer norm by a hash function each; adapters of half the width from there on. A CLIP
        has few patches and a norm before its first layer: there they join at once, with adapters of a quarter of the
        width, if they see the whole photo. With regions there is no diversity loss: concepts that see different
        patches look at different places.

    Raises:
        ValueError: if there is no such preset.
    """
    check_preset(preset)
    if preset == "paper":
        return {}
    at_once = backbone.model_type == "clip_vision_model" and read_out == "attention"
    without_loss = {"diversity_weight": 0.0} if read_out == "regions" else {}
    return {
        "first_adapted_layer": 0 if at_once else backbone.num_hidden_layers * 2 // 3,
        "match_token_scale": not at_once,
        "start_at_cls": True,
        "adapter_dim": backbone.hidden_size // (4 if at_once else 2),
        "prompt_block": False,
        "apply_last_norm": True,
        "shared_hash_function": False,
        "centroid_std": 0.05,
    } | without_loss


def adapter_fields(preset: Preset, backbone: PreTrainedConfig) -> dict[str, Any]:
    """Fields of the config of a new model of another method: the adapters that `model_fields` gives a ConceptHash.

    Args:
        preset: its name.
        backbone: config of the vision transformer.

    Raises:
        ValueError: if there is no such preset.
    """
    design = model_fields(preset, backbone)
    return {name: design[name] for name in ("first_adapted_layer", "adapter_dim") if name in design}


def training_fields(preset: Preset, first_adapted_layer: int, *, adapters: bool = True) -> dict[str, Any]:
    """Arguments of the training, by name.

    Args:
        preset: its name.
        first_adapted_layer: of the model; layers before it are frozen.
        adapters: whether there are any; a hash function alone takes larger steps.

    Raises:
        ValueError: if there is no such preset.
    """
    check_preset(preset)
    if preset == "paper":
        return {}
    return {
        "optimizer": "adamw",
        "learning_rate": (2e-3 if first_adapted_layer else 1e-3) if adapters else 1e-2,
        "weight_decay": 1e-4,
        "lr_schedule": "step",
    }


def num_epochs(preset: Preset, steps_per_epoch: int) -> int:
    """Epochs of a training, where nobody asks for another number.

    Args:
        preset: its name.
        steps_per_epoch: of the optimizer.
    """
    if preset == "paper":
        return PUBLISHED_EPOCHS
    return max(FAST_EPOCHS, round(FAST_STEPS / max(1, steps_per_epoch)))


def check_preset(preset: str) -> None:
    """Refuse a name that is none.

    Raises:
        ValueError: if there is no such preset.
    """
    if preset not in ("fast", "paper"):
        raise ValueError(f"there is no preset {preset!r}; there are 'fast' (the default) and 'paper' (as published)")
