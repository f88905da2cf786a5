"""Class names -> class embeddings, through CLIP's text tower (paper section 3, language guidance)."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

DEFAULT_TEMPLATE = "a photo of a {}"

_CUB_INDEX = re.compile(r"^\d{3}\.")


def clean_class_name(name: str) -> str:
    """Turn a folder-like class name into words.

    Underscores become spaces and the three-digit index of CUB's folders is dropped; other digits stay, since they can
    be the very name.

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
        ValueError: if a template has no `{}`, or a name is empty.
    """
    names = [class_name] if isinstance(class_name, str) else list(class_name)
    templates = [template] if isinstance(template, str) else list(template)
    for text in templates:
        if "{}" not in text:
            raise ValueError(
                f'a prompt template needs a {{}} where the class name goes, e.g. "{DEFAULT_TEMPLATE}"; got {text!r}'
            )
    cleaned = [clean_class_name(name) for name in names]
    if not templates or not cleaned or not all(cleaned):
        raise ValueError(f"a class needs at least one template and one name that is not empty, got {class_name!r}")
    return [text.replace("{}", name) for name in cleaned for text in templates]


@torch.no_grad()
def embed_class_names(
    text_model: CLIPTextModel,
    tokenizer: PreTrainedTokenizerBase,
    class_names: Sequence[str | Sequence[str]],
    template: str | Sequence[str] = DEFAULT_TEMPLATE,
    batch_size: int = 256,
) -> Tensor:
    """Embed class names with CLIP's text tower.

    The embedding of a text is the tower's pooled output: the end-of-text token after the final layer norm, before
    CLIP's text projection, not normalised. Where a class has several texts (synonyms, templates), theirs are averaged.

    Args:
        text_model: CLIP's text tower, on any device.
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


def _embed_texts(text_model: CLIPTextModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    config = text_model.config
    tokens = tokenizer(
        texts, padding=True, truncation=True, max_length=config.max_position_embeddings, return_tensors="pt"
    )
    input_ids = tokens["input_ids"]
    # the tower pools at the end-of-text token (2 stands for "the largest id" in configs of the first CLIPs)
    pools_somewhere = config.eos_token_id == 2 or bool((input_ids == config.eos_token_id).any(-1).all())
    if int(input_ids.max()) >= config.vocab_size or not pools_somewhere:
        raise ValueError(
            f"the tokenizer does not belong to this text tower: it gives ids up to {int(input_ids.max())} and ends "
            f"texts with {tokenizer.eos_token_id}; the tower has {config.vocab_size} tokens and reads the text at "
            f"token {config.eos_token_id}"
        )
    tokens = tokens.to(text_model.device)
    output = text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    return output.pooler_output.float()
