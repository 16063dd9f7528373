"""Images and sequences as targets: numbers, or a label for each position."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skhpo import HalvingHyperbandSearchCV, TorchClassifier, TorchRegressor

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(60, 1, 6, 6)).astype(np.float32)
# Labels of pixels, as words; in rows and columns of another number than there are classes.
MASKS = np.array(["dark", "grey", "light"])[
    (IMAGES[:, 0] > -0.5).astype(int) + (IMAGES[:, 0] > 0.5)
]


class Pixels(nn.Module):
    """The same small network for each pixel."""

    def __init__(self, n_outputs=1, n_units=8):
        super().__init__()
        self.hidden = nn.Conv2d(1, n_units, 1)
        self.output = nn.Conv2d(n_units, n_outputs, 1)

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(x)))


def segmenter(**settings):
    settings = {"lr": 0.03, "max_epochs": 15, "batch_size": 10, "random_state": 0, **settings}
    return TorchClassifier(Pixels, **{"module__n_outputs": 3, **settings})


def autoencoder(**settings):
    settings = {"lr": 0.03, "max_epochs": 15, "batch_size": 10, "random_state": 0, **settings}
    return TorchRegressor(Pixels, **settings)


@pytest.fixture(scope="module")
def fitted():
    return segmenter(validation_fraction=0.2).fit(IMAGES, MASKS)


def test_segmentation(fitted):
    proba = fitted.predict_proba(IMAGES)
    assert proba.shape == (60, 3, 6, 6)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    predicted = fitted.predict(IMAGES)
    np.testing.assert_array_equal(predicted, fitted.classes_[proba.argmax(axis=1)])
    assert fitted.score(IMAGES, MASKS) == pytest.approx((predicted == MASKS).mean())
    assert fitted.score(IMAGES, MASKS) > 0.8
    weight = np.arange(60)
    of_rows = (predicted == MASKS).reshape(60, -1).mean(axis=1)
    assert fitted.score(IMAGES, MASKS, weight) == pytest.approx(np.average(of_rows, weights=weight))


def test_segmentation_goes_on(fitted, tmp_path):
    fitted.save_checkpoint(tmp_path / "net")
    others = clone(fitted).load_checkpoint(tmp_path / "net"), pickle.loads(pickle.dumps(fitted))
    wanted = pickle.loads(pickle.dumps(fitted)).partial_fit(IMAGES, MASKS).predict_proba(IMAGES)
    for other in others:
        np.testing.assert_array_equal(
            other.partial_fit(IMAGES, MASKS).predict_proba(IMAGES), wanted
        )
    for y, shape in (
        (MASKS[:, 1:], r"\(5, 6\)"),
        (MASKS[:, 0], r"\(6,\)"),
        (MASKS[:, 0, 0], r"\(\)"),
    ):
        with pytest.raises(ValueError, match=rf"labels of the shape \(6, 6\) .* got {shape}"):
            others[0].partial_fit(IMAGES, y)
    with pytest.raises(ValueError, match="has \\['white'\\]"):
        others[0].partial_fit(IMAGES, np.where(MASKS == "dark", "white", MASKS))


def test_segmentation_of_a_dataset():
    positions = np.unique(MASKS, return_inverse=True)[1].reshape(MASKS.shape)
    data = TensorDataset(torch.tensor(IMAGES), torch.tensor(positions))
    settings = {"max_epochs": 2, "iterator_train__shuffle": False}
    wanted = segmenter(**settings).fit(IMAGES, MASKS).predict_proba(IMAGES)
    for classes in (None, ["dark", "grey", "light"]):
        found = segmenter(classes=classes, **settings).fit(data)
        np.testing.assert_allclose(found.predict_proba(data), wanted, rtol=1e-4, atol=1e-6)
    by_loader = segmenter(iterator_train=Loader, **settings).fit(IMAGES, MASKS)
    np.testing.assert_allclose(by_loader.predict_proba(IMAGES), wanted, rtol=1e-4, atol=1e-6)


class Loader(DataLoader):
    pass


def test_weights_of_samples_count_for_all_their_positions():
    weight = np.ones(60)
    weight[30:] = 0
    weighted = segmenter(max_epochs=2).fit(IMAGES, MASKS, sample_weight=weight)
    half = segmenter(max_epochs=2).fit(IMAGES[:30], MASKS[:30])
    np.testing.assert_allclose(
        weighted.predict_proba(IMAGES), half.predict_proba(IMAGES), rtol=1e-4
    )


def test_sequences_of_labels():
    """Tags of a sequence: two dimensions, where the classes are listed."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 3)

        def forward(self, x):
            return self.layer(x.unsqueeze(-1)).movedim(-1, 1)

    X, y = IMAGES[:, 0, 0], MASKS[:, 0]
    net = TorchClassifier(Tagger, classes=["dark", "grey", "light"], max_epochs=2).fit(X, y)
    assert net.predict(X).shape == (60, 6)
    assert net.score(X, y) == pytest.approx((net.predict(X) == y).mean())
    numbers = np.unique(y, return_inverse=True)[1].reshape(y.shape)
    net = TorchClassifier(Tagger, classes=[0, 1, 2], max_epochs=1).fit(X, numbers)
    assert net.partial_fit(X, np.minimum(numbers, 1)).predict(X).shape == (60, 6)


@pytest.mark.parametrize("scale_target", [None, "standard"])
def test_autoencoder(scale_target):
    target = IMAGES if scale_target is None else 1000 * IMAGES + 5000
    net = autoencoder(scale_target=scale_target).fit(IMAGES, target)
    predicted = net.predict(IMAGES)
    assert predicted.shape == IMAGES.shape
    overall = r2_score(target.ravel(), predicted.ravel())
    assert net.score(IMAGES, target) == pytest.approx(overall, abs=1e-3)
    assert overall > 0.9
    if scale_target is not None:
        assert net.target_mean_ == pytest.approx(target.mean(), rel=1e-5)
        assert net.target_scale_ == pytest.approx(target.std(), rel=1e-5)


def test_flat_outputs_become_images():
    net = TorchRegressor(max_epochs=1).fit(IMAGES, IMAGES)
    assert net.module_.output.out_features == 36
    assert net.predict(IMAGES).shape == IMAGES.shape


def error(y, predicted):
    return float(np.abs(y - predicted).mean())


def overlap(y, predicted):
    both = (y == "light") & (predicted == "light")
    return both.sum() / ((y == "light") | (predicted == "light")).sum()


@pytest.mark.parametrize(
    ("net", "y", "scoring"),
    [
        (segmenter(max_epochs=3), MASKS, None),
        (segmenter(max_epochs=3), MASKS, make_scorer(overlap)),
        (autoencoder(max_epochs=3), IMAGES, None),
        (autoencoder(max_epochs=3), IMAGES, make_scorer(error, greater_is_better=False)),
    ],
    ids=["accuracy", "overlap", "r2", "error"],
)
def test_searches(net, y, scoring):
    grid = {"lr": [0.03, 0.001]}
    oracle = GridSearchCV(net, grid, cv=2, scoring=scoring).fit(IMAGES, y)
    search = HalvingHyperbandSearchCV(
        net,
        {"lr": [0.03]},
        max_resources=3,
        average=None,
        factor=3,
        cv=2,
        scoring=scoring,
        random_state=0,
        refit=True,
    ).fit(IMAGES, y)
    best = oracle.cv_results_["mean_test_score"][0]
    assert search.cv_results_["mean_test_score"].max() == pytest.approx(best, abs=1e-3)
    assert search.predict(IMAGES).shape == y.shape


@pytest.mark.parametrize(
    ("net", "y", "message"),
    [
        (
            segmenter(module__n_outputs=4),
            MASKS,
            r"output of shape \(n, 3, 6, 6\), but returns \(n, 4",
        ),
        (segmenter(class_weight="balanced"), MASKS, "class_weight='balanced' needs one label"),
        (segmenter(criterion="bce_with_logits"), MASKS, "BCEWithLogitsLoss takes numbers"),
        (segmenter(monitor="accuracy", validation_fraction=0.2), MASKS, "at most two dimensions"),
        (autoencoder(monitor="r2", validation_fraction=0.2), IMAGES, "at most two dimensions"),
        (autoencoder(), IMAGES[..., 1:], r"30 values per sample .* \(n_samples, 1, 6, 5\)"),
    ],
    ids=["classes", "weights", "binary", "monitor", "monitor of numbers", "shape"],
)
def test_bad_settings(net, y, message):
    with pytest.raises(ValueError, match=message):
        net.fit(IMAGES, y)


def test_a_score_of_other_shapes():
    net = autoencoder(max_epochs=1).fit(IMAGES, IMAGES)
    with pytest.raises(
        ValueError, match=r"shape \(60, 1, 6, 6\) of predictions, but has \(60, 6, 6\)"
    ):
        net.score(IMAGES, IMAGES[:, 0])
