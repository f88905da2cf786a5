"""What every hash model shares: loading and saving, initialisation, which parameters are trained, hashing photos.

A hash model has a tower, `base_model`, that turns pixels into code logits, around a backbone of one of the families in
`backbones`. Which towers and which modules are its own, a model says by class attributes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from .backbones import FAMILIES, Adapter, family_of
from .codes import binarize, pack_bits
from .configuration_hashing import HashingConfig
from .modes import evaluating
from .public_names import PLACES, public_name
from .saved_weights import CHECKSUMS, check_belong, save_together
from .sdpa import kernel_of
from .small_checkpoints import VARIANT, SmallCheckpoint, leave_out_base
from .whole_files import complete_interrupted

# of `from_pretrained`, what says where on the Hub to look
_HUB_KWARGS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class HashingPreTrainedModel(PreTrainedModel):
    """Base class of the towers and of the whole models around them."""

    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _no_split_modules = sorted({part.__name__ for family in FAMILIES.values() for part in family.parts})
    _can_record_outputs = {
        "hidden_states": [family.layer for family in FAMILIES.values()],
        "attentions": [family.attention for family in FAMILIES.values()],
    }
    # codes are signs of BatchNorm outputs: its statistics and its output stay in full precision
    _keep_in_fp32_modules_strict = ["batch_norm.weight", "batch_norm.bias", "batch_norm.running_*", "class_embeddings"]

    # config of the whole model, also of a tower's
    whole_config_class: type[HashingConfig]
    # towers that come from elsewhere, all or in part
    _towers_with_base: tuple[str, ...]
    # modules of ours: what of a tower with a base lies in none of them is the backbone
    _own_modules: tuple[type[nn.Module], ...] = (Adapter,)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: PreTrainedConfig | str | Path | None = None,
        base_model_name_or_path: str | Path | None = None,
        text_base_name_or_path: str | Path | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load from a folder or the Hub: see `transformers.PreTrainedModel.from_pretrained`.

        A small checkpoint (`save_pretrained(..., trained_only=True)`) is completed with the weights of the models that
        it was built on, which must be the very same.

        Args:
            pretrained_model_name_or_path: a folder or Hub id; or None, with `config` and `state_dict`.
            *model_args: for the constructor.
            config: used in place of the checkpoint's own.
            base_model_name_or_path: where the backbone of a small checkpoint is now; default where it was in training.
            text_base_name_or_path: where its text tower is now, if that is from another model.
            output_loading_info: also give what was missing, unexpected or of another shape.
            **kwargs: `dtype`, `device_map`, `revision` and so on; or fields of the config to overrule.

        Raises:
            ValueError: if this is another kind of model, of a newer format, damaged or incomplete; or if a base of a
                small checkpoint cannot be loaded or is another one.
            OSError: if there is no checkpoint.
        """
        source, small = pretrained_model_name_or_path, None
        may_differ = kwargs.pop("ignore_mismatched_sizes", False)
        # the error of transformers names none
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        if source is not None:
            hub_kwargs = {name: kwargs[name] for name in _HUB_KWARGS if name in kwargs}
            complete_interrupted(Path(source))
            config_dict, _ = cls.config_class.get_config_dict(source, **hub_kwargs)
            _check_config_can_be_made(cls.config_class, source, hub_kwargs)
            check_belong(source, config_dict, hub_kwargs)
            moved = {
                "base_model_name_or_path": base_model_name_or_path or getattr(config, "base_model_name_or_path", None),
                "text_base_name_or_path": text_base_name_or_path or getattr(config, "text_base_name_or_path", None),
            }
            small = SmallCheckpoint.find(source, config_dict, cls.whole_config_class, moved, hub_kwargs)
        try:
            if small is None:
                loaded = super().from_pretrained(source, *model_args, config=config, **kwargs)
            else:
                state = small.state_dict(cls._towers_with_base)
                loaded = super().from_pretrained(
                    None, *model_args, config=config or source, state_dict=state, **kwargs
                )
        except SafetensorError as error:
            raise ValueError(
                f"the weights in {source} are damaged or incomplete ({error}); copy or download them again "
                "(force_download=True)"
            ) from error
        model, info = loaded
        vars(model.config).pop(CHECKSUMS, None)  # of the files, not of what becomes of the model
        if small is not None:
            model._remember_origin(small)
        if source is not None:
            model._check_weights(source, set(info["missing_keys"]), set(info["unexpected_keys"]))
            model._check_can_hash(source, info["missing_keys"], info["mismatched_keys"], may_differ)
        # loading replaces the parameters, and all that it puts in require gradients
        model._set_requires_grad()
        return loaded if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: dict | None = None,
        *args: Any,
        trained_only: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save into a folder, as safetensors: see `transformers.PreTrainedModel.save_pretrained`.

        Args:
            save_directory: the folder.
            is_main_process: whether this process is the one that writes.
            state_dict: default the model's own.
            *args: of `transformers`.
            trained_only: make a small checkpoint, without the frozen weights of what the model was built on.
                `from_pretrained` then needs that, from its Hub id or folder.
            **kwargs: of `transformers`.

        Raises:
            ValueError: for `trained_only`, if the model has no base, that cannot be loaded, or the frozen weights are
                not those of it.
        """
        if trained_only:
            if not hasattr(self.config, "base_fingerprints"):
                raise ValueError(
                    "a tower alone does not know its base: save the whole model with trained_only=True, it loads into "
                    "the tower's class too"
                )
            state_dict, self.config.base_fingerprints = leave_out_base(state_dict or self.state_dict(), self.config)
            kwargs["variant"] = VARIANT
        folder = Path(save_directory)
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", folder.name)

        def save(place: Path) -> None:
            super(HashingPreTrainedModel, self).save_pretrained(place, is_main_process, state_dict, *args, **kwargs)

        try:
            if is_main_process:
                save_together(save, folder)
            else:  # it may be asked for its part of the weights
                save(folder)
        finally:
            if trained_only:
                self.config.base_fingerprints = None

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Upload the model alone: see `transformers.PreTrainedModel.push_to_hub`.

        `hub.push_to_hub` uploads all that belongs to it. The config that is uploaded names no folder of this machine.
        """
        places = {place: getattr(self.config, place) for place in PLACES if hasattr(self.config, place)}
        try:
            self.config.update({place: public_name(value) for place, value in places.items()})
            return super().push_to_hub(repo_id, **kwargs)
        finally:
            self.config.update(places)

    def set_attn_implementation(self, attn_implementation: str | dict, *args: Any, **kwargs: Any) -> None:
        """Choose how attention is computed: see `transformers.PreTrainedModel.set_attn_implementation`."""
        super().set_attn_implementation(attn_implementation, *args, **kwargs)
        tower = self.base_model.config
        tower.backbone_config._attn_implementation = kernel_of(tower._attn_implementation)  # which the layers read

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that come from the models this one was built on."""
        own_modules = (module for module in self.modules() if isinstance(module, self._own_modules))
        ours = {parameter for module in own_modules for parameter in module.parameters()}
        is_tower = self.base_model is self
        towers = [self] if is_tower else [getattr(self, tower) for tower in self._towers_with_base]
        for tower in filter(None, towers):
            yield from (parameter for parameter in tower.parameters() if parameter not in ours)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that training changes."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    @property
    def num_bits(self) -> int:
        """K, the length of a code in bits."""
        return self.base_model.config.num_bits

    @property
    def num_concepts(self) -> int:
        """M, the number of sub-codes."""
        return self.base_model.config.num_concepts

    def check_can_be_trained(self) -> None:
        """Refuse to be trained before what has to be done first."""

    def start_epoch(self, steps_done: int) -> None:
        """Move on what changes in the course of training.

        Args:
            steps_done: optimizer steps before this epoch.
        """

    @torch.no_grad()
    def get_hash_codes(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Hash photos with the statistics of evaluation, whatever mode the model is in.

        Args:
            pixel_values: `(B, 3, H, W)`, from the image processor saved with the model.
            interpolate_pos_encoding: accept another H, W than the model was made for.

        Returns:
            uint8 `(B, ceil(K / 8))`: a bit is set where its code logit is positive; concept 0 first, most significant
            bit first (`numpy.packbits` order).

        Raises:
            ValueError: if `pixel_values` has the wrong shape.
        """
        with evaluating(self):
            output = self.base_model(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        return pack_bits(binarize(output.code_logits))

    @classmethod
    def is_custom_code(cls) -> bool:
        """Say no, so that initialisation reaches modules without parameters of their own.

        For code outside its package, transformers leaves out modules whose own parameters are all loaded, which is
        also true of those that have none: the rules of whole blocks, the family's and ours, would never run. That
        precaution is for initialisers that overwrite loaded weights; these here do not.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise an adapter as nothing, the backbone as its family does, and what is ours by `_init_own`."""
        backbone = getattr(self.config, "backbone_config", None)
        if backbone is None:
            PreTrainedModel._init_weights(self, module)
        else:
            # a family's rules read its own config: a bare instance of its base class has that and no weights
            family_of(backbone).pretrained(backbone)._init_weights(module)
        if isinstance(module, Adapter):
            # torch's default for a Linear weight is this kaiming_uniform with a = sqrt(5)
            module.down_proj.reset_parameters()
            init.zeros_(module.down_proj.bias)
            init.zeros_(module.up_proj.weight)
            init.zeros_(module.up_proj.bias)
            init.ones_(module.scale)
        else:
            self._init_own(module)

    def _check_weights(self, source: str | Path, missing: set[str], unexpected: set[str]) -> None:
        """Refuse weights that are of another design; called with the names that do not fit."""

    def _init_own(self, module: nn.Module) -> None:
        """Initialise a module that only this kind of model has; called after its parts were."""

    def _set_requires_grad(self) -> None:
        """Say what is trained; all, if a model does not say otherwise."""

    def _remember_origin(self, small: SmallCheckpoint) -> None:
        """As if it had been loaded from a whole checkpoint of that name; and where its bases are."""
        self.name_or_path = self.config.name_or_path = str(small.name_or_path)
        if hasattr(self.config, "base_fingerprints"):
            for base in map(small.base, small.fingerprints):
                setattr(self.config, base.field, base.name_or_path)
                setattr(self.config, base.field.replace("name_or_path", "revision"), base.revision)

    def _check_can_hash(
        self, source: str | Path, missing: Iterable[str], mismatched: Iterable[tuple], may_differ: bool
    ) -> None:
        """Training heads may be started anew, with transformers' warning; neither backbone nor hash function may."""
        prefix = "" if self.base_model is self else f"{self.base_model_prefix}."
        tower = {f"{prefix}{name}": tensor for name, tensor in self.base_model.state_dict().items()}
        backbone = set(self.backbone_parameters())
        needed = tower.keys() | {name for name, parameter in self.named_parameters() if parameter in backbone}
        if unfit := [found for found in mismatched if not may_differ or found[0] in needed]:
            name, there, here = unfit[0]
            raise ValueError(
                f"{len(unfit)} weights of {source} do not fit its config, such as {name}: its shape is "
                f"{tuple(there)}, not {tuple(here)}"
            )
        if lost := needed & set(missing):
            raise ValueError(
                f"{source} is incomplete: {len(lost)} weights of the backbone or the hash function are missing, such "
                f"as {min(lost)}"
            )
        spoiled = [
            name
            for name, tensor in tower.items()
            if tensor.is_floating_point() and not tensor.is_meta and not bool(tensor.isfinite().all())
        ]
        if spoiled:
            raise ValueError(f"{source} is damaged: {len(spoiled)} weights are not finite, such as {spoiled[0]}")


class HashingTower(HashingPreTrainedModel):
    """What towers share: how photos become the tokens of the first layer.

    Each has `embeddings`, `pre_layrnorm`, `encoder`, `last_layer_norm`, and `frozen_states`: what its layers make of a
    photo before training changes anything.
    """

    config: Any
    embeddings: nn.Module
    pre_layrnorm: nn.Module
    encoder: Any
    last_layer_norm: nn.Module
    num_prefix_tokens: int

    @property
    def num_frozen_tokens(self) -> int:
        """How many tokens of a photo `frozen_states` gives."""
        return self.num_prefix_tokens + self.config.num_patches

    def backbone_features(self, pixel_values: Tensor) -> Tensor:
        """What the backbone alone makes of photos, without adapters and concepts: what hashing has to beat.

        The bare backbone's, if the model was trained with `freeze_backbone=True`.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised.

        Returns:
            float32 `(B, d)`, the last layer's CLS token, or the mean of its patches in a family without one; after the
            last layer norm, if the model has it.

        Raises:
            ValueError: if `pixel_values` has the wrong shape.
        """
        tokens = self._first_tokens(pixel_values, interpolate_pos_encoding=False)
        depth = len(self.encoder.layers)
        (tokens,) = self.encoder.without_adapters(tokens, [depth], attention_mask=None)
        tokens = self.last_layer_norm(tokens)
        return (tokens[:, 0] if self.num_prefix_tokens else tokens.mean(1)).float()

    def _first_tokens(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> Tensor:
        """Photos -> the input of the first layer, `(B, P + N, d)`."""
        self._check_pixel_values(pixel_values, interpolate_pos_encoding)
        pixel_values = pixel_values.to(next(self.embeddings.parameters()).dtype)  # a plain ViT does not do it itself
        return self.pre_layrnorm(self.embeddings(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding))

    def _check_pixel_values(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> None:
        channels, size, patch = self.config.num_channels, self.config.image_size, self.config.patch_size
        is_batch = pixel_values.ndim == 4 and pixel_values.shape[0] > 0 and pixel_values.shape[1] == channels
        if not is_batch or not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values must be floating point of shape (batch, {channels}, height, width) with at least one "
                f"photo, got {pixel_values.dtype} of shape {tuple(pixel_values.shape)}; the image processor saved "
                "with the model makes them"
            )
        height, width = pixel_values.shape[2:]
        if not interpolate_pos_encoding and (height, width) != (size, size):
            raise ValueError(
                f"this model hashes photos of {size}x{size} pixels, got {height}x{width}; resize them with the image "
                "processor, or pass interpolate_pos_encoding=True"
            )
        if min(height, width) < patch:
            raise ValueError(f"photos must be at least one patch ({patch} pixels) wide and high, got {height}x{width}")


def _check_config_can_be_made(config_class: type[PreTrainedConfig], source: str | Path, hub_kwargs: dict) -> None:
    """A value of another type can break transformers anywhere: then say whose config it was."""
    try:
        config: Any = config_class.from_pretrained(source, **hub_kwargs)
        parts = [config, *(getattr(config, name, None) for name in ("vision_config", "text_config"))]
        for part in filter(None, parts):
            if not isinstance(part.dtype, torch.dtype | None):
                raise ValueError(f"dtype is {part.dtype!r}")
    except Exception as error:
        if isinstance(error, OSError | StrictDataclassError) or str(source) in str(error):
            raise
        raise ValueError(
            f"{source} is damaged: its config.json cannot be read ({type(error).__name__}: {error})"
        ) from error
