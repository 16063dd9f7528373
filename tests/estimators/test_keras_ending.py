"""The epoch with which training of a Keras model should have ended."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.utils.data import TensorDataset

from skhpo import BayesSearchCV, KerasClassifier, SearchCV
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

pytestmark = [
    pytest.mark.xdist_group("keras"),
    # Keras' own, with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def net():
    import keras

    stopping = keras.callbacks.EarlyStopping(
        monitor="val_accuracy", mode="max", patience=2, restore_best_weights=True
    )
    return KerasClassifier(
        n_units=8,
        epochs=5,
        validation_split=0.2,
        callbacks=[stopping],
        optimizer__learning_rate=0.1,
        random_state=0,
    )


def test_the_best_epoch_is_that_of_what_is_monitored(net, blobs):
    fitted = clone(net).fit(*blobs)
    assert fitted.best_epoch_ == 1 + int(np.argmax(fitted.history_["val_accuracy"]))
    plain = clone(net).set_params(callbacks=None, validation_freq=2).fit(*blobs)
    assert plain.best_epoch_ == 2 + 2 * int(np.argmin(plain.history_["val_loss"]))
    assert (
        clone(net).set_params(epochs=2, callbacks=None, validation_split=0).fit(*blobs).best_epoch_
        == 2
    )


@pytest.mark.parametrize("how", ["auto", "scaled"])
def test_the_refit_of_a_search(net, blobs, how):
    search = SearchCV(
        net,
        {"n_units": [8]},
        scheduler=lambda space, random_state: FullScheduler(GridSampler(space), n_candidates=1),
        cv=3,
        refit_epochs=how,
        lockstep=False,
    ).fit(*blobs)
    table, best = search.cv_results_, search.best_estimator_
    epochs = np.median([table[f"split{i}_best_epoch"][0] for i in range(3)])
    # 100 rows, 80 to train on, are 3 batches of 32; all 150 rows are 5.
    steps = np.median([table[f"split{i}_best_step"][0] for i in range(3)])
    assert steps == 3 * epochs
    assert best.n_iter_ == (epochs if how == "auto" else max(1, np.floor(steps / 5 + 0.5)))
    assert best.validation_split == 0
    assert "val_loss" not in best.history_


def test_the_default_is_the_same_where_validation_only_watches(net, blobs):
    # Without EarlyStopping a fit predicts with its last epoch, which is what is scored.
    search = SearchCV(
        clone(net).set_params(callbacks=None, epochs=2),
        {"n_units": [8]},
        scheduler=lambda space, random_state: FullScheduler(GridSampler(space), n_candidates=1),
        cv=2,
    ).fit(*blobs)
    assert search.best_estimator_.n_iter_ == 2
    assert "val_loss" in search.best_estimator_.history_


def test_what_needs_validation_is_refused_before_training(net, blobs):
    import keras

    def grid(space, random_state):
        return FullScheduler(GridSampler(space), n_candidates=1)

    def search_over(callbacks):
        changed = clone(net).set_params(callbacks=callbacks)
        return SearchCV(changed, {"n_units": [8]}, scheduler=grid, refit_epochs="median")

    with pytest.raises(ValueError, match="ReduceLROnPlateau monitors 'val_loss'"):
        search_over([keras.callbacks.ReduceLROnPlateau()]).fit(*blobs)
    with pytest.raises(ValueError, match="sets 'epochs' for the refit, but fit was passed it"):
        search_over(None).fit(*blobs, epochs=3)


def test_what_a_keras_model_does_not_take(net, blobs):
    X, y = blobs
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    search = BayesSearchCV(net, {"n_units": [4, 8]}, n_iter=1, cv=2)
    for fit in (clone(net).fit, search.fit):
        with pytest.raises(TypeError, match="takes arrays, but X is a torch Dataset"):
            fit(data)
        with pytest.raises(ValueError, match="must come from one source, but fit got validation_d"):
            fit(X, y, validation_data=(X[:9], y[:9]))
    search.set_params(cv=[(np.flatnonzero(y < 2), np.arange(len(y)))], scoring="neg_log_loss")
    with pytest.raises(ValueError, match="on split 0 no prediction has one"):
        search.fit(X, y)
