"""Small checkpoints: only what was trained; the frozen weights are those of a CLIP that can be had elsewhere.

Such a checkpoint names its CLIP and carries a fingerprint of every tower that it leaves out. Loading takes a tower
from the CLIP if the fingerprint is the same and fails if it is not: a backbone is never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import CLIPModel
from transformers.utils import cached_file

from .base_clip import fingerprint, load_clip, tower_weights
from .configuration_concepthash import ConceptHashConfig

# the file is model.trained.safetensors: code that does not know small checkpoints finds no weights, not half of them
VARIANT = "trained"
WEIGHTS_NAME = f"model.{VARIANT}.safetensors"


def leave_out_base(state: Mapping[str, Tensor], config: ConceptHashConfig) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Drop from a model's state what its CLIP has, after looking there.

    Args:
        state: state dict of a `ConceptHashModel`.
        config: its config, which says what CLIP it was built on and what of it is frozen.

    Returns:
        What is left, and the fingerprint of each tower that was dropped.

    Raises:
        ValueError: if there is no frozen CLIP, it cannot be loaded, or its weights are not those of the model.
        OSError: if it has no weights.
    """
    is_frozen = {"vision_model": config.freeze_backbone, "text_model": config.text_config is not None}
    towers = [tower for tower, frozen in is_frozen.items() if frozen]
    base = config.base_model_name_or_path
    if base is None or not towers:
        raise ValueError(
            "only a model around the frozen weights of a CLIP that can be loaded again can leave them out; this one "
            f"has base_model_name_or_path={base!r} and freeze_backbone={config.freeze_backbone}. Save it whole"
        )
    clip = load_clip(base, **_revision_kwargs(config.base_model_revision))
    left, fingerprints = dict(state), {}
    for tower in towers:
        weights = tower_weights(clip, tower)
        for name, tensor in weights.items():
            ours = left.pop(name, None)
            if ours is None or not torch.equal(tensor.to(ours.dtype), ours.cpu()):
                raise ValueError(
                    f"the frozen weights of this model are not those of {base}: {name} differs. Set "
                    "config.base_model_name_or_path (and base_model_revision) to the CLIP that it was built on, or "
                    "save it whole"
                )
        fingerprints[tower] = fingerprint(weights)
    return left, fingerprints


@dataclass
class SmallCheckpoint:
    """A checkpoint without the weights of its CLIP.

    Args:
        name_or_path: its folder or Hub id.
        fingerprints: of the towers that it leaves out.
        recorded_base: where its CLIP was in training, at which revision.
        base: where it is now, at which revision.
        hub_kwargs: `revision` and `subfolder` of the checkpoint; `token`, `cache_dir`, ... of both.
    """

    name_or_path: str | Path
    fingerprints: Mapping[str, str]
    recorded_base: tuple[str, str | None]
    base: tuple[str, str | None]
    hub_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        name_or_path: str | Path,
        config_dict: Mapping[str, Any],
        base_name_or_path: str | Path | None = None,
        hub_kwargs: Mapping[str, Any] | None = None,
    ) -> "SmallCheckpoint | None":
        """The small checkpoint of this place, or None if its config says that it is a whole one.

        Args:
            name_or_path: a folder or Hub id.
            config_dict: what is in its config.json.
            base_name_or_path: where its CLIP is now; default the recorded place and revision.
            hub_kwargs: see the class.
        """
        if (fingerprints := config_dict.get("base_fingerprints")) is None:
            return None
        recorded = (config_dict["base_model_name_or_path"], config_dict.get("base_model_revision"))
        moved = base_name_or_path is not None and str(base_name_or_path) != recorded[0]
        base = (str(base_name_or_path), None) if moved else recorded
        return cls(name_or_path, fingerprints, recorded, base, hub_kwargs or {})

    def state_dict(self, towers: Sequence[str]) -> dict[str, Tensor]:
        """Read what was trained and complete it with the CLIP.

        Args:
            towers: those of the CLIP that are needed.

        Returns:
            State of a whole model, but for towers that are left out and not needed.

        Raises:
            ValueError: if the CLIP cannot be loaded, or is another one.
            OSError: if the checkpoint's own weights are not there.
        """
        state = safetensors.torch.load_file(cached_file(self.name_or_path, WEIGHTS_NAME, **self.hub_kwargs))
        needed = {tower: expected for tower, expected in self.fingerprints.items() if tower in towers}
        clip = self._load_base() if needed else None
        for tower, expected in needed.items():
            weights = tower_weights(clip, tower)
            if (found := fingerprint(weights)) != expected:
                raise ValueError(
                    f"{_in_words(self.base)} is not the CLIP that {self.name_or_path} was trained on, which is "
                    f"{_in_words(self.recorded_base)}: the fingerprint of its {tower} is {found[:12]}..., expected "
                    f"{expected[:12]}... Say where the right one is: from_pretrained(..., base_model_name_or_path=...)"
                )
            state |= weights
        return state

    def _load_base(self) -> CLIPModel:
        name_or_path, revision = self.base
        shared = {name: value for name, value in self.hub_kwargs.items() if name not in ("revision", "subfolder")}
        try:
            return load_clip(name_or_path, **shared, **_revision_kwargs(revision))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.name_or_path} holds only what was trained, and the CLIP that it was trained on, "
                f"{_in_words(self.base)}, cannot be loaded. Say where it is: from_pretrained(..., "
                f"base_model_name_or_path=...). ({error})"
            ) from error


def _revision_kwargs(revision: str | None) -> dict[str, str]:
    return {} if revision is None else {"revision": revision}


def _in_words(base: tuple[str, str | None]) -> str:
    name_or_path, revision = base
    return name_or_path if revision is None else f"{name_or_path} at revision {revision}"
