"""How well the places where concepts look tell where keypoints are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..attention import ConceptReadings
from .measurement import Measurement, listed
from .table import Table

_SHUFFLES = 10


@dataclass(frozen=True)
class KeypointRegression(Measurement):
    """Distances of predicted keypoints to true ones, as shares of the photo's side.

    Attributes:
        num_photos: photos to measure on.
        num_train_photos: photos that the regression was fitted to.
        part_names: (P,).
        error_per_part: (P,), mean over the photos that show it; None for a part that no photo to measure on shows, or
            too few of those to fit to.
        error: mean over all visible keypoints; None if there is none of a part that could be fitted.
        shuffled_error: the same when the centres are shuffled among the photos that the regression is fitted to.
        mean_position_error: the same when a keypoint is always predicted where it is on average.
    """

    num_photos: int
    num_train_photos: int
    part_names: list[str]
    error_per_part: list[float | None]
    error: float | None
    shuffled_error: float | None
    mean_position_error: float | None

    def table(self) -> Table:
        """The error beside those that know nothing of the photo."""
        return Table(
            title="Keypoint regression: whether where concepts look tells where the parts are",
            columns=["predicted from", "error, share of the photo's side"],
            rows=[
                ["centres of the concepts' attention", self.error],
                ["centres of another photo", self.shuffled_error],
                ["the mean position", self.mean_position_error],
            ],
            note=f"Mean distance over the visible keypoints of {self.num_photos:,} photos; linear regression, fitted "
            f"to {self.num_train_photos:,} other photos. Lower is better.",
        )


def keypoint_regression(
    readings: ConceptReadings, train_readings: ConceptReadings, part_names: Sequence[str], seed: int = 0
) -> KeypointRegression:
    """Predict keypoints from the centres of concepts by linear regression, and measure how far off that is.

    The centre of a concept is the mean place of its attention (the middle of the photo, if it attends to nothing). For
    each keypoint a least-squares fit with an intercept, from the M centres to its position, over the photos to fit to
    that show it; a keypoint that no more of them show than the fit has coefficients (2 M + 1) is left out.

    Distances are divided by the side of the photo **as the model sees it** (x by the width, y by the height).
    Published errors on CUB (SCOPS, 2019; PDiscoNet, 2023; PDiscoFormer, 2024) are mostly divided by the side of the
    bird's box, which is smaller: do not compare them with these.

    Args:
        readings: of photos to measure on, with points as parts.
        train_readings: of photos to fit to, likewise, of the same model.
        part_names: P names, in the order of the parts.
        seed: of the shuffles.

    Raises:
        ValueError: if either has no points, or names do not fit them.
    """
    centres, points = _centres(readings), _points(readings, part_names)
    train_centres, train_points = _centres(train_readings), _points(train_readings, part_names)
    generator = np.random.default_rng(seed)
    distances = _distances(train_centres, train_points, centres, points)
    known = np.isfinite(distances)
    shuffled = [
        _distances(generator.permutation(train_centres), train_points, centres, points)[known]
        for _ in range(_SHUFFLES)
    ]
    nowhere, train_nowhere = np.ones((len(centres), 1)), np.ones((len(train_centres), 1))
    mean_position = _distances(train_nowhere, train_points, nowhere, points)[known]
    counts = known.sum(0)
    with np.errstate(invalid="ignore"):
        per_part = np.where(known, distances, 0).sum(0) / counts
    return KeypointRegression(
        num_photos=len(readings),
        num_train_photos=len(train_readings),
        part_names=list(part_names),
        error_per_part=listed(per_part),
        error=_mean(distances[known]),
        shuffled_error=_mean(np.stack(shuffled)),
        mean_position_error=_mean(mean_position),
    )


def _mean(distances: np.ndarray) -> float | None:
    return float(distances.mean()) if distances.size else None


def _points(readings: ConceptReadings, part_names: Sequence[str]) -> np.ndarray:
    """Points (n, P, 2), x and y as shares of the photo's sides."""
    parts = readings.parts
    if parts is None or not readings.has_points:
        raise ValueError(f"keypoints are points, and these photos have {'no' if parts is None else 'masks of'} parts")
    if parts.shape[1] != len(part_names):
        raise ValueError(f"{len(part_names)} part names for annotations of {parts.shape[1]} parts: {list(part_names)}")
    height, width = readings.attentions.shape[2:]
    return parts.astype(float) / (np.array([width, height]) * readings.patch_size)


def _centres(readings: ConceptReadings) -> np.ndarray:
    """Mean place of each concept's attention and a constant, (n, 2 M + 1), in the units of `_points`."""
    shares = readings.attention_shares
    height, width = shares.shape[2:]
    across = shares.sum(2) @ ((np.arange(width) + 0.5) / width)
    down = shares.sum(3) @ ((np.arange(height) + 0.5) / height)
    centres = np.where((shares.sum((2, 3)) > 0)[..., None], np.stack([across, down], axis=-1), 0.5)
    return np.concatenate([centres.reshape(len(centres), -1), np.ones((len(centres), 1))], axis=1)


def _distances(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distances (n, P) of points y to those predicted from x by a fit to others; NaN where there is none."""
    distances = np.full(y.shape[:2], np.nan)
    for part in range(y.shape[1]):
        seen = np.isfinite(train_y[:, part]).all(-1)
        if seen.sum() > train_x.shape[1]:
            coefficients = np.linalg.lstsq(train_x[seen], train_y[seen, part], rcond=None)[0]
            distances[:, part] = np.linalg.norm(x @ coefficients - y[:, part], axis=-1)
    return distances
