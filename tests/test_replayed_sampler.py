import pytest
from scipy import stats

from skhpo import SearchSpace
from skhpo.samplers import BayesSampler, EnqueuedSampler, RandomSampler, ReplayedSampler
from skhpo.testing import SamplerContract

SPACE = SearchSpace({"x": stats.uniform(), "y": stats.uniform()})


class TestReplayedSampler(SamplerContract):
    def make_sampler(self, space, seed):
        return ReplayedSampler(RandomSampler(space, seed), {}, None)


def told(sampler, n):
    """Return n configurations of a sampler that is told how they score."""
    tried = []
    for _ in range(n):
        (params,) = sampler.sample(1)
        sampler.observe(params, -((params["x"] - 0.3) ** 2), None)
        tried.append(params)
    return tried


def test_what_is_the_same_changes_nothing():
    expected = told(BayesSampler(SPACE, 0, n_initial_points=4), 9)
    records = {i: expected[i] for i in (0, 1, 4, 6)}
    replayed = ReplayedSampler(
        BayesSampler(SPACE, 0, n_initial_points=4),
        records,
        lambda proposed, record: proposed if proposed == record else record,
    )
    assert told(replayed, 9) == expected


def test_what_differs_runs_instead_and_the_rest_is_learned_from_it():
    inner = BayesSampler(SPACE, 0, n_initial_points=4)
    records = {2: {"x": 0.25, "y": 0.5}, 5: {"x": 0.5, "y": 0.25}}
    replayed = ReplayedSampler(inner, records, lambda proposed, record: record)
    tried = told(replayed, 8)
    assert [tried[2], tried[5]] == [records[2], records[5]]
    assert inner.predict([records[5]])[0][0] == pytest.approx(-0.04, abs=0.02)
    # What was proposed and did not run is not waited for.
    assert not inner._known.pending


def test_what_another_process_proposed_is_not_computed_again(monkeypatch):
    expected = told(BayesSampler(SPACE, 0, n_initial_points=4), 9)
    records = dict(enumerate(expected))
    inner = BayesSampler(SPACE, 0, n_initial_points=4)
    first = [{"x": 0.5, "y": 0.5}]
    replayed = ReplayedSampler(
        EnqueuedSampler(inner, first), records, lambda _, record: record, adopts=True
    )
    with monkeypatch.context() as patch:
        patch.setattr(inner, "_promising", None)  # it would be called
        assert told(replayed, 9) == expected
    (more,) = replayed.sample(1)
    assert more not in expected
    assert inner.predict([expected[-1]])[0][0] == pytest.approx(
        -((expected[-1]["x"] - 0.3) ** 2), abs=0.02
    )


def test_a_record_that_does_not_say_all_is_proposed_again():
    space = SearchSpace({"x": stats.uniform(), "f": [len, max]})
    (expected,) = RandomSampler(space, 0).sample(1)
    record = {"x": expected["x"], "f": repr(expected["f"])}
    replayed = ReplayedSampler(
        RandomSampler(space, 0),
        {0: record},
        lambda proposed, record: {**record, **{"f": proposed["f"]}} if proposed else record,
        adopts=True,
    )
    assert replayed.sample(1) == [expected]
