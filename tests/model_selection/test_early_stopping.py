"""What the fits of a search are checked on: given rows, or the fold."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.dataset import Dataset

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

NET = TorchClassifier(module__n_units=8, lr=0.1, max_epochs=6, batch_size=16, random_state=0)
CV = StratifiedKFold(3)


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_over(estimator, space, **kwargs):
    return SearchCV(estimator, space, **{"scheduler": grid, "cv": CV, "random_state": 0, **kwargs})


def best_epochs(search, row=0):
    return [search.cv_results_[f"split{i}_best_epoch"][row] for i in range(search.n_splits_)]


@pytest.mark.parametrize("lockstep", [False, "auto"])
def test_the_fold_is_what_is_checked_on(blobs, lockstep):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), clone(NET).set_params(patience=3))
    fold = {"early_stopping_on": "fold", "lockstep": lockstep}
    search = search_over(pipeline, {"torchclassifier__lr": [0.1, 0.2]}, **fold)
    with pytest.warns(UserWarning, match="early_stopping_on='fold' ends each fit"):
        search.fit(X, y)
    by_hand = []
    for train, test in CV.split(X, y):
        scaler = StandardScaler().fit(X[train])
        held_out = scaler.transform(X[test]), y[test]
        net = clone(NET).set_params(patience=3)
        net.fit(scaler.transform(X[train]), y[train], validation_data=held_out)
        by_hand.append(net.best_epoch_)
    assert best_epochs(search) == by_hand
    assert search.best_estimator_[-1].n_iter_ == search.refit_epochs_
    assert search.best_estimator_[-1].patience is None


@pytest.mark.filterwarnings("ignore:early_stopping_on='fold'")
def test_on_the_fold_from_rung_to_rung(blobs):
    search = HalvingHyperbandSearchCV(
        NET,
        {"lr": [0.1, 0.3, 1.0]},
        max_resources=9,
        cv=2,
        random_state=0,
        early_stopping_on="fold",
        refit=False,
    ).fit(*blobs)
    table = search.cv_results_
    assert (table["split0_best_epoch"] <= table["n_resources"]).all()
    assert len(set(table["n_resources"])) > 1


@pytest.mark.parametrize("form", ["numbers", "mask"])
def test_rows_by_number_are_those_of_all_data(blobs, form):
    X, y = blobs
    rows = np.arange(0, 150, 5)
    mask = np.isin(np.arange(150), rows)
    search = search_over(NET, {"lr": [0.1]})
    search.fit(X, y, validation_data=rows if form == "numbers" else mask)
    expected = []
    for train, _ in CV.split(X, y):
        net = clone(NET).fit(X[train], y[train], validation_data=mask[train])
        expected.append(net.best_epoch_)
    assert best_epochs(search) == expected
    assert len(search.best_estimator_.history_[:, "valid_loss"]) == 6
    every = search_over(NET, {"lr": [0.1]}, refit_epochs="median")
    every.fit(X, y, validation_data=rows)
    assert every.best_estimator_.n_iter_ == np.median(expected)
    assert every.best_estimator_.history_[-1]["train_batch_count"] == 10


def test_given_data_through_a_pipeline_as_by_grid_search(blobs):
    X, y = 40 * blobs[0][30:], blobs[1][30:]
    given = {"X_val": 40 * blobs[0][:30], "y_val": blobs[1][:30]}
    with sklearn.config_context(enable_metadata_routing=True):
        net = clone(NET).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("net", net)], transform_input=["X_val"])
        space = {"net__lr": [0.1]}
        search = search_over(pipeline, space).fit(X, y, **given)
        peer = GridSearchCV(pipeline, space, cv=CV).fit(X, y, **given)
    assert search.best_score_ == pytest.approx(peer.best_score_, abs=1e-6)
    ours, theirs = (one.best_estimator_[-1].history_[:, "valid_loss"] for one in (search, peer))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_journal_of_a_search_without_the_parameter_goes_on(blobs, tmp_path):
    path = tmp_path / "run.jsonl"
    search_over(NET, {"lr": [0.1]}, journal=path, refit=False).fit(*blobs)
    assert "early_stopping_on" not in path.read_text()
    other = {"early_stopping_on": "fold", "refit": False}
    search = search_over(NET, {"lr": [0.1]}, journal=path, **other)
    with pytest.warns(UserWarning, match="fold"), pytest.raises(ValueError, match="stopping_on: "):
        search.fit(*blobs)


FOLD = {"early_stopping_on": "fold"}


@pytest.mark.parametrize(
    ("estimator", "space", "kwargs", "given", "message"),
    [
        (NET, {"lr": [1]}, {**FOLD, "refit_epochs": "same"}, {}, "leaves the refit no fold"),
        (LogisticRegression(), {"C": [1.0]}, FOLD, {}, "LogisticRegression.fit has no such arg"),
        (NET, {"validation_fraction": [None, 0.1]}, FOLD, {}, "and validation_fraction=0.1"),
        (NET, {"lr": [1]}, FOLD, {"validation_data": [1, 2]}, "and validation_data; leave one"),
        (
            clone(NET).set_params(validation_fraction=0.2),
            *({"lr": [1]}, {}, {"validation_data": [1, 2]}),
            "validation_fraction=0.2 holds rows out",
        ),
        (NET, {"lr": [1]}, {}, {"validation_data": [200]}, "from 0 to 149, but has 200"),
        (
            *(NET, {"lr": [1]}, {"cv": PredefinedSplit([0] * 50 + [1] * 100)}),
            *({"validation_data": [3, 4]}, "of split 0 it names none"),
        ),
    ],
    ids=["refit", "estimator", "space", "given", "two", "range", "split"],
)
def test_errors_before_any_training(estimator, space, kwargs, given, message, blobs):
    with pytest.raises(ValueError, match=message):
        search_over(estimator, space, **{"error_score": "raise", **kwargs}).fit(*blobs, **given)


@pytest.mark.filterwarnings("ignore:early_stopping_on='fold'")
def test_the_fold_of_a_dataset(blobs):
    X, y = blobs
    net = clone(NET).set_params(monitor="accuracy", max_epochs=2)
    searches = [search_over(net, {"lr": [0.1]}, **FOLD, lockstep=False) for _ in range(2)]
    of_dataset, of_arrays = searches
    of_dataset.fit(Dataset(X, y))
    of_arrays.fit(X, y)
    assert best_epochs(of_dataset) == best_epochs(of_arrays)
