"""Effects on classes and groups: as scikit-learn measures them, and who pays for the best mean."""

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import precision_score, recall_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skhpo import BayesSearchCV, SearchCV
from skhpo.inspection import ClassEffectsDisplay, class_effects
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = make_classification(
    150, 6, n_informative=4, n_classes=3, weights=[0.6, 0.3], flip_y=0.1, random_state=0
)
NAMES = np.array(["a", "b", "c"])[y]


def grid(space, random_state):
    return FullScheduler(GridSampler(space), space.size)


def kept(estimator, space, X=X, y=NAMES, **kwargs):
    kwargs = {"cv": StratifiedKFold(3), "return_predictions": True, "random_state": 0, **kwargs}
    return SearchCV(estimator, space, scheduler=grid, **kwargs).fit(X, y)


@pytest.fixture(scope="module")
def trees():
    return kept(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3, 6]})


@pytest.mark.parametrize("method", ["predict_proba", "predict"])
def test_recall_and_precision_are_those_of_scikit_learn(method):
    search = kept(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": [1, 2, 6]},
        return_predictions=method,
    )
    found = class_effects(search)
    assert found.names == ["a", "b", "c"]
    assert found.rows[0] == search.best_index_
    for i, row in enumerate(found.rows):
        labels = search.classes_[search.out_of_fold_predictions(row)[0].argmax(axis=1)]
        np.testing.assert_allclose(found.recall[i], recall_score(NAMES, labels, average=None))
        expected = precision_score(NAMES, labels, average=None, zero_division=np.nan)
        np.testing.assert_allclose(found.precision[i], expected)
    assert np.isnan(found.calibration).all() == (method == "predict")
    assert len(found.table["row"]) == 9
    assert len(found.importances["name"]) == 0  # of three rows nothing can be learned


def test_groups_have_the_means_over_their_classes(trees):
    groups = np.arange(len(y)) % 2
    found = class_effects(trees, groups)
    assert found.names == [0, 1]
    labels = trees.classes_[trees.out_of_fold_predictions().argmax(axis=2)[0]]
    for group in (0, 1):
        own = groups == group
        expected = recall_score(NAMES[own], labels[own], average="macro")
        assert found.recall[0, group] == pytest.approx(expected)
    assert found.by_name["n_samples"].tolist() == [75, 75]
    with pytest.raises(ValueError, match="entry for each of 150 rows"):
        class_effects(trees, groups[:20])


def test_several_labels_a_row():
    X, y = make_multilabel_classification(90, 5, n_classes=3, random_state=0)
    forest = DecisionTreeClassifier(max_depth=3, random_state=0)
    search = kept(forest, {"max_depth": [1, 3]}, X, y, cv=KFold(3), return_predictions="predict")
    found = class_effects(search)
    predicted = search.out_of_fold_predictions(found.rows[0])[0] > 0.5
    np.testing.assert_allclose(found.recall[0], recall_score(y, predicted, average=None))
    assert found.names == [0, 1, 2]


class Sure(ClassifierMixin, BaseEstimator):
    """Says the second class with a probability of X, or a more extreme one."""

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        one = X[:, 0] ** self.power
        other = (1 - X[:, 0]) ** self.power
        return np.column_stack([other, one]) / (one + other)[:, None]

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_calibration_is_how_far_probabilities_are_from_frequencies():
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(3000, 1))
    y = (rng.uniform(size=3000) < X[:, 0]).astype(int)
    search = kept(Sure(), {"power": [1.0, 4.0]}, X, y, scoring="neg_brier_score")
    found = class_effects(search)
    assert found.calibration[0].max() < 0.05
    assert found.calibration[1].min() > 0.08
    np.testing.assert_allclose(found.calibration[:, 0], found.calibration[:, 1], rtol=0.2)


def test_the_hyperparameter_that_trades_classes_explains_them():
    space = {"share_of_b": uniform(0, 1), "C": loguniform(0.1, 1)}

    class Weighted(LogisticRegression):
        def __init__(self, C=1.0, share_of_b=0.5):
            super().__init__(C=C)
            self.share_of_b = share_of_b

        def fit(self, X, y):
            b = self.share_of_b
            self.class_weight = {"a": 1 - b + 1e-3, "b": b + 1e-3}
            return super().fit(X, y)

    two = NAMES != "c"
    search = BayesSearchCV(
        Weighted(), space, n_iter=25, cv=3, return_predictions=True, random_state=0, enqueue=()
    )
    rows, labels = X[two], NAMES[two]
    found = class_effects(search.fit(rows, labels), n_bootstrap=5, random_state=0)
    table = found.importances
    for name in ("a", "b"):
        own = table["name"] == name
        share = dict(zip(table["param"][own], table["importance"][own], strict=True))
        assert share["share_of_b"] > 0.5 > share["C"]
    # What one class wins the other one pays, among rows that are about equally good.
    assert (found.by_name["cost"] >= 0).all()
    assert found.rows[0] in found.equally_good
    assert set(found.by_name["row"]) <= set(found.equally_good)
    best = found.by_name
    at = [list(found.rows).index(row) for row in best["row"]]
    np.testing.assert_allclose(best["highest_recall"], found.recall[at, [0, 1]])


def test_what_it_cannot_say():
    target = X[:, 0]
    search = kept(Ridge(), {"alpha": [1, 2]}, y=target, cv=3)
    with pytest.raises(ValueError, match="has a regressor"):
        class_effects(search)
    search = kept(SVC(), {"C": [1, 2]}, return_predictions=False)
    with pytest.raises(ValueError, match="set return_predictions=True"):
        class_effects(search)


def test_the_picture_has_a_line_for_each_row(trees):
    pytest.importorskip("matplotlib").use("Agg")
    display = ClassEffectsDisplay.from_search(trees, random_state=0)
    assert len(display.lines_) == 4
    np.testing.assert_allclose(display.lines_[0].get_ydata(), display.effects.recall[0])
    labels = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert f"row {trees.best_index_}, the best" in labels
    assert ClassEffectsDisplay.from_search(trees, measure="precision", ax=display.ax_)
    with pytest.raises(ValueError, match="'explained' parameter"):
        ClassEffectsDisplay.from_search(trees, measure="accuracy")
