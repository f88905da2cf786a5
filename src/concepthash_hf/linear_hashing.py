"""Hash functions that are fitted, not trained: an affine map of features, whose signs are the code.

Each takes features and gives `weight (K, d)` and `bias (K,)`: the code is `weight x + bias > 0`. Notation: n features
of width d, K bits. Random ones draw from torch's generator.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Affine = tuple[Tensor, Tensor]


def random_hyperplanes(features: Tensor, num_bits: int) -> Affine:
    """Locality-sensitive hashing: K random hyperplanes through the origin; looks at no photo.

    Two features lie on the same side of a plane with probability 1 - angle / pi (Charikar, STOC 2002). As published,
    features are not centred: where they share a large mean, as a CLIP's do, bits are far from balanced.

    Args:
        features: `(n, d)`; only d matters.
        num_bits: K.
    """
    return torch.randn(num_bits, features.shape[1]), torch.zeros(num_bits)


def principal_components(features: Tensor, num_bits: int) -> Affine:
    """PCA hashing: signs of the K leading principal components.

    The leading bits carry most of the variance; the last ones are close to noise. A component is defined up to its
    sign: here its largest loading is positive.

    Args:
        features: `(n, d)`.
        num_bits: K, at most n - 1 and d.

    Raises:
        ValueError: if there are not K components.

    Example:
        >>> weight, bias = principal_components(torch.tensor([[0.0, 0.0], [4.0, 0.0], [8.0, 1.0]]), 1)
        >>> (torch.tensor([[8.0, 0.5], [0.0, 0.5]]) @ weight.T + bias > 0).flatten().tolist()
        [True, False]
    """
    if num_bits > (most := min(len(features) - 1, features.shape[1])):
        raise ValueError(
            f"{len(features)} photos with features of width {features.shape[1]} have {most} principal components, not "
            f"{num_bits}: give more photos, or take fewer bits"
        )
    features = features.double()
    mean = features.mean(0)
    axes = torch.linalg.svd(features - mean, full_matrices=False).Vh[:num_bits]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes.float(), -(axes @ mean).float()


def rotated_components(features: Tensor, num_bits: int) -> Affine:
    """PCA and a random rotation, which spreads the variance evenly over the bits.

    Hashing-Baseline (Moummad et al., arXiv 2509.14427, 2025), with Hamming distance in place of their asymmetric one,
    so that the numbers are not comparable with theirs; the rotation alone is PCA-RR of Gong and Lazebnik, CVPR 2011.

    Args:
        features: `(n, d)`.
        num_bits: K, at most n - 1 and d.

    Raises:
        ValueError: if there are not K components.
    """
    return _rotated(principal_components(features, num_bits), random_rotation(num_bits))


def iterative_quantization(features: Tensor, num_bits: int) -> Affine:
    """ITQ: PCA, and the rotation that brings the components close to the corners of a hypercube.

    Gong and Lazebnik, CVPR 2011; 50 iterations.

    Args:
        features: `(n, d)`.
        num_bits: K, at most n - 1 and d.

    Raises:
        ValueError: if there are not K components.
    """
    weight, bias = principal_components(features, num_bits)
    scores = features.double() @ weight.double().T + bias.double()
    return _rotated((weight, bias), quantizing_rotation(scores, random_rotation(num_bits).double()))


def quantizing_rotation(scores: Tensor, rotation: Tensor, iterations: int = 50) -> Tensor:
    """Minimise `|B - V R|^2` over corners B and rotations R by turns: it never rises.

    `B = sign(V R)`; with `svd(V^T B) = A S Z^T`, `R = A Z^T`.

    Args:
        scores: V, `(n, K)`, centred.
        rotation: R to start from, `(K, K)`.
        iterations: number of turns.

    Returns:
        R, orthogonal `(K, K)`.
    """
    for _ in range(iterations):
        corners = torch.where(scores @ rotation > 0, 1.0, -1.0).to(scores.dtype)
        left, _, right = torch.linalg.svd(scores.T @ corners)
        rotation = left @ right
    return rotation


def random_rotation(size: int) -> Tensor:
    """An orthogonal matrix `(size, size)`, uniformly distributed."""
    orthogonal, triangular = torch.linalg.qr(torch.randn(size, size))
    return orthogonal * triangular.diagonal().sign()  # else QR's own choice of signs makes it uneven


def _rotated(affine: Affine, rotation: Tensor) -> Affine:
    weight, bias = affine
    turn = rotation.T.float()
    return turn @ weight, turn @ bias


FITS: dict[str, Callable[[Tensor, int], Affine]] = {
    "lsh": random_hyperplanes,
    "pca": principal_components,
    "pca_rotation": rotated_components,
    "itq": iterative_quantization,
}
