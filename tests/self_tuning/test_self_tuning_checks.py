"""scikit-learn's own checks: all of them with the defaults, and some with few epochs."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skhpo import SelfTuningClassifier, SelfTuningRegressor
from skhpo.testing import EXPECTED_FAILED_CHECKS


def expected_failures(estimator):
    return EXPECTED_FAILED_CHECKS[type(estimator).__name__]


@pytest.mark.slow
@parametrize_with_checks(
    [SelfTuningClassifier(), SelfTuningRegressor()], expected_failed_checks=expected_failures
)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", [SelfTuningClassifier, SelfTuningRegressor])
def test_some_checks_with_few_epochs(cls):
    wanted = ("do_not_raise", "pickle", "idempotent", "1sample", "dict_unchanged", "dtypes")
    wanted += ("no_attributes_set_in_init", "overwrite_params", "dont_overwrite", "n_features_in")
    for estimator, check in estimator_checks_generator(cls(max_epochs=2, warmup_epochs=0)):
        name = getattr(check, "func", check).__name__
        if any(part in name for part in wanted):
            check(estimator)
