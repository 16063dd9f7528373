"""Labels in any order and coding, and folds that lack some."""

import numpy as np
import pytest
import torch
from scipy.stats import uniform
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset, default_collate

from skhpo import (
    BayesSearchCV,
    KerasClassifier,
    SelfTuningClassifier,
    SelfTuningSearchCV,
    TorchClassifier,
)
from skhpo.lockstep import Member, train_together

keras_too = pytest.param(
    KerasClassifier,
    marks=[
        pytest.mark.xdist_group("keras"),
        pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    ],
)
FAST = {"max_epochs": 3, "lr": 0.02, "random_state": 0}


def fast(cls, **params):
    if cls is KerasClassifier:
        return cls(epochs=3, optimizer__learning_rate=0.02, random_state=0, **params)
    if cls is SelfTuningClassifier:
        params["warmup_epochs"] = 1
    return cls(**FAST, **params)


def test_classes_in_any_order_are_sorted(blobs, tmp_path):
    X, y = blobs[0], np.array(["a", "b", "c"])[blobs[1]]
    expected = TorchClassifier(**FAST).fit(X, y)
    net = TorchClassifier(**FAST, classes=["c", "a", "b", "a"]).fit(X, y)
    assert net.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(X))
    for name in ("neg_log_loss", "roc_auc_ovr"):
        assert get_scorer(name)(net, X, y) == get_scorer(name)(expected, X, y)
    net.save_checkpoint(tmp_path / "net.pt")
    assert TorchClassifier().load_checkpoint(tmp_path / "net.pt").classes_.tolist() == [*"abc"]


@pytest.mark.parametrize("rows", [list, tuple])
def test_lists_may_have_numbers_of_numpy(blobs, rows):
    X, y = blobs
    array = TorchClassifier(max_epochs=1, random_state=0).fit(X, y)
    lists = [array, *(TorchClassifier(max_epochs=1, random_state=0) for _ in range(2))]
    lists[1].fit(rows(X), rows(y))
    lists[2].fit(rows(map(rows, X)), rows(torch.from_numpy(y)))
    for net in lists:
        np.testing.assert_array_equal(net.predict_proba(X), array.predict_proba(X))


def test_the_score_is_the_accuracy(blobs):
    X, y = blobs
    net = TorchClassifier(**FAST).fit(X, y)
    others = [y[::-1], y.astype(np.uint8), y + 1, list(y), y.astype(float), y[:, None]]
    for targets in (y, *others):
        assert net.score(X, targets) == accuracy_score(np.ravel(targets), net.predict(X))
    weight = np.arange(len(y))
    assert net.score(X, y, weight) == accuracy_score(y, net.predict(X), sample_weight=weight)
    for targets in (y[1:], y[:0], y.astype(str)):
        with pytest.raises(ValueError, match=r"inconsistent|0 sample|Mix of"):
            net.score(X, targets)


@pytest.mark.parametrize(
    ("convert", "targets"),
    [
        (list, int),
        (torch.as_tensor, int),
        (lambda labels: labels[:, None], int),
        (lambda labels: labels.astype(float), int),
        (lambda labels: labels.astype(str), str),
    ],
)
def test_the_score_of_own_predictions(blobs, convert, targets):
    calls = []

    class Own(TorchClassifier):
        def predict(self, X):
            calls.append(len(X))
            return convert(super().predict(X))

    X, y = blobs
    net = Own(**FAST).fit(X, y)
    wanted = accuracy_score(y, TorchClassifier(**FAST).fit(X, y).predict(X))
    assert net.score(X, y.astype(targets)) == wanted
    assert calls == [len(X)]


def test_the_score_of_predictions_that_are_no_classes(blobs):
    class Own(TorchClassifier):
        def predict(self, X):
            return super().predict(X) + 0.5

    with pytest.raises(ValueError, match="mix of multiclass and continuous"):
        Own(**FAST).fit(*blobs).score(*blobs)


def test_positions_in_a_dataset_are_those_in_the_classes_given(blobs, tmp_path):
    X, y = torch.from_numpy(blobs[0]), blobs[1]
    order = np.array(["c", "a", "b"])
    net = TorchClassifier(**FAST, classes=order).fit(TensorDataset(X, torch.from_numpy(y)))
    named = TorchClassifier(**FAST).fit(TensorDataset(X, torch.from_numpy(np.array([2, 0, 1])[y])))
    np.testing.assert_allclose(net.predict_proba(X), named.predict_proba(X), atol=1e-6)
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = TorchClassifier(**FAST, classes=order).load_checkpoint(tmp_path / "net.pt")
    loaded.partial_fit(TensorDataset(X, torch.from_numpy(y)))
    net.partial_fit(TensorDataset(X, torch.from_numpy(y)))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, {"classes": [0, 1]}])
@pytest.mark.parametrize("criterion", ["cross_entropy", "bce_with_logits"])
def test_labels_in_a_column_of_a_dataset(blobs, criterion, params):
    X, y = torch.from_numpy(blobs[0]), torch.from_numpy(blobs[1] % 2)
    params = {**FAST, **params, "criterion": criterion}
    flat = TorchClassifier(**params).fit(TensorDataset(X, y))
    column = TensorDataset(X, y[:, None])
    net = TorchClassifier(**params).fit(column)
    np.testing.assert_array_equal(net.predict_proba(X), flat.predict_proba(X))
    assert net.score(column) == flat.score(TensorDataset(X, y))


@pytest.mark.parametrize("labels", [[1, 2, 3], ["no", "perhaps", "yes"], [-1.0, 0.0, 5.0]])
@pytest.mark.parametrize("form", [Dataset, lambda X, y: list(zip(X, y, strict=True))])
@pytest.mark.parametrize("params", [{}, {"iterator_train__collate_fn": default_collate}])
def test_a_predefined_split_is_encoded_as_y_is(blobs, labels, form, params):
    X, y = blobs
    valid, labels = y[:40] < 2, np.array(labels)  # which lacks a class
    losses, scores = [], []
    for named in (np.arange(3), labels):
        split = predefined_split(form(X[:40][valid], named[y[:40][valid]]))
        scoring = EpochScoring("accuracy", name="acc", use_caching=form is not Dataset)
        net = TorchClassifier(**FAST, **params, train_split=split, callbacks=[scoring])
        net.fit(X[40:], named[y[40:]])
        losses.append(net.history[:, "valid_loss"])
        scores.append(net.history[:, "acc"])
        assert scores[-1][-1] == net.score(X[:40][valid], named[y[:40][valid]])
    assert losses[0] == losses[1]
    assert scores[0] == scores[1]


def test_a_split_made_of_encoded_rows_stays_as_it_is(blobs):
    def halves(dataset, y):
        X = np.stack([np.asarray(dataset[i][0]) for i in range(len(dataset))])
        return Dataset(X[::2], y[::2]), Dataset(X[1::2], y[1::2])

    losses = [
        TorchClassifier(**FAST, train_split=halves)
        .fit(blobs[0], blobs[1] + shift)
        .history[:, "valid_loss"]
        for shift in (0, 1)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("cls", [TorchClassifier, keras_too])
def test_two_labels_per_sample_are_no_two_classes(cls, blobs):
    X, Y = blobs[0], np.stack([blobs[1] > 0, blobs[1] > 1], 1).astype(int)
    net = fast(cls).fit(X, Y)
    assert get_scorer("roc_auc")(net, X, Y) == roc_auc_score(Y, net.predict_proba(X))
    assert net.predict(X).shape == Y.shape
    assert net.classes_.tolist() == [[0, 1], [0, 1]]
    if cls is TorchClassifier:
        out_of_fold = cross_val_predict(net, X, Y, cv=2, method="predict_proba")
        assert out_of_fold.shape == Y.shape


@pytest.mark.parametrize("cls", [TorchClassifier, SelfTuningClassifier, keras_too])
def test_a_weight_of_a_class_that_is_not_there_is_ignored(cls, blobs):
    X, y = blobs[0], blobs[1]
    weight = {0: 1, 1: 2, 2: 4}
    few = fast(cls, class_weight={**weight, "never": 5}).fit(X, y)
    expected = fast(cls, class_weight=weight).fit(X, y)
    np.testing.assert_array_equal(few.predict_proba(X), expected.predict_proba(X))
    # As in scikit-learn, not where a class then has no weight: that is a slip.
    for typo in ({0: 1, 1: 2, 3: 4}, {9: 1.0}):
        with pytest.raises(ValueError, match="classes"):
            LogisticRegression(class_weight=typo).fit(X, y)
        with pytest.raises(ValueError, match="class_weight has the labels"):
            fast(cls, class_weight=typo).fit(X, y)


def test_folds_that_lack_a_class_are_searched_as_in_a_grid(blobs):
    X, y = blobs[0], (blobs[1] > 0).astype(int)
    y[0] = 2
    folds = [(np.arange(75), np.arange(75, 150)), (np.arange(75, 150), np.arange(75))]
    net = TorchClassifier(**FAST, class_weight={0: 1, 1: 1, 2: 5})
    grid = GridSearchCV(net, {"lr": [0.02, 0.01]}, cv=folds).fit(X, y)
    with pytest.warns(UserWarning, match=r"split 1 lacks the classes \[2\]"):
        search = BayesSearchCV(net, {"lr": [0.02, 0.01]}, n_iter=2, cv=folds, lockstep=True).fit(
            X, y
        )
    for lr, score in zip([0.02, 0.01], grid.cv_results_["mean_test_score"], strict=True):
        row = search.cv_results_["param_lr"].tolist().index(lr)
        assert search.cv_results_["mean_test_score"][row] == pytest.approx(score, abs=0.02)
    nets = [TorchClassifier(**FAST, class_weight={0: 1, 1: 1, 2: 5}) for _ in range(2)]
    rest = slice(1, None)
    assert train_together([Member(one, X[rest], y[rest]) for one in nets]) == [None, None]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("scoring", "test", "message"),
    [
        ("neg_log_loss", [0, 1, 2], r"split 1 .* the classes \[0, 1\], its test part \[0, 1, 2\]"),
        ("roc_auc_ovr", [0], r"split 1 .* its test part \[0\] \(the score is NaN\); use fewer"),
        ("accuracy", [2], None),
        (["accuracy", "neg_log_loss"], [0, 1, 2], None),
    ],
)
def test_folds_on_which_a_network_has_no_score_are_refused(blobs, scoring, test, message):
    class Net(TorchClassifier):
        def _run_epochs(self, *args, **kwargs):
            assert message is None
            super()._run_epochs(*args, **kwargs)

    X, y = blobs
    whole = np.arange(len(y))
    folds = [(whole, whole), (np.flatnonzero(y < 2), np.flatnonzero(np.isin(y, test)))]
    params = {"n_iter": 1, "cv": folds, "scoring": scoring, "refit": "accuracy"}
    search = BayesSearchCV(fast(Net), {"lr": [0.01]}, **params)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            search.fit(X, y)
        # As GridSearchCV has it, where the estimator is no network of ours.
        search = BayesSearchCV(LogisticRegression(), {"C": [1.0]}, **params).fit(X, y)
        assert np.isnan(search.best_score_)
    elif isinstance(scoring, list):  # the best is found by another score
        assert np.isnan(search.fit(X, y).cv_results_["mean_test_neg_log_loss"]).all()
    else:
        assert search.fit(X, y).cv_results_["split1_test_score"][0] == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "params",
    [
        {"scoring": "neg_log_loss", "error_score": -9.0},
        {"scoring": ["accuracy", "f1_macro"], "objectives": ["accuracy", "f1_macro"]},
    ],
    ids=["number", "objectives"],
)
def test_folds_on_which_a_network_has_a_number_are_searched(blobs, params):
    X, y = blobs
    folds = [(np.flatnonzero(y < 2), np.arange(len(y)))]
    net = fast(TorchClassifier)
    search = BayesSearchCV(net, {"lr": [0.01]}, n_iter=1, cv=folds, refit=False, **params)
    rows = search.fit(X, y).cv_results_
    name = "accuracy" if "objectives" in params else "score"
    assert np.isfinite(rows[f"split0_test_{name}"]).all()


def test_a_test_part_with_a_label_of_its_own_tunes_without_it(blobs):
    X, y = blobs[0], (blobs[1] > 0).astype(int)
    y[0] = 2
    folds = [(np.arange(75, 150), np.arange(75))]
    space = {"hyperparameters__input_noise": uniform(0, 1)}
    search = SelfTuningSearchCV(fast(SelfTuningClassifier), space, n_iter=1, cv=folds)
    with pytest.warns(UserWarning, match=r"lacks the classes \[2\]"):
        search.fit(X, y)
    assert 0 < search.best_score_ < 1


@pytest.mark.parametrize("cls", [TorchClassifier, keras_too])
@pytest.mark.parametrize("weight", [-1, np.nan, np.inf, "2"])
def test_weights_of_classes_that_cannot_be(cls, weight, blobs):
    with pytest.raises(ValueError, match="class_weight must have weights >= 0, but that of 1 is"):
        fast(cls, class_weight={1: weight}).fit(*blobs)


@pytest.mark.parametrize("cls", [TorchClassifier, keras_too])
def test_labels_that_cannot_be(cls, blobs):
    X, y = blobs
    names = np.array(["a", "b", "c"], dtype=object)[y]
    names[3] = None
    with pytest.raises(ValueError, match=r"y must not have missing labels, .* None at position 3"):
        fast(cls).fit(X, names)
    names[3] = 7
    with pytest.raises(ValueError, match=r"y must have labels of one type, .* int, str; convert"):
        fast(cls).fit(X, names)
    with pytest.raises(ValueError, match="classes must be a list of at least one label"):
        fast(cls).partial_fit(X, y, classes=[])
    with pytest.raises(ValueError, match="class_weight leaves no sample"):
        fast(cls, class_weight=dict.fromkeys(range(3), 0)).fit(X, y)
