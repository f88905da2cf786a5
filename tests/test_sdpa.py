"""Attention in training on a CPU in bfloat16: as precise as float32's, and in the dtype that the layers expect."""

import pytest
import torch
from common import TINY_VISION, integer_labels, photos, tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from concepthash_hf.sdpa import kernel_of, sdpa_attention


@pytest.fixture
def states() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 11, 8) for _ in range(3)]


def attended_and_gradients(attention, states: list[torch.Tensor], dtype: torch.dtype, mask: torch.Tensor | None):
    leaves = [each.to(dtype, copy=True).requires_grad_() for each in states]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        attended, weights = attention(nn.Module(), *leaves, mask, scaling=0.3)
    assert weights is None and attended.dtype == dtype
    attended.float().square().sum().backward()
    return [attended, *(each.grad for each in leaves)]


@pytest.mark.parametrize("masked", [False, True])
def test_in_bfloat16_is_float32_rounded_once(states, masked):
    mask = torch.rand(2, 1, 11, 11) < 0.7 if masked else None
    rounded = [each.bfloat16().float() for each in states]
    ours = attended_and_gradients(sdpa_attention, states, torch.bfloat16, mask)
    exact = attended_and_gradients(sdpa_attention_forward, rounded, torch.float32, mask)
    assert torch.equal(ours[0], exact[0].bfloat16())
    for each, other in zip(ours[1:], exact[1:], strict=True):
        assert each.dtype == torch.bfloat16
        torch.testing.assert_close(each.float(), other, rtol=0.02, atol=0.02)


def test_elsewhere_is_that_of_transformers(states):
    for attention, other in zip(
        attended_and_gradients(sdpa_attention, states, torch.float32, None),
        attended_and_gradients(sdpa_attention_forward, states, torch.float32, None),
        strict=True,
    ):
        assert torch.equal(attention, other)
    halves = [each.bfloat16() for each in states]  # nothing is trained
    assert torch.equal(
        sdpa_attention(nn.Module(), *halves, None)[0], sdpa_attention_forward(nn.Module(), *halves, None)[0]
    )


def test_only_torchs_own_is_replaced():
    assert kernel_of("sdpa") == "sdpa_concepthash"
    assert [kernel_of(name) for name in ("eager", "flash_attention_2", None)] == ["eager", "flash_attention_2", None]


class Dtypes(TorchDispatchMode):
    """Of what the layers' attention is computed on; the prompt's has no more tokens than there are concepts."""

    def __init__(self):
        super().__init__()
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in func.__name__ and args[0].shape[2] > TINY_VISION["num_concepts"]:
            self.found.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_layers_use_it_in_training_and_nowhere_else():
    model = tiny_model({"num_hidden_layers": 3})
    for attention, trained_in in ((None, {torch.float32}), ("eager", set()), ("sdpa", {torch.float32})):
        if attention:
            model.set_attn_implementation(attention)
        with torch.autocast("cpu", torch.bfloat16), Dtypes() as trained:
            model.train()(photos(), labels=integer_labels())
        assert trained.found == trained_in
    with torch.autocast("cpu", torch.bfloat16), Dtypes() as hashed:
        model.get_hash_codes(photos())
    assert hashed.found == {torch.bfloat16}
