"""Checkpoints of the authors' implementation -> `ConceptHashModel`.

Only facts about the file format are used here: the names and shapes of the tensors in a state dict of the authors'
training code. There every trained tensor appears under two names; both are read and must agree.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import CLIPConfig, PreTrainedModel

from .base_models import load_base_config, place_of
from .configuration_concepthash import ConceptHashConfig
from .language import load_text_model
from .modeling_concepthash import ConceptHashModel

logger = logging.getLogger(__name__)

# the second name of a tensor -> its first
_SECOND_NAMES = [
    (
        r"adapter_params\.adapter_(\d+)_adapt_mlp_(\d)_scale",
        r"backbone.vision_model.encoder.layers.\1.adapt_mlp_\2.scale",
    ),
    (
        r"adapter_params\.adapter_(\d+)_adapt_mlp_(\d)_(\w+)_(weight|bias)",
        r"backbone.vision_model.encoder.layers.\1.adapt_mlp_\2.\3.\4",
    ),
    (r"trainable_params\.concept_ce_centroids", "concept_ce.centroids"),
    (r"trainable_params\.(.*)", r"\1"),
]
# the first name -> ours; the first rule that matches is taken
_RENAMES = [
    (r"backbone\.(.*)\.adapt_mlp_1\.adapter_layer_norm\.(.*)", r"\1.attention_adapter.layer_norm.\2"),
    (r"backbone\.(.*)\.adapt_mlp_2\.adapter_layer_norm\.(.*)", r"\1.mlp_adapter.layer_norm.\2"),
    (r"backbone\.(.*)\.adapt_mlp_1\.(.*)", r"\1.attention_adapter.\2"),
    (r"backbone\.(.*)\.adapt_mlp_2\.(.*)", r"\1.mlp_adapter.\2"),
    (r"backbone\.(vision_model\..*)", r"\1"),
    (r"hash_queries", "vision_model.concept_prompt.queries"),
    (r"hash_attention\.sa\.(.*)", r"vision_model.concept_prompt.self_attn.\1"),
    (r"hash_attention\.norm([12])\.(.*)", r"vision_model.concept_prompt.layer_norm\1.\2"),
    (r"hash_attention\.ffn\.0\.(.*)", r"vision_model.concept_prompt.fc1.\1"),
    (r"hash_attention\.ffn\.3\.(.*)", r"vision_model.concept_prompt.fc2.\1"),
    (r"hash_attention\.ffn2\.(.*)", r"vision_model.concept_prompt.projection.\1"),
    (r"hash_pe", "vision_model.hash_head.specificity"),
    (r"hash_fc\.(.*)", r"vision_model.hash_head.projection.\1"),
    (r"hash_bn\.(.*)", r"vision_model.hash_head.batch_norm.\1"),
    (r"concept_pe", "concept_classifier.position"),
    (r"concept_ce\.centroids", "concept_classifier.centroids"),
    (r"text_projection\.0\.(.*)", r"text_projection.fc1.\1"),
    (r"text_projection\.2\.(.*)", r"text_projection.fc2.\1"),
    (r"center", "class_embeddings"),
]
# parts of CLIP that the reference carries along and never reads; position_ids is a buffer of older transformers
_UNUSED = re.compile(
    r"backbone\.(logit_scale|visual_projection\..*|text_projection\..*|vision_model\.post_layernorm\..*"
    r"|vision_model\.embeddings\.position_ids)"
)
# these have a leading axis of 1 in the reference
_SQUEEZED = (
    "vision_model.concept_prompt.queries",
    "vision_model.hash_head.specificity",
    "concept_classifier.position",
)


def convert_reference_checkpoint(
    state_dict_or_path: Mapping[str, Tensor] | str | Path, clip: CLIPConfig | str | Path, **config_kwargs: Any
) -> ConceptHashModel:
    """Turn a checkpoint of the authors' implementation into a model that computes the same.

    Bits, concepts, classes and widths are recovered from the shapes. Class names are not in such a checkpoint:
    `config.id2label` says LABEL_0, LABEL_1 ... unless `id2label` is given.

    Args:
        state_dict_or_path: the state dict, or the path of a `.safetensors` or `.pth` file (read with
            `weights_only=True`).
        clip: the CLIP that the checkpoint was built on: its config, a folder, or a Hub id. From a folder or an id with
            weights the model also gets the text tower, which is not in the checkpoint.
        **config_kwargs: further fields of `ConceptHashConfig` and `ConceptHashVisionConfig`, e.g. `prompt_dropout`.

    Returns:
        The model in evaluation mode, float32.

    Raises:
        ValueError: if tensors are missing, left over, contradict each other or do not fit that CLIP.
    """
    state = _read_state_dict(state_dict_or_path)
    converted = _rename(state)
    clip_config = clip if isinstance(clip, CLIPConfig) else load_base_config(clip)
    if not isinstance(clip_config, CLIPConfig):
        raise ValueError(
            f"{clip} holds a {clip_config.model_type!r} model; these checkpoints were built on a CLIP with both "
            "towers (model_type 'clip'), such as openai/clip-vit-base-patch32"
        )
    text_model = None if isinstance(clip, CLIPConfig) else _load_text_model(clip)

    config = _recover_config(converted, clip_config, config_kwargs)
    if text_model is not None:
        config.text_config = text_model.config
    if not isinstance(clip, CLIPConfig):
        config.base_model_name_or_path = place_of(clip)
    model = ConceptHashModel(config)
    if text_model is not None:
        converted |= {f"text_model.{name}": tensor for name, tensor in text_model.state_dict().items()}
    _check_fits(converted, model.state_dict())
    model.load_state_dict(converted)
    return model.eval()


def _read_state_dict(source: Mapping[str, Tensor] | str | Path) -> dict[str, Tensor]:
    state = source if isinstance(source, Mapping) else _load_file(Path(source))
    if not isinstance(state, Mapping):
        raise ValueError(f"{source} holds no state dict but a {type(state).__name__}")
    state = dict(state)
    strangers = [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]
    if strangers:
        raise ValueError(f"not a state dict: {strangers[:5]} are no tensors; if it is nested, give the inner one")
    return state


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or no file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader of pickles fails with whatever a damaged one makes of it
        reason = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as weights alone, it is damaged or holds something else: {reason}"
        ) from error


def _rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the reference's tensors; the two copies of a trained tensor must be equal."""
    converted: dict[str, Tensor] = {}
    leftover = []
    for name, tensor in state.items():
        if _UNUSED.fullmatch(name):
            continue
        ours = _first_match(_RENAMES, _first_match(_SECOND_NAMES, name) or name)
        if ours is None:
            leftover.append(name)
            continue
        if ours in _SQUEEZED:
            tensor = tensor.squeeze(0)
        if tensor.is_floating_point():
            tensor = tensor.float()
        if ours in converted and not torch.equal(converted[ours], tensor):
            raise ValueError(f"this checkpoint holds a tensor twice and the copies differ: {name}, for {ours}")
        converted[ours] = tensor
    if leftover:
        raise ValueError(f"{len(leftover)} tensors have no place in a ConceptHash model: {sorted(leftover)[:8]}")
    return converted


def _first_match(rules: list[tuple[str, str]], name: str) -> str | None:
    return next((re.sub(old, new, name) for old, new in rules if re.fullmatch(old, name)), None)


def _recover_config(state: dict[str, Tensor], clip: CLIPConfig, config_kwargs: dict[str, Any]) -> ConceptHashConfig:
    needed = {
        "queries": "vision_model.concept_prompt.queries",
        "batch norm": "vision_model.hash_head.batch_norm.weight",
        "adapter": "vision_model.encoder.layers.0.attention_adapter.down_proj.weight",
        "class centres": "class_embeddings",
    }
    missing = [f"{what} ({name})" for what, name in needed.items() if name not in state]
    if missing:
        raise ValueError(f"this is no ConceptHash checkpoint of the reference: without {', '.join(missing)}")
    num_concepts, prompt_dim = state[needed["queries"]].shape
    num_classes, class_embedding_dim = state[needed["class centres"]].shape
    recovered = {
        "num_bits": len(state[needed["batch norm"]]),
        "num_concepts": num_concepts,
        "adapter_dim": len(state[needed["adapter"]]),
        "class_embedding_dim": class_embedding_dim,
        # the reference stores the sign, whatever its config's flag says
        "binarize_class_embeddings": True,
    }
    if "id2label" not in config_kwargs:
        recovered["num_labels"] = num_classes
    vision_config = {"backbone_config": clip.vision_config.to_dict() | {"dtype": None}, "prompt_dim": prompt_dim}
    return ConceptHashConfig(vision_config=vision_config, **(recovered | config_kwargs))


def _load_text_model(clip: str | Path) -> PreTrainedModel | None:
    try:
        return load_text_model(clip)
    except OSError:
        logger.warning("%s holds a CLIP config but no weights: converting without a text tower", clip)
        return None


def _check_fits(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            "the checkpoint does not fit this CLIP and these settings: "
            f"{len(missing)} tensors missing {missing[:4]}, {len(unexpected)} left over {unexpected[:4]}, "
            f"{len(shapes)} of another shape {shapes[:4]}"
        )
