"""Wrappers are looked through, and what comes out is what their own fit would have made."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_classification, make_regression
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, KFold, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    QuantileTransformer,
    StandardScaler,
    TargetEncoder,
)

from skhpo.wrappers import (
    arguments_inside,
    fit_wrappers,
    fitted_inside,
    inside,
    owner_of,
    whats_lost,
)

labels = make_classification(120, 4, n_informative=3, n_redundant=0, random_state=0)
numbers = make_regression(120, 4, noise=1.0, random_state=0)


def cubed(t):
    return t**3


def scaled(estimator, **kwargs):
    return Pipeline([("scale", StandardScaler()), ("last", estimator)], **kwargs)


WHOLES = {
    "bare": (LogisticRegression(), labels),
    "pipeline": (scaled(LogisticRegression()), labels),
    "nested": (scaled(scaled(LogisticRegression())), labels),
    "encoder": (make_pipeline(TargetEncoder(cv=KFold(3)), LogisticRegression()), labels),
    "threshold": (FixedThresholdClassifier(scaled(LogisticRegression()), threshold=0.9), labels),
    "function of y": (
        TransformedTargetRegressor(Ridge(), func=np.cbrt, inverse_func=cubed),
        numbers,
    ),
    "transformer of y": (
        scaled(
            TransformedTargetRegressor(
                scaled(Ridge()), transformer=QuantileTransformer(n_quantiles=9)
            )
        ),
        numbers,
    ),
}


@pytest.mark.parametrize("name", WHOLES)
def test_assembled_is_what_fit_makes(name):
    whole, (X, y) = WHOLES[name]
    expected = clone(whole).fit(X, y)
    given = clone(whole)
    prepared = fit_wrappers(given, X, y, {})
    fresh = inside(given).fresh
    assembled = prepared.assembled(given, fresh.fit(prepared.X, prepared.y))
    np.testing.assert_allclose(assembled.predict(X), expected.predict(X))
    assert vars(assembled).keys() == vars(expected).keys()
    assert assembled.n_features_in_ == expected.n_features_in_
    assert repr(clone(assembled)) == repr(whole)
    np.testing.assert_allclose(fitted_inside(assembled).coef_, fitted_inside(expected).coef_)
    if inside(whole).keeps_unfitted:
        assert not hasattr(inside(assembled).estimator, "coef_")

    prepared = pickle.loads(pickle.dumps(prepared))  # as for a worker
    # What the estimator inside gets of other data, and what takes data in that form.
    X_inside, y_inside = prepared.inner_data(X, y)
    if name != "encoder":
        np.testing.assert_allclose(X_inside, prepared.X)
    np.testing.assert_allclose(y_inside, prepared.y)
    plain = prepared.assembled(given, fitted_inside(assembled), transforming=False)
    np.testing.assert_allclose(plain.predict(X_inside), expected.predict(X))


def test_names_lead_to_what_is_inside_as_far_as_the_resource_is_there():
    whole = make_pipeline(
        StandardScaler(), TransformedTargetRegressor(scaled(Ridge(), memory=None))
    )
    found = inside(whole, "transformedtargetregressor__regressor__last__max_iter")
    assert found.names == ("transformedtargetregressor", "regressor", "last")
    assert (type(found.estimator), found.resource) == (Ridge, "max_iter")
    assert whole.get_params()[found.prefix + "alpha"] == 1.0
    found = inside(whole, "transformedtargetregressor__regressor__scale__copy")
    assert (found.names[-1], found.resource) == ("regressor", "scale__copy")
    assert inside(whole, "standardscaler__copy").names == ()
    assert inside(whole, "n_samples").resource is None


class Own(Pipeline):
    pass


@pytest.mark.parametrize(
    "whole",
    [
        Own([("a", StandardScaler()), ("b", LogisticRegression())]),
        TunedThresholdClassifierCV(LogisticRegression()),
        make_pipeline(StandardScaler(), "passthrough"),
        TransformedTargetRegressor(),
        Pipeline([]),
        FrozenEstimator(LogisticRegression()),
    ],
    ids=lambda whole: type(whole).__name__,
)
def test_anything_else_is_left_whole(whole):
    assert inside(whole).names == ()
    assert inside(make_pipeline(whole)).estimator is whole


def test_what_is_fitted_is_found_in_more_wrappers_than_can_be_taken_apart():
    X, y = labels
    tuned = TunedThresholdClassifierCV(scaled(LogisticRegression()), cv=2).fit(X, y)
    assert fitted_inside(tuned) is tuned.estimator_[-1]
    frozen = FrozenEstimator(tuned.estimator_)
    assert fitted_inside(make_pipeline(frozen)) is tuned.estimator_[-1]
    owner, prefix = owner_of(TunedThresholdClassifierCV(Own([("b", SGDClassifier())])))
    assert (type(owner), prefix) == (SGDClassifier, "estimator__b__")


def test_metadata_reach_what_is_inside():
    X, y = labels
    weight = np.linspace(0, 1, len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        last = LogisticRegression().set_fit_request(sample_weight=True)
        scale = StandardScaler().set_fit_request(sample_weight=True)
        whole = FixedThresholdClassifier(make_pipeline(scale, last))
        prepared = fit_wrappers(clone(whole), X, y, {"sample_weight": weight})
        expected = StandardScaler().fit(X, sample_weight=weight).transform(X)
        np.testing.assert_allclose(prepared.X, expected)
        assert arguments_inside(whole, {"sample_weight": weight}) == prepared.fit_params
        assert prepared.fit_params["sample_weight"] is weight

        seen = []

        class Last(LogisticRegression):
            def fit(self, X, y, X_val=None):
                seen.append(X_val)
                return super().fit(X, y)

        whole = Pipeline(
            [("scale", StandardScaler()), ("last", Last().set_fit_request(X_val=True))],
            transform_input=["X_val"],
        )
        prepared = fit_wrappers(whole, X, y, {"X_val": X})
        np.testing.assert_allclose(prepared.fit_params["X_val"], prepared.X)
    params = {"last__sample_weight": weight, "scale__sample_weight": weight}
    assert list(arguments_inside(scaled(LogisticRegression()), params)) == ["sample_weight"]
    prepared = fit_wrappers(scaled(LogisticRegression()), X, y, params)
    np.testing.assert_allclose(prepared.X, expected)
    for wrong in ("sample_weight", "clf__sample_weight"):
        with pytest.raises(ValueError, match=wrong):
            arguments_inside(scaled(LogisticRegression()), {wrong: weight})
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        arguments_inside(FixedThresholdClassifier(LogisticRegression()), {"sample_weight": weight})


def test_fits_share_wrappers_that_are_alike():
    found = inside(scaled(TransformedTargetRegressor(Ridge())))
    key = found.key_of_wrappers({"last__regressor__alpha": 1.0, "scale__with_mean": False})
    assert key == found.key_of_wrappers({"scale__with_mean": False, "last__regressor__alpha": 2.0})
    assert key != found.key_of_wrappers({"last__regressor__alpha": 1.0, "scale__with_mean": True})
    assert key != found.key_of_wrappers({"scale__with_mean": False, "last__check_inverse": True})
    assert found.may_be_moved_by({"last": 1})
    assert found.may_be_moved_by({"steps": 1})
    assert not found.may_be_moved_by({"scale": 1, "last__transformer": 1})
    assert key != inside(scaled(Ridge())).key_of_wrappers({"scale__with_mean": False})


NOTES = []


def note(X):
    NOTES.append(len(X))
    return X


def test_a_cache_of_a_pipeline_is_used(tmp_path):
    X, y = labels
    NOTES.clear()
    steps = [("note", FunctionTransformer(note)), ("last", LogisticRegression())]
    for _ in range(2):
        fit_wrappers(Pipeline(steps, memory=str(tmp_path)), X, y, {})
    assert [len(X)] == NOTES


def test_what_is_lost_is_said():
    from sklearn.calibration import CalibratedClassifierCV

    from skhpo import TorchClassifier

    net = TorchClassifier()
    for whole in (net, scaled(scaled(net)), FixedThresholdClassifier(net), LogisticRegression()):
        assert whats_lost(whole) is None
    assert whats_lost(make_pipeline(FrozenEstimator(net))) is None
    lost = whats_lost(CalibratedClassifierCV(net), "estimator__max_epochs")
    assert lost.startswith(
        "CalibratedClassifierCV is fitted whole, with the TorchClassifier inside"
    )
    assert "no fit is continued to a larger estimator__max_epochs" in lost
    assert "not trained together" in lost
    assert "curves" in lost
    assert "curves" not in whats_lost(TunedThresholdClassifierCV(scaled(net)))
    assert whats_lost(CalibratedClassifierCV(SGDClassifier())) is None
    assert "repeated" in whats_lost(CalibratedClassifierCV(SGDClassifier()), "estimator__max_iter")
