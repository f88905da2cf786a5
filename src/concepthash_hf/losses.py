"""The four objectives as pure functions of tensors (paper section 3), and the cosines they read.

Notation: B photos, C classes, K bits, M concepts, N patches. The arithmetic is float32 whatever the inputs are, also
under autocast: cosines times the scale of 8 lose too much in half precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_logits(embeddings: Tensor, centres: Tensor) -> Tensor:
    """Cosine of every embedding with every centre: `cos(x, o_c)`.

    Args:
        embeddings: `(..., K)`.
        centres: `(C, K)`.

    Returns:
        float32 `(..., C)`, in [-1, 1].
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        return F.normalize(embeddings.float(), dim=-1) @ F.normalize(centres.float(), dim=-1).mT


def binary_cosine_logits(code_logits: Tensor, class_centres: Tensor) -> Tensor:
    """Cosine of code logits with binarised class centres: `(b / |b|) . sign(o_c) / sqrt(K)`.

    The sign passes no gradient to the centres, so the quantization loss moves the codes alone.

    Args:
        code_logits: `(B, K)`.
        class_centres: `(C, K)`.

    Returns:
        float32 `(B, C)`, in [-1, 1].
    """
    return cosine_logits(code_logits, class_centres.detach().sign())


def margin_cross_entropy(cosines: Tensor, labels: Tensor, margin: float = 0.2, scale: float = 8.0) -> Tensor:
    """Cross-entropy of cosines with a margin on the true classes.

    `CE(scale * (l - margin * onehot(y)), y)`. With several labels a photo, Y multi-hot, the logits are
    `scale * (l - margin * Y)` and the soft target is `Y / sum(Y)`.

    Args:
        cosines: `(B, ..., C)`; the loss is averaged over all leading axes.
        labels: integers `(B,)`, or multi-hot `(B, C)` with at least one class each row.
        margin: subtracted from the cosine of the true classes.
        scale: inverse temperature.

    Returns:
        float32 scalar.
    """
    num_classes = cosines.shape[-1]
    multi_hot = labels.float() if labels.ndim == 2 else F.one_hot(labels.long(), num_classes).float()
    # between the photo axis and the class axis there may be one for the concepts
    multi_hot = multi_hot.view(labels.shape[0], *[1] * (cosines.ndim - 2), num_classes)
    log_probabilities = F.log_softmax(scale * (cosines.float() - margin * multi_hot), dim=-1)
    target = multi_hot / multi_hot.sum(-1, keepdim=True)
    return -(target * log_probabilities).sum(-1).mean()


def diversity_loss(concept_attentions: Tensor) -> Tensor:
    """Make concepts look at different places: `L_csd = mean over photos and pairs i < j of cos(a_i, a_j)`.

    Args:
        concept_attentions: `(B, M, N)`, attention of every concept to the patches, not renormalised.

    Returns:
        float32 scalar in [0, 1]; 0 with a single concept.
    """
    num_concepts = concept_attentions.shape[1]
    if num_concepts == 1:
        return concept_attentions.new_zeros((), dtype=torch.float32)
    # nothing here is a matrix product, which autocast would compute in half precision
    attentions = F.normalize(concept_attentions.float(), dim=-1)
    # the sum over all pairs i, j is |sum of unit vectors|^2; M of its terms are i = j, the rest are counted twice
    off_diagonal = attentions.sum(1).square().sum(-1) - attentions.square().sum((1, 2))
    return off_diagonal.mean() / (num_concepts * (num_concepts - 1))


def check_labels(labels: Tensor, batch_size: int, num_classes: int) -> None:
    """Refuse labels that the objectives cannot read.

    Args:
        labels: integers `(B,)`, or multi-hot `(B, C)` with at least one class each row.
        batch_size: B.
        num_classes: C.

    Raises:
        ValueError: if they have another shape or type, or lie out of range (looked at on the CPU alone).
    """
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor, got {type(labels).__name__}")
    integers = labels.ndim == 1 and not labels.is_floating_point() and labels.dtype != torch.bool
    multi_hot = labels.ndim == 2 and labels.shape[1] == num_classes
    if not (integers or multi_hot) or labels.shape[0] != batch_size:
        raise ValueError(
            f"labels must be integers of shape ({batch_size},) or multi-hot of shape ({batch_size}, "
            f"{num_classes}), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    # looking at values on an accelerator would make the host wait for it in every step
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if integers and not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(
            f"labels must lie in 0 ... {num_classes - 1}, got {int(labels.min())} ... {int(labels.max())}"
        )
    if multi_hot and not bool((((labels == 0) | (labels == 1)).all(1) & labels.bool().any(1)).all()):
        raise ValueError("multi-hot labels are 0 or 1, with at least one 1 in every row")
