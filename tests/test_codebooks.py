"""Targets of classes: golden ones, and what has to hold of all."""

import pytest
import torch
from baselines_golden import Golden, tensor
from hypothesis import given
from hypothesis import strategies as st

from concepthash_hf.codebooks import hadamard_codebook, language_codebook, random_codebook


@pytest.fixture(scope="module")
def golden(shared_dir) -> Golden:
    return Golden(shared_dir)


def test_hadamard_rows_in_order(golden):
    assert torch.equal(hadamard_codebook(5, 16), golden.codebook("hadamard_5x16"))
    wanted = golden.codebook("hadamard_40x16_python_random_seed_42")
    found = hadamard_codebook(40, 16)
    assert torch.equal(found[:32], wanted[:32])
    assert (found[32:].sum(1) == 0).all()


def test_language_targets(golden):
    case = golden.case("lg_pca_codebook")
    found = language_codebook(tensor(case["inputs"]["E"]), 6)
    same_or_opposite = (found * tensor(case["codebook"])).mean(0).abs()
    assert same_or_opposite.eq(1).all()


def test_the_largest_loading_of_a_component_is_positive():
    """By the covariance, largest component first; some have their largest loading, and some all of them, negative."""
    embeddings = torch.randn(40, 12)
    centred = embeddings.double() - embeddings.double().mean(0)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0)[:10]
    found = language_codebook(embeddings, 10)
    for bit, axis in enumerate(axes):
        largest = max(axis.tolist(), key=abs)
        upright = axis if largest > 0 else -axis
        assert found[:, bit].tolist() == [1 if row @ upright > 0 else -1 for row in centred]


@pytest.mark.parametrize("codebook", [random_codebook, hadamard_codebook])
@given(classes=st.integers(1, 60), bits=st.integers(9, 20))
def test_all_rows_differ_and_are_binary(codebook, classes, bits):
    found = codebook(classes, bits)
    assert found.shape == (classes, bits) and found.dtype == torch.float32
    assert found.abs().eq(1).all()
    assert len(found.unique(dim=0)) == classes


@given(seed=st.integers(0, 1000), flips=st.lists(st.booleans(), min_size=12, max_size=12))
def test_language_targets_do_not_depend_on_the_solver_s_signs(seed, flips):
    """Mirroring the axes of the embeddings mirrors the components, not their signs' agreement between classes."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(40, 12, generator=generator)
    mirrored = embeddings * torch.where(torch.tensor(flips), -1.0, 1.0)
    one, other = language_codebook(embeddings, 10), language_codebook(mirrored, 10)
    assert ((one * other).mean(0).abs() == 1).all()


def test_as_many_targets_as_there_are():
    assert len(random_codebook(8, 3).unique(dim=0)) == 8
    for codebook in (random_codebook, hadamard_codebook):
        with pytest.raises(ValueError, match="3 bits do not hold 9 different targets"):
            codebook(9, 3)


def test_too_few_words_for_so_many_bits(caplog):
    with pytest.raises(ValueError, match="5 class embeddings have 4 principal components, not 16"):
        language_codebook(torch.randn(5, 12), 16)
    with pytest.raises(ValueError, match="20 class embeddings have 3 principal components, not 4"):
        language_codebook(torch.randn(20, 3), 4)
    assert language_codebook(torch.randn(30, 12), 2).shape == (30, 2)
    assert "2 bits give 30 class names only 4 different targets" in caplog.text


def test_as_many_bits_as_words_hold(caplog):
    targets = language_codebook(torch.randn(5, 9), 4)
    assert targets.shape == (5, 4) and len(targets.unique(dim=0)) == 5
    assert caplog.messages == []
