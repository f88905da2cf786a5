"""Codebooks: a binary target for every class, which codes are pulled towards.

Notation: C classes, K bits, t width of class embeddings. Random ones draw from torch's generator.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

# draws after which it is plain that so few bits do not hold so many classes
_MOST_DRAWS = 1000

logger = logging.getLogger(__name__)


def random_codebook(num_classes: int, num_bits: int) -> Tensor:
    """Fair coin flips; rows that have come already are drawn again.

    Args:
        num_classes: C.
        num_bits: K.

    Returns:
        float32 `(C, K)` of +1 and -1.

    Raises:
        ValueError: if K bits do not hold C different targets.

    Example:
        >>> random_codebook(3, 16).shape
        torch.Size([3, 16])
    """
    return _completed(torch.empty(0, num_bits), num_classes, lambda: torch.randint(2, (num_bits,)) * 2.0 - 1)


def hadamard_codebook(num_classes: int, num_bits: int) -> Tensor:
    """Rows of a Hadamard matrix, which differ in half of the bits; then of its negative; then random balanced ones.

    Entry (r, c) is `(-1)^popcount(r AND c)`, in Sylvester's order (Yuan et al., CVPR 2020, section 3.2). Where K is no
    power of two there is no such matrix, and all rows are balanced: K // 2 of their bits are -1.

    Args:
        num_classes: C.
        num_bits: K.

    Returns:
        float32 `(C, K)` of +1 and -1.

    Raises:
        ValueError: if K bits do not hold C different targets.

    Example:
        >>> hadamard_codebook(3, 4)
        tensor([[ 1.,  1.,  1.,  1.],
                [ 1., -1.,  1., -1.],
                [ 1.,  1., -1., -1.]])
    """
    rows = torch.empty(0, num_bits)
    if num_bits.bit_count() == 1:
        matrix = torch.ones(1, 1)
        while len(matrix) < num_bits:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
        rows = torch.cat([matrix, -matrix])[:num_classes]

    def balanced() -> Tensor:
        return torch.where(torch.randperm(num_bits) < num_bits // 2, -1.0, 1.0)

    return _completed(rows, num_classes, balanced)


def language_codebook(class_embeddings: Tensor, num_bits: int) -> Tensor:
    """Signs of the K leading principal components of the class embeddings: similar words, similar targets.

    The components are those of the C embeddings themselves, centred (the language-guided OrthoHash that Ng et al.,
    2024, compare with). A component is defined up to its sign: here its largest loading is positive. Classes may
    coincide where bits are few, of which it warns.

    Args:
        class_embeddings: `(C, t)`.
        num_bits: K, at most C - 1 and t.

    Returns:
        float32 `(C, K)` of +1 and -1.

    Raises:
        ValueError: if there are not K components.
    """
    num_classes = len(class_embeddings)
    if num_bits > (most := min(num_classes - 1, class_embeddings.shape[1])):
        raise ValueError(
            f"{num_classes} class embeddings have {most} principal components, not {num_bits}: take fewer bits, or "
            "targets that need no language"
        )
    centred = class_embeddings.double() - class_embeddings.double().mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:num_bits]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    codebook = torch.where(centred @ axes.T > 0, 1.0, -1.0)
    if (distinct := len(codebook.unique(dim=0))) < num_classes:
        logger.warning(
            "%d bits give %d class names only %d different targets: some classes cannot be told apart by them",
            *(num_bits, num_classes, distinct),
        )
    return codebook


def _completed(rows: Tensor, num_classes: int, draw: Callable[[], Tensor]) -> Tensor:
    """These rows, and drawn ones that are not among them."""
    found = {tuple(row.tolist()) for row in rows}
    codebook = list(rows)
    draws = 0
    while len(codebook) < num_classes:
        row = draw()
        if (key := tuple(row.tolist())) not in found:
            found.add(key)
            codebook.append(row)
        elif (draws := draws + 1) == _MOST_DRAWS * num_classes:
            raise ValueError(f"{rows.shape[1]} bits do not hold {num_classes} different targets: take more bits")
    return torch.stack(codebook)
