"""Class names -> class embeddings, through a text tower of any kind (paper section 3, language guidance)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipTextModel,
)

from .configuration_concepthash import DEFAULT_TEMPLATE
from .modes import evaluating

# they pool by themselves: CLIP at the end-of-text token, SigLIP at the last one of a prompt padded to full length
_CLIP, _SIGLIP = "clip_text_model", "siglip_text_model"

_SURROGATES = re.compile("[\ud800-\udfff]")
_CUB_INDEX = re.compile(r"^[0-9]{3}\.(?=[^\W\d_]|$)")


def clean_class_name(name: str) -> str:
    """Turn a folder-like class name into words.

    Underscores become spaces and the three-digit index of CUB's folders is dropped where a letter follows; other
    digits stay, since they can be the very name.

    Example:
        >>> clean_class_name("001.Black_footed_Albatross"), clean_class_name("737-300")
        ('Black footed Albatross', '737-300')
    """
    return " ".join(_CUB_INDEX.sub("", name).replace("_", " ").split())


def class_prompts(class_name: str | Sequence[str], template: str | Sequence[str] = DEFAULT_TEMPLATE) -> list[str]:
    """All texts that stand for one class: every name of it in every template.

    Args:
        class_name: its name, or several (synonyms).
        template: a text with one `{}` for the name, or several.

    Returns:
        `names x templates` texts.

    Raises:
        ValueError: if a template has no `{}`, or a name is empty or no text.
    """
    names = [class_name] if isinstance(class_name, str) else list(class_name)
    templates = [template] if isinstance(template, str) else list(template)
    for text in templates:
        if "{}" not in text:
            raise ValueError(
                f'a prompt template needs a {{}} where the class name goes, e.g. "{DEFAULT_TEMPLATE}"; got {text!r}'
            )
    if unwritable := [name for name in names if _SURROGATES.search(name)]:
        raise ValueError(f"words are Unicode text; {unwritable[0]!r} has halves of letters that no text can have")
    cleaned = [clean_class_name(name) for name in names]
    if not templates or not cleaned or not all(cleaned):
        raise ValueError(f"a class needs at least one template and one name that is not empty, got {class_name!r}")
    return [text.replace("{}", name) for name in cleaned for text in templates]


def make_text_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A text tower with random weights.

    Args:
        config: of CLIP's or SigLIP's text tower, or of a sentence encoder (BERT and the like).
    """
    return _without_pooler(_text_model_class(config)._from_config(config))


def load_text_model(name_or_path: str | Path, **hub_kwargs: Any) -> PreTrainedModel:
    """Load a text tower in float32, whatever it was saved in.

    Args:
        name_or_path: a Hub id or a folder: a CLIP, a SigLIP, or a sentence encoder.
        **hub_kwargs: `revision`, `token`, `cache_dir`, ... as for `from_pretrained`.

    Raises:
        ValueError: if there is no text model, or its weights are damaged.
        OSError: if it has no weights.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, **hub_kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name_or_path} holds no text model that can be loaded: {error}") from error
    text_config = getattr(config, "text_config", None) or config
    if hasattr(text_config, "patch_size"):
        raise ValueError(
            f"{name_or_path} holds a {config.model_type!r} model, which reads photos and no words; give a text model, "
            "such as openai/clip-vit-base-patch32"
        )
    loader = _text_model_class(text_config) if text_config is config else AutoModel
    try:
        model = loader.from_pretrained(name_or_path, dtype=torch.float32, **hub_kwargs)
    except SafetensorError as error:
        raise ValueError(
            f"the weights of {name_or_path} are damaged or incomplete ({error}); copy or download them again"
        ) from error
    return _without_pooler(model if text_config is config else model.text_model)


def load_tokenizer(name_or_path: str | Path, **hub_kwargs: Any) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a text tower.

    Raises:
        ValueError: if there is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **hub_kwargs)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # made up from the model's config
            raise ValueError("its vocabulary is empty")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there is no tokenizer in {name_or_path}, which words need; put the one of its text tower there "
            f"(tokenizer.save_pretrained), or give class embeddings: {error}"
        ) from error
    return tokenizer


def text_features(text_model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """One vector for each text, as the text tower was trained to give it.

    CLIP's pooled output is the end-of-text token after the final layer norm, before the text projection; SigLIP's is
    the last token of a prompt that is padded to full length; of sentence encoders it is the mean over the tokens.

    Args:
        text_model: any text tower.
        input_ids: int64 `(n, tokens)`.
        attention_mask: `(n, tokens)`; default all ones.

    Returns:
        float32 `(n, t)`, not normalised.
    """
    with evaluating(text_model):
        return _pool(text_model, input_ids, attention_mask)


def text_width(config: PreTrainedConfig) -> int:
    """t, the width of what `text_features` gives for a text tower of this config."""
    return config.projection_size if config.model_type == _SIGLIP else config.hidden_size


@torch.no_grad()
def embed_class_names(
    text_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    class_names: Sequence[str | Sequence[str]],
    template: str | Sequence[str] = DEFAULT_TEMPLATE,
    batch_size: int = 256,
) -> Tensor:
    """Embed class names with a text tower.

    Where a class has several texts (synonyms, templates), their vectors are averaged. See `text_features`.

    Args:
        text_model: the text tower, on any device.
        tokenizer: the tokenizer that belongs to it.
        class_names: C entries, each a name or several names of one class.
        template: a text with one `{}` for the name, or several.
        batch_size: texts at a time.

    Returns:
        float32 `(C, t)` on the tower's device.

    Raises:
        ValueError: if there are no class names, one is empty, a template has no `{}`, or the tokenizer does not belong
            to the text tower.
    """
    if isinstance(class_names, str):
        raise ValueError(f"class names are a list, got the string {class_names!r}")
    prompts = [class_prompts(name, template) for name in class_names]
    if not prompts:
        raise ValueError("no class names given")
    texts = [text for texts in prompts for text in texts]
    pooled = torch.cat(
        [_embed_texts(text_model, tokenizer, texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]
    )
    return torch.stack([part.mean(0) for part in pooled.split([len(texts) for texts in prompts])])


def _embed_texts(text_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    config = text_model.config
    tokens = tokenizer(
        texts,
        padding="max_length" if config.model_type == _SIGLIP else True,
        truncation=True,
        max_length=min(tokenizer.model_max_length, config.max_position_embeddings),
        return_tensors="pt",
    )
    input_ids = tokens["input_ids"]
    # CLIP pools at the end-of-text token (2 stands for "the largest id" in configs of the first CLIPs)
    finds_end = config.model_type != _CLIP or config.eos_token_id == 2
    finds_end = finds_end or bool((input_ids == config.eos_token_id).any(-1).all())
    if int(input_ids.max()) >= config.vocab_size or not finds_end:
        raise ValueError(
            f"the tokenizer does not belong to this text tower: it gives ids up to {int(input_ids.max())} and ends "
            f"texts with {tokenizer.eos_token_id}; the tower has {config.vocab_size} tokens and reads the text at "
            f"token {config.eos_token_id}"
        )
    device = text_model.device
    return text_features(text_model, input_ids.to(device), tokens["attention_mask"].to(device))


def _pool(text_model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    if text_model.config.model_type == _SIGLIP:
        return text_model(input_ids=input_ids).pooler_output.float()  # it reads the padding too
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    output = text_model(input_ids=input_ids, attention_mask=attention_mask)
    if text_model.config.model_type == _CLIP:
        return output.pooler_output.float()
    weights = attention_mask.unsqueeze(-1).float()
    return (output.last_hidden_state.float() * weights).sum(1) / weights.sum(1)


def _text_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    if config.model_type == _SIGLIP:  # which the Auto classes do not know alone
        return SiglipTextModel
    if config.is_encoder_decoder:
        raise ValueError(
            f"a text model of type {config.model_type!r} cannot be used: it has an encoder and a decoder. Give a "
            "CLIP, a SigLIP, or a sentence encoder such as a BERT"
        )
    if type(config) not in MODEL_MAPPING:
        raise ValueError(f"a text model of type {config.model_type!r} cannot be used: AutoModel does not know it")
    return MODEL_MAPPING[type(config)]


def _without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """BERT's pooler is not read here, and many sentence encoders were saved without it."""
    if hasattr(model, "pooler"):
        model.pooler = None
    return model
