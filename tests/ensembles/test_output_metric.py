"""Scores of kept predictions are those that scikit-learn's scorers give to who predicts them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import check_scoring, get_scorer, make_scorer

from skhpo.ensembles import OutputMetric

random = np.random.RandomState(0)
OF_TWO = random.choice(["no", "yes"], 60, p=[0.7, 0.3])
OF_THREE = random.choice(["a", "b", "c"], 60)
NUMBERS = random.normal(size=60)
RESAMPLES = np.array([np.bincount(random.choice(60, 60), minlength=60) for _ in range(4)])


class Fixed:
    """Predicts what is there, for all rows or some."""

    def __init__(self, outputs, classes, rows):
        self.outputs, self.classes_, self.rows = outputs, classes, rows
        self._estimator_type = "classifier"

    def __sklearn_tags__(self):
        return LogisticRegression().__sklearn_tags__()

    def predict_proba(self, X):
        return self.outputs[self.rows]

    def predict(self, X):
        return self.classes_[self.outputs[self.rows].argmax(axis=1)]


class FixedNumbers(Fixed):
    predict_proba = None

    def __sklearn_tags__(self):
        return Ridge().__sklearn_tags__()

    def predict(self, X):
        return self.outputs[self.rows]


def probabilities(n_classes, n_candidates=5):
    shape = n_candidates, 60, n_classes
    # Few digits: there are ties, and zeros.
    raw = np.round(random.dirichlet(np.ones(n_classes), shape[:2]), 1)
    raw[..., -1] = 1 - raw[..., :-1].sum(axis=-1)
    return np.clip(raw, 0, 1).astype(np.float32)


def rows_of(weights):
    return np.repeat(np.arange(60), weights)


@pytest.mark.parametrize("y", [OF_TWO, OF_THREE], ids=["two classes", "three"])
@pytest.mark.parametrize(
    "name", ["neg_log_loss", "accuracy", "neg_brier_score", "roc_auc", "f1_macro", "roc_auc_ovr"]
)
def test_of_classifiers(name, y):
    if name == "roc_auc" and y is OF_THREE:
        pytest.skip("for two classes")
    if name == "neg_brier_score" and y is OF_TWO:  # which strings have only with a pos_label
        y = (y == "yes").astype(int)
    scorer, classes = get_scorer(name), np.unique(y)
    outputs = probabilities(len(classes))
    metric = OutputMetric(scorer, y, method="predict_proba", classes=classes)
    expected = [
        [scorer(Fixed(one, classes, rows_of(w)), None, y[rows_of(w)]) for one in outputs]
        for w in RESAMPLES
    ]
    np.testing.assert_allclose(metric.scores(outputs, RESAMPLES), expected, rtol=1e-5)
    once = [scorer(Fixed(one, classes, np.arange(60)), None, y) for one in outputs]
    np.testing.assert_allclose(metric.scores(outputs), once, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "r2",
        "neg_mean_squared_error",
        "neg_root_mean_squared_error",
        "neg_mean_absolute_error",
        "neg_median_absolute_error",
    ],
)
def test_of_regressors(name):
    scorer = get_scorer(name)
    outputs = NUMBERS + random.normal(size=(5, 60))
    metric = OutputMetric(scorer, NUMBERS, method="predict")
    expected = [
        [scorer(FixedNumbers(one, None, rows_of(w)), None, NUMBERS[rows_of(w)]) for one in outputs]
        for w in RESAMPLES
    ]
    np.testing.assert_allclose(metric.scores(outputs, RESAMPLES), expected, rtol=1e-9)


def test_of_several_outputs():
    y = random.normal(size=(60, 2))
    scorer = get_scorer("r2")
    outputs = y + random.normal(size=(3, 60, 2))
    metric = OutputMetric(scorer, y, method="predict")
    expected = [scorer(FixedNumbers(one, None, np.arange(60)), None, y) for one in outputs]
    np.testing.assert_allclose(metric.scores(outputs), expected)


def test_an_estimators_own_score_is_accuracy_or_r2():
    positions = random.randint(3, size=(4, 60))
    classes = np.unique(OF_THREE)
    own = check_scoring(LogisticRegression())
    metric = OutputMetric(own, OF_THREE, method="predict", classes=classes)
    np.testing.assert_allclose(
        metric.scores(positions), (classes[positions] == OF_THREE).mean(axis=1)
    )
    metric = OutputMetric(check_scoring(Ridge()), NUMBERS, method="predict")
    assert metric.scores(NUMBERS[None]) == [1.0]


def test_decision_values():
    values = random.normal(size=(3, 60))
    classes = np.unique(OF_TWO)
    metric = OutputMetric(
        get_scorer("accuracy"), OF_TWO, method="decision_function", classes=classes
    )
    chosen = classes[(values > 0).astype(int)]
    np.testing.assert_allclose(metric.scores(values), (chosen == OF_TWO).mean(axis=1))
    metric = OutputMetric(
        get_scorer("roc_auc"), OF_TWO, method="decision_function", classes=classes
    )
    pairs = values[:, OF_TWO == "yes", None] > values[:, None, OF_TWO == "no"]
    np.testing.assert_allclose(metric.scores(values), pairs.mean(axis=(1, 2)))


def test_arguments_of_a_metric_are_kept():
    def shifted(y, predicted, by=0.0):
        return float(np.mean(predicted) + by)

    metric = OutputMetric(make_scorer(shifted, by=2.0), NUMBERS, method="predict")
    np.testing.assert_allclose(metric.scores(np.ones((1, 60))), [3.0])


def test_what_was_kept_must_do_for_the_metric():
    with pytest.raises(ValueError, match="needs those of predict_proba; fit the search with"):
        OutputMetric(
            get_scorer("neg_log_loss"), OF_TWO, method="predict", classes=np.array(["no", "yes"])
        )


def test_a_resample_without_a_class_has_no_area():
    metric = OutputMetric(
        get_scorer("roc_auc"), OF_TWO, method="predict_proba", classes=np.unique(OF_TWO)
    )
    weights = np.stack([OF_TWO == "no", np.ones(60, bool)]).astype(int)
    scores = metric.scores(probabilities(2), weights)
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()
