"""Estimators that a search fitted on training parts, kept for its best rows."""

import gc
import pickle

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import (
    HalvingHyperbandSearchCV,
    SearchCV,
    SelfTuningSearchCV,
    TorchClassifier,
    TorchRegressor,
)
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NET = TorchClassifier(module__n_units=4, batch_size=32, max_epochs=2)


def grid(space, random_state):
    return FullScheduler(GridSampler(space), space.size)


def full(estimator, space, y=y, **kwargs):
    kwargs = {"scheduler": grid, "cv": 2, "random_state": 0, "lockstep": False, **kwargs}
    kwargs = {"return_predictions": True, "keep_models": 2, "refit": False, **kwargs}
    return SearchCV(estimator, space, **kwargs).fit(X, y)


def hyperband(**kwargs):
    kwargs = {"return_predictions": True, "keep_models": 2, "lockstep": False, **kwargs}
    return HalvingHyperbandSearchCV(
        make_pipeline(StandardScaler(), NET),
        {"torchclassifier__lr": [0.3, 0.1, 0.03]},
        resource="torchclassifier__max_epochs",
        max_resources=3,
        factor=3,
        n_brackets=1,
        keep_from=1,
        cv=2,
        n_repeats=2,
        random_state=0,
        **kwargs,
    )


def assert_they_predicted(search, row=None):
    """Check that a row's estimators predict what was kept when they were fitted."""
    row = search.best_index_ if row is None else row
    models = search.kept_models(row)
    kept = search.predictions_
    assert len(models) == len(kept.test_rows) * kept.n_repeats
    for number, model in enumerate(models):
        split, repeat = divmod(number, kept.n_repeats)
        found = getattr(model, kept.method)(X[kept.test_rows[split]])
        np.testing.assert_allclose(found, kept.of_fit(row, split, repeat), rtol=1e-4, atol=1e-5)
    return models


@pytest.mark.parametrize(
    ("estimator", "space", "y"),
    [
        (NET, {"lr": [0.3, 0.03, 0.1]}, y),
        (make_pipeline(StandardScaler(), NET), {"torchclassifier__lr": [0.3, 0.03, 0.1]}, y),
        (
            TransformedTargetRegressor(
                make_pipeline(StandardScaler(), TorchRegressor(max_epochs=2)),
                transformer=StandardScaler(),
            ),
            {"regressor__torchregressor__lr": [0.3, 0.03, 0.1]},
            X[:, 0],
        ),
        (LogisticRegression(max_iter=1000), {"C": [0.1, 1, 10]}, y),
        (OneVsRestClassifier(NET), {"estimator__lr": [0.3, 0.03, 0.1]}, y),
    ],
    ids=["network", "pipeline", "nested", "no network", "network inside of something else"],
)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_those_of_the_best_rows_are_kept(estimator, space, y, n_jobs):
    with parallel_config("threading"):
        search = full(estimator, space, y=y, n_jobs=n_jobs)
    order = np.argsort(-search.cv_results_["mean_test_score"], kind="stable")
    assert search.models_.rows == sorted(order[:2])
    for row in search.models_.rows:
        assert_they_predicted(search, row)
    with pytest.raises(ValueError, match=rf"row {order[2]} are not kept: it is not among the 2 b"):
        search.kept_models(order[2])


@pytest.mark.parametrize("how", ["serial", "lockstep", "processes", "asynchronous"])
@pytest.mark.parametrize("journal", [False, True])
def test_of_any_level_and_wherever_they_were_fitted(tmp_path, how, journal):
    kwargs = {
        "serial": {},
        "lockstep": {"lockstep": True},
        "processes": {"n_jobs": 2},
        "asynchronous": {"n_jobs": 2, "asynchronous": True},
    }[how]
    path = tmp_path / "run.jsonl" if journal else None
    search = hyperband(journal=path, **kwargs).fit(X, y)
    assert len(search.models_.rows) == 2
    for row in search.models_.rows:
        level = search.cv_results_["n_resources"][row]
        for model in assert_they_predicted(search, row):
            assert model[-1].n_iter_ == model[-1].max_epochs == level
    assert len(list(tmp_path.rglob("*.kept.pt"))) == (8 if journal else 0)
    assert not set(tmp_path.rglob("*.pt")) - set(tmp_path.rglob("*.kept.pt"))


def test_a_search_that_goes_on_has_them(tmp_path):
    class Stop:
        left = 10

        def on_fit_end(self, search, trial, result):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    path = tmp_path / "run.jsonl"
    with pytest.warns(match="interrupted"):
        hyperband(journal=path, callbacks=[Stop()]).fit(X, y)
    search = hyperband(journal=path).fit(X, y)
    assert search.models_.rows == hyperband().fit(X, y).models_.rows
    for row in search.models_.rows:
        assert_they_predicted(search, row)
    again = hyperband(journal=path).fit(X, y)
    assert_they_predicted(again, again.models_.rows[0])


def test_one_whose_file_is_damaged_is_said_by_name(tmp_path):
    search = hyperband(journal=tmp_path / "run.jsonl").fit(X, y)
    file = sorted(tmp_path.rglob("*.kept.pt"))[0]
    file.write_bytes(file.read_bytes()[:-1])
    row = search.models_.rows[0]
    with pytest.raises(ValueError, match=f"row {row} on split 0 was deleted or damaged"):
        search.kept_models(row)


def test_what_is_no_network_is_not_kept_beside_a_journal(tmp_path):
    path = tmp_path / "run.jsonl"
    first = full(LogisticRegression(max_iter=1000), {"C": [0.1, 1]}, journal=path)
    assert_they_predicted(first, 1)
    again = full(LogisticRegression(max_iter=1000), {"C": [0.1, 1]}, journal=path)
    assert again.models_.rows == []
    with pytest.raises(ValueError, match="only networks are kept beside one"):
        again.kept_models(1)


def test_a_forest_that_grew_on_is_kept_as_it_was():
    search = HalvingHyperbandSearchCV(
        RandomForestClassifier(random_state=0),
        {"max_depth": [1, 2, 3]},
        resource="n_estimators",
        max_resources=9,
        factor=3,
        n_brackets=1,
        min_resources=1,
        keep_from=1,
        keep_models=10,
        return_predictions=True,
        cv=2,
        random_state=0,
    ).fit(X, y)
    assert len(search.models_.rows) == len(search.cv_results_["params"])
    for row in search.models_.rows:
        for model in assert_they_predicted(search, row):
            assert len(model.estimators_) == search.cv_results_["n_resources"][row]


def test_on_subsamples_transformers_are_fitted_on_them_again():
    search = HalvingHyperbandSearchCV(
        make_pipeline(StandardScaler(), NET),
        {"torchclassifier__lr": [0.3, 0.1, 0.03]},
        resource="n_samples",
        min_resources=20,
        max_resources=60,
        factor=3,
        keep_models=3,
        keep_from=20,
        return_predictions=True,
        cv=2,
        random_state=0,
        lockstep=False,
    ).fit(X, y)
    assert search.models_.rows
    for row in search.models_.rows:
        assert_they_predicted(search, row)


def test_self_tuning_runs_are_kept():
    search = SelfTuningSearchCV(
        make_pipeline(StandardScaler(), TorchClassifier(max_epochs=2, optimizer="adam")),
        {"torchclassifier__module__dropout": uniform(0, 0.5)},
        n_iter=2,
        cv=2,
        random_state=0,
        return_predictions=True,
        keep_models=1,
    ).fit(X, y)
    assert search.models_.rows == [search.best_index_]
    assert_they_predicted(search)


@pytest.mark.parametrize("in_files", [False, True])
def test_they_go_with_a_pickle(tmp_path, in_files):
    journal = tmp_path / "run.jsonl" if in_files else None
    pipeline = make_pipeline(StandardScaler(), NET)
    search = full(pipeline, {"torchclassifier__lr": [0.1]}, journal=journal)
    other = pickle.loads(pickle.dumps(search))
    with pytest.raises(ValueError, match=r"no longer reach; give them: kept_models\(row, X, y\)"):
        other.kept_models(0)
    models = other.kept_models(0, X, y)
    for split, model in enumerate(models):
        test = other.predictions_.test_rows[split]
        np.testing.assert_allclose(
            model.predict_proba(X[test]), other.predictions_.of_fit(0, split), rtol=1e-5
        )


def test_temporary_files_go_with_the_search(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    search = full(NET, {"lr": [0.3, 0.1, 0.03]})
    assert len(list(tmp_path.rglob("*.kept.pt"))) == 4
    del search
    gc.collect()
    assert not list(tmp_path.rglob("*.pt"))


def test_what_was_not_kept_says_what_to_set():
    search = SearchCV(LogisticRegression(max_iter=1000), {"C": [1]}, scheduler=grid)
    with pytest.raises(NotFittedError):
        search.kept_models()
    with pytest.raises(ValueError, match="set keep_models to a number of rows"):
        search.fit(X, y).kept_models()
    with pytest.raises(ValueError, match="keep_models"):
        search.set_params(keep_models=-1).fit(X, y)
