"""scikit-learn's own checks, with the defaults."""

import numpy as np
import pytest
import torch
from sklearn.utils import get_tags
from sklearn.utils._testing import assert_allclose
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.testing import EXPECTED_FAILED_CHECKS


@parametrize_with_checks(
    [TorchClassifier(), TorchRegressor()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS[type(estimator).__name__],
)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
def test_weights_equal_repetitions_up_to_float32(cls):
    rng = np.random.RandomState(0)
    X, y = rng.rand(15, 10), rng.randint(0, 3, 15)
    weight = rng.randint(0, 5, 15)
    weighted = cls(random_state=0).fit(X, y, sample_weight=weight)
    repeated = cls(random_state=0).fit(X.repeat(weight, axis=0), y.repeat(weight))
    for name in ("predict", "predict_proba"):
        if hasattr(weighted, name):
            of_weighted, of_repeated = getattr(weighted, name)(X), getattr(repeated, name)(X)
            np.testing.assert_allclose(of_weighted, of_repeated, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predictions_have_the_precision_of_the_network(dtype):
    """Then scikit-learn compares them with the tolerance that they keep, for any batch."""

    def make(in_features, out_features):
        return torch.nn.Sequential(torch.nn.Linear(in_features, out_features)).to(dtype)

    X = np.random.RandomState(0).rand(30, 5)
    for cls, targets in (
        (TorchRegressor, [X[:, 0], X[:, :2]]),
        (TorchClassifier, [X[:, 0] > 0.5, (4 * X[:, 0]).astype(int), (X[:, :2] > 0.5).astype(int)]),
    ):
        for y in targets:
            net = cls(make, max_epochs=1, random_state=0).fit(X, y)
            output = net.predict_proba if cls is TorchClassifier else net.predict
            whole = output(X)
            assert whole.dtype == str(dtype).removeprefix("torch.")
            assert_allclose(np.concatenate([output(X[i : i + 1]) for i in range(30)]), whole)
            assert_allclose(output(X[::-1])[::-1], whole)
            if cls is TorchClassifier and y.ndim == 1:
                assert_allclose(whole.sum(axis=1), np.ones(30, whole.dtype))


def test_tags():
    of_classifier, of_regressor = get_tags(TorchClassifier()), get_tags(TorchRegressor())
    assert of_classifier.estimator_type == "classifier"
    assert of_classifier.classifier_tags.multi_class
    assert of_classifier.classifier_tags.multi_label
    assert of_regressor.estimator_type == "regressor"
    assert of_regressor.target_tags.multi_output
    for tags in (of_classifier, of_regressor):
        assert tags.target_tags.required
        assert tags.input_tags.sparse
        assert not tags.input_tags.allow_nan
