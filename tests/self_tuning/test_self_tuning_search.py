"""SelfTuningSearchCV: a row is a run, the fold its validation data, the best is averaged."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
from optuna.distributions import FloatDistribution
from scipy.special import expit, logit
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits, make_regression
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skhpo import (
    SelfTuningClassifier,
    SelfTuningRegressor,
    SelfTuningSearchCV,
    TorchClassifier,
    TorchRegressor,
    read_journal,
)
from skhpo.exceptions import JournalError
from skhpo.self_tuning import HyperValue

PARAMS = {"optimizer": "adam", "lr": 0.01, "max_epochs": 4, "module__n_units": 16}
PLAIN = TorchClassifier(**PARAMS)
RANGES = {
    "module__dropout": uniform(0, 0.9),
    "optimizer__weight_decay": loguniform(1e-6, 1e-1),
    "label_smoothing": uniform(0, 0.4),
}
TUNED = SelfTuningClassifier(
    hyperparameters={"input_noise": uniform(0, 2), "weight_decay": loguniform(1e-6, 1e-1)},
    initial={"input_noise": 0.5},
    warmup_epochs=1,
    **PARAMS,
)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200]


@pytest.fixture(scope="module")
def plain(digits):
    search = SelfTuningSearchCV(
        clone(PLAIN).set_params(max_epochs=8), RANGES, n_iter=2, cv=2, random_state=0
    )
    return search.fit(*digits)


@pytest.fixture(scope="module")
def tuned(digits):
    return SelfTuningSearchCV(TUNED, n_iter=2, cv=2, random_state=0).fit(*digits)


def test_columns_are_those_of_grid_search_and_what_the_runs_found(plain, digits):
    grid = {name: [values.mean()] for name, values in RANGES.items()}
    theirs = GridSearchCV(PLAIN, grid, cv=2, refit=False).fit(*digits)
    found = {f"split{i}_{name}" for i in (0, 1) for name in RANGES}
    assert set(plain.cv_results_) == set(theirs.cv_results_) | found
    table = pd.DataFrame(plain.cv_results_)
    assert len(table) == 2
    for name, range_ in RANGES.items():
        low, high = range_.support()
        ends = table[[f"split0_{name}", f"split1_{name}"]].to_numpy()
        assert ((low <= ends) & (ends <= high)).all()
        assert (ends != table[[f"param_{name}"]].to_numpy()).any(), "it moved"
    assert plain.best_index_ == table["mean_test_score"].argmax()
    assert plain.best_score_ == table["mean_test_score"].max()


def test_best_params_are_averaged_in_the_unconstrained_space(plain):
    table, row = plain.cv_results_, plain.best_index_
    ends = {name: [table[f"split{i}_{name}"][row] for i in (0, 1)] for name in RANGES}
    expected = {
        "module__dropout": 0.9 * expit(np.mean(logit(np.divide(ends["module__dropout"], 0.9)))),
        "label_smoothing": 0.4 * expit(np.mean(logit(np.divide(ends["label_smoothing"], 0.4)))),
    }
    place = np.log(np.divide(ends["optimizer__weight_decay"], 1e-6)) / np.log(1e5)
    expected["optimizer__weight_decay"] = 1e-6 * np.exp(np.log(1e5) * expit(np.mean(logit(place))))
    assert plain.best_params_ == pytest.approx(expected, rel=1e-5)


def test_refit_is_the_plain_estimator_with_the_best_params(plain, digits):
    best = plain.best_estimator_
    assert type(best) is TorchClassifier
    assert {name: best.get_params()[name] for name in RANGES} == plain.best_params_
    again = clone(PLAIN).set_params(
        max_epochs=8, random_state=best.random_state, **plain.best_params_
    )
    again.fit(*digits)
    np.testing.assert_array_equal(again.predict_proba(digits[0]), plain.predict_proba(digits[0]))


def test_the_fold_is_the_validation_data(digits):
    """The score of a run is what its own best check was."""
    X, y = digits
    curves = Curves()
    split = PredefinedSplit(np.repeat([-1, 0], [120, 80]))
    search = SelfTuningSearchCV(
        TUNED, scoring="neg_log_loss", cv=split, refit=False, random_state=0, callbacks=[curves]
    ).fit(X, y)
    (losses,) = curves.losses
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(-min(losses), rel=1e-5)

    best = int(np.argmin(losses))
    run = clone(TUNED).set_params(random_state=curves.seeds(search))
    run.fit(X[:120], y[:120], validation_data=(X[120:], y[120:]))
    assert run.history[:, "valid_loss"] == pytest.approx(losses, rel=1e-4)
    assert run.best_epoch_ == best + 1
    for name, value in run.best_hyperparameters_.items():
        found = search.cv_results_[f"split0_hyperparameters__{name}"][0]
        assert found == pytest.approx(value, rel=1e-4)
    loss = log_loss(y[120:], run.predict_proba(X[120:]))
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(-loss, rel=1e-4)


class Curves:
    curves = True

    def __init__(self):
        self.losses = []

    def on_fit_end(self, search, trial, result):
        self.losses.append(list(result.curves["valid_loss"]))

    def seeds(self, search):
        from sklearn.utils import check_random_state

        from skhpo.evaluation import derive_seed

        seed = int(check_random_state(0).randint(np.iinfo(np.int32).max))
        return derive_seed(seed, "random_state", 0, 1, 0)


def test_the_first_row_is_where_the_estimator_stands(plain, tuned):
    first = plain.cv_results_["params"][0]
    expected = {"module__dropout": 0.045, "label_smoothing": 0.02}
    expected["optimizer__weight_decay"] = 1e-6 * 1e5**0.05
    assert first == pytest.approx(expected, rel=1e-5)
    assert tuned.cv_results_["params"][0]["hyperparameters__input_noise"] == 0.5
    other = tuned.cv_results_["params"][1]["hyperparameters__input_noise"]
    assert other != 0.5


def test_values_of_the_plain_estimator_are_where_it_starts(digits):
    net = clone(PLAIN).set_params(module__dropout=0.3, optimizer__weight_decay=0.01, max_epochs=1)
    search = SelfTuningSearchCV(net, RANGES, cv=2, refit=False).fit(*digits)
    expected = {"module__dropout": 0.3, "optimizer__weight_decay": 0.01, "label_smoothing": 0.02}
    assert search.cv_results_["params"] == [pytest.approx(expected)]


def test_enqueued_starts_come_first(digits):
    start = {"module__dropout": 0.0, "label_smoothing": 0.4}
    net = clone(PLAIN).set_params(max_epochs=1)
    search = SelfTuningSearchCV(net, RANGES, n_iter=2, enqueue=[start], cv=2, refit=False)
    first, second = search.fit(*digits).cv_results_["params"]
    assert first.items() >= start.items()
    assert second["label_smoothing"] == 0.02


def test_a_self_tuning_estimator_is_refitted_under_numbers(tuned, digits):
    assert set(tuned.best_params_) == {f"hyperparameters__{k}" for k in TUNED.hyperparameters}
    best = tuned.best_estimator_
    assert isinstance(best, SelfTuningClassifier)
    numbers = {k.removeprefix("hyperparameters__"): v for k, v in tuned.best_params_.items()}
    assert best.hyperparameters == numbers
    assert best.schedule_ == {name: [value] * 4 for name, value in numbers.items()}
    assert clone(TUNED).set_params(**tuned.best_params_).hyperparameters == numbers
    assert all(hasattr(range_, "rvs") for range_ in TUNED.hyperparameters.values())
    assert tuned.predict(digits[0]).shape == digits[1].shape


@pytest.mark.parametrize("estimator", [PLAIN, TUNED], ids=["plain", "tuned"])
def test_same_result_for_any_n_jobs(estimator, digits):
    ranges = RANGES if estimator is PLAIN else None
    search = SelfTuningSearchCV(estimator, ranges, n_iter=2, cv=2, random_state=3)
    one, two = clone(search).fit(*digits), search.set_params(n_jobs=2).fit(*digits)
    for name, column in one.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(np.asarray(column), np.asarray(two.cv_results_[name]))
    assert one.best_params_ == two.best_params_
    np.testing.assert_array_equal(one.predict_proba(digits[0]), two.predict_proba(digits[0]))


def test_more_rows_leave_the_first_ones_as_they_are(plain, digits):
    search = clone(plain).set_params(n_iter=3, refit=False).fit(*digits)
    for name in ("params", "split0_module__dropout", "split1_test_score"):
        assert list(search.cv_results_[name][:2]) == list(plain.cv_results_[name])


def test_a_pipeline_with_labels_and_a_frame(digits):
    X = pd.DataFrame(digits[0] * 16).add_prefix("pixel")
    y = np.array([f"digit {label}" for label in digits[1]])
    ranges = {f"net__{name}": range_ for name, range_ in RANGES.items()}
    model = Pipeline([("scale", StandardScaler()), ("net", PLAIN)])
    search = SelfTuningSearchCV(model, ranges, cv=2, random_state=0).fit(X, y)
    assert set(search.predict(X)) <= set(y)
    assert list(search.feature_names_in_) == list(X.columns)
    assert type(search.best_estimator_[-1]) is TorchClassifier
    assert clone(model).set_params(**search.best_params_)["net"].label_smoothing > 0


def test_transformers_see_the_training_part_only(digits):
    X, y = digits
    model = make_pipeline(StandardScaler(), TUNED)
    split = PredefinedSplit(np.repeat([-1, 0], [120, 80]))
    search = SelfTuningSearchCV(model, cv=split, refit=False, random_state=0).fit(X, y)
    scale = StandardScaler().fit(X[:120])
    by_hand = SelfTuningSearchCV(
        make_pipeline("passthrough", TUNED).set_params(steps=[("selftuningclassifier", TUNED)]),
        cv=split,
        refit=False,
        random_state=0,
    ).fit(scale.transform(X), y)
    name = "split0_selftuningclassifier__hyperparameters__input_noise"
    assert search.cv_results_[name][0] == by_hand.cv_results_[name][0]


class OwnNames(nn.Module):
    def __init__(self, in_features, out_features, rates=0.1, last=0.2):
        super().__init__()
        self.first = nn.Sequential(nn.Dropout(rates), nn.Linear(in_features, 8), nn.Dropout(rates))
        self.last = nn.Sequential(nn.Dropout(last), nn.Linear(8, out_features))

    def forward(self, x):
        return self.last(self.first(x).relu())


def test_an_argument_is_the_rate_of_all_layers_that_get_it():
    X, y = make_regression(60, 4, n_targets=2, random_state=0)
    net = TorchRegressor(OwnNames, optimizer="adam", max_epochs=2)
    ranges = {"module__rates": uniform(0, 0.9), "module__last": uniform(0, 0.9)}
    search = SelfTuningSearchCV(net, ranges, cv=2, random_state=0).fit(X, y)
    assert search._subject(X, y).starts.inner == {
        "module__rates": "first.0.p|first.2.p",
        "module__last": "last.0.p",
    }
    module = search.best_estimator_.module_
    rates = search.best_params_["module__rates"]
    assert module.first[0].p == module.first[2].p == rates != module.last[0].p


class Recurrent(nn.Module):
    def __init__(self, out_features, dropout=0.1, temperature=1.0):
        super().__init__()
        self.lstm = nn.LSTM(8, 6, 2, dropout=dropout, batch_first=True)
        self.output = nn.Linear(6, out_features)
        self.temperature = HyperValue("own temperature", temperature)

    def forward(self, x):
        y = self.output(self.lstm(x)[0][:, -1])
        return y / self.temperature(y)


@pytest.mark.filterwarnings("ignore:an LSTM that responds")
def test_an_argument_may_be_a_rate_of_an_lstm_or_a_value_of_ones_own(digits):
    X, y = digits[0].reshape(-1, 8, 8), digits[1]
    net = TorchClassifier(Recurrent, optimizer="adam", max_epochs=3, batch_size=100)
    ranges = {"module__dropout": uniform(0, 0.9), "module__temperature": uniform(0.5, 4)}
    search = SelfTuningSearchCV(net, ranges, cv=2, random_state=0).fit(X, y)
    assert search._subject(X, y).starts.inner == {
        "module__dropout": "lstm.dropout",
        "module__temperature": "own temperature",
    }
    assert search.cv_results_["params"][0]["module__dropout"] == 0.1
    assert search.cv_results_["params"][0]["module__temperature"] == 1.0
    module = search.best_estimator_.module_
    assert module.lstm.dropout == search.best_params_["module__dropout"]
    assert module.temperature.value == search.best_params_["module__temperature"]


def test_integers_and_defaults_of_a_self_tuning_estimator(digits):
    X, y = digits[0].reshape(-1, 8, 8), digits[1]
    ranges = {"hyperparameters__cutout_length": randint(0, 5)}
    net = clone(TUNED).set_params(hyperparameters=None, initial=None, max_epochs=2)
    search = SelfTuningSearchCV(net, ranges, cv=2, random_state=0).fit(X, y)
    assert isinstance(search.best_params_["hyperparameters__cutout_length"], int)

    net.set_params(module__dropout=0.1)
    search = SelfTuningSearchCV(net, cv=2, random_state=0).fit(X, y)
    names = {"hyperparameters__dropout_0.p", "hyperparameters__weight_decay"}
    assert set(search.param_distributions_) == set(search.best_params_) == names


def test_several_metrics_and_a_callable_refit(digits):
    search = SelfTuningSearchCV(
        PLAIN, RANGES, n_iter=2, cv=2, scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss"
    ).fit(*digits)
    assert search.best_index_ == search.cv_results_["mean_test_neg_log_loss"].argmax()
    search.set_params(refit=lambda table: 1).fit(*digits)
    assert search.best_index_ == 1
    search = clone(search).set_params(refit=False).fit(*digits)
    assert not hasattr(search, "best_params_")


def test_a_journal_is_continued(digits, tmp_path):
    search = SelfTuningSearchCV(
        PLAIN, RANGES, cv=2, random_state=0, journal=tmp_path / "runs.jsonl"
    ).fit(*digits)
    longer = clone(search).set_params(n_iter=2).fit(*digits)
    assert longer.cv_results_["mean_fit_time"][0] == search.cv_results_["mean_fit_time"][0]
    fresh = clone(longer).set_params(journal=None).fit(*digits)
    assert fresh.best_params_ == longer.best_params_
    table = read_journal(tmp_path / "runs.jsonl")
    name = "split1_module__dropout"
    np.testing.assert_array_equal(table[name], longer.cv_results_[name])
    with pytest.raises(JournalError, match="estimator"):
        clone(longer).set_params(estimator__lr=0.1).fit(*digits)


def test_a_failing_run_leaves_the_others(digits):
    search = SelfTuningSearchCV(
        clone(PLAIN).set_params(module=FailsOnTheSecondFold), {"module__dropout": uniform(0, 0.5)}
    )
    X, y = digits
    X = np.where(np.arange(len(X))[:, None] < 100, X, X + 100)
    search.set_params(cv=KFold(2), error_score=0.0, refit=False)
    with pytest.warns(FitFailedWarning, match="1 of 2 fits failed"):
        search.fit(X, y)
    found = [search.cv_results_[f"split{i}_module__dropout"][0] for i in (0, 1)]
    assert np.isnan(found).sum() == 1
    assert search.best_params_["module__dropout"] == pytest.approx(np.nanmax(found))


class FailsOnTheSecondFold(nn.Sequential):
    def __init__(self, in_features, out_features, n_units=1, dropout=0.1):
        super().__init__(nn.Dropout(dropout), nn.Linear(in_features, out_features))

    def forward(self, x):
        if self.training and x.mean() > 20:
            raise RuntimeError("too large")
        return super().forward(x)


def test_pickle(tuned, digits):
    again = pickle.loads(pickle.dumps(tuned))
    np.testing.assert_array_equal(again.predict(digits[0]), tuned.predict(digits[0]))
    assert again.best_params_ == tuned.best_params_


def test_top_estimators_have_the_averages_of_their_rows(tuned, digits):
    first, second = tuned.top_estimators(2, *digits)
    assert first is tuned.best_estimator_
    assert second.hyperparameters != first.hyperparameters
    assert set(second.hyperparameters) == set(first.hyperparameters)


def test_regressor_with_sample_weights():
    X, y = make_regression(80, 4, random_state=0)
    net = SelfTuningRegressor(
        hyperparameters={"input_noise": uniform(0, 1)},
        validation_fraction=None,
        warmup_epochs=1,
        **PARAMS,
    )
    search = SelfTuningSearchCV(net, cv=2, random_state=0)
    weight = np.repeat([0, 1], 40)
    search.fit(X, y / y.std(), sample_weight=np.random.default_rng(0).permutation(weight))
    assert search.score(X, y / y.std()) == search.best_estimator_.score(X, y / y.std())


def test_a_fold_is_validation_data_as_a_target_transformer_makes_it():
    X, y = make_regression(60, 4, random_state=0)
    net = SelfTuningRegressor(
        hyperparameters={"input_noise": uniform(0, 1)}, warmup_epochs=1, random_state=0, **PARAMS
    )
    inner = SelfTuningSearchCV(net, cv=2, random_state=0, refit=False).fit(X, y / y.std())
    whole = TransformedTargetRegressor(
        net, func=partial(np.multiply, 1 / y.std()), inverse_func=partial(np.multiply, y.std())
    )
    search = SelfTuningSearchCV(whole, cv=2, random_state=0).fit(X, y)
    for i in range(2):
        np.testing.assert_allclose(
            search.cv_results_[f"split{i}_regressor__hyperparameters__input_noise"],
            inner.cv_results_[f"split{i}_hyperparameters__input_noise"],
            rtol=1e-4,
        )
    assert search.predict(X).std() > 0.01 * y.std()
    assert search.best_estimator_.regressor_.history


def test_a_fold_is_the_only_validation_data(digits):
    with pytest.raises(ValueError, match="validation_data was given"):
        SelfTuningSearchCV(TUNED).fit(*digits, validation_data=digits)


def test_metadata_is_routed(digits):
    weight = np.where(np.arange(200) % 2, 0.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        net = clone(PLAIN).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scale = StandardScaler().set_fit_request(sample_weight=False)
        model = Pipeline([("scale", scale), ("net", net)])
        ranges = {f"net__{name}": values for name, values in RANGES.items()}
        search = SelfTuningSearchCV(model, ranges, cv=2, random_state=0)
        weighted = clone(search).fit(*digits, sample_weight=weight)
        other = search.fit(*digits, sample_weight=np.ones(200))
    scores = "split0_test_score"
    assert weighted.cv_results_[scores][0] != other.cv_results_[scores][0]


BAD = [
    ({"lr": loguniform(1e-4, 1)}, "'lr' cannot be tuned while training.*BayesSearchCV"),
    ({"batch_size": randint(1, 9)}, "there is no inner loop"),
    ({"optimizer__eps": uniform(0, 1)}, "'optimizer__eps' cannot be tuned while training"),
    ({"module__n_units": randint(1, 9)}, "there is no inner loop"),
    ({"module__activation": uniform(0, 1)}, "there is no inner loop"),
    ({"module__dropuot": uniform(0, 1)}, "module__dropout"),
    ({"input_noise": uniform(0, 1)}, "pass a SelfTuningClassifier.*hyperparameters__input_noise"),
    ({"module__dropout": [0.1, 0.2]}, "there is no gradient between choices"),
    ({"optimizer__weight_decay": uniform(-np.inf, 1)}, "."),
    ({"module__dropout": uniform(0, 2)}, r"'dropout' .* in the range \[0.0, 1.0\)"),
    ({"module__dropout": FloatDistribution(0, 0.9, step=0.1)}, "range with steps"),
    ({}, "must say what to tune"),
]


@pytest.mark.parametrize(("ranges", "message"), BAD, ids=lambda value: str(value)[:30])
def test_bad_ranges_of_a_plain_estimator(digits, ranges, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SelfTuningSearchCV(PLAIN, ranges).fit(*digits)


@pytest.mark.parametrize(
    ("params", "ranges", "message"),
    [
        ({}, {"input_noise": uniform(0, 1)}, "is it 'hyperparameters__input_noise'"),
        ({}, {"lr": loguniform(1e-4, 1)}, "'lr' cannot be tuned while training"),
        ({"hyperparameters": {"input_noise": "0.3"}}, None, "or all of them numbers"),
        ({}, {"hyperparameters__lr": uniform(0, 1)}, "'lr' cannot be tuned while training"),
        ({}, {"hyperparameters__drop1.p": uniform(0, 1)}, "matches nothing"),
        ({"initial": {"input_noise": 3}}, None, r"range is \[0, 2\]"),
        ({"hyperparameters": {"input_noise": 0.3}}, None, "frozen"),
        ({"val_steps": 0}, None, r"'val_steps' parameter.* an int in the range \[1"),
        ({"warmup_epochs": 4}, None, "max_epochs=4 and warmup_epochs=4"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_ranges_of_a_self_tuning_estimator(digits, params, ranges, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SelfTuningSearchCV(clone(TUNED).set_params(**params), ranges).fit(*digits)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticRegression(), "must be a TorchClassifier"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "inside of a Pipeline"),
        (GridSearchCV(PLAIN, {"lr": [0.1]}), "must be a TorchClassifier"),
        (make_pipeline(StandardScaler(), PLAIN), "start with 'torchclassifier__'"),
        (clone(PLAIN).set_params(optimizer="adamw"), "use optimizer='adam'"),
        (clone(PLAIN).set_params(max_norm=1.0), "max_norm must be None"),
        (TorchClassifier(nn.Linear(64, 10), optimizer="adam"), "module is an instance"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_estimators(digits, estimator, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SelfTuningSearchCV(estimator, RANGES).fit(*digits)
