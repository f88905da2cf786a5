"""Codes and concept attentions of many photos: what every explanation and every measurement starts from."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..codes import binarize, pack_bits, split_sub_codes
from ..modeling_concepthash import ConceptHashPreTrainedModel
from ..modes import evaluating


@dataclass(frozen=True)
class ConceptReadings:
    """What a model made of n photos, and what is known about them.

    Attributes:
        code_logits: float32 `(n, K)`, concept 0 first.
        attentions: float32 `(n, M, h, w)`, last layer, averaged over heads, one value a patch. Of each concept's
            attention a part goes to other tokens, so they sum to less than 1.
        patch_size: side of a patch, in pixels of `pixel_values`.
        labels: int64 `(n,)` or multi-hot `(n, C)`; None if the photos have none.
        parts: float32 `(n, P, 2)` points x, y (NaN: not visible) or uint8 `(n, H, W)` masks (0: no part, otherwise
            the part's position plus one), in pixels of `pixel_values`; None if the photos have none.
    """

    code_logits: np.ndarray
    attentions: np.ndarray
    patch_size: int
    labels: np.ndarray | None = None
    parts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.code_logits)

    @property
    def num_concepts(self) -> int:
        """M."""
        return self.attentions.shape[1]

    @property
    def has_points(self) -> bool:
        """Whether the photos have parts, and these are points."""
        return self.parts is not None and np.issubdtype(self.parts.dtype, np.floating)

    @property
    def codes(self) -> np.ndarray:
        """Packed codes, uint8 `(n, ceil(K / 8))`."""
        return pack_bits(binarize(self.code_logits))

    @property
    def sub_codes(self) -> np.ndarray:
        """Bits by concept, bool `(n, M, K / M)`."""
        return split_sub_codes(binarize(self.code_logits), self.num_concepts)

    @property
    def attention_shares(self) -> np.ndarray:
        """Attentions that sum to 1 over the patches, float32 `(n, M, h, w)`; all 0 where a concept sees no patch."""
        total = self.attentions.sum(axis=(2, 3), keepdims=True)
        return self.attentions / np.where(total > 0, total, 1)

    @property
    def peaks(self) -> np.ndarray:
        """Row and column of the patch that each concept attends to most, int64 `(n, M, 2)`."""
        height, width = self.attentions.shape[2:]
        return np.stack(np.divmod(self.attentions.reshape(*self.attentions.shape[:2], -1).argmax(-1), width), axis=-1)


def read_concepts(
    model: ConceptHashPreTrainedModel, photos: Dataset, batch_size: int = 64, num_workers: int = 0
) -> ConceptReadings:
    """Run a model over photos and keep codes and concept attentions.

    Args:
        model: in any mode, on any device, with any attention implementation.
        photos: items `{"pixel_values": (3, H, W)}`, optionally with "labels" and "parts", such as
            `splits.torch_dataset("query", eval_transform(processor), with_parts=True)`.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Raises:
        ValueError: if there are no photos, or they do not fit the model.
    """
    read: dict[str, list[Tensor]] = {}
    for batch in DataLoader(photos, batch_size, num_workers=num_workers):
        code_logits, attentions = read_batch(model, batch["pixel_values"])
        kept = {"code_logits": code_logits, "attentions": attentions}
        kept |= {name: batch[name] for name in ("labels", "parts") if name in batch}
        for name, values in kept.items():
            read.setdefault(name, []).append(values.cpu())
    if not read:
        raise ValueError("there are no photos to explain")
    arrays = {name: torch.cat(values).numpy() for name, values in read.items()}
    return ConceptReadings(**arrays, patch_size=model.config.patch_size)


@torch.no_grad()
def read_batch(model: ConceptHashPreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Give code logits float32 `(B, K)` and attentions float32 `(B, M, h, w)` of some photos, on the model's device.

    Args:
        model: in any mode, which it keeps.
        pixel_values: float `(B, 3, H, W)`, on any device.
    """
    with evaluating(model):
        output = model(pixel_values.to(model.device), output_attentions=True)
    rows = pixel_values.shape[2] // model.config.patch_size
    return output.code_logits.float(), output.concept_attentions.float().unflatten(-1, (rows, -1))
