"""What earlier methods train their codes with: a module each, with its classifier, codebook and schedule.

Equations and the authors' own names in the docstrings; constants are their published ones, or those with which Ng et
al., 2024, compared, as said. Notation: B photos, K bits, C classes, u the code logits `(B, K)`, y the labels, Y the
same multi-hot; t the width of class embeddings.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from .codebooks import hadamard_codebook, language_codebook, random_codebook
from .concept_layers import ConceptHashTextProjection
from .losses import binary_cosine_logits, cosine_logits, margin_cross_entropy

Terms = dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Code logits and labels -> loss terms.

    Args:
        num_bits: K.
        num_classes: C.
        class_embedding_dim: t; None where there are no class embeddings.

    Attributes:
        hash_bias: whether the linear hash function that it trains has a bias.
        batch_norm: whether a BatchNorm follows that.
        reads_language: whether it needs class embeddings.
    """

    hash_bias = True
    batch_norm = False
    reads_language = False

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__()
        self.num_bits, self.num_classes = num_bits, num_classes

    @abstractmethod
    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """Compute the terms of the loss.

        An objective takes what else its head gives, see `hash_heads.HeadOutput.beside`, by name.

        Args:
            code_logits: u, float32 `(B, K)`.
            labels: integers `(B,)`, or multi-hot `(B, C)` with at least one class each row.

        Returns:
            float32 scalars by name, weighted: the loss is their sum.
        """

    def draw(self) -> None:
        """Draw what is random and not learned, such as a codebook."""

    def read(self, class_embeddings: Tensor) -> None:
        """Take over class embeddings, `(C, t)`."""

    def start_epoch(self, steps_done: int) -> None:
        """Move on what changes in the course of training.

        Args:
            steps_done: optimizer steps before this epoch.
        """


class CrossEntropy(Objective):
    """Classification through a bottleneck of K: `CE(W u + b, y)`; nothing pulls u towards a corner."""

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__(num_bits, num_classes)
        self.classifier = nn.Linear(num_bits, num_classes)

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        return {"classification": _cross_entropy(self.classifier(code_logits), labels)}


class Centres(Objective):
    """ConceptHash's classification and quantization losses, without concepts (Ng et al., CVPRW 2024, section 3).

    `CE_g(cos(u, o_c), y) + CE_g(cos(u, sign o_c), y)`, with centres o_c that are projected from language, or learned.

    Args:
        num_bits: see `Objective`.
        num_classes: see `Objective`.
        class_embedding_dim: see `Objective`.
        language: whether centres are projected from the signs of class embeddings; else they are parameters.
    """

    hash_bias = False
    batch_norm = True
    words: Tensor
    projection: nn.Module

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None, language: bool = True):
        super().__init__(num_bits, num_classes)
        self.reads_language = language
        if language:
            if class_embedding_dim is None:
                raise ValueError("centres from language need class embeddings")
            self.register_buffer("words", torch.zeros(num_classes, class_embedding_dim))
            self.projection = ConceptHashTextProjection(class_embedding_dim, num_bits)
        else:
            self.centres = nn.Parameter(torch.randn(num_classes, num_bits))

    def draw(self) -> None:
        """See `Objective`."""
        if not self.reads_language:
            init.normal_(self.centres)

    def read(self, class_embeddings: Tensor) -> None:
        """See `Objective`."""
        self.words.copy_(class_embeddings.sign())

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        centres = self.projection(self.words) if self.reads_language else self.centres
        return {
            "classification": margin_cross_entropy(cosine_logits(code_logits, centres), labels),
            "quantization": margin_cross_entropy(binary_cosine_logits(code_logits, centres), labels),
        }


class HashNet(Objective):
    """Pairwise likelihood by continuation (Cao, Long, Wang, Yu, ICCV 2017).

    `h = tanh(beta u), t_ij = alpha h_i . h_j, l_ij = softplus(t_ij) - s_ij t_ij`; the mean of l over similar pairs
    plus that over dissimilar ones, of all B^2 pairs of the batch. `beta = sqrt(1 + 0.005 n)` after n steps brings tanh
    closer to the sign; it grows by the epoch (authors' code: every 200 steps).

    Args:
        num_bits: see `Objective`.
        num_classes: see `Objective`.
        class_embedding_dim: see `Objective`.
        alpha: default 10 / K, as in the authors' code; at 1 the loss saturates early where codes are long.
    """

    def __init__(
        self,
        num_bits: int,
        num_classes: int,
        class_embedding_dim: int | None = None,
        alpha: float | None = None,
    ):
        super().__init__(num_bits, num_classes)
        self.alpha = 10 / num_bits if alpha is None else alpha
        self.beta = 1.0

    def start_epoch(self, steps_done: int) -> None:
        """See `Objective`."""
        self.beta = math.sqrt(1 + 0.005 * steps_done)

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        codes = torch.tanh(self.beta * code_logits)
        return {"pairs": _balanced_likelihood(self.alpha * codes @ codes.T, _share_a_label(labels))}


class DPSH(Objective):
    """Pairwise likelihood (Li, Wang, Kang, IJCAI 2016), balanced as in HashNet.

    `t_ij = u_i . u_j / 2`, likelihood as there, and `mean (u - sign u)^2` (constants of Ng et al., 2024).
    """

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        likelihood = _balanced_likelihood(code_logits @ code_logits.T / 2, _share_a_label(labels))
        return {"pairs": likelihood, "quantization": _distance_to_sign(code_logits)}


class DTSH(Objective):
    """Triplet likelihood (Wang, Shi, Kitani, ACCV 2016).

    `theta_ij = u_i . u_j`; for each anchor i the mean over its positives j, itself among them, and its negatives k of
    `softplus(-z)`, `z = clip(theta_ij - theta_ik - 5, -100, 50)`; the mean over anchors that have both, and
    `mean (u - sign u)^2`. As Ng et al., 2024, and DeepHash-pytorch have it; the paper halves theta.
    """

    margin = 5.0

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        similar = _share_a_label(labels)
        products = code_logits @ code_logits.T
        closer = (products[:, :, None] - products[:, None, :] - self.margin).clamp(-100, 50)
        triplets = (similar[:, :, None] & ~similar[:, None, :]).float()
        numbers = triplets.sum((1, 2))
        means = (F.softplus(-closer) * triplets).sum((1, 2)) / numbers.clamp(min=1)
        likelihood = means.sum() / (numbers > 0).sum().clamp(min=1)
        return {"triplets": likelihood, "quantization": _distance_to_sign(code_logits)}


class GreedyHash(Objective):
    """Classification of the signs themselves (Su, Zhang, Han, Tian, NeurIPS 2018).

    `CE(W sign(u) + b, y)`, the gradient passing through the sign unchanged, and `0.1 mean | |u| - 1 |^3`.
    """

    weight = 0.1

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__(num_bits, num_classes)
        self.classifier = nn.Linear(num_bits, num_classes)

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        codes = code_logits + (code_logits.sign() - code_logits).detach()
        return {
            "classification": _cross_entropy(self.classifier(codes), labels),
            "quantization": self.weight * (code_logits.abs() - 1).abs().pow(3).mean(),
        }


class CSQ(Objective):
    """Central similarity quantization (Yuan, Wang, Zhang, Tay, Jie, Liu, Feng, CVPR 2020).

    Each bit is drawn to that of its class's Hadamard centre c: `mean BCE((tanh u + 1) / 2, (c + 1) / 2)`, which is
    `mean softplus(-2 u c)`, and `0.001 mean (|tanh u| - 1)^2`. A photo of several classes has the sign of the sum of
    their centres, ties by one random vector. Constants of Ng et al., 2024.
    """

    hash_bias = False
    weight = 0.001
    codebook: Tensor
    tie_break: Tensor

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__(num_bits, num_classes)
        self.register_buffer("codebook", torch.zeros(num_classes, num_bits))
        self.register_buffer("tie_break", torch.zeros(num_bits))

    def draw(self) -> None:
        """See `Objective`."""
        init.copy_(self.codebook, hadamard_codebook(self.num_classes, self.num_bits))
        init.copy_(self.tie_break, random_codebook(1, self.num_bits)[0])

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        votes = _multi_hot(labels, self.num_classes) @ self.codebook
        centres = torch.where(votes == 0, self.tie_break, votes.sign())
        return {
            "centre": F.softplus(-2 * code_logits * centres).mean(),
            "quantization": self.weight * (code_logits.tanh().abs() - 1).square().mean(),
        }


class DPN(Objective):
    """Polarization (Fan, Ng, Ju, Zhang, Chan, IJCAI 2020).

    A hinge for each bit against a random binary target t of the class: `sum_k max(0, 1 - u_k t_yk)`, the mean over
    photos; of a photo of several classes the sum over them. Without the paper's updates of the targets, as in its
    authors' code.
    """

    hash_bias = False
    margin = 1.0
    codebook: Tensor

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__(num_bits, num_classes)
        self.register_buffer("codebook", torch.zeros(num_classes, num_bits))

    def draw(self) -> None:
        """See `Objective`."""
        init.copy_(self.codebook, random_codebook(self.num_classes, self.num_bits))

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        hinges = F.relu(self.margin - code_logits[:, None] * self.codebook).sum(-1)
        return {"polarization": (hinges * _multi_hot(labels, self.num_classes)).sum(-1).mean()}


class OrthoHash(Objective):
    """One cosine loss (Hoe, Ng, Zhang, Chan, Song, Xiang, NeurIPS 2021).

    `CE(8 (cos(u, o_c) - 0.2 onehot(y)), y)` against fixed binary targets o; the angle to a corner is also the
    quantization error, and a BatchNorm balances the bits. The constants are those of the authors' code.

    Args:
        num_bits: see `Objective`.
        num_classes: see `Objective`.
        class_embedding_dim: see `Objective`.
        targets: random ones, rows of a Hadamard matrix, or signs of the principal components of class embeddings,
            which Ng et al., 2024, compare with.
    """

    hash_bias = False
    batch_norm = True
    codebook: Tensor

    def __init__(
        self,
        num_bits: int,
        num_classes: int,
        class_embedding_dim: int | None = None,
        targets: Literal["random", "hadamard", "language"] = "random",
    ):
        super().__init__(num_bits, num_classes)
        if targets not in ("random", "hadamard", "language"):
            raise ValueError(f"targets must be random, hadamard or language, got {targets!r}")
        self.targets, self.reads_language = targets, targets == "language"
        self.register_buffer("codebook", torch.zeros(num_classes, num_bits))

    def draw(self) -> None:
        """See `Objective`."""
        if not self.reads_language:
            kinds: dict[str, Callable[[int, int], Tensor]] = {"random": random_codebook, "hadamard": hadamard_codebook}
            init.copy_(self.codebook, kinds[self.targets](self.num_classes, self.num_bits))

    def read(self, class_embeddings: Tensor) -> None:
        """See `Objective`."""
        self.codebook.copy_(language_codebook(class_embeddings, self.num_bits))

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        return {"cosine": margin_cross_entropy(cosine_logits(code_logits, self.codebook), labels)}


class A2Net(Objective):
    """Classification, decorrelated bits, and features that come back (Wei, Shen, Sun, Ye, Yang, NeurIPS 2021).

    `h = tanh u: CE(W_c h + b, y) + 0.01 mean (H^T H - B I)^2 + mean (W^T h - f)^2`, H of all h of the batch, the mean
    over its K x K; f, which has no gradient here, and W of `A2NetHead`. As Ng et al., 2024, have it: the paper fits
    the network to codes of the training photos that are learned beside it. Fewer photos or classes than bits cannot
    bring the second term to zero: it then keeps photos of a class apart.
    """

    hash_bias = False
    decorrelation_weight = 0.01

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__(num_bits, num_classes)
        self.classifier = nn.Linear(num_bits, num_classes)

    def forward(  # type: ignore[override]
        self, code_logits: Tensor, labels: Tensor, features: Tensor, reconstruction: Tensor
    ) -> Terms:
        """See `Objective`.

        Args:
            code_logits: see there.
            labels: see there.
            features: f, `(B, f)`.
            reconstruction: `W^T h`, `(B, f)`.
        """
        codes = code_logits.tanh()
        correlations = codes.T @ codes - len(codes) * torch.eye(self.num_bits, device=codes.device)
        return {
            "classification": _cross_entropy(self.classifier(codes), labels),
            "decorrelation": self.decorrelation_weight * correlations.square().mean(),
            "reconstruction": F.mse_loss(reconstruction.float(), features.detach().float()),
        }


class Semicon(Objective):
    """Classification of codes that are drawn to corners: SEMICON with cross-entropy, as Ng et al., 2024, compare with.

    `h = tanh u: CE(W_c h + b, y) + 0.001 mean (h - sign h)^2`. The paper (Shen, Sun, Wei, Jiang, Yang, ECCV 2022) fits
    the network to codes of the training photos that are learned beside it.
    """

    weight = 0.001

    def __init__(self, num_bits: int, num_classes: int, class_embedding_dim: int | None = None):
        super().__init__(num_bits, num_classes)
        self.classifier = nn.Linear(num_bits, num_classes)

    def forward(self, code_logits: Tensor, labels: Tensor) -> Terms:
        """See `Objective`."""
        codes = code_logits.tanh()
        return {
            "classification": _cross_entropy(self.classifier(codes), labels),
            "quantization": self.weight * _distance_to_sign(codes),
        }


OBJECTIVES: dict[str, type[Objective]] = {
    "ce": CrossEntropy,
    "centres": Centres,
    "hashnet": HashNet,
    "dpsh": DPSH,
    "dtsh": DTSH,
    "greedyhash": GreedyHash,
    "csq": CSQ,
    "dpn": DPN,
    "orthohash": OrthoHash,
    "a2net": A2Net,
    "semicon": Semicon,
}


def make_objective(
    name: str, num_bits: int, num_classes: int, class_embedding_dim: int | None, constants: dict[str, Any]
) -> Objective:
    """Make an objective by name.

    Args:
        name: a key of `OBJECTIVES`.
        num_bits: K.
        num_classes: C.
        class_embedding_dim: t; None where there are no class embeddings.
        constants: what else its constructor takes.

    Raises:
        ValueError: if there is none of that name, or it has no such constant.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"there is no objective {name!r}; there are {', '.join(OBJECTIVES)}")
    try:
        return OBJECTIVES[name](num_bits, num_classes, class_embedding_dim, **constants)
    except TypeError as error:
        raise ValueError(f"the objective {name!r} cannot have {constants}: {error}") from None


def _multi_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Y, float32 `(B, C)`."""
    return (labels if labels.ndim == 2 else F.one_hot(labels.long(), num_classes)).float()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of a photo with several labels the target is `Y / sum(Y)`."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels.long())
    return F.cross_entropy(logits, labels.float() / labels.sum(-1, keepdim=True))


def _share_a_label(labels: Tensor) -> Tensor:
    """Of each pair of photos, bool `(B, B)`; a photo and itself do."""
    if labels.ndim == 1:
        return labels[:, None] == labels
    return labels.float() @ labels.float().T > 0


def _balanced_likelihood(products: Tensor, similar: Tensor) -> Tensor:
    """Mean negative log-likelihood of the similar pairs plus that of the dissimilar ones; none counts as 0."""
    losses = F.softplus(products) - similar * products
    return sum(  # type: ignore[return-value]
        (losses * pairs).sum() / pairs.sum().clamp(min=1) for pairs in (similar, ~similar)
    )


def _distance_to_sign(code_logits: Tensor) -> Tensor:
    return (code_logits - code_logits.sign()).square().mean()
