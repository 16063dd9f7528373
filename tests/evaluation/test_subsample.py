import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skhpo.evaluation._setup import nested_subsamples


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=10, max_size=80), st.integers(0, 5))
def test_leading_parts_are_stratified_and_never_lose_a_class(labels, seed):
    y = np.array(labels)
    train = np.arange(0, len(y))[::-1]
    classes, counts = np.unique(y, return_counts=True)
    rows = nested_subsamples(y, train, seed, 0)
    assert sorted(rows) == sorted(train)
    for n in range(len(classes), len(rows) + 1):
        part = y[rows[:n]]
        seen = np.array([np.count_nonzero(part == c) for c in classes])
        assert (seen >= 1).all()
        if (share := n * counts / len(y)).min() >= 1 and len(classes) > 1:
            assert np.abs(seen - share).max() <= len(classes)


def test_regression_rows_are_a_permutation_that_depends_on_split_and_seed():
    y, train = np.linspace(0, 1, 50), np.arange(5, 45)
    a, b, c = (nested_subsamples(y, train, *key) for key in [(0, 0), (0, 1), (1, 0)])
    assert sorted(a) == sorted(b) == sorted(train)
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)
    np.testing.assert_array_equal(a, nested_subsamples(y, train, 0, 0))
