"""What the codes are like in themselves: used bits, redundancy, collisions, distances of classes and families."""

from typing import Any

import numpy as np

from ..codes import check_divisible, split_sub_codes, unpack_bits
from .inputs import ArrayLike, as_codes, as_integer_labels
from .neighbours import families_of
from .ranking import ratio

ROWS_PER_CHUNK = 2**16


def code_quality(
    codes: ArrayLike,
    labels: ArrayLike,
    num_bits: int,
    num_concepts: int,
    class_families: ArrayLike | None = None,
) -> dict[str, Any]:
    """Measure a set of codes without searching it.

    Entropies are in bits. A correlation is the absolute value of Pearson's between two bits, and 0 where one is
    constant. Mean distances are in bits, over all pairs of different items, exact (from counts per class, not by
    sampling). That codes are similar within a family and distinct across families shows in the gap
    between them.

    Args:
        codes: packed codes, uint8 `(n, ceil(num_bits / 8))`.
        labels: integers `(n,)`.
        num_bits: K.
        num_concepts: M; K divides by it.
        class_families: integers `(C,)`, the family of class 0, 1, ..., C - 1.

    Returns:
        A dict that is ready for JSON; lists are per bit (K) or per concept (M).

        - `num_items`, `num_distinct_codes`.
        - `num_codes_shared_across_classes`: distinct codes that items of several classes have;
          `share_of_items_sharing_code_across_classes`: the share of items that have one of these.
        - `bit_means` (K): the share of items in which the bit is set.
        - `bit_balance`: mean of 1 - abs(2 p - 1) over bits; 1 when every bit halves the set, 0 when every bit is
          constant.
        - `bit_entropy`: mean over bits, at most 1.
        - `code_entropy`: of the distribution of whole codes, at most min(K, log2 n); `sub_code_entropies` (M): at most
          K / M.
        - `bit_correlation`: mean over pairs of bits.
        - `sub_code_correlations` (M, M): mean over the pairs of a bit of one and a bit of the other (on the diagonal:
          pairs within, 0 where there are none); `sub_code_correlation`: mean over pairs of bits of different
          sub-codes.
        - `distance_within_class`; with families `distance_within_family` (other class, same family) and
          `distance_across_families`, without them `distance_across_classes`; and each `..._per_concept` (M).

        A mean over no pairs is None.

    Raises:
        ValueError: if the codes are not packed or do not fit `num_bits`, lengths differ, there are no codes, or a
            label has no family.
    """
    check_divisible(num_bits, num_concepts)
    packed = as_codes(codes, "codes")
    if len(packed) == 0:
        raise ValueError("there are no codes to measure")
    classes = as_integer_labels(labels, len(packed), "labels")
    bits = unpack_bits(packed, num_bits)
    means = bits.mean(axis=0)
    return {
        "num_items": len(packed),
        **_collisions(packed, classes),
        "bit_means": means.tolist(),
        "bit_balance": float((1 - np.abs(2 * means - 1)).mean()),
        "bit_entropy": float(_entropies(np.stack([means, 1 - means])).mean()),
        "code_entropy": _pattern_entropy(packed),
        "sub_code_entropies": [
            _pattern_entropy(np.packbits(sub_code, axis=1))
            for sub_code in np.moveaxis(split_sub_codes(bits, num_concepts), 1, 0)
        ],
        **_redundancy(bit_correlations(packed, num_bits), num_concepts),
        **_mean_distances(bits, classes, num_concepts, class_families),
    }


def bit_correlations(codes: ArrayLike, num_bits: int) -> np.ndarray:
    """Pearson's correlation between every two bits.

    Args:
        codes: packed codes, uint8 `(n, ceil(num_bits / 8))`.
        num_bits: K.

    Returns:
        float64 `(K, K)` between -1 and 1. A constant bit correlates with nothing (0), not even with itself.

    Raises:
        ValueError: if the codes are not packed, do not fit `num_bits`, or there are none.
    """
    packed = as_codes(codes, "codes")
    if len(packed) == 0:
        raise ValueError("there are no codes to correlate")
    both = np.zeros((num_bits, num_bits))
    for start in range(0, len(packed), ROWS_PER_CHUNK):
        bits = unpack_bits(packed[start : start + ROWS_PER_CHUNK], num_bits).astype(np.float64)
        both += bits.T @ bits
    # in whole numbers as long as possible: a constant bit then has a variance of exactly 0
    count = np.diag(both)
    covariance = len(packed) * both - np.outer(count, count)
    deviation = np.sqrt(np.diag(covariance))
    return ratio(covariance, np.outer(deviation, deviation)).clip(-1, 1)


def _collisions(packed: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    distinct, code, sizes = np.unique(packed, axis=0, return_inverse=True, return_counts=True)
    owners = np.unique(np.stack([code.ravel(), classes]), axis=1)[0]
    shared = np.bincount(owners, minlength=len(distinct)) > 1
    return {
        "num_distinct_codes": len(distinct),
        "num_codes_shared_across_classes": int(shared.sum()),
        "share_of_items_sharing_code_across_classes": float(sizes[shared].sum() / len(packed)),
    }


def _pattern_entropy(packed: np.ndarray) -> float:
    counts = np.unique(packed, axis=0, return_counts=True)[1]
    return float(_entropies(counts / len(packed)))


def _entropies(shares: np.ndarray) -> np.ndarray:
    """Entropy in bits along the first axis."""
    logarithms = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.abs((shares * logarithms).sum(axis=0))


def _redundancy(correlations: np.ndarray, num_concepts: int) -> dict[str, Any]:
    strength = np.abs(correlations)
    np.fill_diagonal(strength, 0)
    num_bits = len(strength)
    size = num_bits // num_concepts
    sums = strength.reshape(num_concepts, size, num_concepts, size).sum(axis=(1, 3))
    own = np.eye(num_concepts, dtype=bool)
    pairs = np.where(own, size * (size - 1), size * size)
    return {
        "bit_correlation": _mean(sums.sum(), num_bits * (num_bits - 1)),
        "sub_code_correlation": _mean(sums[~own].sum(), pairs[~own].sum()),
        "sub_code_correlations": ratio(sums, pairs).tolist(),
    }


def _mean_distances(
    bits: np.ndarray, classes: np.ndarray, num_concepts: int, class_families: ArrayLike | None
) -> dict[str, Any]:
    """Mean distances over the pairs that part at each level: same class, same family, same set."""
    levels = {"within_class": classes}
    if class_families is None:
        levels["across_classes"] = np.zeros_like(classes)
    else:
        levels["within_family"] = families_of(classes, class_families)
        levels["across_families"] = np.zeros_like(classes)
    values: dict[str, Any] = {}
    inner_distances, inner_pairs = np.zeros(bits.shape[1], dtype=np.int64), 0
    for name, groups in levels.items():
        distances, pairs = _distances_within(bits, groups)
        concepts = split_sub_codes(distances - inner_distances, num_concepts).sum(axis=-1)
        values[f"distance_{name}"] = _mean(concepts.sum(), pairs - inner_pairs)
        values[f"distance_{name}_per_concept"] = [_mean(concept, pairs - inner_pairs) for concept in concepts]
        inner_distances, inner_pairs = distances, pairs
    return values


def _distances_within(bits: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Pairs of one group that differ in each bit, summed over groups `(K,)`, and the number of pairs of one group."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    set_bits = np.stack([np.bincount(group[bit], minlength=len(sizes)) for bit in bits.T], axis=1)
    return (set_bits * (sizes[:, None] - set_bits)).sum(axis=0), int((sizes * (sizes - 1) // 2).sum())


def _mean(total: float, count: int) -> float | None:
    return float(total / count) if count else None
