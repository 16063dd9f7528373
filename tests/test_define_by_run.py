"""Spaces that a builder defines while it runs."""

import random
import warnings

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    HyperParameters,
    SearchSpace,
    TorchClassifier,
    TorchRegressor,
    distributions_of,
    log_randint,
)
from skhpo.define_by_run import recall


def names_in(space):
    return sorted(sorted(one) for one in ([space] if isinstance(space, dict) else space))


def test_each_definition_becomes_the_matching_distribution():
    def build(hp):
        hp.Int("a", 1, 5)
        hp.Int("b", 32, 128, step=32)
        hp.Int("c", 1, 100, sampling="log")
        hp.Int("d", 2, 33, step=2, sampling="log")
        hp.Float("e", 0, 2)
        hp.Float("f", min_value=1e-4, max_value=1e-2, sampling="log")
        hp.Float("g", 0.1, 0.5, step=0.1)
        hp.Float("h", 0.001, 10, step=10, sampling="log")
        hp.Choice("i", ["x", "y"], default="y")
        hp.Boolean("j", default=True)
        hp.Fixed("k", 7)
        hp.Int("l", 3, 3)

    space = distributions_of(build)
    assert space["a"].support() == (1, 5)
    assert space["b"] == [32, 64, 96, 128]
    assert space["c"] == log_randint(1, 101)
    assert space["d"] == [2, 4, 8, 16, 32]
    assert space["e"].support() == (0, 2)
    assert space["f"].cdf([1e-4, 1e-3, 1e-2]).tolist() == pytest.approx([0, 0.5, 1])
    assert space["g"] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert space["h"] == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert (space["i"], space["j"], space["k"], space["l"]) == (["x", "y"], [False, True], [7], [3])
    searched = SearchSpace(space)
    assert searched.names == list("abcdefghijkl")
    kinds = {dimension.name: dimension.kind for dimension in searched.dimensions}
    ordered = [name for name, kind in kinds.items() if kind == "integer"]
    assert ordered == list("abcdgh")


def test_answers_are_what_is_set_or_the_default():
    hp = HyperParameters({"units": 48})
    assert hp.Int("units", 32, 512, step=16) == 48
    assert hp.Int("layers", 2, 9) == 2
    assert hp.Float("rate", 0.1, 1, default=0.5) == 0.5
    assert hp.Choice("kind", ["a", None]) is None
    assert hp.Boolean("extra") is False
    assert hp.Fixed("seed", 3) == 3
    with hp.name_scope("head"):
        assert hp.Int("units", 1, 4) == 1
    assert hp.get("units") == hp["units"] == 48
    assert "head_units" in hp
    assert "other" not in hp
    with pytest.raises(KeyError, match="'other' was not asked for"):
        hp.get("other")


def test_loops_and_conditions_become_dicts():
    def build(hp):
        for i in range(hp.Int("n_layers", 1, 3)):
            hp.Int(f"units_{i}", 8, 64)
        if hp.Boolean("extra"):
            hp.Float("extra_rate", 0, 1)

    space = distributions_of(build)
    layers = [[f"units_{i}" for i in range(n)] for n in (1, 2, 3)]
    expected = [
        sorted([*units, "n_layers", "extra", *rate])
        for units in layers
        for rate in ([], ["extra_rate"])
    ]
    assert names_in(space) == sorted(expected)
    for one in space:
        assert one["n_layers"] == [sum(name.startswith("units_") for name in one)]
        assert one["extra"] == ["extra_rate" in one]
    assert len(list(ParameterSampler(space, 20, random_state=0))) == 20


def test_branches_alike_are_one_dict():
    def build(hp):
        kind = hp.Choice("kind", ["a", "b", "c", "d"])
        if kind == "c":
            hp.Int("only_c", 1, 2)
        hp.Float("rate", 0, 1)

    assert [one["kind"] for one in distributions_of(build)] == [["a", "b", "d"], ["c"]]


def test_what_needs_two_choices_is_found():
    def build(hp):
        both = hp.Boolean("a") and hp.Boolean("b")
        if both:
            hp.Choice("c", [1, 2])

    together = [one for one in distributions_of(build) if "c" in one]
    assert together == [{"a": [True], "b": [True], "c": [1, 2]}]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_configuration_asks_for_what_its_dict_has(data):
    kinds = data.draw(st.lists(st.sampled_from("pqrs"), min_size=1, max_size=4))
    tree = data.draw(st.dictionaries(st.sampled_from("abc"), st.sampled_from(kinds), max_size=3))

    def build(hp):
        kind = hp.Choice("kind", sorted(set(kinds)))
        for name, when in sorted(tree.items()):
            if kind == when:
                for i in range(hp.Int(f"n_{name}", 0, 2)):
                    hp.Float(f"{name}_{i}", 0, 1)

    space = SearchSpace(distributions_of(build))
    for point in np.random.default_rng(0).random((12, space.n_dims)):
        params = space.from_unit(point)
        hp = HyperParameters(params)
        build(hp)
        assert hp.values == params


def test_exploring_is_bounded_and_says_so():
    def build(hp):
        for i in range(12):
            if hp.Boolean(f"a{i}"):
                hp.Int(f"b{i}", 0, 3)

    with pytest.warns(UserWarning, match="cut short after 30 runs"):
        distributions_of(build, max_runs=30)


def test_independent_parameters_cost_few_runs():
    def build(hp):
        for i in range(20):
            hp.Choice(f"a{i}", [1, 2, 3])

    distributions_of(build)
    assert recall(build).n_runs <= 5


def test_exploring_leaves_global_generators_alone():
    def build(hp):
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        return nn.Linear(3, hp.Int("units", 1, 9))

    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    distributions_of(build)
    after = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after


def test_exploring_takes_no_memory_for_weights():
    def build(hp):
        return nn.Linear(10**6, 10**6 * hp.Int("units", 1, 9))  # 4 TB

    assert list(distributions_of(build)) == ["units"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda hp: (hp.Int("a", 1, 5), hp.Int("a", 1, 6)),
            r"'a' is Int\('a', 1, 5.*Int\('a', 1, 6",
        ),
        (
            lambda hp: hp.Int("a", 1, 5) if hp.Boolean("b") else hp.Float("a", 1, 5),
            r"'a' is .*give one of them another name",
        ),
        (lambda hp: hp.Int("a", 5, 1), "min_value <= max_value must hold"),
        (
            lambda hp: hp.Int("a", 1.5, 2),
            r"'min_value' parameter of hp.Int\('a', 1.5, .* must be an int",
        ),
        (lambda hp: hp.Int("a", 1, 2, default=3), "default must be within the bounds"),
        (lambda hp: hp.Float("a", 0, 1, sampling="log"), "needs min_value > 0"),
        (lambda hp: hp.Float("a", 0, 1, sampling="lin"), "'linear' or 'log'"),
        (lambda hp: hp.Float("a", 0, 1, step=0), r"'step' .* in the range \(0.0, inf\)"),
        (
            lambda hp: hp.Int("a", 1, 9, step=1, sampling="log"),
            r"'step' .* an int in the range \(1, inf\)",
        ),
        (lambda hp: hp.Float("a", 0, 1, step=1e-9), "at most"),
        (lambda hp: hp.Choice("a", []), "needs at least one value"),
        (lambda hp: hp.Choice("a", [1, 2], default=3), "must be one of its values"),
        (lambda hp: hp.Int("a b", 1, 2), "must be a Python identifier"),
        (lambda hp: hp.Int("a__b", 1, 2), "must be a Python identifier"),
        (lambda units: units, "must have hp as its first argument"),
    ],
)
def test_wrong_definitions(build, message):
    with pytest.raises((ValueError, TypeError), match=message):
        distributions_of(build)


def build_net(hp, in_features, out_features):
    width = hp.Int("units", 4, 12, step=4)
    layers = [nn.Linear(in_features, width), nn.ReLU()]
    if hp.Boolean("extra"):
        layers += [nn.Linear(width, width), nn.Dropout(hp.Float("dropout", 0, 0.5))]
    return nn.Sequential(*layers, nn.Linear(width, out_features))


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.RandomState(0)
    y = np.arange(60) % 3
    return (rng.randn(60, 5) + 3 * np.eye(3, 5)[y]).astype(np.float32), y


def test_hyperparameters_are_parameters_of_the_torch_estimators(blobs):
    net = TorchClassifier(build_net, module__units=8, max_epochs=2, random_state=0)
    assert net.get_params()["module__extra"] is False
    assert net.fit(*blobs).module_[0].out_features == 8
    net.set_params(module__extra=True, module__dropout=0.25).fit(*blobs)
    assert net.module_[3].p == 0.25
    assert clone(net).get_params()["module__dropout"] == 0.25
    with pytest.raises(ValueError, match="nearest first: module__units"):
        net.set_params(module__unit=3)
    with pytest.raises(ValueError, match=r"never asks for 'unit'.*'units'"):
        TorchClassifier(build_net, module__unit=3).fit(*blobs)
    assert TorchRegressor(build_net, max_epochs=1).fit(*blobs).module_[-1].out_features == 1


def test_a_builder_may_take_hp_by_position_only(blobs):
    def build(hp, /, in_features, out_features):
        return build_net(hp, in_features, out_features)

    net = TorchClassifier(build, module__units=8, max_epochs=1)
    assert net.get_params()["module__extra"] is False
    assert net.fit(*blobs).module_[0].out_features == 8


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_search_takes_the_space_of_the_model(in_pipeline, blobs):
    net = TorchClassifier(build_net, batch_size=20)
    prefix = "torchclassifier__" if in_pipeline else ""
    search = HalvingHyperbandSearchCV(
        make_pipeline(StandardScaler(), net) if in_pipeline else net,
        "model",
        resource=f"{prefix}max_epochs",
        max_resources=3,
        cv=2,
        random_state=0,
    )
    search.fit(*blobs)
    prefix += "module__"
    assert names_in(search.param_distributions_) == [
        [f"{prefix}dropout", f"{prefix}extra", f"{prefix}units"],
        [f"{prefix}extra", f"{prefix}units"],
    ]
    estimator = clone(search.estimator).set_params(**search.best_params_)
    assert estimator.get_params()[f"{prefix}units"] == search.best_params_[f"{prefix}units"]
    with joblib.parallel_config("threading"):
        again = clone(search).set_params(n_jobs=2).fit(*blobs)
    assert again.cv_results_["params"] == search.cv_results_["params"]
    np.testing.assert_array_equal(
        again.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )


def as_wide_as_its_inputs(hp, in_features, out_features):
    units = hp.Int("units", in_features, 8)
    return torch.nn.Sequential(
        torch.nn.Linear(in_features, units), torch.nn.Linear(units, out_features)
    )


def test_inputs_are_known_behind_wrappers_that_leave_them_alone(blobs):
    X, y = blobs
    net = TorchRegressor(as_wide_as_its_inputs, max_epochs=1)
    whole = TransformedTargetRegressor(net, transformer=StandardScaler())
    search = BayesSearchCV(whole, "model", n_iter=1, cv=2, random_state=0).fit(X, y)
    units = search.param_distributions_["regressor__module__units"]
    assert units.support() == (X.shape[1], 8)


def test_scikit_learns_searches_take_the_dicts(blobs):
    space = distributions_of(build_net)
    space = [{f"module__{name}": values for name, values in one.items()} for one in space]
    net = TorchClassifier(build_net, max_epochs=1)
    search = RandomizedSearchCV(net, space, n_iter=3, cv=2, random_state=0).fit(*blobs)
    assert set(search.best_params_) >= {"module__units", "module__extra"}


def build_with_a_hidden_branch(hp, in_features, out_features):
    width = hp.Int("units", 2, 9)
    if 2 < width < 9:
        hp.Float("hidden", 0, 1, default=0.25)
    return nn.Linear(in_features, out_features)


def test_a_parameter_of_a_branch_that_was_not_visited_is_named(blobs):
    net = TorchClassifier(build_with_a_hidden_branch, max_epochs=1)

    search = HalvingHyperbandSearchCV(
        net, "model", resource="max_epochs", max_resources=3, cv=2, random_state=0
    )
    with pytest.warns(UserWarning, match=r"module__hidden=0\.25"):
        search.fit(*blobs)
    # Now it is known, and can be searched.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.set_params(
            param_distributions={"module__units": [4], "module__hidden": stats.uniform()}
        ).fit(*blobs)
    assert "module__hidden" in search.best_params_


def test_a_model_without_a_builder_of_hp_has_no_space(blobs):
    for estimator, message in [
        (StandardScaler(), "is a StandardScaler; give a dict"),
        (TorchClassifier(), "must have hp as its first argument"),
    ]:
        search = HalvingHyperbandSearchCV(
            estimator, "model", resource="max_epochs", max_resources=3, scoring="accuracy"
        )
        with pytest.raises(TypeError, match=message):
            search.fit(*blobs)


def test_builders_that_ask_without_end_are_cut_short():
    def one_more(hp, default):
        i = 0
        while hp.Boolean(f"more_{i}", default=default):
            i += 1

    with pytest.raises(ValueError, match="at most 10,000 hyperparameters, but one more is 'more_"):
        distributions_of(lambda hp: one_more(hp, True))
    with pytest.warns(UserWarning, match="cut short after 20 runs"):
        distributions_of(lambda hp: one_more(hp, False), max_runs=20)
