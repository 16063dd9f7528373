"""What the outputs and targets of Keras models mean."""

import io

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import get_scorer, roc_auc_score

from skhpo import KerasClassifier, KerasRegressor

pytestmark = [
    pytest.mark.xdist_group("keras"),
    # Keras' own, with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
FAST = {"epochs": 2, "optimizer__learning_rate": 0.05, "random_state": 0}


def build(out_features, width=None, activation=None):
    import keras

    return keras.Sequential([keras.layers.Dense(width or out_features, activation=activation)])


def scaled(x):
    return 10 / (1 + (-x).exp()) - 5


def own_loss(y_true, y_pred):
    import keras

    return keras.ops.mean(keras.ops.square(y_true - y_pred))


@pytest.mark.parametrize(
    "loss", ["categorical_crossentropy", "sparse_categorical_crossentropy", None]
)
def test_one_hot_targets_of_a_categorical_model(loss, blobs):
    X, y = blobs
    Y = np.eye(3)[y]
    net = KerasClassifier(build, activation="softmax", loss=loss, **FAST)
    net.fit(X, Y, validation_data=(X[:9], Y[:9]))
    expected = np.eye(3)[net.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(net.predict(X), expected)
    assert net.score(X, Y) == (net.predict_proba(X).argmax(axis=1) == y).mean() > 0.5
    assert get_scorer("roc_auc")(net, X, Y) == roc_auc_score(Y, net.predict_proba(X))
    labels = KerasClassifier(build, activation="softmax", **FAST)
    labels.fit(X, y, validation_data=(X[:9], y[:9]))
    np.testing.assert_allclose(net.predict_proba(X), labels.predict_proba(X), atol=1e-5)
    file = io.BytesIO()
    net.save_checkpoint(file)
    file.seek(0)
    loaded = KerasClassifier(build, activation="softmax", loss=loss, **FAST).load_checkpoint(file)
    np.testing.assert_array_equal(loaded.predict(X), expected)


def test_labels_of_which_a_sample_has_any_number_keep_their_thresholds(blobs):
    X, Y = blobs[0], np.stack([blobs[1] > 0, blobs[1] > 1], 1).astype(int)
    net = KerasClassifier(build, activation="sigmoid", **FAST).fit(X, Y)
    np.testing.assert_array_equal(net.predict(X), net.predict_proba(X) > 0.5)
    with pytest.warns(UserWarning, match=r"exactly one 1 in each row, .* y.argmax\(axis=1\)"):
        KerasClassifier(build, activation="sigmoid", epochs=1).fit(
            X, np.eye(3, dtype=int)[blobs[1]]
        )


@pytest.mark.parametrize(
    ("activation", "logits"), [("sigmoid", False), ("hard_sigmoid", False), (None, True)]
)
def test_a_loss_of_ones_own(activation, logits, blobs):
    X, y = blobs[0], blobs[1] > 0
    net = KerasClassifier(build, width=1, activation=activation, loss=own_loss, **FAST).fit(X, y)
    output = np.asarray(net.model_.predict_on_batch(X))[:, 0]
    expected = expit(output) if logits else output
    np.testing.assert_allclose(net.predict_proba(X)[:, 1], expected, rtol=1e-5)


def own_sparse_loss(y_true, y_pred):
    import keras

    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def own_categorical_loss(y_true, y_pred):
    import keras

    return keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True)


def test_a_loss_of_ones_own_gets_the_targets_that_it_takes(blobs):
    nets = (
        KerasClassifier(build, loss=loss, **FAST).fit(*blobs)
        for loss in (own_sparse_loss, own_categorical_loss)
    )
    first, second = (net.predict_proba(blobs[0]) for net in nets)
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_outputs_and_losses_that_do_not_fit_are_told(blobs):
    import keras

    X, y = blobs[0], blobs[1] > 0
    losses = keras.losses
    taken = losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.warns(UserWarning, match="takes logits, but the model ends in a softmax"):
        KerasClassifier(build, activation="softmax", loss=taken, epochs=1).fit(X, y)
    KerasClassifier(build, activation=scaled, loss=taken, epochs=1).fit(X, y)
    for loss in ("binary_crossentropy", losses.BinaryCrossentropy(), losses.binary_crossentropy):
        with pytest.warns(UserWarning, match=r"takes probabilities, but the model returns -.* to"):
            KerasClassifier(build, width=1, loss=loss, epochs=1, random_state=0).fit(X, y)
    with pytest.warns(UserWarning, match=r"nor the model tells whether its outputs"):
        KerasClassifier(build, width=1, activation="softplus", loss=own_loss, epochs=1).fit(X, y)


def test_a_regressor_predicts_shares_of_logits(blobs):
    import keras

    X, share = blobs[0], expit(blobs[0][:, 0])
    net = KerasRegressor(build, loss=keras.losses.BinaryCrossentropy(from_logits=True), **FAST)
    net.fit(X, share)
    output = np.asarray(net.model_.predict_on_batch(X))[:, 0]
    np.testing.assert_allclose(net.predict(X), expit(output), rtol=1e-5)
