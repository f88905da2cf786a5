"""What has to hold of the classes of a model: each has an embedding of its own."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

# relative to their length; the same text in another batch differs by rounding, in the sixth digit
_SAME = 1e-5
_NAMES_IN_MESSAGE = 5
_ROWS_AT_A_TIME = 1024


def coinciding_names(embeddings: Tensor, names: Sequence[str]) -> list[list[str]]:
    """Groups of names whose embeddings are one and the same.

    Args:
        embeddings: floating point `(C, t)`, as the model reads them.
        names: C names.

    Returns:
        Groups of two or more, in the order of the names; empty if all differ.

    Example:
        >>> coinciding_names(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), ["Wren", "robin", "wren"])
        [['Wren', 'wren']]
    """
    embeddings = embeddings.float().cpu()
    tolerance = float(_SAME * embeddings.norm(dim=1).mean().clamp(min=1e-12))
    groups: dict[int, list[int]] = defaultdict(list)
    for near in _near_on_a_line(embeddings, tolerance):
        those = embeddings[near]
        for rows in near.split(_ROWS_AT_A_TIME):
            # not through a matrix product, which is too coarse for equality
            distances = torch.cdist(embeddings[rows], those, compute_mode="donot_use_mm_for_euclid_dist")
            first_like_it = near[(distances <= tolerance).int().argmax(dim=1)]
            for row, first in zip(rows.tolist(), first_like_it.tolist(), strict=True):
                groups[first].append(row)
    return [[names[row] for row in rows] for _, rows in sorted(groups.items()) if len(rows) > 1]


def _near_on_a_line(embeddings: Tensor, tolerance: float) -> list[Tensor]:
    """Rows that could be one and the same, in groups, so that few have to be compared.

    Seen from any side, two points are no farther from each other than they are: those with a gap between them differ.
    """
    side = torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places, rows = (embeddings.double() @ (side / side.norm())).sort()
    groups = rows.tensor_split((places.diff() > tolerance).nonzero().flatten() + 1)
    return [group.sort().values for group in groups if len(group) > 1]


def check_distinct_embeddings(embeddings: Tensor, names: Sequence[str]) -> None:
    """Refuse to train on classes that the text model cannot tell apart: they would get one and the same code.

    Args:
        embeddings: floating point `(C, t)`, as the model reads them.
        names: C names.

    Raises:
        ValueError: if embeddings of different classes are equal; names them.
    """
    if groups := coinciding_names(embeddings, names):
        raise ValueError(f"{describe_coinciding(groups)}. Rename classes, or build on another text model")


def describe_coinciding(groups: Sequence[Sequence[str]]) -> str:
    """The groups of `coinciding_names` in words."""
    shown = "; ".join(" = ".join(map(repr, group[:_NAMES_IN_MESSAGE])) for group in groups[:_NAMES_IN_MESSAGE])
    more = " ..." if len(groups) > _NAMES_IN_MESSAGE or any(len(group) > _NAMES_IN_MESSAGE for group in groups) else ""
    return (
        f"these names are one and the same to the text model: {shown}{more}; it may not know their words, and sees "
        "neither upper case nor what comes after 77 tokens"
    )
