"""scikit-learn's own checks, with the defaults."""

import numpy as np
import pytest
from sklearn.utils import get_tags
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
