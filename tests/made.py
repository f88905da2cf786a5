"""Readings and models made by hand, whose explanations are known."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from concepthash_hf.explain.attention import ConceptReadings

SIDE, PATCH = 4, 10


def readings(
    attentions: np.ndarray, parts: np.ndarray | None = None, patch_size: int = 10, bits: np.ndarray | None = None
) -> ConceptReadings:
    """Readings with these attentions (n, M, h, w) and bits (n, K)."""
    n, num_concepts = attentions.shape[:2]
    bits = np.zeros((n, num_concepts), dtype=bool) if bits is None else bits
    return ConceptReadings(
        code_logits=np.where(bits, 1, -1).astype(np.float32),
        attentions=np.asarray(attentions, dtype=np.float32),
        patch_size=patch_size,
        parts=parts,
    )


def looking_at(cells: np.ndarray, side: int = 4, height: float = 0.5) -> np.ndarray:
    """Attentions (n, M, side, side) that are all on one patch each: rows and columns (n, M, 2)."""
    attentions = np.zeros((*cells.shape[:2], side, side))
    for photo, concept in np.ndindex(cells.shape[:2]):
        attentions[photo, concept][tuple(cells[photo, concept])] = height
    return attentions


def centre(cells: np.ndarray) -> np.ndarray:
    """x, y of the middle of patches (..., row and column)."""
    return (cells[..., ::-1] * PATCH + PATCH / 2).astype(np.float32)


def masks_of(cells: np.ndarray) -> np.ndarray:
    """Part p fills the whole patch cells[n, p]; uint8 (n, H, W)."""
    masks = np.zeros((len(cells), SIDE * PATCH, SIDE * PATCH), dtype=np.uint8)
    for photo, row in enumerate(cells):
        for part, (r, c) in enumerate(row):
            masks[photo, r * PATCH : (r + 1) * PATCH, c * PATCH : (c + 1) * PATCH] = part + 1
    return masks


class RowReader(nn.Module):
    """Four concepts on 4 x 4 patches of 5 pixels: concept m attends to row m; its bits depend on row `reads[m]` alone.

    A sub-code has two bits: one is set where any pixel of the row is brighter than 0.5, the other never.
    """

    def __init__(self, reads: tuple[int, ...] = (0, 1, 2, 3)):
        super().__init__()
        self.reads = reads
        self.config = SimpleNamespace(num_concepts=4, patch_size=5)
        self.device = torch.device("cpu")
        self.calls = 0

    def forward(self, pixel_values: Tensor, output_attentions: bool = False) -> SimpleNamespace:
        self.calls += 1
        rows = pixel_values.unflatten(2, (4, 5)).amax((1, 3, 4))[:, list(self.reads)]
        logits = torch.stack([rows - 0.5, -torch.ones_like(rows)], dim=-1).flatten(1)
        attentions = 0.2 * torch.eye(4)[:, :, None].expand(4, 4, 4)
        return SimpleNamespace(code_logits=logits, concept_attentions=attentions.flatten(1).repeat(len(rows), 1, 1))


class Photos(Dataset):
    """Items of these tensors, by name."""

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict:
        return {name: values[index] for name, values in self.columns.items()}
