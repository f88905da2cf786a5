"""Attention on a CPU in bfloat16: as precise as that allows, and in the dtype that the layers expect."""

import pytest
import torch
from common import TINY_VISION, integer_labels, photos, tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from concepthash_hf import sdpa
from concepthash_hf.sdpa import kernel_of, sdpa_attention


@pytest.fixture
def states() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 11, 8) for _ in range(3)]


class NotCausal(nn.Module):
    """What a vision model's attention says of itself."""

    is_causal = False


def attended_and_gradients(attention, states: list[torch.Tensor], dtype: torch.dtype, mask=None, **kwargs):
    leaves = [each.to(dtype, copy=True).requires_grad_() for each in states]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        attended, weights = attention(NotCausal(), *leaves, mask, **kwargs)
    assert weights is None and attended.dtype == dtype and attended.is_contiguous()
    attended.float().square().sum().backward()
    return [attended, *(each.grad for each in leaves)]


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("masked_photos", [0, 1, 2])
@pytest.mark.parametrize("together", [True, False])
def test_in_bfloat16_is_that_of_float32_within_its_rounding(monkeypatch, states, masked_photos, scaling, together):
    if not together:  # one photo at a time
        monkeypatch.setattr(sdpa, "_SCORES_AT_ONCE", 1)
    mask = torch.rand(masked_photos, 1, 11, 11) < 0.7 if masked_photos else None
    rounded = [each.bfloat16().float() for each in states]
    ours = attended_and_gradients(sdpa_attention, states, torch.bfloat16, mask, scaling=scaling)
    exact = attended_and_gradients(sdpa_attention_forward, rounded, torch.float32, mask, scaling=scaling)
    for each, other in zip(ours, exact, strict=True):
        assert each.dtype == torch.bfloat16
        torch.testing.assert_close(each.float(), other, rtol=0.02, atol=0.02)


def test_what_all_keys_share_costs_no_precision(states):
    query, key, value = states
    halves = [query.bfloat16(), (key + 30).bfloat16(), value.bfloat16()]
    exact = sdpa_attention_forward(NotCausal(), *(each.float() for each in halves), None)[0]
    torch.testing.assert_close(sdpa_attention(NotCausal(), *halves, None)[0].float(), exact, rtol=0.01, atol=0.02)


def test_elsewhere_is_that_of_transformers(states):
    for dtype, kwargs in ((torch.float32, {}), (torch.bfloat16, {"dropout": 0.5}), (torch.bfloat16, {"dropout": 1.0})):
        found = []
        for attention in (sdpa_attention, sdpa_attention_forward):
            torch.manual_seed(0)
            found.append(attended_and_gradients(attention, states, dtype, **kwargs))
        for ours, theirs in zip(*found, strict=True):
            assert torch.equal(ours, theirs)
    halves = [each.bfloat16() for each in states]
    causal = nn.Module()  # as transformers takes what says nothing of itself
    assert torch.equal(sdpa_attention(causal, *halves, None)[0], sdpa_attention_forward(causal, *halves, None)[0])


def test_only_torchs_own_is_replaced():
    assert kernel_of("sdpa") == "sdpa_concepthash"
    assert [kernel_of(name) for name in ("eager", "flash_attention_2", None)] == ["eager", "flash_attention_2", None]


class FusedTokens(TorchDispatchMode):
    """How many tokens torch's fused attention was asked for; the prompt's are as many as there are concepts."""

    def __init__(self):
        super().__init__()
        self.found: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in func.__name__:
            self.found.add(args[0].shape[2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("attention", [None, "sdpa", "eager"])
def test_layers_use_it_in_bfloat16_alone(attention):
    model = tiny_model({"num_hidden_layers": 3})
    if attention:
        model.set_attn_implementation(attention)
    with FusedTokens() as in_float32:
        model.train()(photos(), labels=integer_labels())
        model.get_hash_codes(photos())
    with torch.autocast("cpu", torch.bfloat16), FusedTokens() as in_bfloat16:
        model.train()(photos(), labels=integer_labels())
        model.get_hash_codes(photos())
    by_layers = in_float32.found - {TINY_VISION["num_concepts"]}
    assert len(by_layers) == (0 if attention == "eager" else 1)
    assert in_bfloat16.found <= {TINY_VISION["num_concepts"]}
