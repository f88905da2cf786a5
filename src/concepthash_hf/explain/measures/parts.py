"""Annotated parts, points or masks, on the grid of patches that concepts attend to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..attention import ConceptReadings


@dataclass(frozen=True)
class PartTargets:
    """Gaze and parts on the grid of patches.

    Attributes:
        kind: "points" or "masks".
        gaze: `(n, M, h, w)`, sums to 1: all on the patch attended to most (points), or the attention (masks).
        inside: `(n, P, h, w)`, what of a patch counts for a part: 1 on and beside a point, the share of a mask.
        visible: bool `(n, P)`.
        at: `(n, P, h, w)`, where exactly the part is: 1 in the patch of a point, the share of a mask.
        union: `(n, h, w)`, what of a patch counts for any part.
        pick: int `(n, h, w)`, the part that a patch stands for, P where it stands for none.
    """

    kind: str
    gaze: np.ndarray
    inside: np.ndarray
    visible: np.ndarray
    at: np.ndarray
    union: np.ndarray
    pick: np.ndarray


def part_targets(readings: ConceptReadings, part_names: Sequence[str]) -> PartTargets:
    """Put the annotated parts of photos on the grid of patches.

    Args:
        readings: with parts.
        part_names: P names, in the order of the parts in `readings`.

    Raises:
        ValueError: if the photos have no part annotations, names do not fit them, or no photo shows any part.
    """
    parts = readings.parts
    if parts is None:
        raise ValueError(
            "these photos have no part annotations, so where concepts look cannot be compared with parts; read them "
            "with torch_dataset(..., with_parts=True) from photos that have points or masks"
        )
    points = readings.has_points
    found = parts.shape[1] if points else int(parts.max(initial=0))
    if (found != len(part_names)) if points else (found > len(part_names)):
        raise ValueError(f"{len(part_names)} part names for annotations of {found} parts: {list(part_names)}")
    make = _point_targets if points else _mask_targets
    targets = make(readings, len(part_names))
    if not targets.visible.any():
        raise ValueError("no photo shows any of the annotated parts")
    return targets


def _point_targets(readings: ConceptReadings, num_parts: int) -> PartTargets:
    assert readings.parts is not None
    height, width = readings.attentions.shape[2:]
    visible = np.isfinite(readings.parts).all(axis=-1)
    # x, y -> row, column, in patches
    place = readings.parts[..., ::-1] / readings.patch_size
    cell = np.where(visible[..., None], np.floor(place), -9).astype(np.int64)
    grid = np.moveaxis(np.indices((height, width)), 0, -1)
    steps = np.abs(grid - cell[:, :, None, None]).max(-1)
    near = steps <= 1
    distance = np.linalg.norm(grid + 0.5 - place[:, :, None, None], axis=-1)
    nearest = np.where(near, distance, np.inf).argmin(1)
    gaze = np.zeros_like(readings.attentions)
    rows, columns = np.moveaxis(readings.peaks, -1, 0)
    photo, concept = np.indices(rows.shape)
    gaze[photo, concept, rows, columns] = 1
    return PartTargets(
        kind="points",
        gaze=gaze,
        inside=near.astype(np.float32),
        visible=visible,
        at=(steps == 0).astype(np.float32),
        union=near.any(1).astype(np.float32),
        pick=np.where(near.any(1), nearest, num_parts),
    )


def _mask_targets(readings: ConceptReadings, num_parts: int) -> PartTargets:
    assert readings.parts is not None
    height, width = readings.attentions.shape[2:]
    size = readings.patch_size
    patches = readings.parts[:, : height * size, : width * size].reshape(-1, height, size, width, size)
    inside = np.stack([(patches == part + 1).mean((2, 4), dtype=np.float32) for part in range(num_parts)], axis=1)
    union = inside.sum(1)
    return PartTargets(
        kind="masks",
        gaze=readings.attention_shares,
        inside=inside,
        visible=inside.max((2, 3)) > 0,
        at=inside,
        union=union,
        pick=np.where(union > 0, inside.argmax(1), num_parts),
    )
