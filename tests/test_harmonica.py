"""The Harmonica scheduler: stages, what they find, where the base goes on."""

import pytest
from scipy.stats import loguniform, norm, randint

from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler, Harmonica, Hyperband
from skhpo.space import SearchSpace
from skhpo.testing import SchedulerContract

BITS = SearchSpace({f"x{i:02}": [-1, 1] for i in range(30)})


def run(scheduler, score):
    trials = []
    while batch := scheduler.ask():
        trials += batch
        for trial in batch:
            scheduler.tell(trial, score(trial.params))
    return trials


def names(scheduler, stage=0):
    """The parameters of each term."""
    return [
        [scheduler.space.dimensions[f.dimension].name for f in term.factors]
        for term in scheduler.stages[stage].terms
    ]


def mixed(seed, base=None, **kwargs):
    space = SearchSpace(
        {"lr": loguniform(1e-4, 1), "n": randint(1, 9), "act": ["relu", "tanh", None], "z": norm()}
    )
    return Harmonica(space, seed, base, **{"n_samples": 40, "n_terms": 2} | kwargs)


@pytest.mark.filterwarnings("ignore:nothing can be learnt:UserWarning")
class TestHarmonica(SchedulerContract):
    def make_scheduler(self, seed):
        return mixed(seed, lambda space, s: FullScheduler(RandomSampler(space, s), 10))


@pytest.mark.filterwarnings("ignore:nothing can be learnt:UserWarning")
class TestHarmonicaWithHyperband(SchedulerContract):
    def make_scheduler(self, seed):
        def base(space, random_state):
            return Hyperband(RandomSampler(space, random_state), max_resources=9)

        return mixed(seed, base, resource=3, params={"depth": 2})

    def test_candidates_are_configurations_of_the_space(self):
        scheduler = self.make_scheduler(0)
        for trial in self._run(scheduler):
            params = dict(trial.params)
            if trial.tags["stage"] < 2:
                assert params.pop("depth") == 2
            scheduler.space.to_unit(params)


def test_a_sparse_polynomial_is_found_and_maximised():
    def score(x):
        return 3 * x["x04"] - 2 * x["x07"] * x["x09"] + x["x01"] * x["x02"] * x["x03"]

    scheduler = Harmonica(BITS, 0, n_stages=1, n_samples=100)
    trials = run(scheduler, score)
    assert names(scheduler) == [["x04"], ["x07", "x09"], ["x01", "x02", "x03"]]
    assert [term.coefficient for term in scheduler.stages[0].terms] == pytest.approx([3, -2, 1])
    assert scheduler.stages[0].explained == pytest.approx(1)
    assert sum(scheduler.stages[0].shares) == pytest.approx(1, abs=0.2)
    best = [score(trial.params) for trial in trials if trial.tags["stage"] == 1]
    assert len(best) == 100
    # Four patterns: the largest sum, and what is left of it without the smaller terms.
    assert set(best) == {6, 4, 2, 0}
    others = {tuple(v for k, v in trial.params.items() if k > "x09") for trial in trials[100:]}
    assert len(others) > 90
