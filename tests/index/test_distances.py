"""Distances of packed codes against those of their bits, also where a code is more than one word of 64 bits."""

import numpy as np
import pytest

from concepthash_hf.codes import pack_bits, sub_code_distances
from concepthash_hf.index.distances import ConceptCounter, asymmetric_distances

GEOMETRIES = [(12, 3), (64, 4), (72, 1), (96, 6), (128, 1), (128, 4), (192, 3)]


@pytest.mark.parametrize(("num_bits", "num_concepts"), GEOMETRIES)
@pytest.mark.parametrize("shapes", [((), ()), ((), (5,)), ((4, 1), (5,)), ((4, 1), (4, 1)), ((1, 1), (1, 7))], ids=str)
def test_concepts_are_counted_as_their_bits_are(num_bits, num_concepts, shapes):
    generator = np.random.default_rng(0)
    a, b = (pack_bits(generator.random((*shape, num_bits)) < 0.5) for shape in shapes)
    counted = ConceptCounter(num_bits, num_concepts)(a, b)
    assert counted.dtype == np.int64
    np.testing.assert_array_equal(counted, sub_code_distances(a, b, num_bits, num_concepts))


@pytest.mark.parametrize("num_bits", [num_bits for num_bits, _ in GEOMETRIES])
def test_bits_that_differ_count_by_their_logits(num_bits):
    generator = np.random.default_rng(1)
    logits, items = generator.normal(size=(3, num_bits)), generator.random((3, 5, num_bits)) < 0.5
    expected = [
        [sum(abs(logit) for logit, bit in zip(query, item, strict=True) if (logit > 0) != bit) for item in found]
        for query, found in zip(logits, items, strict=True)
    ]
    distances = asymmetric_distances(logits, pack_bits(logits > 0), pack_bits(items))
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
