"""Tiny models, photos and labels for the tests of the model."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionModel

NUM_CLASSES = 5

TINY_VISION: dict[str, Any] = {
    "image_size": 30,
    "patch_size": 10,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 24,
    "adapter_dim": 8,
    "num_bits": 12,
    "num_concepts": 3,
    "prompt_dropout": 0.0,
}
TINY_TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 20,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "pad_token_id": 3,
}


def tiny_config(vision: dict[str, Any] | None = None, text: bool = True, **kwargs: Any) -> ConceptHashConfig:
    """A model of 3 x 3 patches, 3 concepts and 12 bits."""
    defaults = {"class_embedding_dim": TINY_TEXT["hidden_size"], "num_labels": NUM_CLASSES}
    return ConceptHashConfig(
        vision_config=TINY_VISION | (vision or {}),
        text_config=dict(TINY_TEXT) if text else None,
        **(defaults | kwargs),
    )


def stir(model: torch.nn.Module) -> torch.nn.Module:
    """Move everything away from its initialisation, so that adapters and statistics have an effect."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("num_batches_tracked"):
                buffer.fill_(7)
    return model


def tiny_model(vision: dict[str, Any] | None = None, text: bool = True, **kwargs: Any) -> ConceptHashModel:
    """The whole tiny model, stirred, in evaluation mode."""
    return stir(ConceptHashModel(tiny_config(vision, text, **kwargs))).eval()


def tiny_tower(**vision: Any) -> ConceptHashVisionModel:
    """The tiny vision tower alone, stirred, in evaluation mode."""
    return stir(ConceptHashVisionModel(tiny_config(vision).vision_config)).eval()


def photos(batch: int = 4, size: int = TINY_VISION["image_size"]) -> torch.Tensor:
    return torch.randn(batch, 3, size, size)


def integer_labels(batch: int = 4, num_classes: int = NUM_CLASSES) -> torch.Tensor:
    return torch.arange(batch) % num_classes


def tiny_clip_config(vision: dict[str, Any] | None = None) -> CLIPConfig:
    """A CLIP that the tiny vision tower could have come from."""
    fields = CLIPVisionConfig.__annotations__
    geometry = {name: value for name, value in (TINY_VISION | (vision or {})).items() if name in fields}
    return CLIPConfig(
        vision_config=CLIPVisionConfig(**geometry),
        text_config=CLIPTextConfig(**TINY_TEXT),
        projection_dim=TINY_VISION["projection_dim"],
    )


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP without tokenizer and image processor."""
    CLIPModel(tiny_clip_config()).save_pretrained(folder)
    return folder


def forget_checksums(folder: Path) -> None:
    """As if the model had been saved by an older version, which did not note what weights belong to a config."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("weights_sha256", None)
    (folder / "config.json").write_text(json.dumps(config))


def to_reference_names(model: ConceptHashModel) -> dict[str, torch.Tensor]:
    """The state dict that the authors' implementation would have saved for this model (GOLDEN.md)."""
    plain = {
        "vision_model.concept_prompt.self_attn": "hash_attention.sa",
        "vision_model.concept_prompt.layer_norm": "hash_attention.norm",
        "vision_model.concept_prompt.fc1": "hash_attention.ffn.0",
        "vision_model.concept_prompt.fc2": "hash_attention.ffn.3",
        "vision_model.concept_prompt.projection": "hash_attention.ffn2",
        "vision_model.hash_head.projection": "hash_fc",
        "vision_model.hash_head.batch_norm": "hash_bn",
        "text_projection.fc1": "text_projection.0",
        "text_projection.fc2": "text_projection.2",
        "class_embeddings": "center",
        "vision_model.e": "backbone.vision_model.e",
        "vision_model.pre_layrnorm": "backbone.vision_model.pre_layrnorm",
    }
    with_second_name = {
        "vision_model.concept_prompt.queries": ("hash_queries", "trainable_params.hash_queries"),
        "vision_model.hash_head.specificity": ("hash_pe", "trainable_params.hash_pe"),
        "concept_classifier.position": ("concept_pe", "trainable_params.concept_pe"),
        "concept_classifier.centroids": ("concept_ce.centroids", "trainable_params.concept_ce_centroids"),
    }
    state = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("text_model."):
            continue
        if name in with_second_name:
            tensor = tensor if name.endswith("centroids") else tensor.unsqueeze(0)
            state |= {theirs: tensor.clone() for theirs in with_second_name[name]}
        elif "_adapter." in name:
            layer, _, part = name.removeprefix("vision_model.encoder.layers.").split(".", 2)
            which = 1 if "attention_adapter" in name else 2
            part = part.replace("layer_norm", "adapter_layer_norm")
            state[f"backbone.vision_model.encoder.layers.{layer}.adapt_mlp_{which}.{part}"] = tensor.clone()
            state[f"adapter_params.adapter_{layer}_adapt_mlp_{which}_{part.replace('.', '_')}"] = tensor.clone()
        else:
            ours = next(prefix for prefix in plain if name.startswith(prefix))
            state[plain[ours] + name.removeprefix(ours)] = tensor.clone()
    return state
