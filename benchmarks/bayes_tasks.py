"""Tasks for samplers: scores of configurations, some by true cross-validation, all cheap.

``REPORTED`` are those of the tables; ``DEVELOPMENT`` are others, with other seeds, on which the
settings of `skhpo.samplers.BayesSampler` were chosen.
"""

import functools
import math
import os
import tempfile
import warnings
from pathlib import Path

import joblib
import numpy as np
from scipy import stats
from scipy.optimize import minimize
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_classification,
    make_friedman1,
)
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from skhpo import SearchSpace, log_randint

CACHE = Path(os.environ.get("SKHPO_BENCHMARK_CACHE", tempfile.gettempdir())) / "skhpo-tables"


class Task:
    """A space, a score to maximise, and the noise in what is observed of it.

    Parameters
    ----------
    axes : dict of str to tuple
        ``("float", low, high)``, ``("log", low, high)``, ``("int", low, high)``,
        ``("logint", low, high)`` or ``("choice", [...])``.
    score : callable
        From a dict of parameters to the true score.
    noise : float or callable, default=0
        Standard deviation of the observed score, or a function of the true one.
    best : float or None, default=None
        The largest true score, where it is known.
    """

    def __init__(self, axes, score, noise=0.0, best=None):
        self.axes, self.score, self.best = axes, score, best
        self.noise = noise if callable(noise) else lambda value: noise

    @property
    def space(self):
        return SearchSpace({name: _distribution(*axis) for name, axis in self.axes.items()})

    def observe(self, params, rng):
        """True score, mean of five noisy ones, and that mean's variance as they tell it."""
        true = self.score(params)
        folds = true + self.noise(true) * np.sqrt(5) * rng.standard_normal(5)
        return true, float(np.mean(folds)), float(np.var(folds, ddof=1) / 5)


def _distribution(kind, low, high=None):
    return {
        "float": lambda: stats.uniform(low, high - low),
        "log": lambda: stats.loguniform(low, high),
        "int": lambda: stats.randint(low, high + 1),
        "logint": lambda: log_randint(low, high + 1),
        "choice": lambda: low,
    }[kind]()


# --- true cross-validation


def _rows(load, n, seed=0):
    X, y = load(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(y))[:n]
    return X[rows], y[rows]


def _friedman(return_X_y):
    return make_friedman1(400, 8, noise=1.0, random_state=3)


def _classes(return_X_y):
    return make_classification(500, 20, n_informative=6, n_classes=4, random_state=5)


def _cross_validated(load, n, make, scoring, n_splits=3):
    """Mean score of `make(**params)` on the same folds, whatever the parameters."""

    @functools.cache
    def data():
        return _rows(load, n)

    def score(params):
        X, y = data()
        folds = KFold if scoring == "r2" else StratifiedKFold
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = cross_val_score(
                make(**params),
                X,
                y,
                scoring=scoring,
                cv=folds(n_splits, shuffle=True, random_state=0),
                error_score=-10.0,
            )
        return max(float(np.mean(scores)), -10.0)

    return score


def _scaled(model):
    return make_pipeline(StandardScaler(), model)


def _svc(**params):
    return _scaled(SVC(**params))


def _sgd(**params):
    return _scaled(
        SGDClassifier(
            loss="log_loss",
            penalty="elasticnet",
            max_iter=5,
            tol=None,
            random_state=0,
            **params,
        )
    )


def _kernel_ridge(**params):
    return _scaled(KernelRidge(**params))


def _svr(**params):
    return _scaled(SVR(max_iter=3000, **params))


def _logistic(**params):
    return _scaled(LogisticRegression(solver="saga", max_iter=20, random_state=0, **params))


def _neighbours(power, **params):
    return _scaled(KNeighborsClassifier(p=power, **params))


# --- surrogates of tables of true cross-validation


def _mlp(width, depth, **params):
    return _scaled(
        MLPClassifier((width,) * depth, solver="sgd", max_iter=12, random_state=0, **params)
    )


def _boosting(**params):
    return GradientBoostingRegressor(n_estimators=15, random_state=0, **params)


def _forest(**params):
    return RandomForestClassifier(n_estimators=12, random_state=0, **params)


def _boosted_classes(**params):
    return GradientBoostingClassifier(n_estimators=10, random_state=0, **params)


def _regression_forest(**params):
    return RandomForestRegressor(n_estimators=10, random_state=0, **params)


def _histograms(**params):
    return HistGradientBoostingClassifier(max_iter=8, early_stopping=False, **params)


class _Surrogate:
    """Extremely randomised trees through a table of configurations and their scores.

    Parameters
    ----------
    name : str
        Of the table's file, which is made where it is missing.
    axes : dict
    score : callable
        The true score.
    n : int
        Size of the table.
    """

    def __init__(self, name, axes, score, n):
        self.name, self.axes, self.true_score, self.n = name, axes, score, n
        self.space = Task(axes, score).space

    @functools.cached_property
    def model(self):
        points, scores = self.table()
        return ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0).fit(points, scores)

    def table(self):
        path = CACHE / f"{self.name}-{self.n}.joblib"
        if path.exists():
            return joblib.load(path)
        points = stats.qmc.Sobol(self.space.n_dims, rng=0).random(self.n)
        scores = np.array([self.true_score(self.space.from_unit(u)) for u in points])
        table = self.space.snap(points), scores
        CACHE.mkdir(parents=True, exist_ok=True)
        joblib.dump(table, path)
        return table

    def __call__(self, params):
        return float(self.model.predict(self.space.to_unit(params)[None])[0])


def _surrogate(name, axes, score, n=1024):
    return Task(axes, _Surrogate(name, axes, score, n))


# --- functions, all to be maximised


def _vector(params):
    return np.array([params[name] for name in sorted(params)])


def _cube(n_dims, low=0.0, high=1.0):
    return {f"x{i:02d}": ("float", low, high) for i in range(n_dims)}


def branin(params):
    x, y = _vector(params)
    bowl = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    return -(bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


_A6 = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_C6 = np.array([1.0, 1.2, 3.0, 3.2])


def hartmann6(params):
    return float(_C6 @ np.exp(-(_A6 * (_vector(params)[:6] - _P6) ** 2).sum(axis=1)))


def hartmann_like(seed):
    """A function like Hartmann6 with its bumps elsewhere, and its largest value."""
    rng = np.random.default_rng(seed)
    centres, widths = rng.random((4, 6)), _A6[:, rng.permutation(6)]

    def at(x):
        return float(_C6 @ np.exp(-(widths * (x - centres) ** 2).sum(axis=1)))

    found = [minimize(lambda x: -at(x), start, bounds=[(0, 1)] * 6) for start in centres]
    return lambda params: at(_vector(params)), -min(result.fun for result in found)


def _like_hartmann(seed, noise=0.0):
    score, best = hartmann_like(seed)
    return Task(_cube(6), score, noise=noise, best=best)


def hartmann_in_20(params):
    """Hartmann6 in 20 dimensions: 14 of them do nothing."""
    return hartmann6(params)


def _ackley(z):
    return float(
        20 * np.exp(-0.2 * np.sqrt(np.mean(z**2)))
        + np.exp(np.mean(np.cos(2 * math.pi * z)))
        - 20
        - math.e
    )


def ackley_mixed(params):
    shift = {"red": 0.0, "green": 2.0, "blue": -3.0, "white": 5.0}[params["colour"]]
    z = [params["a"] - 1.3, params["b"] + 2.7, params["n"] - 4, params["m"] + 2, shift]
    return _ackley(np.array(z, dtype=float))


def levy(params):
    w = 1 + (_vector(params) - 1) / 4
    ends = math.sin(math.pi * w[0]) ** 2
    ends += (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    inner = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)
    return -float(ends + inner.sum())


def rosenbrock(params):
    x = _vector(params)
    return -float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def styblinski_tang(params):
    x = _vector(params)
    return -float((x**4 - 16 * x**2 + 5 * x).sum()) / 2


def bumps(params):
    """A narrow peak beside a broad one."""
    x = _vector(params)
    narrow, broad = ((x - 0.25) ** 2).sum(), ((x - 0.7) ** 2).sum()
    return 1.1 * math.exp(-12 * narrow) + 0.6 * math.exp(-4 * broad)


def griewank_mixed(params):
    shift = {"p": 0.0, "q": 6.0, "r": -9.0}[params["kind"]]
    x = np.array([params["a"] - 7, params["n"] + 11, math.log(params["s"]) * 4, shift])
    waves = np.prod(np.cos(x / np.sqrt(np.arange(1, 5))))
    return -float((x**2).sum() / 100 + 1 - waves)


def levy_in_16(params):
    return levy({name: params[name] for name in sorted(params)[3:7]})


def valleys(seed, n_categories=4):
    """A valley elsewhere in each category, whose floors differ (`bayes_categories.py`)."""
    rng = np.random.default_rng([seed, 99])
    names = [f"k{i}" for i in range(n_categories)]
    shifts = dict(zip(names, rng.uniform(-0.3, 0.3, (n_categories, 4)), strict=True))
    floors = rng.permutation([0.0, *rng.uniform(10.0, 30.0, n_categories - 1)])
    floors = dict(zip(names, floors, strict=True))

    def at(x, name):
        z = x - shifts[name]
        valley = 10 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2
        return float(valley.sum() + floors[name])

    starts = rng.uniform(-2.0, 2.0, (12, 4))
    least = min(
        minimize(at, start, args=(name,), bounds=[(-2.0, 2.0)] * 4).fun
        for name in names
        for start in starts
    )

    def score(params):
        x = _vector({name: params[name] for name in params if name != "category"})
        return -at(x, params["category"])

    return Task({**_cube(4, -2.0, 2.0), "category": ("choice", names)}, score, best=-least)


_SVC = {"C": ("log", 1e-3, 1e4), "gamma": ("log", 1e-6, 10.0)}
_SGD = {
    "alpha": ("log", 1e-6, 10.0),
    "l1_ratio": ("float", 0.0, 1.0),
    "eta0": ("log", 1e-4, 10.0),
    "learning_rate": ("choice", ["constant", "invscaling", "adaptive"]),
    "power_t": ("float", 0.05, 1.0),
}
_KERNEL_RIDGE = {
    "alpha": ("log", 1e-5, 1e3),
    "gamma": ("log", 1e-5, 10.0),
    "kernel": ("choice", ["rbf", "laplacian", "polynomial", "sigmoid"]),
    "degree": ("int", 1, 5),
    "coef0": ("float", -1.0, 3.0),
}
_MLP = {
    "learning_rate_init": ("log", 1e-4, 1.0),
    "alpha": ("log", 1e-6, 10.0),
    "momentum": ("float", 0.0, 0.99),
    "batch_size": ("logint", 8, 128),
    "width": ("logint", 4, 128),
    "depth": ("int", 1, 3),
    "activation": ("choice", ["relu", "tanh", "logistic"]),
}
_BOOSTING = {
    "learning_rate": ("log", 1e-3, 1.0),
    "max_depth": ("int", 1, 8),
    "subsample": ("float", 0.2, 1.0),
    "min_samples_leaf": ("logint", 1, 50),
    "max_features": ("float", 0.1, 1.0),
    "loss": ("choice", ["squared_error", "absolute_error", "huber"]),
}
_FOREST = {
    "max_depth": ("int", 1, 20),
    "min_samples_split": ("logint", 2, 60),
    "min_samples_leaf": ("logint", 1, 40),
    "max_features": ("float", 0.03, 1.0),
    "criterion": ("choice", ["gini", "entropy"]),
    "bootstrap": ("choice", [True, False]),
    "ccp_alpha": ("log", 1e-5, 0.1),
}
_REGRESSION_FOREST = {
    "max_depth": ("int", 1, 20),
    "min_samples_split": ("logint", 2, 60),
    "min_samples_leaf": ("logint", 1, 40),
    "max_features": ("float", 0.1, 1.0),
    "criterion": ("choice", ["squared_error", "absolute_error"]),
    "bootstrap": ("choice", [True, False]),
    "ccp_alpha": ("log", 1e-4, 1.0),
}
_BOOSTED_CLASSES = {name: axis for name, axis in _BOOSTING.items() if name != "loss"}
_HISTOGRAMS = {
    "learning_rate": ("log", 1e-3, 2.0),
    "max_leaf_nodes": ("logint", 2, 40),
    "min_samples_leaf": ("logint", 1, 60),
    "l2_regularization": ("log", 1e-6, 100.0),
    "max_features": ("float", 0.1, 1.0),
    "max_bins": ("logint", 4, 64),
}

REPORTED = {
    "SVC": Task(_SVC, _cross_validated(load_digits, 300, _svc, "accuracy")),
    "elastic-net SGD": Task(_SGD, _cross_validated(load_digits, 200, _sgd, "neg_log_loss")),
    "kernel ridge": Task(_KERNEL_RIDGE, _cross_validated(load_diabetes, 250, _kernel_ridge, "r2")),
    "MLP": _surrogate("mlp", _MLP, _cross_validated(load_digits, 240, _mlp, "accuracy")),
    "gradient boosting": _surrogate(
        "boosting", _BOOSTING, _cross_validated(load_diabetes, 300, _boosting, "r2")
    ),
    "random forest": _surrogate(
        "forest", _FOREST, _cross_validated(load_breast_cancer, 200, _forest, "neg_log_loss")
    ),
    "Branin": Task(
        {"x": ("float", -5.0, 10.0), "y": ("float", 0.0, 15.0)}, branin, best=-0.39788736
    ),
    "Hartmann6": Task(_cube(6), hartmann6, best=3.32236801),
    "Hartmann6, noise 0.3": Task(_cube(6), hartmann6, noise=0.3, best=3.32236801),
    "Ackley-5, mixed": Task(
        {
            "a": ("float", -10.0, 10.0),
            "b": ("float", -10.0, 10.0),
            "n": ("int", -10, 10),
            "m": ("int", -10, 10),
            "colour": ("choice", ["red", "green", "blue", "white"]),
        },
        ackley_mixed,
        best=0.0,
    ),
    "Hartmann6 in 20": Task(_cube(20), hartmann_in_20, best=3.32236801),
}

DEVELOPMENT = {
    "SVR": Task(
        {"C": ("log", 1e-2, 1e4), "gamma": ("log", 1e-5, 10.0), "epsilon": ("log", 1e-2, 100.0)},
        _cross_validated(load_diabetes, 200, _svr, "r2"),
    ),
    "logistic": Task(
        {
            "C": ("log", 1e-5, 1e3),
            "l1_ratio": ("float", 0.0, 1.0),
            "class_weight": ("choice", [None, "balanced"]),
            "fit_intercept": ("choice", [True, False]),
        },
        _cross_validated(load_wine, 120, _logistic, "neg_log_loss"),
    ),
    "neighbours": Task(
        {
            "n_neighbors": ("logint", 1, 60),
            "power": ("float", 1.0, 5.0),
            "weights": ("choice", ["uniform", "distance"]),
        },
        _cross_validated(load_wine, 150, _neighbours, "neg_log_loss"),
    ),
    "histogram boosting": _surrogate(
        "histograms",
        _HISTOGRAMS,
        _cross_validated(load_wine, 150, _histograms, "neg_log_loss"),
        512,
    ),
    "Levy-4": Task(_cube(4, -10.0, 10.0), levy, best=0.0),
    "Levy-4, noise": Task(_cube(4, -10.0, 10.0), levy, noise=4.0, best=0.0),
    "Levy-4, noise of all sizes": Task(
        _cube(4, -10.0, 10.0), levy, noise=lambda value: 0.5 - 0.3 * value, best=0.0
    ),
    "Styblinski-Tang-5, noise": Task(_cube(5, -5.0, 5.0), styblinski_tang, noise=20.0, best=195.83),
    "bumps in 4, noise": Task(_cube(4), bumps, noise=0.15, best=1.1),
    "Rosenbrock-3": Task(_cube(3, -2.0, 2.0), rosenbrock, best=0.0),
    "Styblinski-Tang-5": Task(_cube(5, -5.0, 5.0), styblinski_tang, best=195.83),
    "Griewank-4, mixed": Task(
        {
            "a": ("float", -30.0, 30.0),
            "n": ("int", -30, 30),
            "s": ("log", 1e-3, 1e3),
            "kind": ("choice", ["p", "q", "r"]),
        },
        griewank_mixed,
        best=None,
    ),
    "Levy-4 in 16": Task(_cube(16, -10.0, 10.0), levy_in_16, best=0.0),
    "SVC, cancer": Task(_SVC, _cross_validated(load_breast_cancer, 250, _svc, "accuracy")),
    "SVC, classes": Task(_SVC, _cross_validated(_classes, 300, _svc, "accuracy")),
    "kernel ridge, Friedman": Task(
        _KERNEL_RIDGE, _cross_validated(_friedman, 200, _kernel_ridge, "r2")
    ),
    "MLP, classes": _surrogate(
        "dev-mlp-classes", _MLP, _cross_validated(_classes, 240, _mlp, "accuracy"), 400
    ),
    "forest, Friedman": _surrogate(
        "dev-forest-friedman",
        _REGRESSION_FOREST,
        _cross_validated(_friedman, 150, _regression_forest, "r2"),
        400,
    ),
    "boosting, classes": _surrogate(
        "dev-gbc-classes",
        _BOOSTED_CLASSES,
        _cross_validated(_classes, 200, _boosted_classes, "neg_log_loss"),
        400,
    ),
    "Hartmann-like 1": _like_hartmann(1),
    **{
        f"Hartmann-like {seed}, noise 0.3": _like_hartmann(seed, 0.3)
        for seed in (2, 3, 11, 12, 13, 14)
    },
}
