"""How well two groupings of the same things agree."""

import numpy as np
from scipy.stats import entropy


def normalised_mutual_information(one: np.ndarray, other: np.ndarray) -> float:
    """Mutual information of two groupings over the mean of their entropies.

    Args:
        one: group of each thing, integers or texts `(n,)`.
        other: its group in the other grouping, `(n,)`.

    Returns:
        1 where each grouping tells the other, 0 where it tells nothing; also 0 where neither divides anything. Small
        samples lie a little above 0 by chance.

    Raises:
        ValueError: if there is nothing grouped, or the lengths differ.
    """
    joint = _contingency(one, other) / len(one)
    rows, columns = entropy(joint.sum(1)), entropy(joint.sum(0))
    mutual = rows + columns - entropy(joint.ravel())
    return float(max(mutual, 0) / (0.5 * (rows + columns))) if rows + columns > 0 else 0.0


def adjusted_rand_index(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two groupings on which pairs belong together, corrected for chance (Hubert and Arabie, 1985).

    Args:
        one: group of each thing, integers or texts `(n,)`.
        other: its group in the other grouping, `(n,)`.

    Returns:
        1 for the same grouping, 0 in expectation for groups drawn at random; can be negative.

    Raises:
        ValueError: if there is nothing grouped, or the lengths differ.
    """
    counts = _contingency(one, other)
    together, in_one, in_other = (_pairs(group).sum() for group in (counts, counts.sum(1), counts.sum(0)))
    expected = in_one * in_other / max(_pairs(np.array(len(one))), 1)
    most = (in_one + in_other) / 2
    return float((together - expected) / (most - expected)) if most != expected else 1.0


def _contingency(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = np.asarray(one), np.asarray(other)
    if one.ndim != 1 or one.shape != other.shape or len(one) == 0:
        raise ValueError(
            f"two groupings of the same things have one length of 1 or more, got {one.shape}, {other.shape}"
        )
    row, column = (np.unique(groups, return_inverse=True)[1] for groups in (one, other))
    counts = np.zeros((row.max() + 1, column.max() + 1), dtype=np.int64)
    np.add.at(counts, (row, column), 1)
    return counts


def _pairs(sizes: np.ndarray) -> np.ndarray:
    return sizes * (sizes - 1) / 2
