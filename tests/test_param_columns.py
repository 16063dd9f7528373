"""Columns of parameters are those of scikit-learn."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection._search import _yield_masked_array_for_each_param
from sklearn.svm import SVC

from skhpo.results import param_columns

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.just(2**70),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from([np.float32(0.5), np.int64(3), np.arange(3), SVC(), dict, {"a": 1}]),
)
# One kind for all rows is what is usual.
kinds = [st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=2), values]
rows = st.sampled_from(kinds).flatmap(
    lambda kind: st.lists(
        st.dictionaries(st.sampled_from("abc"), kind, max_size=3), min_size=1, max_size=8
    )
)


@given(rows)
@settings(deadline=None, max_examples=300)
def test_columns_are_those_of_scikit_learn(rows):
    expected = dict(_yield_masked_array_for_each_param(rows))
    found = param_columns(rows)
    assert list(found) == list(expected)
    for name, column in found.items():
        other = expected[name]
        assert column.dtype == other.dtype
        assert column.mask.tolist() == other.mask.tolist()
        there = ~other.mask
        for one, two in zip(column.data[there], other.data[there], strict=True):
            assert one is two or type(one) is type(two)
            assert np.array_equal(one, two)
