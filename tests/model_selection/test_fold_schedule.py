"""Fewer splits in the early rungs of Hyperband: what is fitted, told, counted, kept and resumed."""

import json
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from test_shared_journal import fits, start, table

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier, read_journal
from skhpo.evaluation import FoldSchedule
from skhpo.exceptions import SearchStoppedWarning
from skhpo.inspection import read_search
from skhpo.inspection._incumbent import incumbent
from skhpo.model_selection._goals import Told

X, Y = np.arange(40.0)[:, None], np.arange(40) % 2


class Epochs(ClassifierMixin, BaseEstimator):
    """Counts the epochs of all fits; its score grows with them, and differs between splits."""

    trained = 0

    def __init__(self, a=0.5, max_epochs=1, fails=False):
        self.a = a
        self.max_epochs = max_epochs
        self.fails = fails

    def fit(self, X, y):
        self.n_trained_ = 0
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        if self.fails:
            raise ValueError("no")
        self.classes_ = np.unique(y)
        self.n_trained_ += self.max_epochs
        Epochs.trained += self.max_epochs
        return self

    def score(self, X, y):
        return self.a + 0.01 * self.n_trained_ + 0.1 * np.sin(99 * self.a + X[0, 0])

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


class Retrained(Epochs):
    partial_fit = property()  # is not there

    def fit(self, X, y):
        self.n_trained_ = 0
        return Epochs.partial_fit(self, X, y)


def hyperband(estimator=None, **kwargs):
    arguments = {
        "max_resources": 9,
        "cv": 5,
        "random_state": 0,
        "refit": False,
        "fold_schedule": "auto",
        **kwargs,
    }
    estimator = Epochs() if estimator is None else estimator
    return HalvingHyperbandSearchCV(estimator, {"a": uniform(0, 1)}, **arguments)


def trained(search):
    """Return the table of a search and the epochs that it took."""
    before = Epochs.trained
    return search.fit(X, Y).cv_results_, Epochs.trained - before


def scores_by_split(results):
    return np.column_stack([results[f"split{i}_test_score"] for i in range(5)])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_rungs_are_fitted_on_the_first_splits_and_continue_exactly(asynchronous):
    def search(**kwargs):
        return hyperband(asynchronous=asynchronous, refit=True, **kwargs).fit(X, Y)

    found, whole = search(fold_schedule=(1, 2, 5)), search(fold_schedule=None)
    results = found.cv_results_
    n_done = results["n_splits_done"]
    assert set(zip(results["n_resources"], n_done, strict=True)) == {(1, 1), (3, 2), (9, 5)}
    scores = scores_by_split(results)
    np.testing.assert_array_equal(np.isnan(scores), np.arange(5) >= n_done[:, None])
    np.testing.assert_allclose(results["mean_test_score"], np.nanmean(scores, axis=1))
    # A split that a candidate has been fitted on from the start, or continued, scores the same.
    expected = {
        (candidate, level): row
        for candidate, level, row in zip(
            *(whole.cv_results_[name] for name in ("candidate", "n_resources")),
            scores_by_split(whole.cv_results_),
            strict=True,
        )
    }
    keys = list(zip(results["candidate"], results["n_resources"], strict=True))
    common = [(row, expected[key]) for row, key in enumerate(keys) if key in expected]
    assert {results["n_resources"][row] for row, _ in common} == {1, 3, 9}
    for row, other in common:
        np.testing.assert_array_equal(scores[row, : n_done[row]], other[: n_done[row]])
    assert n_done[found.best_index_] == 5
    worst_whole = results["rank_test_score"][n_done == 5].max()
    assert (results["rank_test_score"][n_done < 5] > worst_whole).all()
    assert found.best_score_ == results["mean_test_score"][n_done == 5].max()


def test_the_best_row_ranks_first_also_before_a_row_is_whole():
    for n_epochs in (3, 14, 20, 60):
        search = hyperband(max_cost={"epochs": n_epochs}, enqueue=[])
        with pytest.warns(SearchStoppedWarning, match="max_cost"):
            results = search.fit(X, Y).cv_results_
        n_done, ranks = results["n_splits_done"], results["rank_test_score"]
        assert ranks[search.best_index_] == 1
        fewer = n_done < n_done.max()
        assert not fewer.any() or ranks[fewer].min() > ranks[~fewer].max()


def test_auto_grows_geometrically():
    search = hyperband(max_resources=27).fit(X, Y)
    found = dict(
        zip(search.cv_results_["n_resources"], search.cv_results_["n_splits_done"], strict=True)
    )
    assert found == {1: 1, 3: 2, 9: 3, 27: 5}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_what_trials_add_is_what_their_splits_lack(numbers, continues):
    levels = [3**i for i in range(len(numbers))]
    folds = FoldSchedule(5, dict(zip(levels, sorted(numbers), strict=True)))
    done = np.zeros(5, dtype=int)
    before = None
    for level in levels:
        added = np.array(folds.added(before, level, continues=continues))
        n = folds.n_done(level)
        assert (added[n:] == 0).all()
        assert (added[:n] == (level - done[:n] if continues else level)).all()
        done[:n] = level
        before = level


@pytest.mark.parametrize("estimator", [Epochs(), Retrained()], ids=["continued", "retrained"])
def test_epochs_are_counted_split_by_split(estimator):
    _, used = trained(hyperband(estimator, n_repeats=2))
    table, again = trained(hyperband(estimator, n_repeats=2, max_cost={"epochs": used}))
    assert again == used
    with pytest.warns(SearchStoppedWarning, match="max_cost was used up"):
        cut, less = trained(hyperband(estimator, n_repeats=2, max_cost={"epochs": used - 1}))
    assert used - 1 - 2 * 5 * 9 < less < used
    assert len(cut["params"]) < len(table["params"])
    assert used < 0.8 * trained(hyperband(estimator, n_repeats=2, fold_schedule=None))[1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_journal_goes_on_where_it_was_and_is_read_alike(tmp_path, asynchronous):
    path = tmp_path / "j"
    search = hyperband(journal=path, asynchronous=asynchronous)
    with pytest.warns(SearchStoppedWarning):
        _, first = trained(search.set_params(max_cost={"epochs": 80}))
    results, second = trained(search.set_params(max_cost=None))
    whole, used = trained(hyperband(asynchronous=asynchronous))
    assert second < used <= first + second
    np.testing.assert_array_equal(scores_by_split(results), scores_by_split(whole))
    assert trained(search)[1] == 0
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]
    names = [(e["trial"], e["split"]) for e in lines if e["event"] == "fit"]
    assert len(names) == len(set(names)) == 5 * len(results["params"])
    read = read_journal(path)
    np.testing.assert_array_equal(read["n_splits_done"], results["n_splits_done"])
    np.testing.assert_array_equal(read["rank_test_score"], results["rank_test_score"])
    for record in (read_search(search), read_search(path)):
        assert incumbent(record, against="resource")[0][-1] == used
        assert incumbent(record)[0][-1] == results["n_splits_done"].sum()
        np.testing.assert_array_equal(record.has_fit[:, :, 0], ~np.isnan(scores_by_split(results)))


def test_results_do_not_depend_on_the_number_of_workers():
    with parallel_config("threading"):
        tables = [table(hyperband(n_jobs=n).fit(X, Y)) for n in (1, 3)]
    assert repr(tables[0]) == repr(tables[1])


def test_processes_of_a_shared_search_write_each_line_once(tmp_path):
    how = {"fold_schedule": (1, 2), "max_resources": 3}
    workers = [start(tmp_path / "j", tmp_path / f"{i}", **how) for i in range(2)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = [pickle.loads((tmp_path / f"{i}").read_bytes()) for i in range(2)]
    assert repr(found[0]) == repr(found[1])
    assert set(found[0]["n_splits_done"]) == {1, 2}
    lines = fits(tmp_path / "j")
    assert len(lines) == len(set(lines)) == 2 * len(found[0]["params"])


def test_networks_in_lockstep_score_as_one_by_one():
    def search(lockstep):
        return HalvingHyperbandSearchCV(
            TorchClassifier(module__n_units=4, module__n_layers=1),
            {"lr": loguniform(1e-3, 1e-1)},
            max_resources=4,
            factor=2,
            n_brackets=1,
            scoring="neg_log_loss",
            cv=3,
            fold_schedule=(1, 1, 3),
            lockstep=lockstep,
            refit=False,
            random_state=0,
        ).fit(*load_iris(return_X_y=True))

    together, alone = search(True).cv_results_, search(False).cv_results_
    assert set(together["n_splits_done"]) == {1, 3}
    assert list(together["candidate"]) == list(alone["candidate"])
    for name in ("mean_test_score", "split0_test_score", "split2_test_score"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-4)


def test_only_rows_on_all_splits_are_kept_averaged_and_on_the_front():
    search = hyperband(
        scoring=["accuracy", "neg_log_loss"],
        objectives=["accuracy", "neg_log_loss"],
        sampler="random",
        return_predictions=True,
        keep_models=100,
        keep_from=1,
        refit="accuracy",
    ).fit(X, Y)
    whole = np.flatnonzero(search.cv_results_["n_splits_done"] == 5).tolist()
    assert list(search.predictions_.rows) == whole
    assert list(search.models_.rows) == whole
    assert set(search.pareto_front_) <= set(whole)
    part = int(np.flatnonzero(search.cv_results_["n_splits_done"] < 5)[0])
    with pytest.raises(ValueError, match="fold_schedule has fewer splits"):
        search.kept_models(part)
    assert search.ensemble(y=Y, X=X).oof_score_ == 0.5


def test_a_search_that_ends_before_any_row_is_whole_chooses_among_most_splits():
    search = hyperband(enqueue=(), max_cost={"epochs": 20})
    with pytest.warns(SearchStoppedWarning):
        results, _ = trained(search)
    n_done = results["n_splits_done"]
    assert n_done.max() == 2
    assert search.best_score_ == results["mean_test_score"][n_done == 2].max()


def test_fits_that_were_not_made_are_no_failures_and_no_successes():
    with pytest.raises(ValueError, match=r"All the 14 fits failed"):
        hyperband(Epochs(fails=True)).fit(X, Y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hyperband().fit(X, Y)
    assert not caught


def test_the_noise_of_some_splits_is_larger():
    whole = Told(0.5, 0.1, 1.0, values=np.zeros(2), value_noise=np.array([0.1, np.nan]))
    part = Told(0.5, None, 1.0, values=np.zeros(2), value_noise=np.array([np.nan, 0.3]))
    told = part.on_part(1, 5, whole)
    assert told.noise == pytest.approx(0.5)
    np.testing.assert_allclose(told.value_noise, [0.5, 0.3])
    assert part.on_part(1, 5, None).noise is None
    assert Told(0.5, 0.4, 1.0).on_part(2, 5, whole).noise == pytest.approx(0.4)


def test_a_journal_is_a_warm_start_also_of_several_objectives(tmp_path):
    both = {"scoring": ["accuracy", "neg_log_loss"], "objectives": ["accuracy", "neg_log_loss"]}
    how = {"cv": 5, "refit": False, "random_state": 0, **both}
    hyperband(journal=tmp_path / "j", sampler="random", **both).fit(X, Y)
    later = BayesSearchCV(
        Epochs(), {"a": uniform(0, 1)}, n_iter=2, warm_start_from=tmp_path / "j", **how
    ).fit(X, Y)
    assert len(later.cv_results_["params"]) == 2


def test_a_sampler_that_learns_hears_of_all_rungs():
    search = hyperband(sampler="bayes", n_iterations=2).fit(X, Y)
    assert search.cv_results_["candidate"].max() > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fold_schedule": (1, 5)}, r"each level of the resource, here \[1, 3, 9\]"),
        ({"fold_schedule": (1, 2, 4)}, r"the last one 5, but got \[1, 2, 4\]"),
        ({"fold_schedule": (0, 2, 5)}, r"'auto' is \[1, 2, 5\]"),
        ({"fold_schedule": (3, 2, 5)}, "not falling"),
        ({"fold_schedule": (1, 2.0, 5)}, "a number of splits"),
        ({"fold_schedule": "auto", "cv": [(range(20), range(20, 40))]}, "needs two at least"),
        ({"fold_schedule": "few"}, "fold_schedule"),
    ],
    ids=range(7),
)
def test_schedules_that_do_not_fit_are_refused_before_any_training(arguments, message):
    before = Epochs.trained
    with pytest.raises(ValueError, match=message):
        hyperband(**arguments).fit(X, Y)
    assert Epochs.trained == before
