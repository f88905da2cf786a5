"""The objectives against loops over photos, concepts and classes, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concepthash_hf.losses import (
    binary_cosine_logits,
    check_labels,
    cosine_logits,
    diversity_loss,
    margin_cross_entropy,
)

HALVES = [torch.float16, torch.bfloat16]


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def naive_cross_entropy(cosines: list[float], label: int | list[float], margin: float, scale: float) -> float:
    """One row: -sum_c target_c log softmax(scale * (l - margin * Y))_c, written out."""
    hot = label if isinstance(label, list) else [float(c == label) for c in range(len(cosines))]
    logits = [scale * (value - margin * here) for value, here in zip(cosines, hot, strict=True)]
    log_sum = math.log(sum(math.exp(logit) for logit in logits))
    return -sum(here / sum(hot) * (logit - log_sum) for logit, here in zip(logits, hot, strict=True))


def naive_loss(rows: Tensor, labels: Tensor, margin: float = 0.2, scale: float = 8.0) -> float:
    """The mean over rows (B, C)."""
    terms = [naive_cross_entropy(row, label, margin, scale) for row, label in zip(rows.tolist(), labels.tolist())]  # noqa: B905
    return sum(terms) / len(terms)


def multi_hot(batch: int, num_classes: int) -> Tensor:
    """Rows with one class at least."""
    labels = (torch.rand(batch, num_classes) < 0.3).float()
    labels[torch.arange(batch), torch.randint(num_classes, (batch,))] = 1.0
    return labels


LABELS = {
    "integers": lambda batch, classes: torch.randint(classes, (batch,)),
    "multi-hot": multi_hot,
    "multi-hot integers": lambda batch, classes: multi_hot(batch, classes).long(),
    "multi-hot booleans": lambda batch, classes: multi_hot(batch, classes).bool(),
}
labels_of_any_kind = pytest.mark.parametrize("labels_of", LABELS.values(), ids=LABELS.keys())


# cosines


def test_cosine_logits_are_cosines():
    embeddings, centres = 3 * torch.randn(4, 3, 6), torch.randn(5, 6)
    logits = cosine_logits(embeddings, centres)
    assert logits.shape == (4, 3, 5)
    for i in range(4):
        for m in range(3):
            for c in range(5):
                expected = cosine(embeddings[i, m].tolist(), centres[c].tolist())
                assert logits[i, m, c].item() == pytest.approx(expected, abs=1e-6)


def test_binary_cosine_logits_follow_their_formula():
    code_logits, centres = torch.randn(4, 6), torch.randn(5, 6)
    logits = binary_cosine_logits(code_logits, centres)
    for i in range(4):
        for c in range(5):
            length = math.sqrt(sum(b * b for b in code_logits[i].tolist()))
            signs = [math.copysign(1, o) for o in centres[c].tolist()]
            expected = sum(b * s for b, s in zip(code_logits[i].tolist(), signs, strict=True)) / length / math.sqrt(6)
            assert logits[i, c].item() == pytest.approx(expected, abs=1e-6)


def test_the_sign_passes_no_gradient_to_the_centres():
    code_logits, centres = torch.randn(4, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3])
    margin_cross_entropy(binary_cosine_logits(code_logits, centres), labels).backward()
    assert centres.grad is None
    assert code_logits.grad.abs().sum() > 0
    margin_cross_entropy(cosine_logits(code_logits, centres), labels).backward()
    assert centres.grad.abs().sum() > 0


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_cosines_do_not_see_lengths(left, right):
    embeddings, centres = torch.randn(4, 6), torch.randn(5, 6)
    torch.testing.assert_close(
        cosine_logits(left * embeddings, right * centres), cosine_logits(embeddings, centres), rtol=0, atol=1e-6
    )


def test_a_zero_embedding_gives_zeros_not_nan():
    embeddings = torch.zeros(2, 6, requires_grad=True)
    logits = cosine_logits(embeddings, torch.randn(5, 6))
    assert (logits == 0).all()
    logits.sum().backward()
    assert embeddings.grad.isfinite().all()


# cross-entropy with a margin


@labels_of_any_kind
@given(
    batch=st.integers(1, 6),
    num_classes=st.integers(1, 7),
    margin=st.sampled_from([0.0, 0.2, 0.5]),
    scale=st.sampled_from([1.0, 8.0, 30.0]),
)
@settings(max_examples=25)
def test_margin_cross_entropy_equals_the_loop(labels_of, batch, num_classes, margin, scale):
    cosines, labels = 2 * torch.rand(batch, num_classes) - 1, labels_of(batch, num_classes)
    loss = margin_cross_entropy(cosines, labels, margin, scale)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive_loss(cosines, labels, margin, scale), abs=1e-5)


def test_classification_and_quantization_have_the_papers_margin_and_scale():
    cosines, labels = 2 * torch.rand(4, 5) - 1, torch.tensor([0, 4, 2, 2])
    expected = naive_loss(cosines, labels, margin=0.2, scale=8.0)
    assert margin_cross_entropy(cosines, labels).item() == pytest.approx(expected, abs=1e-6)
    assert margin_cross_entropy(cosines, labels).item() == pytest.approx(expected, abs=1e-6)
    other = naive_loss(cosines, labels, margin=0.1, scale=4.0)
    assert margin_cross_entropy(cosines, labels, 0.1, 4.0).item() == pytest.approx(other, abs=1e-6)
    assert margin_cross_entropy(cosines, labels, 0.1, 4.0).item() == pytest.approx(other, abs=1e-6)


@labels_of_any_kind
@pytest.mark.parametrize("num_concepts", [1, 2, 5])
def test_concept_loss_is_the_mean_over_concepts_each_with_the_margin(labels_of, num_concepts):
    logits, labels = 2 * torch.rand(4, num_concepts, 6) - 1, labels_of(4, 6)
    expected = sum(naive_loss(logits[:, m], labels) for m in range(num_concepts)) / num_concepts
    assert margin_cross_entropy(logits, labels).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", [margin_cross_entropy, margin_cross_entropy])
def test_integers_and_their_one_hot_rows_are_the_same(loss):
    logits, labels = torch.rand(4, 3, 5), torch.tensor([0, 4, 2, 2])
    one_hot = torch.nn.functional.one_hot(labels, 5)
    torch.testing.assert_close(loss(logits, labels), loss(logits, one_hot))


def test_losses_of_equal_parts_of_a_batch_average():
    logits, labels = torch.rand(6, 3, 5), torch.randint(5, (6,))
    parts = [margin_cross_entropy(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)]
    torch.testing.assert_close(margin_cross_entropy(logits, labels), torch.stack(parts).mean())


@labels_of_any_kind
def test_margin_cross_entropy_gradients(labels_of):
    labels = labels_of(3, 4)
    cosines = (2 * torch.rand(3, 2, 4) - 1).requires_grad_()
    margin_cross_entropy(cosines, labels).backward()
    step = 1e-2
    for index in [(0, 0, 0), (1, 1, 2), (2, 0, 3)]:
        nudge = torch.zeros_like(cosines)
        nudge[index] = step
        shifted = [sum(naive_loss((cosines + sign * nudge)[:, m], labels) for m in range(2)) / 2 for sign in (1, -1)]
        assert cosines.grad[index].item() == pytest.approx((shifted[0] - shifted[1]) / (2 * step), rel=2e-2, abs=1e-4)


def test_a_larger_margin_costs_more():
    cosines, labels = torch.rand(4, 5), torch.tensor([0, 1, 2, 3])
    losses = [margin_cross_entropy(cosines, labels, margin).item() for margin in (0.0, 0.2, 0.4)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


# diversity


def naive_diversity(attentions: Tensor) -> float:
    pairs = [
        cosine(photo[i], photo[j])
        for photo in attentions.tolist()
        for i in range(len(photo))
        for j in range(i + 1, len(photo))
    ]
    return sum(pairs) / len(pairs)


@given(batch=st.integers(1, 4), num_concepts=st.integers(2, 6), num_patches=st.integers(1, 9))
@settings(max_examples=30)
def test_diversity_loss_equals_the_loop(batch, num_concepts, num_patches):
    attentions = torch.rand(batch, num_concepts, num_patches) + 1e-3
    assert diversity_loss(attentions).item() == pytest.approx(naive_diversity(attentions), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_diversity_of_one_concept_is_nothing(dtype):
    attentions = torch.rand(4, 1, 9, dtype=dtype, requires_grad=True)
    loss = diversity_loss(attentions)
    assert loss.shape == () and loss.dtype == torch.float32
    assert loss.item() == 0


def test_diversity_at_its_ends():
    same = torch.rand(2, 1, 9).expand(2, 4, 9)
    apart = torch.eye(4, 9).expand(2, 4, 9)
    assert diversity_loss(same).item() == pytest.approx(1, abs=1e-6)
    assert diversity_loss(apart).item() == pytest.approx(0, abs=1e-6)


def test_diversity_does_not_see_the_order_of_concepts_nor_the_mass_on_patches():
    attentions = torch.rand(3, 4, 9)
    expected = diversity_loss(attentions)
    torch.testing.assert_close(diversity_loss(attentions[:, [2, 0, 3, 1]]), expected)
    torch.testing.assert_close(diversity_loss(attentions * torch.rand(3, 4, 1)), expected)


def test_diversity_gradients():
    attentions = torch.rand(2, 3, 4) + 0.1
    attentions.requires_grad_()
    diversity_loss(attentions).backward()
    step = 1e-2
    for index in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        nudge = torch.zeros_like(attentions)
        nudge[index] = step
        expected = (naive_diversity(attentions + nudge) - naive_diversity(attentions - nudge)) / (2 * step)
        assert attentions.grad[index].item() == pytest.approx(expected, rel=2e-2, abs=1e-4)


# precision


def all_losses(code_logits: Tensor, centres: Tensor, concepts: Tensor, attentions: Tensor, labels: Tensor) -> Tensor:
    return torch.stack(
        [
            margin_cross_entropy(cosine_logits(code_logits, centres), labels),
            margin_cross_entropy(binary_cosine_logits(code_logits, centres), labels),
            margin_cross_entropy(cosine_logits(concepts, centres), labels),
            diversity_loss(attentions),
        ]
    )


def some_inputs() -> tuple[Tensor, ...]:
    return torch.randn(8, 16), torch.randn(5, 16), torch.randn(8, 3, 16), torch.rand(8, 3, 9)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_inputs_are_computed_in_float32(dtype):
    halves = [tensor.to(dtype) for tensor in some_inputs()]
    labels = torch.randint(5, (8,))
    losses = all_losses(*halves, labels)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, all_losses(*[half.float() for half in halves], labels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_changes_nothing(dtype):
    inputs, labels = some_inputs(), torch.randint(5, (8,))
    inputs[0].requires_grad_()
    plain = all_losses(*inputs, labels)
    with torch.autocast("cpu", dtype=dtype):
        losses = all_losses(*inputs, labels)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, plain, rtol=0, atol=1e-6)
    losses.sum().backward()
    assert inputs[0].grad.isfinite().all()


@pytest.mark.parametrize("dtype", HALVES)
def test_large_half_precision_embeddings_do_not_overflow(dtype):
    embeddings = torch.full((1, 64), 3e4).to(dtype)  # its square is beyond float16
    assert cosine_logits(embeddings, embeddings).item() == pytest.approx(1, abs=1e-6)
    assert binary_cosine_logits(embeddings, embeddings).item() == pytest.approx(1, abs=1e-6)


# labels


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 4, 2], dtype=torch.uint8),
        torch.tensor([0, 4, 2]),
        torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]),
        torch.tensor([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]]),
        torch.eye(3, 5).bool(),
    ],
    ids=lambda labels: f"{labels.dtype} {tuple(labels.shape)}",
)
def test_labels_that_the_objectives_read(labels):
    check_labels(labels, 3, 5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "must be a tensor, got list"),
        (
            torch.tensor([0, 1]),
            r"integers of shape \(3,\) or multi-hot of shape \(3, 5\), got torch.int64 of shape \(2,\)",
        ),
        (torch.eye(2, 5), r"got torch.float32 of shape \(2, 5\)"),
        (torch.eye(3, 4), r"got torch.float32 of shape \(3, 4\)"),
        (torch.tensor([0.0, 1, 2]), "got torch.float32"),
        (torch.tensor([True, False, True]), "got torch.bool"),
        (torch.tensor(0), r"of shape \(\)"),
        (torch.zeros(3, 5, 1), r"of shape \(3, 5, 1\)"),
        (torch.tensor([0, -1, 4]), "lie in 0 ... 4, got -1 ... 4"),
        (torch.tensor([0, 5, 4]), "lie in 0 ... 4, got 0 ... 5"),
        (torch.eye(3, 5) * 2, "0 or 1, with at least one 1 in every row"),
        (torch.eye(5)[:3] * torch.tensor([[1.0], [0], [1]]), "0 or 1, with at least one 1 in every row"),
    ],
)
def test_labels_that_they_cannot_read(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 3, 5)
