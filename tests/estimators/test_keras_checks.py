"""scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhpo import KerasClassifier, KerasRegressor
from skhpo.testing import EXPECTED_FAILED_CHECKS

pytestmark = [
    pytest.mark.xdist_group("keras"),
    pytest.mark.slow,
    # Keras' own, with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class LearnsFast:
    """Few epochs then do: Keras takes seconds for the many fits of these checks.

    A function's place in memory would be part of the names of the tests.
    """

    def __call__(self, input_shape, out_features):
        import keras

        hidden = keras.layers.Dense(32, activation="relu")
        model = keras.Sequential(
            [keras.layers.Input(input_shape), hidden, keras.layers.Dense(out_features)]
        )
        model.compile(keras.optimizers.Adam(0.03))
        return model

    def __repr__(self):
        return "LearnsFast()"


@parametrize_with_checks(
    [cls(LearnsFast(), epochs=6, batch_size=64) for cls in (KerasClassifier, KerasRegressor)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS[type(estimator).__name__],
)
def test_check_estimator(estimator, check):
    check(estimator)
