"""SelfTuningScheduleDisplay: what it holds, what it draws, what it refuses."""

import sys

import matplotlib
import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import expon, loguniform, randint, uniform
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import SelfTuningClassifier
from skhpo.inspection import HarmonicaDisplay, SelfTuningScheduleDisplay

matplotlib.use("Agg")
RANGES = {
    "input_noise": uniform(0, 2),
    "weight_decay": loguniform(1e-6, 1e-1),
    "cutout_length": randint(0, 5),
    "brightness": expon(),
}
PARAMS = {"warmup_epochs": 1, "max_epochs": 5, "lr": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    return (X[:200] / 16).reshape(-1, 8, 8).astype(np.float32), y[:200]


@pytest.fixture(scope="module")
def net(images):
    return SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).fit(*images)


@pytest.fixture
def plt():
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_what_is_drawn(net, plt):
    display = SelfTuningScheduleDisplay.from_estimator(net)
    assert [ax.get_ylabel() for ax in display.ax_] == [*RANGES, "loss"]
    assert display.figure_ is display.ax_[0].figure
    for name, values in net.schedule_.items():
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), values)
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), [1, 2, 3, 4, 5])
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), net.history[:, name])
    scales = {name: ax.get_yscale() for name, ax in zip(RANGES, display.ax_, strict=False)}
    assert scales == dict.fromkeys(RANGES, "linear") | {"weight_decay": "log"}
    assert display.best_epoch == net.best_epoch_


def test_a_band_is_one_scale_to_either_side_in_the_unconstrained_space(net, plt):
    display = SelfTuningScheduleDisplay.from_estimator(net)
    for name, values in net.schedule_.items():
        low, high = display.bands[name]
        assert (np.array(low) <= values).all()
        assert (np.array(high) >= values).all()
    u = logit(np.divide(net.schedule_["input_noise"], 2))
    for side, sign in zip(display.bands["input_noise"], (-1, 1), strict=True):
        expected = 2 * expit(u + sign * np.array(net.scales_["input_noise"]))
        np.testing.assert_allclose(side, expected, rtol=1e-5)
    u = np.log(np.expm1(net.schedule_["brightness"]))
    expected = np.log1p(np.exp(u + np.array(net.scales_["brightness"])))
    np.testing.assert_allclose(display.bands["brightness"][1], expected, rtol=1e-4)


def test_axes_of_ones_own(net, plt):
    figure, axes = plt.subplots(1, 5)
    display = SelfTuningScheduleDisplay.from_estimator(net, ax=axes)
    assert list(display.ax_) == list(axes)
    assert display.figure_ is figure
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure
    with pytest.raises(ValueError, match="ax must have 5 axes"):
        display.plot(ax=axes[:2])


def test_a_score_has_an_axis_of_its_own(images, plt):
    net = SelfTuningClassifier(hyperparameters=RANGES, monitor="accuracy", **PARAMS).fit(*images)
    display = SelfTuningScheduleDisplay.from_estimator(net)
    assert display.lines_["valid_accuracy"].axes is not display.lines_["train_loss"].axes


def test_a_pipeline_and_values_that_stay(images, plt):
    X, y = images[0].reshape(-1, 64), images[1]
    net = SelfTuningClassifier(
        hyperparameters={"input_noise": 0.5}, validation_fraction=None, **PARAMS
    )
    model = make_pipeline(StandardScaler(), net).fit(X, y)
    display = SelfTuningScheduleDisplay.from_estimator(model)
    assert display.bands["input_noise"][0] == [0.5] * 5
    assert set(display.losses) == {"train_loss"}


def test_bad_input(net):
    with pytest.raises(TypeError, match="draws a SelfTuningClassifier"):
        SelfTuningScheduleDisplay.from_estimator(LogisticRegression())
    with pytest.raises(NotFittedError):
        SelfTuningScheduleDisplay.from_estimator(SelfTuningClassifier())


@pytest.mark.parametrize(
    "display",
    [
        SelfTuningScheduleDisplay(schedule={}, bands={}, losses={"train_loss": [1]}, best_epoch=1),
        HarmonicaDisplay(terms=[], stage_of_term=[], coefficients=[], scores=[]),
    ],
    ids=lambda display: type(display).__name__,
)
def test_without_matplotlib(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"needs .*matplotlib.*pip install skhpo\[plot\]"):
        display.plot()
