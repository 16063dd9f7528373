"""The best score of many candidates, corrected for having been chosen."""

import numpy as np
import pytest

from skhpo.model_selection import bias_corrected_score


def accuracy(right):
    return lambda counts: counts @ right.T / counts.sum(axis=1, keepdims=True)


def test_the_best_of_many_guesses_is_no_better_than_guessing():
    random = np.random.RandomState(0)
    found = [
        bias_corrected_score(
            accuracy(random.rand(30, 80) < 0.5), 80, n_bootstrap=100, random_state=seed
        )
        for seed in range(30)
    ]
    optimism = np.mean([one.uncorrected - 0.5 for one in found])
    bias = np.mean([one.score - 0.5 for one in found])
    assert optimism > 0.08
    assert abs(bias) < optimism / 4
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) > 0.8


def test_a_single_candidate_keeps_its_score():
    right = (np.arange(200) < 150)[None].astype(float)
    found = bias_corrected_score(accuracy(right), 200, random_state=0)
    assert found.uncorrected == 0.75
    assert found.score == pytest.approx(0.75, abs=0.005)
    # As wide as a standard interval of a share.
    width = 2 * 1.96 * np.sqrt(0.75 * 0.25 / 200)
    assert found.high - found.low == pytest.approx(width, rel=0.15)


def seen(given, n_samples, **kwargs):
    bias_corrected_score(
        lambda counts: given.append(counts) or np.ones((len(counts), 1)),
        n_samples,
        n_bootstrap=20,
        random_state=0,
        **kwargs,
    )
    return given[1::2], given[2::2]


def test_resamples_and_the_rest_share_no_row():
    inside, outside = seen([], 30)
    for drawn, left in zip(inside, outside, strict=True):
        assert (drawn.sum(axis=1) == 30).all()
        np.testing.assert_array_equal(left, drawn == 0)


def test_strata_keep_their_sizes():
    strata = np.array(["a"] * 20 + ["b"] * 5)
    for drawn in seen([], 25, strata=strata)[0]:
        assert (drawn[:, strata == "b"].sum(axis=1) == 5).all()


def test_groups_stay_together():
    groups = np.random.RandomState(0).randint(8, size=40)
    for drawn in seen([], 40, groups=groups)[0]:
        for group in range(8):
            assert (np.ptp(drawn[:, groups == group], axis=1) == 0).all()


def test_even_two_rows_leave_one_out():
    for left in seen([], 2)[1]:
        assert (left.sum(axis=1) == 1).all()


def test_resamples_without_a_score_are_left_out():
    def at_times(counts):
        scores = np.full((len(counts), 2), 0.5)
        scores[counts[:, 0] > 1] = np.nan
        scores[:, 1] = np.nan
        return scores

    found = bias_corrected_score(at_times, 10, n_bootstrap=200, random_state=0)
    assert 0 < found.n_bootstrap < 200
    assert found.score == 0.5
    with pytest.raises(ValueError, match="is on none of"):
        bias_corrected_score(
            lambda counts: np.where(counts.sum(axis=1) == 10, 1.0, np.nan)[:, None], 10
        )
    with pytest.raises(ValueError, match="must have a score"):
        bias_corrected_score(lambda counts: np.full((len(counts), 1), np.nan), 10)


def test_it_says_what_it_found():
    found = bias_corrected_score(accuracy(np.ones((1, 9))), 9, n_bootstrap=5, confidence=0.9)
    assert str(found) == "1 (90% interval 1 to 1); uncorrected 1"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_samples": 1}, "n_samples >= 2"),
        ({"n_bootstrap": 0}, "n_bootstrap >= 1"),
        ({"confidence": 1.0}, "confidence < 1"),
        ({"strata": [1, 2]}, "strata must have an entry for each of 9 rows"),
        ({"groups": np.ones(9)}, "two groups at least"),
    ],
    ids=["rows", "n_bootstrap", "confidence", "strata", "groups"],
)
def test_bad_arguments(changed, message):
    arguments = {"n_samples": 9, **changed}
    with pytest.raises(ValueError, match=message):
        bias_corrected_score(accuracy(np.ones((2, 9))), **arguments)
