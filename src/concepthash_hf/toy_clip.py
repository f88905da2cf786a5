"""A small, random CLIP for the toy birds: what the default run is built on, where no pretrained CLIP can be had."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

from .language import DEFAULT_TEMPLATE, clean_class_name

_WORD = r"[a-z0-9]+"
_SPECIAL_TOKENS = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}


def save_toy_clip(folder: str | Path, class_names: Iterable[str], image_size: int = 96, seed: int = 0) -> None:
    """Write a CLIP folder with random weights and a tokenizer of the words in the class names.

    Nothing in it is pretrained. Its text tower maps names that share words to nearby embeddings all the same, since
    random attention averages what the words stand for; that is all the language guidance that the default run has.
    Its vision tower is a starting point to train from scratch (`freeze_backbone=False`). It has two layers: in deeper
    ones trained from scratch, patches stand for the whole picture by the time the concepts read them, and where a
    concept looks says little about what its bits depend on.

    Args:
        folder: where to write; `ConceptHashModel.from_clip` reads it.
        class_names: names whose words the tokenizer shall know, besides those of the default prompt.
        image_size: side of the photos in pixels; patches are an eighth of it.
        seed: of the weights.
    """
    tokenizer = _word_tokenizer(class_names)
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": image_size,
            "patch_size": image_size // 8,
        },
        projection_dim=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=image_size).save_pretrained(folder)


def _word_tokenizer(class_names: Iterable[str]) -> PreTrainedTokenizerFast:
    texts = [DEFAULT_TEMPLATE.format(""), *(clean_class_name(name) for name in class_names)]
    words = sorted({word for text in texts for word in re.findall(_WORD, text.lower())})
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL_TOKENS.values(), *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=_SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Split(Regex(_WORD), behavior="removed", invert=True)
    start, end = _SPECIAL_TOKENS["bos_token"], _SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(token, vocabulary[token]) for token in (start, end)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL_TOKENS)
