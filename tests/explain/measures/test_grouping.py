"""Agreement of groupings, beside scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from concepthash_hf.explain.measures.grouping import adjusted_rand_index, normalised_mutual_information

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


@given(pairs)
def test_as_scikit_learn_has_it(rows):
    one, other = np.array(rows).T
    assert adjusted_rand_index(one, other) == pytest.approx(adjusted_rand_score(one, other))
    expected = normalized_mutual_info_score(one, other)
    if len(set(one)) == len(set(other)) == 1:  # nothing is divided: scikit-learn says 1, there is nothing to tell
        expected = 0
    assert normalised_mutual_information(one, other) == pytest.approx(expected, abs=1e-9)


def test_the_same_groups_under_other_names():
    one, other = np.array(["a", "b", "a", "c"]), np.array([5, 1, 5, 3])
    assert adjusted_rand_index(one, other) == normalised_mutual_information(one, other) == pytest.approx(1)


@pytest.mark.parametrize("measure", [adjusted_rand_index, normalised_mutual_information])
def test_groupings_of_different_things(measure):
    with pytest.raises(ValueError, match="one length"):
        measure(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="one length"):
        measure(np.zeros(0), np.zeros(0))
