"""Ensembles of candidates and the corrected score, from kept predictions."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.stats import loguniform
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    get_scorer,
    log_loss,
    make_scorer,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    GroupKFold,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skhpo import (
    BayesSearchCV,
    EnsembleClassifier,
    EnsembleRegressor,
    HalvingHyperbandSearchCV,
    SearchCV,
    SelfTuningSearchCV,
    TorchClassifier,
)
from skhpo.ensembles import select_members
from skhpo.exceptions import SearchStoppedWarning
from skhpo.model_selection import corrected_score
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = make_classification(n_samples=120, n_features=6, flip_y=0.2, random_state=0)
X = X.astype(np.float32)
NAMES = np.array(["no", "yes"])[y]


def grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(estimator=None, space=None, **kwargs):
    space = space or {"max_depth": [1, 2, 4, None]}
    if estimator is None:
        estimator = DecisionTreeClassifier(min_samples_leaf=5, random_state=0)
    kwargs = {"cv": 3, "random_state": 0, "return_predictions": True, **kwargs}
    return SearchCV(estimator, space, scheduler=grid, **kwargs)


def test_members_are_those_that_do_best_together_refitted():
    search = search_of(scoring="neg_log_loss").fit(X, NAMES)
    ensemble = search.ensemble(n_members=5)
    outputs = np.array(
        [
            cross_val_predict(
                clone(search.estimator).set_params(**params), X, NAMES, cv=3, method="predict_proba"
            )
            for params in search.cv_results_["params"]
        ]
    )
    counts = select_members(
        outputs, lambda averages: np.array([-log_loss(y, one) for one in averages]), 5
    )
    chosen = np.flatnonzero(counts)
    weights = counts[chosen] / counts.sum()
    np.testing.assert_allclose(ensemble.weights_, weights)
    average = np.tensordot(weights, outputs[chosen], axes=1)
    assert ensemble.oof_score_ == pytest.approx(-log_loss(y, average), rel=1e-4)
    depths = [search.cv_results_["params"][row]["max_depth"] for row in chosen]
    assert [member.max_depth for member in ensemble.members_] == depths
    alone = [
        clone(search.estimator).set_params(max_depth=depth).fit(X, NAMES).predict_proba(X)
        for depth in depths
    ]
    expected = np.tensordot(weights, alone, axes=1)
    np.testing.assert_allclose(ensemble.predict_proba(X), expected)
    assert set(ensemble.classes_) == {"no", "yes"}


@pytest.mark.parametrize("seed", [None, 3])
def test_members_under_seeds_are_the_best_candidate(seed):
    net = TorchClassifier(module__n_units=4, max_epochs=2, random_state=seed)
    pipeline = make_pipeline(StandardScaler(), net)
    space = {"torchclassifier__lr": [1e-4, 0.03]}
    search = search_of(pipeline, space, return_predictions=False).fit(X, NAMES)
    ensemble = search.ensemble(3, members="seeds")
    assert ensemble.members_[0] is search.best_estimator_
    assert not hasattr(ensemble, "oof_score_")
    params = [member.get_params() for member in ensemble.members_]
    seeds = [one.pop("torchclassifier__random_state") for one in params]
    assert len(set(seeds)) == 3
    for one in params[1:]:
        assert one["torchclassifier__lr"] == params[0]["torchclassifier__lr"]
    alone = [clone(member).fit(X, NAMES).predict_proba(X) for member in ensemble.members_]
    np.testing.assert_allclose(ensemble.predict_proba(X), np.mean(alone, axis=0), atol=1e-6)
    without = pickle.loads(pickle.dumps(search.set_params(refit=False).fit(X, NAMES)))
    again = without.ensemble(3, members="seeds", X=X, y=NAMES)
    np.testing.assert_allclose(again.predict_proba(X), ensemble.predict_proba(X), atol=1e-6)
    assert len(without.ensemble(members="seeds", X=X, y=NAMES).members_) == 5


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(),
        make_pipeline(QuantileTransformer(n_quantiles=20), KNeighborsClassifier()),
    ],
)
def test_seeds_of_what_has_none_are_refused(estimator):
    name = next(name for name in estimator.get_params() if name.endswith(("positive", "weights")))
    values = [True, False] if name == "positive" else ["uniform", "distance"]
    search = search_of(estimator, {name: values}, return_predictions=False).fit(X, y)
    with pytest.raises(ValueError, match="needs an estimator with a random_state"):
        search.ensemble(members="seeds")


@pytest.mark.parametrize("estimator", [LogisticRegression(), SVC(), None])
def test_seeds_that_change_nothing_are_refused(estimator):
    if estimator is None:
        estimator = make_pipeline(StandardScaler(), IgnoresSeed())
    name = next(name for name in estimator.get_params() if name.endswith("C"))
    search = search_of(estimator, {name: [0.1, 1.0]}, return_predictions=False).fit(X, y)
    for _ in range(2):
        with pytest.raises(ValueError, match="predict the same under two seeds"):
            search.ensemble(members="seeds")


def test_seeds_where_rows_have_no_columns_to_mix():
    net = TorchClassifier(OneNamedInput, max_epochs=1)
    search = search_of(net, {"lr": [0.1]}, return_predictions=False).fit({"a": X}, y)
    assert len(search.ensemble(2, members="seeds", X={"a": X}, y=y).members_) == 2
    search = search_of(LogisticRegression(), {"C": [0.1]}, return_predictions=False)
    search.fit(csr_matrix(X), y)
    with pytest.warns(UserWarning, match="predict the same under two seeds"):
        search.ensemble(2, members="seeds", X=csr_matrix(X), y=y)


class OneNamedInput(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 2)

    def forward(self, a):
        return self.layer(a)


class IgnoresSeed(SVR):
    def __init__(self, C=1.0, random_state=None):
        super().__init__(C=C)
        self.random_state = random_state


@pytest.mark.parametrize("as_frame", [False, True])
def test_seeds_of_trees_that_are_right_about_all_rows_they_know_differ(as_frame):
    data = pd.DataFrame(X) if as_frame else X
    tree = DecisionTreeClassifier(max_features=1)
    search = search_of(tree, {"max_depth": [None]}, return_predictions=False).fit(data, y)
    members = search.ensemble(3, members="seeds").members_
    outputs = [member.predict_proba(data) for member in members]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (members[0].predict(-data) != members[1].predict(-data)).any()


def test_members_of_the_folds_are_used_as_they_are():
    search = search_of(keep_models=2, refit=False).fit(X, y)
    fits = []
    ensemble = search.ensemble(members="folds", X=X, y=y)
    assert not fits
    assert len(ensemble.members_) % 3 == 0
    kept = [model for row in search.models_.rows for model in search.kept_models(row)]
    outputs = [member.predict_proba(X).tobytes() for member in kept]
    assert all(member.predict_proba(X).tobytes() in outputs for member in ensemble.members_)
    assert ensemble.weights_.sum() == pytest.approx(1)
    again = clone(ensemble).fit(X, y)
    assert len(again.members_) == len(ensemble.members_) // 3


@pytest.mark.parametrize("members", ["refit", "folds"])
def test_networks(members, blobs):
    X, y = blobs
    net = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=4, batch_size=64))
    search = BayesSearchCV(
        net,
        {"torchclassifier__lr": loguniform(1e-3, 1e-1)},
        n_iter=4,
        cv=2,
        n_repeats=2,
        scoring="neg_log_loss",
        random_state=0,
        return_predictions=True,
        keep_models=2,
    ).fit(X, y)
    ensemble = search.ensemble(6, members=members)
    assert ensemble.oof_score_ >= search.best_score_
    assert ensemble.score(X, y) > 0.4
    copy = pickle.loads(pickle.dumps(ensemble))
    np.testing.assert_array_equal(copy.predict_proba(X), ensemble.predict_proba(X))
    assert ensemble.n_parameters_ == sum(m[-1].n_parameters_ for m in ensemble.members_)
    if members == "refit":
        top = search.top_estimators(3)
        mine = [m for m in ensemble.members_ if any(m is one for one in top)]
        assert mine or len(ensemble.members_) > 3


class CountingScaler(StandardScaler):
    """Counts its fits."""

    n_fits = 0

    def fit(self, X, y=None, sample_weight=None):
        CountingScaler.n_fits += 1
        return super().fit(X, y, sample_weight)


def test_members_of_the_folds_share_transformers(blobs):
    X, y = blobs
    net = make_pipeline(CountingScaler(), TorchClassifier(max_epochs=1, batch_size=25))
    space = {"torchclassifier__lr": [0.01, 0.1], "countingscaler__with_mean": [True, False]}
    search = search_of(net, space, cv=2, keep_models=4, scoring="neg_log_loss", refit=False)
    search.fit(X, y)
    CountingScaler.n_fits = 0
    ensemble = search.ensemble(3, members="folds", n_initial=3)
    means = {id(member[0]): member[0].with_mean for member in ensemble.members_}
    assert (
        len(ensemble.members_) > len(means) == CountingScaler.n_fits == 2 * len({*means.values()})
    )
    kept = [model for row in search.models_.rows for model in search.kept_models(row)]
    outputs = [model.predict_proba(X).tobytes() for model in kept]
    assert all(member.predict_proba(X).tobytes() in outputs for member in ensemble.members_)


def test_repeats_are_candidates_of_their_own():
    forest = RandomForestClassifier(n_estimators=3, max_depth=3)
    search = search_of(forest, {"max_features": [1, 3]}, n_repeats=3).fit(X, y)
    ensemble = search.ensemble(8, metric="neg_log_loss")
    seeds = {(m.max_features, m.random_state) for m in ensemble.members_}
    assert len(seeds) == len(ensemble.members_) > 2


def test_refit_makes_the_search_predict_with_it():
    search = search_of(scoring="neg_log_loss", refit="ensemble", return_predictions=False)
    search.fit(X, NAMES)
    assert isinstance(search.best_estimator_, EnsembleClassifier)
    expected = search.ensemble()
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))
    assert search.score(X, NAMES) == pytest.approx(-log_loss(NAMES, search.predict_proba(X)))
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_score"])
    assert set(search.classes_) == {"no", "yes"}
    assert search.n_features_in_ == 6
    assert search.top_estimators(1)[0] is not search.best_estimator_
    scores = cross_val_score(search, X, NAMES, cv=2)
    assert np.isfinite(scores).all()
    assert pickle.loads(pickle.dumps(search)).predict(X).tolist() == search.predict(X).tolist()
    again = clone(search).fit(X.tolist(), NAMES.tolist())
    np.testing.assert_allclose(again.predict_proba(X), search.predict_proba(X))


def test_regressors():
    target = X[:, 0] + X[:, 1] ** 2
    search = search_of(DecisionTreeRegressor(random_state=0), refit="ensemble").fit(X, target)
    assert isinstance(search.best_estimator_, EnsembleRegressor)
    kept = [search.out_of_fold_predictions(row)[0] for row in range(4)]
    best = max(r2_score(target, one) for one in kept)
    assert search.best_estimator_.oof_score_ >= best - 1e-9


@pytest.mark.parametrize("n_columns", [1, 2])
def test_targets_with_columns(n_columns):
    targets = np.column_stack([X[:, 0], X[:, 1] ** 2])[:, :n_columns]
    search = search_of(LinearRegression(), {"fit_intercept": [True, False]}).fit(X, targets)
    kept = search.out_of_fold_predictions()[0]
    assert kept.shape == targets.shape
    found = corrected_score(search, n_bootstrap=10)
    both = [r2_score(targets, search.out_of_fold_predictions(row)[0]) for row in (0, 1)]
    assert found.uncorrected == pytest.approx(max(both), rel=1e-4)
    assert search.ensemble().predict(X).shape == targets.shape


def test_votes_and_decision_values():
    for method, estimator, space in (
        ("predict", DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3, 5]}),
        ("decision_function", RidgeClassifier(), {"alpha": [1.0, 1e3]}),
    ):
        search = search_of(estimator, space, return_predictions=method).fit(X, NAMES)
        ensemble = search.ensemble()
        assert ensemble.method_ == method
        assert accuracy_score(NAMES, ensemble.predict(X)) > 0.6
        with pytest.raises(ValueError, match="needs those of predict_proba"):
            search.ensemble(metric="neg_log_loss")


def test_hyperband_averages_rows_of_the_largest_resource(blobs):
    X, y = blobs
    search = HalvingHyperbandSearchCV(
        TorchClassifier(batch_size=64),
        {"lr": loguniform(1e-3, 1e-1)},
        max_resources=9,
        cv=2,
        random_state=0,
        refit="ensemble",
    ).fit(X, y)
    epochs = {member.max_epochs for member in search.best_estimator_.members_}
    assert epochs <= {9, search.best_params_["max_epochs"]}


def test_some_rows_are_tested_twice_or_never():
    twice = RepeatedStratifiedKFold(n_splits=2, n_repeats=3, random_state=0)
    search = search_of(cv=twice).fit(X, y)
    found = corrected_score(search, y, n_bootstrap=50)
    assert found.uncorrected == pytest.approx(search.best_score_)
    half = PredefinedSplit(np.where(np.arange(120) < 60, 0, -1))
    search = search_of(cv=half).fit(X, y)
    found = corrected_score(search, y, n_bootstrap=50)
    assert found.uncorrected == pytest.approx(search.best_score_)
    assert search.ensemble().oof_score_ >= search.best_score_ - 1e-9


@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss", "roc_auc", "f1_macro"])
def test_the_corrected_score_is_lower_and_keeps_the_best(scoring):
    search = search_of(scoring=scoring, n_repeats=2).fit(X, y)
    best = search.best_score_
    found = corrected_score(search, n_bootstrap=20)
    assert search.corrected_score_ is found
    assert search.best_score_ == best
    assert found.low <= found.score <= found.high
    again = corrected_score(pickle.loads(pickle.dumps(search)), y, n_bootstrap=20)
    assert again == found
    assert repr(search).endswith(f"\nbest_score_ {best:.4g}, corrected {found}")
    if scoring is None:
        assert "corrected" not in repr(search.fit(X, y))
    if scoring in (None, "accuracy", "neg_log_loss"):
        assert found.uncorrected == pytest.approx(best, rel=1e-4)


def test_groups_of_fit_stay_together():
    groups = np.arange(120) % 10
    search = search_of(cv=GroupKFold(3)).fit(X, y, groups=groups)
    found = corrected_score(search, y, n_bootstrap=50)
    assert found == corrected_score(search, y, groups=groups, n_bootstrap=50)
    assert found != corrected_score(search, y, groups=np.arange(120), n_bootstrap=50)
    search.fit(X.copy(), y, groups=groups)  # X is gone, and is not needed
    assert corrected_score(search, n_bootstrap=50) == found
    search.fit(X, y, groups=groups.copy())
    with pytest.raises(ValueError, match="groups that fit got are gone"):
        corrected_score(search, n_bootstrap=50)


class TestWeights:
    """Scores that weigh rows: scikit-learn gives ``sample_weight`` of fit to the scorer."""

    weight = np.random.RandomState(0).exponential(size=120) ** 2

    @pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc", "f1", None])
    def test_metrics_weigh_rows(self, scoring):
        search = search_of(space={"max_depth": [2]}, scoring=scoring)
        search.fit(X, y, sample_weight=self.weight)
        found = corrected_score(search, n_bootstrap=20)
        kept = search.out_of_fold_predictions()[0]
        labels = kept.argmax(axis=1)
        expected = {
            "neg_log_loss": lambda **kw: -log_loss(y, kept, **kw),
            "roc_auc": lambda **kw: roc_auc_score(y, kept[:, 1], **kw),
            "f1": lambda **kw: f1_score(y, labels, **kw),
            None: lambda **kw: accuracy_score(y, labels, **kw),
        }[scoring]
        assert found.uncorrected == pytest.approx(expected(sample_weight=self.weight))
        assert found.uncorrected != pytest.approx(expected())
        assert search.ensemble().oof_score_ == pytest.approx(found.uncorrected)
        ensemble = search.ensemble(X=X, y=y, sample_weight=self.weight)
        assert ensemble.oof_score_ == pytest.approx(found.uncorrected)

    def test_those_that_are_gone_are_asked_for(self):
        search = search_of(refit="ensemble", scoring="neg_log_loss")
        search.fit(X, y.tolist(), sample_weight=self.weight.tolist())
        loaded = pickle.loads(pickle.dumps(search))
        with pytest.raises(ValueError, match=r"that fit got is gone.*ensemble\(.* sample_weight=s"):
            loaded.ensemble(X=X, y=y)
        with pytest.raises(ValueError, match=r"give it: corrected_score\(search, y, sample_weight"):
            corrected_score(loaded, y)
        with pytest.raises(ValueError, match=r"120 numbers, but its shape is \(3,\)"):
            corrected_score(loaded, y, sample_weight=[1, 2, 3])
        found = corrected_score(loaded, y, sample_weight=self.weight, n_bootstrap=20)
        expected = search.best_estimator_.oof_score_
        assert found.uncorrected <= expected + 1e-12 < 0  # up to rounding
        again = loaded.ensemble(X=X, y=y, sample_weight=self.weight)
        assert again.oof_score_ == expected

    @config_context(enable_metadata_routing=True)
    def test_routing_says_who_gets_them(self):
        ignores = get_scorer("neg_log_loss").set_score_request(sample_weight=False)
        search = search_of(scoring=ignores, space={"max_depth": [2]})
        search.estimator.set_fit_request(sample_weight=True)
        search.fit(X, y, sample_weight=self.weight)
        proba = search.out_of_fold_predictions()[0]
        found = corrected_score(search, y, n_bootstrap=20)
        assert found.uncorrected == pytest.approx(-log_loss(y, proba))
        with pytest.raises(ValueError, match="the metric does not get it; leave it out"):
            corrected_score(search, y, sample_weight=self.weight)
        weighs = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        search.set_params(scoring=weighs).fit(X, y, sample_weight=self.weight)
        found = corrected_score(search, y, n_bootstrap=20)
        assert found.uncorrected == pytest.approx(-log_loss(y, proba, sample_weight=self.weight))
        unweighted = corrected_score(search, y, metric="neg_log_loss", n_bootstrap=20)
        assert unweighted.uncorrected == pytest.approx(-log_loss(y, proba))
        search.set_params(scoring=ignores).fit(X, y, sample_weight=self.weight)
        with config_context(enable_metadata_routing=False):  # it was enabled in fit
            found = corrected_score(search, y, n_bootstrap=20)
        assert found.uncorrected == pytest.approx(-log_loss(y, proba))
        search.estimator.set_fit_request(sample_weight=False)
        search.set_params(scoring=weighs, refit=False).fit(X, y, sample_weight=self.weight)
        with config_context(enable_metadata_routing=False):
            (best,) = search.top_estimators(1)
        unweighted = clone(best).fit(X, y)
        np.testing.assert_array_equal(best.predict_proba(X), unweighted.predict_proba(X))

    @config_context(enable_metadata_routing=True)
    def test_other_metadata_are_refused_before_any_training(self):
        class Fitting(ClassifierMixin, BaseEstimator):
            def __init__(self, max_depth=1):
                self.max_depth = max_depth

            def fit(self, X, y):
                raise AssertionError

            predict = fit

        cost = make_scorer(lambda y, p, amount=1.0: float(np.mean((y == p) * amount)))
        cost.set_score_request(amount=True)
        search = search_of(Fitting(), scoring=cost, refit="ensemble", error_score="raise")
        with pytest.raises(ValueError, match=r"requests \['amount'\]; give another metric"):
            search.fit(X, y, amount=self.weight)


def test_groups_that_are_gone_are_asked_for_after_pickling():
    search = search_of(cv=GroupKFold(3)).fit(X, y, groups=np.arange(120) % 10)
    with pytest.raises(ValueError, match="groups that fit got are gone"):
        corrected_score(pickle.loads(pickle.dumps(search)), y)


def test_fits_that_failed_are_no_candidates():
    space = {"max_depth": [2, 4], "max_features": [1, 99.0]}
    with pytest.warns(match="fits failed"):
        search = search_of(space=space).fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).sum() == 2
    assert {member.max_features for member in search.ensemble().members_} == {1}


@pytest.fixture(scope="module")
def search():
    return search_of().fit(X, y)


class TestBadInput:
    def test_not_fitted(self):
        with pytest.raises(NotFittedError):
            search_of().ensemble()
        with pytest.raises(NotFittedError):
            corrected_score(search_of())

    def test_nothing_was_kept(self):
        search = search_of(return_predictions=False).fit(X, y)
        with pytest.raises(ValueError, match=r"ensemble needs predictions .* return_predictions=T"):
            search.ensemble()
        with pytest.raises(ValueError, match="corrected_score needs predictions"):
            corrected_score(search)

    def test_no_row_has_a_score(self):
        fails = make_scorer(lambda y, p: 1 / 0)
        with pytest.warns(UserWarning, match="Scoring failed"):
            search = search_of(scoring=fails, refit=False, space={"max_depth": [1, 2]}).fit(X, y)
        with pytest.raises(ValueError, match="an ensemble needs rows with a score"):
            search.ensemble()

    def test_models_were_not_kept(self, search):
        with pytest.raises(ValueError, match="set keep_models to a number"):
            search.ensemble(members="folds")

    def test_data_are_gone(self):
        loaded = pickle.loads(pickle.dumps(search_of(refit=False).fit(X, y)))
        with pytest.raises(ValueError, match=r"give it: ensemble\(members='refit', X=X, y=y\)"):
            loaded.ensemble()
        with pytest.raises(ValueError, match=r"trains \d further members on the data of fit"):
            loaded.ensemble(y=y)
        with pytest.raises(ValueError, match=r"give it: corrected_score\(search, y\)"):
            corrected_score(loaded)
        assert loaded.ensemble(X=X, y=y).score(X, y) > 0.6

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_members": 0}, "n_members must be an integer from 1 on, but is 0"),
            ({"n_members": True}, "n_members must be an integer"),
            ({"members": "fold"}, "members must be 'refit', 'folds' or 'seeds', but is 'fold'"),
            ({"members": "seeds", "metric": "accuracy"}, "metric, n_initial and n_bags have no"),
            ({"y": y[:50]}, "y must be what fit got, 120 rows, but has 50"),
            ({"y": y + 1}, "has labels that were not there"),
            ({"X": X, "y": y[::-1]}, "but has other values or another order"),
            ({"metric": lambda estimator, X, y: 1.0}, "must be a name or made by make_scorer"),
            ({"metric": "acuracy"}, "got 'acuracy'; nearest are 'accuracy'"),
        ],
        ids=["none", "bool", "members", "no metric", "few", "labels", "order", "function", "name"],
    )
    def test_arguments(self, search, arguments, message):
        with pytest.raises(ValueError, match=message):
            search.ensemble(**arguments)

    def test_a_metric_of_make_scorer(self, search):
        by = make_scorer(lambda y, p: float(np.mean(p == y)))
        assert (
            search.ensemble(metric=by).oof_score_ == search.ensemble(metric="accuracy").oof_score_
        )

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"scoring": lambda e, X, y: 1.0}, "made by make_scorer"),
            (
                {"scoring": ["accuracy", "roc_auc"]},
                "needs one metric.* has 'accuracy', 'roc_auc'; give one",
            ),
            ({"return_predictions": "predict", "scoring": "roc_auc"}, "needs those of"),
            ({"estimator": KMeans(), "space": {"n_clusters": [2, 3]}}, "is neither"),
        ],
        ids=["function", "several", "labels", "clusters"],
    )
    def test_refit_is_refused_before_any_training(self, kwargs, message, monkeypatch):
        fits = []
        monkeypatch.setattr(DecisionTreeClassifier, "fit", lambda *args, **kw: fits.append(1))
        with pytest.raises(ValueError, match=message):
            search_of(refit="ensemble", **kwargs).fit(X, y)
        assert not fits


def test_self_tuning_runs():
    search = SelfTuningSearchCV(
        TorchClassifier(max_epochs=2, optimizer="adam", batch_size=64),
        {"optimizer__weight_decay": loguniform(1e-6, 1)},
        n_iter=2,
        cv=2,
        random_state=0,
        refit="ensemble",
        confirm=1,
    ).fit(X, y)
    assert {type(member) for member in search.best_estimator_.members_} == {TorchClassifier}
    assert np.isfinite(search.cv_results_["confirm_mean_test_score"]).sum() == 1
    assert corrected_score(search, n_bootstrap=20).score < 1


def test_a_journal_continues_it(tmp_path):
    kwargs = {"refit": "ensemble", "scoring": "neg_log_loss", "journal": tmp_path / "run.jsonl"}
    search, again = (search_of(**kwargs).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(search.predict_proba(X), again.predict_proba(X))


def test_a_search_that_is_cut_before_a_row_is_whole_keeps_its_results():
    search = HalvingHyperbandSearchCV(
        SGDClassifier(loss="log_loss", random_state=0),
        {"alpha": [1e-6, 1e-5, 1e-3, 1e-2]},
        resource="max_iter",
        max_resources=9,
        fold_schedule=(1, 2, 3),
        cv=3,
        refit="ensemble",
        max_cost={"epochs": 4},
        random_state=0,
    )
    with pytest.warns(SearchStoppedWarning) as warned:
        search.fit(X, y)
    assert any("refit='ensemble' was left out because max_cost" in str(w.message) for w in warned)
    assert search.cv_results_["rank_test_score"][search.best_index_] == 1
    assert search.best_params_
    assert not hasattr(search, "best_estimator_")
    with pytest.raises(ValueError, match="of all splits, but there is none"):
        search.ensemble(X=X, y=y)
