"""Small checkpoints: only what was trained; the frozen weights are those of models that can be had elsewhere.

Such a checkpoint names the models that it was built on and carries a fingerprint of every tower that it leaves out.
Loading takes a tower from its base if the fingerprint is the same and fails if it is not: a backbone is never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, equal
from transformers.utils import cached_file

from .base_models import Base, fingerprint, place_of
from .configuration_hashing import HashingConfig

# the file is model.trained.safetensors: code that does not know small checkpoints finds no weights, not half of them
VARIANT = "trained"
WEIGHTS_NAME = f"model.{VARIANT}.safetensors"


def leave_out_base(state: Mapping[str, Tensor], config: HashingConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Drop from a model's state what its bases have, after looking there.

    Args:
        state: state dict of a whole model.
        config: its config, which says what it was built on and what of it is frozen.

    Returns:
        What is left, and the fingerprint of each tower that was dropped.

    Raises:
        ValueError: if there is no frozen base, it cannot be loaded, or its weights are not those of the model.
        OSError: if it has no weights.
    """
    is_frozen = {"vision_model": config.freeze_backbone, "text_model": config.text_config is not None}
    bases = [Base.of(config, tower) for tower, frozen in is_frozen.items() if frozen]
    if not bases or None in bases:
        raise ValueError(
            "only a model around frozen weights that can be loaded again can leave them out; this one has "
            f"base_model_name_or_path={config.base_model_name_or_path!r} and "
            f"freeze_backbone={config.freeze_backbone}. Save it whole"
        )
    left, fingerprints = dict(state), {}
    for base in filter(None, bases):
        weights = base.weights(config)
        fingerprints[base.tower] = fingerprint(weights)
        for name, tensor in base.fitted(weights, config).items():
            ours = left.pop(name, None)
            if ours is None or not equal(tensor.to(ours.dtype), ours.cpu()):
                raise ValueError(
                    f"the frozen weights of this model are not those of {base}: {name} differs. Set "
                    f"config.{base.field} (and its revision) to the model that it was built on, or save it whole"
                )
    return left, fingerprints


@dataclass
class SmallCheckpoint:
    """A checkpoint without the weights of its bases.

    Args:
        name_or_path: its folder or Hub id.
        config: of the model, with the bases where they were in training.
        fingerprints: of the towers that it leaves out.
        moved: where bases are now, by argument of `from_pretrained`, if not there.
        hub_kwargs: `revision` and `subfolder` of the checkpoint; `token`, `cache_dir`, ... of all.
    """

    name_or_path: str | Path
    config: HashingConfig
    fingerprints: Mapping[str, str]
    moved: Mapping[str, str] = field(default_factory=dict)
    hub_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        name_or_path: str | Path,
        config_dict: Mapping[str, Any],
        config_class: type[HashingConfig],
        moved: Mapping[str, str | Path | None],
        hub_kwargs: Mapping[str, Any] | None = None,
    ) -> "SmallCheckpoint | None":
        """The small checkpoint of this place, or None if its config says that it is a whole one.

        Args:
            name_or_path: a folder or Hub id.
            config_dict: what is in its config.json.
            config_class: of the whole model.
            moved: where its bases are now, by argument; None where they were in training.
            hub_kwargs: see the class.
        """
        if (fingerprints := config_dict.get("base_fingerprints")) is None:
            return None
        places = {argument: place_of(place) for argument, place in moved.items() if place is not None}
        return cls(name_or_path, config_class.from_dict(config_dict), fingerprints, places, hub_kwargs or {})

    def base(self, tower: str) -> Base:
        """Where the weights of a tower are now."""
        return self._recorded(tower).moved_to(self.moved)

    def state_dict(self, towers: Sequence[str]) -> dict[str, Tensor]:
        """Read what was trained and complete it with the bases.

        Args:
            towers: those that are needed.

        Returns:
            State of a whole model, but for towers that are left out and not needed.

        Raises:
            ValueError: if a base cannot be loaded, or is another one.
            OSError: if the checkpoint's own weights are not there.
        """
        state = safetensors.torch.load_file(cached_file(self.name_or_path, WEIGHTS_NAME, **self.hub_kwargs))
        shared = {name: value for name, value in self.hub_kwargs.items() if name not in ("revision", "subfolder")}
        for tower, expected in self.fingerprints.items():
            if tower not in towers:
                continue
            base = self.base(tower)
            try:
                weights = base.weights(self.config, **shared)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{self.name_or_path} holds only what was trained, and the model that its {tower} is from, "
                    f"{base}, cannot be loaded. Say where it is: from_pretrained(..., {base.field}=...). ({error})"
                ) from error
            if (found := fingerprint(weights)) != expected:
                raise ValueError(
                    f"{base} is not the model that {self.name_or_path} was trained on, which is "
                    f"{self._recorded(tower)}: the fingerprint of its {tower} is {found[:12]}..., expected "
                    f"{expected[:12]}... Say where the right one is: from_pretrained(..., {base.field}=...)"
                )
            state |= base.fitted(weights, self.config)
        return state

    def _recorded(self, tower: str) -> Base:
        base = Base.of(self.config, tower)
        if base is None:
            raise ValueError(f"the config of {self.name_or_path} does not say what its {tower} is from")
        return base
