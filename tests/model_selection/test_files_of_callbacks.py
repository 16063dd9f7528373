"""Callbacks of networks that write files do so in a folder for each fit."""

import io
import os

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from skorch import NeuralNetRegressor
from skorch.callbacks import Checkpoint, LoadInitState, TrainEndCheckpoint
from skorch.dataset import ValidSplit
from torch import nn

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchRegressor
from skhpo.evaluation import own_files

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype("float32")
Y = X[:, 0]
SPACE = {"lr": [0.003, 0.01, 0.03, 0.1]}


def net_of(path, **params):
    keep = Checkpoint(dirname=str(path), load_best=True)
    settings = {"max_epochs": 4, "train_split": ValidSplit(3), "random_state": 0}
    return TorchRegressor(callbacks=[("keep", keep)], **{**settings, **params})


def test_parallel_fits_load_what_they_wrote(tmp_path):
    scores = []
    for n_jobs in (1, 2):
        search = BayesSearchCV(net_of(tmp_path), SPACE, n_iter=3, cv=2, n_jobs=n_jobs, refit=False)
        with parallel_config("threading"):
            search.set_params(random_state=0).fit(X, Y)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(scores[0], scores[1])
    searches = list(tmp_path.iterdir())
    assert len(searches) == 2
    fits = {f"candidate-{c}-split-{s}" for c in range(3) for s in range(2)}
    assert {path.name for path in searches[0].iterdir()} == fits
    assert all((path / "params.pt").exists() for path in searches[0].iterdir())


def test_files_of_the_refit_lie_where_they_were_wanted(tmp_path):
    search = HalvingHyperbandSearchCV(
        net_of(tmp_path), SPACE, max_resources=4, min_resources=2, factor=2, cv=2, random_state=0
    )
    best = search.fit(X, Y).best_estimator_
    assert best.callbacks[0][1].dirname == str(tmp_path)
    loaded = clone(best).set_params(module__in_features=3, module__out_features=1).initialize()
    loaded.load_params(checkpoint=best.callbacks[0][1])
    np.testing.assert_allclose(loaded.predict(X), search.predict(X))


def folder_of(callbacks, **params):
    sizes = {"module__in_features": 3, "module__out_features": 1}
    net = TorchRegressor(callbacks=callbacks, **sizes, **params)
    own_files(net, "search/fit")
    return net.initialize()


@pytest.mark.parametrize(
    ("callbacks", "params", "folder"),
    [
        ([Checkpoint()], {}, "search/fit"),
        ([Checkpoint(dirname="a", fn_prefix="b/c_")], {}, "a/b/search/fit"),
        ([Checkpoint], {}, "search/fit"),
        ([Checkpoint], {"callbacks__Checkpoint__dirname": "a"}, "a/search/fit"),
        ([("keep", Checkpoint(dirname="a"))], {"callbacks__keep__dirname": "b"}, "b/search/fit"),
        ([("keep", None)], {"callbacks__keep": Checkpoint(dirname="a")}, "a/search/fit"),
        ([TrainEndCheckpoint(dirname="a")], {}, "a/search/fit"),
        ([Checkpoint(), Checkpoint(dirname="a")], {}, "a/search/fit"),
        ([Checkpoint(dirname="a"), LoadInitState(Checkpoint(dirname="a"))], {}, "a/search/fit"),
        ([Checkpoint(dirname="a"), LoadInitState(Checkpoint(dirname="b"))], {}, "b"),
    ],
    ids=range(10),
)
def test_all_ways_to_name_a_folder(callbacks, params, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, callback = folder_of(callbacks, **params).callbacks_[-2]  # before the table
    callback = getattr(callback, "checkpoint", callback)
    assert callback.dirname == folder
    assert os.sep not in callback.fn_prefix + callback.f_params


def test_files_in_memory_are_left_alone():
    buffer = io.BytesIO()
    callback = Checkpoint(f_params=buffer, f_optimizer=None, f_criterion=None, f_history=None)
    kept = dict(folder_of([callback]).callbacks_)["Checkpoint"]
    assert kept.f_params is buffer
    assert kept.dirname == ""


def test_several_folders_are_refused_before_training(tmp_path):
    callback = Checkpoint(f_params=str(tmp_path / "params.pt"))
    wrapped = TransformedTargetRegressor(TorchRegressor(max_epochs=1, callbacks=[callback]))
    search = BayesSearchCV(wrapped, {"regressor__lr": [0.1]}, n_iter=1, cv=2)
    with pytest.raises(ValueError, match="all files of Checkpoint must lie in one"):
        search.fit(X, Y)


def test_networks_of_skorch(tmp_path):
    keep = Checkpoint(monitor="train_loss_best", dirname=str(tmp_path), load_best=True)
    net = NeuralNetRegressor(
        nn.Linear(3, 1), max_epochs=2, train_split=None, verbose=0, callbacks=[keep]
    )
    BayesSearchCV(net, {"lr": [0.1]}, n_iter=1, cv=2, refit=False).fit(X, Y[:, None])
    assert len(list(tmp_path.glob("search-*/candidate-0-split-*/params.pt"))) == 2
