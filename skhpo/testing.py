"""Contract tests: what every sampler and every scheduler must do, to be inherited.

Examples
--------
In a test file of your own::

    from skhpo.testing import SamplerContract

    class TestMySampler(SamplerContract):
        def make_sampler(self, space, seed):
            return MySampler(space, random_state=seed)
"""

from __future__ import annotations

import contextlib
import inspect
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from .samplers import Sampler
from .schedulers import Scheduler
from .space import SearchSpace, log_randint
from .trial import Trial

__all__ = ["EXPECTED_FAILED_CHECKS", "SamplerContract", "SchedulerContract"]

# By class name: checks of `sklearn.utils.estimator_checks.check_estimator` that are known to
# fail, with the reason; for its argument `expected_failed_checks`.
_FLOAT32 = (
    "a weight of 2 and a row given twice are added in another order; in float32 predictions then "
    "agree to 1e-6, and the check demands 1e-7"
)
_ORDER = (
    "rows in other places of a batch may be rounded otherwise; in float32 predictions then agree "
    "to 1e-6, and the check demands 1e-7 of any precision"
)
_NETWORK = {
    "check_methods_sample_order_invariance": _ORDER,
    "check_sample_weight_equivalence_on_dense_data": _FLOAT32,
    "check_sample_weight_equivalence_on_sparse_data": _FLOAT32,
}
_REGRESSOR = {
    **_NETWORK,
    "check_regressor_multioutput": (
        "predictions have the precision of the network, float32, so that scikit-learn compares "
        "them with the tolerance of float32; the check wants float64"
    ),
}
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {
    "KerasClassifier": _NETWORK,
    "KerasRegressor": _REGRESSOR,
    "SelfTuningClassifier": _NETWORK,
    "SelfTuningRegressor": _REGRESSOR,
    "TorchClassifier": _NETWORK,
    "TorchRegressor": _REGRESSOR,
}


def _spaces() -> list[SearchSpace]:
    """Spaces of every kind."""
    numbers: dict[str, Any] = {
        "lr": stats.loguniform(1e-4, 1),
        "momentum": stats.norm(),
        "n_units": log_randint(1, 1000),
        "n_layers": stats.poisson(3),
    }
    choices: dict[str, Any] = {
        "activation": ["relu", "tanh", None],
        "sizes": [(8,), [8, 8]],
        "bias": [True],
    }
    return [
        SearchSpace(numbers),
        SearchSpace(choices),
        SearchSpace({**numbers, **choices}),
        SearchSpace([{**numbers, "optimizer": ["adam"]}, {"optimizer": ["sgd"]}]),
    ]


def _finite_spaces() -> list[SearchSpace]:
    return [
        SearchSpace({"a": [1, 2, 3], "b": ["x", "y", [None]], "c": stats.randint(0, 4)}),
        SearchSpace([{"a": [1]}, {"a": [2, 3], "b": np.arange(5)}]),
        SearchSpace({"a": stats.binom(10, 0.1)}),
    ]


@contextlib.contextmanager
def _raises(error: type[Exception]) -> Iterator[None]:
    """Expect an exception of a type, so that pytest is only needed where tests run."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


@contextlib.contextmanager
def _untouched_global_randomness() -> Iterator[None]:
    """Fail where numpy's global generator was used."""
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    yield
    after = pickle.dumps(np.random.get_state())  # noqa: NPY002
    assert after == before, "numpy's global generator was used"


def _keywords(method: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(method).parameters)


def _score(params: Mapping[str, Any]) -> float:
    """Some score of a configuration, the same whenever and wherever it is asked for."""
    return sum(map(ord, repr(sorted(params.items())))) % 101 / 101


def _shuffled(trials: list[Trial], rng: np.random.Generator) -> list[Trial]:
    return [trials[i] for i in rng.permutation(len(trials))]


class SamplerContract:
    """What every `skhpo.samplers.Sampler` must do; inherit it and define `make_sampler`.

    Each method is a test that pytest collects in a subclass whose name starts with ``Test``.

    See Also
    --------
    SchedulerContract : The same for schedulers.
    skhpo.samplers.Sampler : What is tested.

    Examples
    --------
    In a file of tests:

    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.testing import SamplerContract
    >>> class TestRandomSampler(SamplerContract):
    ...     def make_sampler(self, space, seed):
    ...         return RandomSampler(space, seed)
    >>> TestRandomSampler().test_same_seed_same_configurations()
    """

    def make_sampler(self, space: SearchSpace, seed: int) -> Sampler:
        """Return the sampler to test.

        Parameters
        ----------
        space : SearchSpace
            The space to sample.
        seed : int
            The same seed makes the same sampler.

        Returns
        -------
        sampler : Sampler
            A new one.
        """
        raise NotImplementedError("define make_sampler(self, space, seed)")

    def _observed(self, space: SearchSpace, seed: int, n: int = 12) -> list[dict[str, Any]]:
        """Configurations of a sampler that is told how they score."""
        sampler = self.make_sampler(space, seed)
        configurations = []
        for _ in range(n):
            for params in sampler.sample(1):
                configurations.append(params)
                sampler.observe(params, _score(params), 1)
        return configurations

    def test_has_its_space_and_says_whether_it_learns(self) -> None:
        space = _spaces()[0]
        sampler = self.make_sampler(space, 0)
        assert sampler.space is space
        assert isinstance(sampler.learns, bool)

    def test_configurations_are_in_the_space(self) -> None:
        for space in _spaces() + _finite_spaces():
            for params in self._observed(space, 0):
                space.to_unit(params)

    def test_numbers_and_strings_are_plain(self) -> None:
        for space in _spaces() + _finite_spaces():
            for params in self._observed(space, 0):
                assert not any(isinstance(value, np.generic) for value in params.values())

    def test_sample_gives_as_many_as_are_asked_for(self) -> None:
        for space in _spaces()[:1]:
            for n in (0, 1, 5):
                assert len(self.make_sampler(space, 0).sample(n)) == n

    def test_same_seed_same_configurations(self) -> None:
        for space in _spaces() + _finite_spaces():
            keys = [[space.key(p) for p in self._observed(space, 3)] for _ in range(2)]
            assert keys[0] == keys[1]

    def test_other_seed_other_configurations(self) -> None:
        space = _spaces()[0]
        assert self._observed(space, 0) != self._observed(space, 1)

    def test_finite_space_is_exhausted_without_repetition(self) -> None:
        for space in _finite_spaces():
            assert space.size is not None
            keys = [space.key(params) for params in self._observed(space, 0, space.size + 3)]
            assert len(keys) == len(set(keys)) == space.size

    def test_finite_space_is_exhausted_in_one_call(self) -> None:
        for space in _finite_spaces():
            assert space.size is not None
            sampler = self.make_sampler(space, 0)
            assert len(sampler.sample(space.size + 3)) == space.size
            assert sampler.sample(1) == []

    def test_observes_failed_and_full_fits(self) -> None:
        space = _spaces()[3]
        sampler = self.make_sampler(space, 0)
        for params in sampler.sample(6):
            sampler.observe(params, math.nan, 3, seconds=0.1)
            sampler.observe(params, 0.5, None)
        assert len(sampler.sample(2)) == 2

    def test_observes_noise_and_seconds(self) -> None:
        space = _spaces()[3]
        sampler = self.make_sampler(space, 0)
        for params in sampler.sample(6):
            sampler.observe(params, _score(params), None, noise=0.01, seconds=2.5)
        assert len(sampler.sample(2)) == 2

    def test_observes_objectives_and_constraints_if_it_takes_them(self) -> None:
        space = _spaces()[3]
        sampler = self.make_sampler(space, 0)
        if not {"values", "value_noise", "violations"} <= _keywords(sampler.observe):
            return
        for i, params in enumerate(sampler.sample(6)):
            score = _score(params)
            values, violations = np.array([score, -(score**2)]), np.array([score - 0.5, -1.0])
            if i == 0:  # known to be infeasible without a fit
                score, values, violations = math.nan, values * math.nan, np.array([0.5, math.nan])
            noise = np.array([0.01, math.nan])
            told: dict[str, Any] = {
                "values": values,
                "value_noise": noise,
                "violations": violations,
            }
            sampler.observe(params, score, None, noise=0.01, **told)
        assert len(sampler.sample(2)) == 2

    def test_observes_configurations_that_are_not_its_own(self) -> None:
        space = _spaces()[2]
        sampler = self.make_sampler(space, 0)
        params = space.from_unit([0.3] * space.n_dims)
        sampler.observe(params, 1.0, 1)
        assert len(sampler.sample(2)) == 2

    def test_leaves_global_randomness_alone(self) -> None:
        with _untouched_global_randomness():
            self._observed(_spaces()[0], 0)

    def test_continues_after_a_pickle(self) -> None:
        space = _spaces()[1]
        sampler = self.make_sampler(space, 0)
        sampler.sample(2)
        copy = pickle.loads(pickle.dumps(sampler))
        assert copy.sample(3) == sampler.sample(3)


class SchedulerContract:
    """What every `skhpo.schedulers.Scheduler` must do; inherit it and define `make_scheduler`.

    Set `synchronous` to False where the trials depend on the order in which a batch is told.

    See Also
    --------
    SamplerContract : The same for samplers.
    skhpo.schedulers.Scheduler : What is tested.

    Examples
    --------
    In a file of tests:

    >>> from scipy.stats import uniform
    >>> from skhpo.samplers import RandomSampler
    >>> from skhpo.schedulers import Hyperband
    >>> from skhpo.space import SearchSpace
    >>> from skhpo.testing import SchedulerContract
    >>> class TestHyperband(SchedulerContract):
    ...     def make_scheduler(self, seed):
    ...         sampler = RandomSampler(SearchSpace({"x": uniform(0, 1)}), seed)
    ...         return Hyperband(sampler, max_resources=9)
    >>> TestHyperband().test_same_seed_same_trials()
    """

    synchronous = True

    def make_scheduler(self, seed: int) -> Scheduler:
        """Return the scheduler to test, with a sampler of an infinite space.

        Parameters
        ----------
        seed : int
            The same seed makes the same scheduler.

        Returns
        -------
        scheduler : Scheduler
            A new one.
        """
        raise NotImplementedError("define make_scheduler(self, seed)")

    @staticmethod
    def _run(
        scheduler: Scheduler,
        score: Callable[[Trial], float] = lambda trial: _score(trial.params),
        order: Callable[[list[Trial]], Sequence[Trial]] = lambda batch: batch,
    ) -> list[Trial]:
        """Run a search; return its trials."""
        trials: list[Trial] = []
        while batch := scheduler.ask():
            trials += batch
            assert len(trials) < 100_000, "the search does not end"
            for trial in order(batch):
                scheduler.tell(trial, score(trial))
        return trials

    @staticmethod
    def _sometimes_failed(trial: Trial) -> float:
        score = _score(trial.params)
        return math.nan if score < 0.3 else score

    def test_trials_are_numbered_as_asked(self) -> None:
        trials = self._run(self.make_scheduler(0))
        assert [trial.number for trial in trials] == list(range(len(trials)))

    def test_candidates_are_numbered_as_they_come(self) -> None:
        trials = self._run(self.make_scheduler(0))
        candidates = list(dict.fromkeys(trial.candidate for trial in trials))
        assert candidates == list(range(len(candidates)))

    def test_trials_have_the_same_tags(self) -> None:
        trials = self._run(self.make_scheduler(0))
        assert len({frozenset(trial.tags) for trial in trials}) == 1
        assert all(type(value) is int for trial in trials for value in trial.tags.values())

    def test_candidates_are_configurations_of_the_space(self) -> None:
        scheduler = self.make_scheduler(0)
        for trial in self._run(scheduler):
            scheduler.sampler.space.to_unit(trial.params)

    def test_promoted_trials_continue_their_candidate(self) -> None:
        trials = self._run(self.make_scheduler(0))
        last: dict[int, Trial] = {}
        for trial in trials:
            before = last.get(trial.candidate)
            if before is None:
                assert trial.parent is None
            else:
                assert trial.parent == before.number
                assert trial.params == before.params
                assert (trial.resource or 0) > (before.resource or 0)
            last[trial.candidate] = trial

    def test_announces_trials_and_resource(self) -> None:
        scheduler = self.make_scheduler(0)
        n_trials, max_resource = scheduler.n_trials, scheduler.max_resource
        trials = self._run(scheduler)
        assert n_trials in (None, len(trials))
        resources = [trial.resource for trial in trials if trial.resource is not None]
        assert max_resource == max(resources, default=None)
        assert len(resources) in (0, len(trials))

    def test_asking_does_not_wait_for_what_it_does_not_need(self) -> None:
        scheduler = self.make_scheduler(0)
        asked: list[Trial] = []
        while batch := scheduler.ask():
            asked += batch
            assert len(asked) < 100_000, "asks for more although nothing was told"
        numbers = [trial.number for trial in asked]
        assert len(numbers) == len(set(numbers))
        assert numbers == list(range(len(asked))) or scheduler.looks_ahead

    def test_looking_ahead_changes_nothing(self) -> None:
        expected = self._run(self.make_scheduler(0), self._sometimes_failed)
        for seed in range(3):
            rng = np.random.default_rng(seed)
            trials = self._look_ahead(self.make_scheduler(0), rng)
            assert trials == expected or not self.synchronous

    def _look_ahead(self, scheduler: Scheduler, rng: np.random.Generator) -> list[Trial]:
        """Run a search that asks now and then and tells batches in any order; return its trials."""
        trials: list[Trial] = []
        running: list[list[Trial]] = []
        batch: list[Trial] | None = None
        while running or batch != []:
            batch = None
            if not running or (scheduler.looks_ahead and rng.random() < 0.7):
                batch = scheduler.ask()
                trials += batch
                running += [batch] if batch else []
            elif running:
                for trial in _shuffled(running.pop(rng.integers(len(running))), rng):
                    scheduler.tell(trial, self._sometimes_failed(trial))
        return sorted(trials, key=lambda trial: trial.number)

    def test_stays_finished(self) -> None:
        scheduler = self.make_scheduler(0)
        self._run(scheduler)
        assert scheduler.ask() == []
        assert scheduler.may_continue() == set()

    def test_same_seed_same_trials(self) -> None:
        first, second = (self._run(self.make_scheduler(5)) for _ in range(2))
        assert first == second

    def test_order_of_telling_does_not_matter(self) -> None:
        expected = self._run(self.make_scheduler(0), self._sometimes_failed)
        rng = np.random.default_rng(0)
        for order in (lambda batch: batch[::-1], lambda batch: _shuffled(batch, rng)):
            trials = self._run(self.make_scheduler(0), self._sometimes_failed, order)
            assert trials == expected or not self.synchronous

    def test_failed_candidates_are_never_promoted(self) -> None:
        trials = self._run(self.make_scheduler(0), self._sometimes_failed)
        for trial in trials:
            assert trial.parent is None or not math.isnan(self._sometimes_failed(trial))

    def test_ends_when_everything_fails(self) -> None:
        trials = self._run(self.make_scheduler(0), lambda trial: math.nan)
        assert trials
        assert all(trial.parent is None for trial in trials)

    def test_says_which_trials_may_be_continued(self) -> None:
        scheduler = self.make_scheduler(0)
        kept: set[int] = set()
        batch = scheduler.ask()
        while batch:
            for trial in batch:
                scheduler.tell(trial, self._sometimes_failed(trial))
            kept |= {trial.number for trial in batch}
            may_continue = scheduler.may_continue()
            batch = scheduler.ask()
            parents = {trial.parent for trial in batch} - {None}
            assert parents <= may_continue & kept
            kept &= scheduler.may_continue() | parents

    def test_releases_what_may_not_be_continued_any_more(self) -> None:
        scheduler = self.make_scheduler(0)
        told: set[int] = set()
        released: list[int] = []
        while batch := scheduler.ask():
            released += scheduler.released()
            for trial in batch:
                scheduler.tell(trial, self._sometimes_failed(trial))
                told.add(trial.number)
                released += scheduler.released()
                assert told.difference(released) == scheduler.may_continue()
        assert sorted(released) == sorted(told)

    def test_passes_results_on_to_its_sampler(self) -> None:
        scheduler = self.make_scheduler(0)
        observed = []
        observe = scheduler.sampler.observe

        def recording(params: Any, score: Any, resource: Any, **more: Any) -> None:
            observed.append((params, score, resource, more.get("noise"), more.get("seconds")))
            observe(params, score, resource, **more)

        scheduler.sampler.observe = recording  # type: ignore[method-assign] # on purpose
        told = []
        while batch := scheduler.ask():
            for trial in batch:
                score, noise = _score(trial.params), 0.01 * trial.number
                scheduler.tell(trial, score, noise=noise, seconds=2.5)
                told.append((trial.params, score, trial.resource, noise, 2.5))
        assert observed == told

    def test_noise_and_seconds_may_be_unknown(self) -> None:
        scheduler = self.make_scheduler(0)
        for trial in scheduler.ask():
            scheduler.tell(trial, 0.5, noise=None)

    def test_telling_twice_is_an_error(self) -> None:
        scheduler = self.make_scheduler(0)
        trial = scheduler.ask()[0]
        scheduler.tell(trial, 1.0)
        with _raises(ValueError):
            scheduler.tell(trial, 1.0)

    def test_telling_what_was_not_asked_is_an_error(self) -> None:
        trial = self.make_scheduler(0).ask()[0]
        with _raises(ValueError):
            self.make_scheduler(0).tell(trial, 1.0)

    def test_leaves_global_randomness_alone(self) -> None:
        with _untouched_global_randomness():
            self._run(self.make_scheduler(0))
