"""The exact index of faiss, filled block by block."""

import numpy as np
import pytest

from concepthash_hf.index.flat import codes_of, make_flat


@pytest.mark.parametrize("sizes", [(), (0,), (3,), (2, 0, 3, 1)])
def test_blocks_come_one_after_another(sizes):
    codes = np.random.default_rng(0).integers(0, 256, (sum(sizes), 4), dtype=np.uint8)
    flat = make_flat(4, np.split(codes, np.cumsum(sizes)[:-1]) if sizes else (), sum(sizes))
    assert (flat.d, flat.ntotal) == (32, sum(sizes))
    np.testing.assert_array_equal(codes_of(flat), codes)
