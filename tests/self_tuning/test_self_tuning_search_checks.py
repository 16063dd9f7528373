"""scikit-learn's own checks of the search: all of them, and some that take no time."""

import pytest
from scipy.stats import loguniform
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from skhpo import SelfTuningSearchCV, TorchClassifier, TorchRegressor
from skhpo.testing import EXPECTED_FAILED_CHECKS

RANGES = {"optimizer__weight_decay": loguniform(1e-6, 1)}
PARAMS = {"optimizer": "adam", "lr": 0.01, "max_epochs": 2}


@pytest.mark.slow
@pytest.mark.parametrize("net", [TorchClassifier(**PARAMS), TorchRegressor(**PARAMS)], ids=str)
def test_check_estimator(net):
    search = SelfTuningSearchCV(net, RANGES, cv=2, random_state=0)
    # What is known of the network is known of its search.
    expected = EXPECTED_FAILED_CHECKS[type(net).__name__]
    check_estimator(search, expected_failed_checks=expected, on_skip=None)


def test_some_checks():
    wanted = ("pickle", "dict_unchanged", "no_attributes_set_in_init", "overwrite_params")
    wanted += ("dont_overwrite", "n_features_in", "requires_y_none", "clone", "get_params")
    search = SelfTuningSearchCV(TorchClassifier(**PARAMS), RANGES, cv=2, random_state=0)
    for estimator, check in estimator_checks_generator(search):
        name = getattr(check, "func", check).__name__
        if any(part in name for part in wanted):
            check(estimator)
