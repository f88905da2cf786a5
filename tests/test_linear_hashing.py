"""Fitted hash functions: golden numbers, and what they promise."""

import pytest
import torch
from baselines_golden import Golden, tensor
from hypothesis import given
from hypothesis import strategies as st

from concepthash_hf.linear_hashing import (
    FITS,
    iterative_quantization,
    principal_components,
    quantizing_rotation,
    random_hyperplanes,
    random_rotation,
    rotated_components,
)


@pytest.fixture(scope="module")
def golden(shared_dir) -> Golden:
    return Golden(shared_dir)


def test_pca(golden):
    case = golden.case("pca")
    seen, new = (tensor(case["inputs"][name]) for name in ("X", "X_new"))
    weight, bias = principal_components(seen, 6)
    for features, wanted in ((seen, case["v"]), (new, case["v_new"])):
        scores = features @ weight.T + bias
        signs = (scores * tensor(wanted)).sum(0).sign()
        torch.testing.assert_close(scores * signs, tensor(wanted), rtol=0, atol=5e-5)


def test_itq(golden):
    """The rotation, its codes, and how far they are from the corners on the way."""
    case = golden.case("itq")
    scores = torch.tensor(golden.case("pca")["v"], dtype=torch.float64)
    start = torch.tensor(case["inputs"]["R0"], dtype=torch.float64)

    def objective(rotation: torch.Tensor) -> float:
        turned = scores @ rotation
        return (turned.sign() - turned).square().sum().item()

    found = [objective(quantizing_rotation(scores, start, turns)) for turns in range(len(case["objective"]))]
    assert found == pytest.approx(case["objective"], rel=1e-5)
    rotation = quantizing_rotation(scores, start)
    torch.testing.assert_close(rotation, torch.tensor(case["R"], dtype=torch.float64), rtol=0, atol=1e-4)
    assert torch.equal((scores @ rotation).sign().float(), tensor(case["code"]))


@given(seed=st.integers(0, 10_000), number=st.integers(9, 40), bits=st.integers(1, 8))
def test_the_distance_to_the_corners_never_rises(seed, number, bits):
    torch.manual_seed(seed)
    scores, rotation = torch.randn(number, bits, dtype=torch.float64), random_rotation(bits).double()
    last = torch.inf
    for _ in range(6):
        turned = scores @ rotation
        distance = (torch.where(turned > 0, 1.0, -1.0) - turned).square().sum().item()
        assert distance <= last + 1e-9
        last, rotation = distance, quantizing_rotation(scores, rotation, 1)
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(bits, dtype=torch.float64))


def test_hyperplanes_estimate_angles():
    """The share of differing bits is angle / pi."""
    weight, bias = random_hyperplanes(torch.empty(0, 2), 20_000)
    angles = torch.tensor([0.0, 0.3, 1.0, 2.0, torch.pi])
    bits = torch.stack([angles.cos(), angles.sin()], 1) @ weight.T + bias > 0
    differing = (bits[1:] != bits[:1]).float().mean(1)
    torch.testing.assert_close(differing, angles[1:] / torch.pi, rtol=0, atol=0.015)


def test_a_rotation_spreads_the_variance():
    features = torch.randn(500, 20) * torch.logspace(0, -2, 20)
    spread = {}
    for fit in (principal_components, rotated_components):
        weight, bias = fit(features, 8)
        spread[fit] = (features @ weight.T + bias).var(0)
    pca, rotated = spread.values()
    torch.testing.assert_close(rotated.sum(), pca.sum())
    assert rotated.max() / rotated.min() < pca.max() / pca.min() / 5


@pytest.mark.parametrize("name", FITS)
def test_codes_find_neighbours(name):
    """Of clusters that are plain to see, each with its own code or nearly so."""
    centres = 4 * torch.randn(6, 24)
    labels = torch.arange(120) % 6
    features = centres[labels] + torch.randn(120, 24)
    weight, bias = FITS[name](features, 16 if name == "lsh" else 5)
    assert weight.dtype == bias.dtype == torch.float32
    bits = features @ weight.T + bias > 0
    distances = (bits[:, None] != bits).sum(-1) + 99 * torch.eye(120)
    assert (labels[distances.argmin(1)] == labels).float().mean() > 0.8


@pytest.mark.parametrize("name", [name for name in FITS if name != "lsh"])
def test_too_few_photos(name):
    with pytest.raises(ValueError, match="5 photos with features of width 24 have 4 principal components, not 16"):
        FITS[name](torch.randn(5, 24), 16)


@pytest.mark.parametrize("name", [name for name in FITS if name != "lsh"])
def test_as_many_bits_as_photos_hold(name):
    weight, bias = FITS[name](torch.randn(5, 24), 4)
    assert weight.shape == (4, 24) and bias.shape == (4,)


def test_itq_turns_the_centred_components():
    """Features far from the origin, where it matters."""
    features = torch.randn(60, 8) + 20
    weight, bias = principal_components(features, 5)
    scores = (features - features.mean(0)).double() @ weight.double().T
    torch.manual_seed(3)
    turned, shift = iterative_quantization(features, 5)
    torch.manual_seed(3)
    rotation = quantizing_rotation(scores, random_rotation(5).double()).float()
    torch.testing.assert_close(turned, rotation.T @ weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(shift, rotation.T @ bias, rtol=0, atol=1e-2)
