"""What a user believes of good values is tried first, and given up where it is wrong."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, loguniform, norm, randint, uniform
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchSpace, log_randint, ordered
from skhpo.samplers import BayesSampler, Prior, PriorBandSampler
from skhpo.samplers.prior import trust
from skhpo.testing import SamplerContract

X, y = load_iris(return_X_y=True)
SPACE = SearchSpace(
    {
        "lr": loguniform(1e-5, 1),
        "dropout": uniform(0, 1),
        "units": log_randint(8, 512),
        "batch": ordered([16, 32, 64, 128]),
        "optimizer": ["adam", "sgd", "lion"],
    }
)
BELIEFS = {"lr": 1e-3, "dropout": norm(0.2, 0.05), "units": 64, "batch": 32, "optimizer": "sgd"}


def grid(n, d):
    return np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n] * d), axis=-1).reshape(-1, d)


@pytest.mark.parametrize("confidence", ["low", "medium", "high"])
def test_the_density_has_mean_one(confidence):
    space = SearchSpace({"a": uniform(0, 1), "b": loguniform(1e-3, 1), "c": ["x", "y", "z"]})
    prior = Prior(space, {"a": norm(0.3, 0.1), "b": 0.01, "c": "y"}, confidence)
    assert np.exp(prior.log_density(grid(30, 3))).mean() == pytest.approx(1.0, rel=0.02)


def test_draws_follow_the_beliefs():
    u = Prior(SPACE, BELIEFS).points(np.random.default_rng(0).random((4000, 5)))
    drawn = SPACE.from_units(u)
    dropout = np.array([params["dropout"] for params in drawn])
    assert dropout.mean() == pytest.approx(0.2, abs=0.01)
    assert dropout.std() == pytest.approx(0.05, abs=0.01)
    # Half beside the equal share of each choice.
    assert np.mean([p["optimizer"] == "sgd" for p in drawn]) == pytest.approx(
        0.5 + 0.5 / 3, abs=0.03
    )
    lr = np.log10([params["lr"] for params in drawn])
    assert np.median(lr) == pytest.approx(-3, abs=0.25)
    assert min(lr) < -4.7
    assert max(lr) > -1


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1), st.sampled_from(["low", "medium", "high"]), st.integers(0, 3))
def test_draws_have_the_density(u, confidence, place):
    name = SPACE.dimensions[place].name
    prior = Prior(SPACE, {name: SPACE.value_at(place, u)}, confidence)
    points = np.full((1000, 5), 0.5)
    points[:, place] = (np.arange(1000) + 0.5) / 1000
    density, drawn = np.exp(prior.log_density(points)), prior.points(points)[:, place]
    for end in (0.25, 0.5, 0.75):  # ends of cells, too
        expected = density[points[:, place] < end].sum() / 1000
        assert np.mean(drawn < end) == pytest.approx(expected, abs=0.01)
    assert prior.log_density(prior.mode(points[:1])) >= np.log(density.max()) - 0.02


def test_nothing_is_believed_of_other_parameters():
    u = np.random.default_rng(0).random((50, 5))
    prior = Prior(SPACE, {"lr": 1e-3})
    place = SPACE.names.index("lr")
    assert np.array_equal(np.delete(prior.points(u), place, 1), np.delete(u, place, 1))


def test_discrete_distributions_are_over_the_values():
    space = SearchSpace({"n": randint(0, 11), "steps": ordered([1, 2, 4, 8])})
    prior = Prior(space, {"n": binom(10, 0.9), "steps": norm(4, 0.5)})
    drawn = space.from_units(prior.points(np.random.default_rng(0).random((500, 2))))
    assert np.mean([params["n"] for params in drawn]) == pytest.approx(9, abs=0.3)
    assert np.mean([params["steps"] == 4 for params in drawn]) > 0.9


def test_dicts_of_a_conditional_space():
    space = SearchSpace(
        [{"k": ["s"], "lr": loguniform(1e-3, 1)}, {"k": ["t"], "lr": uniform(0, 9)}]
    )
    prior = Prior(space, {"lr": 5.0})  # in one of the two only
    u = prior.points(np.random.default_rng(0).random((300, space.n_dims)))
    numbers = [params["lr"] for params in space.from_units(u) if params["k"] == "t"]
    assert np.median(numbers) == pytest.approx(5, abs=1)


def test_dicts_that_have_what_is_believed_are_likelier():
    space = SearchSpace(
        [
            {"k": ["s"], "C": loguniform(1e-3, 1)},
            {"k": ["t"], "C": loguniform(1e-3, 1), "g": uniform(0, 1)},
        ]
    )
    prior = Prior(space, {"k": "t", "g": 0.1}, "high")
    u = np.random.default_rng(0).random((4000, space.n_dims))
    assert all(params["k"] == "t" for params in space.from_units(prior.mode(u[:20])))
    drawn = space.from_units(prior.points(u))
    assert np.mean([params["k"] == "t" for params in drawn]) == pytest.approx(0.875, abs=0.02)
    assert np.exp(prior.log_density(space.snap(u))).mean() == pytest.approx(1.0, rel=0.05)
    # What only one of them has says nothing of the other.
    of_other = Prior(space, {"g": 0.1}, "high").log_density(space.to_unit({"k": "s", "C": 1})[None])
    assert of_other == 0.0


@pytest.mark.parametrize(
    ("beliefs", "error", "match"),
    [
        ({"learning_rate": 0.1}, ValueError, "must be in the space, but 'learning_rate' is not"),
        ({"dropuot": 0.1}, ValueError, "did you mean 'dropout'"),
        ({"lr": 10.0}, ValueError, "priors must lie in the space, but lr=10.0"),
        ({"optimizer": "rmsprop"}, ValueError, "optimizer='rmsprop' is not in the space"),
        ({"optimizer": norm(0, 1)}, TypeError, "'optimizer' has choices"),
        ({"dropout": norm(90, 0.1)}, ValueError, "has no probability from 0 to 1"),
        ({"dropout": norm}, TypeError, "must be frozen, but 'dropout' got the unfrozen 'norm'"),
    ],
    ids=["unknown", "typo", "outside", "choice", "law of choices", "elsewhere", "unfrozen"],
)
def test_bad_beliefs(beliefs, error, match):
    with pytest.raises(error, match=match):
        Prior(SPACE, beliefs)


class TestPriorBand(SamplerContract):
    def make_sampler(self, space, random_state):
        return PriorBandSampler(space, random_state, prior=Prior(space, {}))


def near(params):
    return abs(np.log10(params["lr"]) + 3) < 0.5 and abs(params["dropout"] - 0.2) < 0.15


def test_the_share_of_the_prior_grows_with_the_resource():
    def share(resource):
        sampler = PriorBandSampler(SPACE, 0, prior=Prior(SPACE, BELIEFS, "high"))
        return np.mean([near(p) for p in sampler.sample(300, resource=resource)])

    assert share(1) < share(3) < share(27)


def test_a_wrong_prior_is_given_up():
    wrong = {"lr": 0.9, "dropout": norm(0.9, 0.05)}
    sampler = PriorBandSampler(SPACE, 0, prior=Prior(SPACE, wrong, "high"))

    def believed(n):
        out = []
        for params in sampler.sample(n, resource=9):
            out.append(params["dropout"] > 0.75)
            score = -abs(np.log10(params["lr"]) + 3) - abs(params["dropout"] - 0.2)
            sampler.observe(params, score, 9)
        return np.mean(out)

    before = believed(40)
    for _ in range(10):
        believed(10)
    assert believed(40) < 0.5 * before


def test_what_breaks_a_constraint_is_not_the_best():
    one, other = (PriorBandSampler(SPACE, 0, prior=Prior(SPACE, BELIEFS)) for _ in range(2))
    for params in one.sample(9):
        one.observe(params, params["dropout"], 9, violations=np.array([-1.0, 0.5]))
    other.sample(9)
    assert one.sample(20, resource=9) == other.sample(20, resource=9)


def test_bayes_begins_with_the_beliefs_and_leaves_a_wrong_one():
    space = SearchSpace({"a": uniform(0, 1), "b": uniform(0, 1)})
    sampler = BayesSampler(
        space, 0, prior=Prior(space, {"a": 0.9, "b": 0.9}, "high"), prior_weight=2.0
    )
    found = []
    for _ in range(22):
        [params] = sampler.sample(1)
        found.append(-((params["a"] - 0.2) ** 2) - (params["b"] - 0.3) ** 2)
        sampler.observe(params, found[-1], None)
        if len(found) == 1:
            assert params == {"a": 0.9, "b": 0.9}
    assert max(found) > -0.005


def test_what_other_processes_chose_counts_for_the_influence_of_the_prior():
    space = SearchSpace({"a": uniform(0, 1), "b": uniform(0, 1)})
    prior = Prior(space, {"a": 0.9, "b": 0.9}, "high")
    sampler = BayesSampler(space, 0, n_initial_points=3, prior=prior, prior_weight=10.0)
    for a, b in np.random.default_rng(0).random((20, 2)).tolist():
        sampler.adopt({"a": a, "b": b})
        sampler.observe({"a": a, "b": b}, -((a - 0.2) ** 2) - (b - 0.3) ** 2, None)
    [params] = sampler.sample(1)
    assert abs(params["a"] - 0.2) + abs(params["b"] - 0.3) < 0.2


def test_scores_that_contradict_a_prior_end_its_influence():
    density = np.array([3.0, 2.0, 2.5, 1.0, 0.0, 0.5, -1.0, -2.0])
    assert trust(density) == 1.0
    assert trust(density[::-1]) < 0.01
    assert trust(np.linspace(1.0, 0.0, 300)) == 1.0  # whose odds are no number of the machine
    assert trust(density[:3]) == trust(np.zeros(9)) == 1.0  # nothing is known
    weaker = [trust(np.r_[density[:n], density[n:][::-1]][::-1]) for n in (0, 3, 8)]
    assert weaker == sorted(weaker, reverse=True)


# --- searches


def bayes(**kwargs):
    return BayesSearchCV(SGDClassifier(max_iter=5), n_iter=3, cv=2, random_state=0, **kwargs)


def hyperband(**kwargs):
    return HalvingHyperbandSearchCV(
        SGDClassifier(), resource="max_iter", max_resources=3, cv=2, random_state=0, **kwargs
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [bayes, hyperband])
def test_the_likeliest_candidate_is_tried_first(make):
    space = {"alpha": loguniform(1e-6, 1), "penalty": ["l1", "l2"]}
    search = make(
        param_distributions=space,
        priors={"alpha": 1e-3, "penalty": "l1"},
        prior_confidence="high",
        enqueue=(),
    )
    first = clone(search).fit(X, y).cv_results_["params"][0]
    assert first["penalty"] == "l1"
    assert first["alpha"] == 1e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kwargs", [{}, {"enqueue": ()}], ids=["enqueued", "likeliest"])
@pytest.mark.parametrize(
    "make",
    [
        bayes,
        partial(bayes, n_points=3),
        hyperband,
        partial(hyperband, sampler="bayes"),
    ],
    ids=["bayes", "rounds", "hyperband", "bohb"],
)
def test_own_parameters_as_priors_are_tried_once(make, kwargs):
    search = make(param_distributions={"alpha": loguniform(1e-6, 1)}, priors="defaults", **kwargs)
    table = search.fit(X, y).cv_results_
    candidates = table.get("candidate", np.arange(len(table["params"])))
    own = np.isclose(table["param_alpha"].astype(float), 1e-4, rtol=1e-9)
    assert len(np.unique(candidates[own])) == 1
    assert table["params"][0]["alpha"] == 1e-4


def test_own_parameters_as_priors_must_be_in_the_space():
    with pytest.raises(ValueError, match=r"priors='defaults'.*give a dict"):
        bayes(param_distributions={"penalty": ["l1", None]}, priors="defaults").fit(X, y)


@pytest.mark.parametrize(
    ("make", "kwargs", "match"),
    [
        (bayes, {"priors": {"alhpa": 1}}, "did you mean 'alpha'"),
        (bayes, {"priors": {"alpha": 7.0}}, "priors must lie in the space"),
        (bayes, {"priors": "own"}, "'priors' parameter"),
        (hyperband, {"priors": {"alpha": 0.1}, "prior_confidence": "very"}, "prior_confidence"),
        (bayes, {"prior_confidence": "high"}, "priors is None; give priors"),
        (hyperband, {"priors": {}, "prior_confidence": "low"}, "priors is {}; give priors"),
        (hyperband, {"priors": {"alpha": 0.1}, "sampler": PriorBandSampler}, "know what to do"),
    ],
)
def test_bad_priors_of_searches(make, kwargs, match):
    search = make(param_distributions={"alpha": loguniform(1e-6, 1)}, **kwargs)
    with pytest.raises(ValueError, match=match):
        search.fit(X, y)


@pytest.mark.filterwarnings("ignore")
def test_confidence_counts_where_the_gaussian_process_proposes():
    search = hyperband(
        param_distributions={"alpha": loguniform(1e-6, 1)},
        priors={"alpha": 1e-3},
        prior_confidence="high",
        sampler="bayes",
        refit=False,
    )
    assert search.fit(X, y).sampler_.prior_weight == 2 * BayesSampler(SPACE).prior_weight


def test_priors_are_shown_as_they_are_written():
    search = bayes(param_distributions={"alpha": uniform(0, 1)}, priors={"alpha": norm(0.2, 0.1)})
    assert "norm(0.2, 0.1)" in repr(search)
