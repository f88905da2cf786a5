"""What a concept means in words: the phrases that CLIP finds closest to what the concept looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import BaseImageProcessor, CLIPModel, PreTrainedTokenizerBase

from ..language import class_prompts


@dataclass(frozen=True)
class PhraseScore:
    """A phrase and how well it fits a concept.

    Attributes:
        phrase: as given.
        probability: CLIP's probability that the phrase, of all in the vocabulary, describes a crop of the concept;
            mean over the crops.
        above_others: that, less the mean of the same for the other concepts: what is said of this concept rather than
            of any part of the photos. 0 by chance.
    """

    phrase: str
    probability: float
    above_others: float


@torch.no_grad()
def closest_phrases(
    clip: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    image_processor: BaseImageProcessor,
    crops: Sequence[Sequence[Image.Image]],
    phrases: Sequence[str],
    template: str = "a photo of a {}",
    top: int = 5,
    batch_size: int = 64,
) -> list[list[PhraseScore]]:
    """Rank the phrases of a vocabulary by how much better they describe one concept's crops than the others'.

    Args:
        clip: with both towers.
        tokenizer: of that CLIP.
        image_processor: of that CLIP.
        crops: for each of M concepts pictures of what it looks at (see `attended_box`).
        phrases: the vocabulary.
        template: a text with one `{}` for the phrase.
        top: phrases for each concept.
        batch_size: pictures or phrases at a time.

    Returns:
        For each concept its phrases, best first.

    Raises:
        ValueError: if there are fewer than two concepts, one without crops, or no phrases.
    """
    if len(crops) < 2 or not all(crops) or not phrases:
        raise ValueError(
            "phrases are compared between the crops of two or more concepts, got "
            f"{[len(of_concept) for of_concept in crops]} crops by concept and {len(phrases)} phrases"
        )
    words = _embed_phrases(clip, tokenizer, [class_prompts(phrase, template)[0] for phrase in phrases], batch_size)
    pictures = [_embed_pictures(clip, image_processor, of_concept, batch_size) for of_concept in crops]
    scale = clip.logit_scale.exp()
    probability = torch.stack([(scale * pixels @ words.T).softmax(-1).mean(0) for pixels in pictures])
    above = probability - (probability.sum(0) - probability) / (len(crops) - 1)
    return [
        [
            PhraseScore(phrases[phrase], float(probability[concept, phrase]), float(above[concept, phrase]))
            for phrase in above[concept].argsort(descending=True)[:top].tolist()
        ]
        for concept in range(len(crops))
    ]


def _embed_phrases(clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], batch_size: int) -> Tensor:
    """Unit vectors in the joint space, `(number, p)`."""
    rows = []
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(texts[start : start + batch_size], padding=True, truncation=True, return_tensors="pt")
        pooled = clip.text_model(
            input_ids=tokens["input_ids"].to(clip.device), attention_mask=tokens["attention_mask"].to(clip.device)
        ).pooler_output
        rows.append(F.normalize(clip.text_projection(pooled), dim=-1))
    return torch.cat(rows)


def _embed_pictures(
    clip: CLIPModel, image_processor: BaseImageProcessor, pictures: Sequence[Image.Image], batch_size: int
) -> Tensor:
    """Unit vectors in the joint space, `(number, p)`."""
    rows = []
    for start in range(0, len(pictures), batch_size):
        pixels = image_processor(list(pictures[start : start + batch_size]), return_tensors="pt")["pixel_values"]
        pooled = clip.vision_model(pixels.to(clip.device, clip.dtype)).pooler_output
        rows.append(F.normalize(clip.visual_projection(pooled), dim=-1))
    return torch.cat(rows)
