"""Bits, packing, sub-codes and Hamming distance, against Python integers and numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from concepthash_hf.codes import (
    binarize,
    check_packed,
    compose_codes,
    hamming_distance,
    pack_bits,
    split_sub_codes,
    sub_code_distances,
    to_numpy,
    unpack_bits,
)


def arrays(*shape: int | st.SearchStrategy) -> st.SearchStrategy:
    """Boolean arrays; an axis is a number or a strategy for one."""
    axes = [axis if isinstance(axis, st.SearchStrategy) else st.just(axis) for axis in shape]
    return st.tuples(*axes).flatmap(lambda sizes: hnp.arrays(bool, sizes))


ANY_BITS = arrays(st.integers(0, 3), st.integers(1, 70))
# (K, M), also where K does not fill its bytes and where sub-codes cross them
GEOMETRIES = st.tuples(st.integers(1, 12), st.integers(1, 9)).map(lambda both: (both[0] * both[1], both[1]))


def as_integer(bits: np.ndarray) -> int:
    """The number that the bits spell, most significant first."""
    return int("".join("01"[int(bit)] for bit in bits), 2)


# bits


def test_binarize_sets_a_bit_where_the_logit_is_positive():
    logits = [-1.0, -0.0, 0.0, 1e-30, 2.0, float("nan"), float("inf"), float("-inf")]
    expected = [False, False, False, True, True, False, True, False]
    assert binarize(np.array(logits)).tolist() == expected
    assert binarize(torch.tensor(logits)).tolist() == expected


# packing


@given(ANY_BITS)
def test_packing_is_numpys_and_torch_agrees(bits):
    packed = pack_bits(bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(bits), -(-bits.shape[1] // 8))
    np.testing.assert_array_equal(packed, np.packbits(bits, axis=1))
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32):
        packed_by_torch = pack_bits(torch.from_numpy(bits).to(dtype))
        assert packed_by_torch.dtype == torch.uint8
        np.testing.assert_array_equal(packed_by_torch.numpy(), packed)


@given(ANY_BITS)
def test_packed_bytes_spell_the_bits_most_significant_first(bits):
    padding = -bits.shape[1] % 8
    for row, packed in zip(bits, pack_bits(bits), strict=True):
        assert int.from_bytes(packed.tobytes(), "big") == as_integer(row) << padding


@given(ANY_BITS)
def test_unpacking_is_the_inverse(bits):
    num_bits = bits.shape[1]
    by_numpy = unpack_bits(pack_bits(bits), num_bits)
    by_torch = unpack_bits(pack_bits(torch.from_numpy(bits)), num_bits)
    assert by_numpy.dtype == bool
    assert by_torch.dtype == torch.bool
    np.testing.assert_array_equal(by_numpy, bits)
    np.testing.assert_array_equal(by_torch.numpy(), bits)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (0,)])
def test_any_leading_axes(leading):
    bits = np.random.default_rng(0).random((*leading, 13)) > 0.5
    for kind in (bits, torch.from_numpy(bits)):
        packed = pack_bits(kind)
        assert tuple(packed.shape) == (*leading, 2)
        assert tuple(split_sub_codes(kind, 13).shape) == (*leading, 13, 1)
        assert (unpack_bits(packed, 13) == kind).all()


# distances


@given(st.integers(1, 70).flatmap(lambda num_bits: arrays(2, 3, num_bits)))
def test_hamming_distance_is_popcount_of_xor(pair):
    a, b = pair
    expected = [(as_integer(x) ^ as_integer(y)).bit_count() for x, y in zip(a, b, strict=True)]
    by_numpy = hamming_distance(pack_bits(a), pack_bits(b))
    by_torch = hamming_distance(torch.from_numpy(pack_bits(a)), torch.from_numpy(pack_bits(b)))
    assert by_numpy.dtype == np.int64
    assert by_torch.dtype == torch.int64
    assert by_numpy.tolist() == by_torch.tolist() == expected


def test_hamming_distance_of_all_bytes():
    every_byte = np.arange(256, dtype=np.uint8)[:, None]
    expected = [[(a ^ b).bit_count() for b in range(256)] for a in range(256)]
    assert hamming_distance(every_byte[:, None], every_byte[None]).tolist() == expected
    every_byte = torch.from_numpy(every_byte)
    assert hamming_distance(every_byte[:, None], every_byte[None]).tolist() == expected


def test_long_codes_do_not_overflow():
    zeros, ones = np.zeros((1, 64), np.uint8), np.full((1, 64), 255, np.uint8)
    assert hamming_distance(zeros, ones).item() == 512
    assert hamming_distance(torch.from_numpy(zeros), torch.from_numpy(ones)).item() == 512
    assert sub_code_distances(zeros, ones, 512, 1).tolist() == [[512]]
    assert sub_code_distances(torch.from_numpy(zeros), torch.from_numpy(ones), 512, 1).tolist() == [[512]]


@given(GEOMETRIES.flatmap(lambda shape: st.tuples(st.just(shape), arrays(2, 4, shape[0]))))
def test_sub_code_distances_are_those_of_the_parts_and_sum_up(case):
    (num_bits, num_concepts), (a, b) = case
    length = num_bits // num_concepts
    expected = [
        [sum(x[i] != y[i] for i in range(concept * length, (concept + 1) * length)) for concept in range(num_concepts)]
        for x, y in zip(a, b, strict=True)
    ]
    a, b = pack_bits(a), pack_bits(b)
    by_numpy = sub_code_distances(a, b, num_bits, num_concepts)
    by_torch = sub_code_distances(torch.from_numpy(a), torch.from_numpy(b), num_bits, num_concepts)
    assert by_numpy.dtype == np.int64
    assert by_torch.dtype == torch.int64
    assert by_numpy.tolist() == by_torch.tolist() == expected
    assert by_numpy.sum(-1).tolist() == hamming_distance(a, b).tolist()


def test_queries_broadcast_against_a_database():
    generator = np.random.default_rng(0)
    queries, database = (generator.integers(0, 256, (count, 3), dtype=np.uint8) for count in (4, 7))
    distances = hamming_distance(queries[:, None], database[None])
    assert distances.shape == (4, 7)
    assert distances[2, 5] == hamming_distance(queries[2], database[5])
    concept_distances = sub_code_distances(queries[:, None], database[None], 24, 4)
    assert concept_distances.shape == (4, 7, 4)
    assert (concept_distances.sum(-1) == distances).all()


def test_sub_codes_are_concept_major():
    assert split_sub_codes(np.arange(6), 3).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert split_sub_codes(torch.arange(6), 3).tolist() == [[0, 1], [2, 3], [4, 5]]


@given(GEOMETRIES.flatmap(lambda both: st.tuples(st.just(both), arrays(st.integers(0, 2), both[1], both[0]))))
def test_a_composed_code_takes_each_concept_from_its_own_code(case):
    (num_bits, num_concepts), bits = case
    length = num_bits // num_concepts
    expected = np.zeros((len(bits), num_bits), dtype=bool)
    for concept in range(num_concepts):
        here = slice(concept * length, (concept + 1) * length)
        expected[:, here] = bits[:, concept, here]
    packed = pack_bits(bits)
    np.testing.assert_array_equal(compose_codes(packed, num_bits), pack_bits(expected))
    np.testing.assert_array_equal(compose_codes(torch.from_numpy(packed), num_bits).numpy(), pack_bits(expected))


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_a_code_composed_of_one_is_that_one(leading):
    code = np.array([0b10110100, 0b01000000], dtype=np.uint8)
    thrice = np.broadcast_to(code, (*leading, 3, 2))
    np.testing.assert_array_equal(compose_codes(thrice, 12), thrice[..., 0, :])
    np.testing.assert_array_equal(compose_codes(torch.tensor(thrice), 12).numpy(), thrice[..., 0, :])


def test_only_codes_can_be_composed():
    with pytest.raises(ValueError, match=r"a code per concept, \(\.\.\., M, bytes\), got shape \(2,\)"):
        compose_codes(np.zeros(2, dtype=np.uint8), 16)
    with pytest.raises(ValueError, match="num_bits=16, num_concepts=3"):
        compose_codes(np.zeros((3, 2), dtype=np.uint8), 16)


def test_tensors_are_answered_on_their_device():
    """On one that mixes with no other."""
    codes = pack_bits(torch.zeros(3, 12, dtype=torch.bool, device="meta"))
    answers = [
        codes,
        unpack_bits(codes, 12),
        hamming_distance(codes, codes),
        sub_code_distances(codes, codes, 12, 4),
        compose_codes(codes, 12),
    ]
    assert [answer.device.type for answer in answers] == ["meta"] * 5


# bad input


@pytest.mark.parametrize("values", [[-1, 1, 1], [0.3, 0.7, 1.0], [0, 1, 2], [float("nan"), 0, 1]])
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_only_bits_can_be_packed(values, kind):
    with pytest.raises(ValueError, match=r"bits \(0 or 1\); binarize"):
        pack_bits(kind(values))


def test_tensors_that_are_trained_become_arrays_too():
    for values in ([0.5, 2.0], np.array([0.5, 2.0]), torch.tensor([0.5, 2.0], requires_grad=True)):
        found = to_numpy(values)
        assert isinstance(found, np.ndarray) and found.tolist() == [0.5, 2.0]


@pytest.mark.parametrize("scalar", [np.array(True), torch.tensor(True)])
def test_a_scalar_cannot_be_packed(scalar):
    with pytest.raises(ValueError, match="at least one axis"):
        pack_bits(scalar)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_codes_of_another_width_or_type_are_refused(kind):
    codes = kind(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="codes of 17 bits are 3 bytes wide, got 2; were they packed"):
        unpack_bits(codes, 17)
    with pytest.raises(ValueError, match="codes of 8 bits are 1 bytes wide, got 2"):
        sub_code_distances(codes, codes, 8, 2)
    with pytest.raises(ValueError, match=r"uint8 of shape \(..., bytes\), got .*bool of shape \(2, 16\)"):
        hamming_distance(kind(np.zeros((2, 16), bool)), kind(np.zeros((2, 16), bool)))
    for one, other in ((codes, kind(np.zeros((2, 2), np.int64))), (kind(np.zeros((2, 2), np.int64)), codes)):
        with pytest.raises(ValueError, match=r"got .*int64 of shape \(2, 2\)"):
            hamming_distance(one, other)
    with pytest.raises(ValueError, match=r"got .*float32 of shape \(2, 16\); use pack_bits"):
        unpack_bits(kind(np.zeros((2, 16), np.float32)), 16)
    with pytest.raises(ValueError, match="different width: 2 and 3 bytes"):
        hamming_distance(codes, kind(np.zeros((2, 3), np.uint8)))
    with pytest.raises(ValueError, match="of shape"):
        check_packed(kind(np.uint8(3)))


@pytest.mark.parametrize(("num_bits", "num_concepts"), [(16, 3), (16, 0), (16, -4), (16, 32)])
def test_bits_that_do_not_divide_are_refused(num_bits, num_concepts):
    with pytest.raises(ValueError, match=rf"num_bits={num_bits}, num_concepts={num_concepts}"):
        split_sub_codes(torch.zeros(2, num_bits), num_concepts)
    codes = np.zeros((1, 2), np.uint8)
    with pytest.raises(ValueError, match="multiple of num_concepts"):
        sub_code_distances(codes, codes, num_bits, num_concepts)
