"""Tiny random backbones of every family, and text towers of every kind."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 40,
    "patch_size": 10,
}
MLP = {"intermediate_size": 48}
TEXT: dict[str, Any] = {
    "vocab_size": 12,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 20,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WORDS = ("a", "photo", "of", "blue", "jay", "gull", "wren")

FAMILIES = ("clip_vision_model", "dinov2", "dinov2_with_registers", "vit", "siglip_vision_model")
PREFIX_TOKENS = {"dinov2_with_registers": 3, "siglip_vision_model": 0}
TEXT_KINDS = ("clip", "siglip", "bert")


def save_backbone(folder: Path, family: str, seed: int = 0, **sizes: Any) -> Path:
    """A folder as on the Hub: a CLIP or SigLIP with both towers and a tokenizer, or a vision model alone."""
    torch.manual_seed(seed)
    make_lively(_BACKBONES[family](**SIZES | sizes)).save_pretrained(folder)
    if family in ("clip_vision_model", "siglip_vision_model"):
        word_tokenizer().save_pretrained(folder)
    return folder


def save_text_model(folder: Path, kind: str) -> Path:
    """A folder with a text tower and its tokenizer."""
    torch.manual_seed(1)
    if kind == "bert":
        sizes = {name: value for name, value in TEXT.items() if name not in ("bos_token_id", "eos_token_id")}
        make_lively(BertModel(BertConfig(**sizes))).save_pretrained(folder)
    else:
        make_lively(_BACKBONES[f"{kind}_vision_model"](**SIZES)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def word_tokenizer() -> PreTrainedTokenizerFast:
    special = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"}
    vocabulary = {token: index for index, token in enumerate([*special.values(), *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=20, **special)


def make_lively(model: PreTrainedModel) -> PreTrainedModel:
    """Move weights away from initialisations that are zero or tiny, so that every part has an effect."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def _clip(**sizes: Any) -> CLIPModel:
    vision = sizes | MLP
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=24))


def _siglip(**sizes: Any) -> SiglipModel:
    return SiglipModel(SiglipConfig(vision_config=sizes | MLP, text_config=TEXT))


_BACKBONES = {
    "clip_vision_model": _clip,
    "siglip_vision_model": _siglip,
    "dinov2": lambda **sizes: Dinov2Model(Dinov2Config(**sizes, mlp_ratio=2)),
    "dinov2_with_registers": lambda **sizes: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**sizes, mlp_ratio=2, num_register_tokens=2)
    ),
    "vit": lambda **sizes: ViTModel(ViTConfig(**sizes | MLP), add_pooling_layer=False),
}
