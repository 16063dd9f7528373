"""Greedy selection of the members of an ensemble."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skhpo.ensembles import select_members


def closeness(y):
    return lambda averages: -np.square(averages - y).mean(axis=1)


def by_hand(outputs, score, n_members):
    """Add whichever candidate is best, and return the best of the multisets on the way."""
    chosen, path = [], []
    for _ in range(n_members):
        scores = [score(outputs[[*chosen, i]].mean(axis=0)[None])[0] for i in range(len(outputs))]
        chosen.append(int(np.argmax(np.round(scores, 12))))
        path.append((round(scores[chosen[-1]], 12), -len(chosen)))
    best = -max(path)[1]
    return np.bincount(chosen[:best], minlength=len(outputs))


@settings(deadline=None, max_examples=50)
@given(arrays(float, (4, 6), elements=st.integers(-5, 5)), st.integers(1, 6))
def test_it_is_the_greedy_path(outputs, n_members):
    score = closeness(np.arange(6.0))
    counts = select_members(outputs, lambda a: np.round(score(a), 12), n_members)
    np.testing.assert_array_equal(counts, by_hand(outputs, score, n_members))


@settings(deadline=None, max_examples=50)
@given(
    arrays(float, (5, 6), elements=st.integers(-5, 5)),
    st.integers(0, 3),
    st.sampled_from([1, 4]),
)
def test_the_average_is_never_worse_than_the_best_of_one_bag(outputs, n_initial, n_bags):
    score = closeness(np.arange(6.0))
    counts = select_members(outputs, score, 5, n_initial=n_initial, n_bags=n_bags, random_state=0)
    assert 1 <= counts.sum() <= 5 * n_bags
    if n_bags == 1:
        average = np.tensordot(counts / counts.sum(), outputs, axes=1)
        assert score(average[None])[0] >= score(outputs).max() - 1e-9


def test_a_candidate_may_count_several_times():
    y = np.array([0.0, 0.0])
    outputs = np.array([[1.0, 1.0], [-2.0, -2.0]])
    np.testing.assert_array_equal(select_members(outputs, closeness(y), 20), [2, 1])


def test_sorted_initialisation_starts_from_the_best_prefix():
    y = np.zeros(2)
    outputs = np.array([[0.5, 0.5], [-0.5, -0.4], [3.0, 3.0]])
    counts = select_members(outputs, closeness(y), 3, n_initial=3)
    assert counts[0] >= 1
    assert counts[1] >= 1
    assert counts[2] == 0


def test_candidates_without_a_score_are_left_out():
    outputs = np.zeros((3, 4))

    def score(averages):
        return np.where(np.arange(len(averages)) == 0, np.nan, 1.0)

    assert select_members(outputs, score, 2)[0] == 0
    with pytest.raises(ValueError, match="must have a score"):
        select_members(outputs, lambda averages: np.full(len(averages), np.nan))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"outputs": np.array([[np.nan, 1.0]])}, "must be finite"),
        ({"outputs": np.empty((0, 3))}, "must have the shape"),
        ({"n_members": 0}, "n_members >= 1"),
        ({"n_initial": 21}, "n_initial <= n_members"),
        ({"n_bags": 0}, "n_bags >= 1"),
        ({"bag_fraction": 0.0}, "bag_fraction"),
    ],
    ids=["nan", "none", "n_members", "n_initial", "n_bags", "bag_fraction"],
)
def test_bad_arguments(changed, message):
    arguments = {"outputs": np.zeros((2, 3)), "score": closeness(np.zeros(3)), **changed}
    with pytest.raises(ValueError, match=message):
        select_members(**arguments)
