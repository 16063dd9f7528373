"""Conversion of an estimator and ranges of its parameters to a self-tuning estimator."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier

from ..estimators import TorchClassifier, TorchRegressor
from ..estimators.fitting import build
from ..names import resolve_optimizer
from ..process import ignoring
from ..rows import as_given, take_rows, with_rows
from ..wrappers import fit_wrappers, fitted_inside, inside
from ._effects import check_names
from ._estimator import SelfTuningMixin
from ._ranges import Ranges
from .classifier import SelfTuningClassifier
from .layers import HyperValue
from .regressor import SelfTuningRegressor

__all__ = ["Runs", "Starts", "runs_of"]

# Prefix of the parameters that tune, of a self-tuning and of a plain estimator.
_OF_TUNED = "hyperparameters__"
_DECAY = "optimizer__weight_decay"
# Rows that a pipeline's transformers are fitted on, to get data in the form that the net gets.
_ROWS = 1000
# Most epochs before tuning starts: the default of the self-tuning estimators.
_WARMUP = 5


@dataclass(frozen=True)
class Starts:
    """Initial and final values of runs, by the user's names of parameters.

    `prefix` is that of the parameters of the network inside its wrappers, `inner` maps parameters
    to hyperparameters.
    """

    prefix: str
    inner: dict[str, str]

    def placed(self, params):
        """Return the parameters with which a run starts at a configuration."""
        return {f"{self.prefix}initial": {self.inner[k]: value for k, value in params.items()}}

    def found(self, estimator):
        """Return the values at the best epoch of a run."""
        best = fitted_inside(estimator).best_hyperparameters_
        return {name: best[inner] for name, inner in self.inner.items()}


@dataclass(frozen=True)
class Runs:
    """The run on each fold: an estimator, self-tuning or a pipeline that ends in such a one.

    `distributions` and `first`, the default initial values, are by the user's names of parameters.
    """

    estimator: Any
    distributions: dict[str, Any]
    starts: Starts
    first: dict[str, float]


def runs_of(estimator, distributions, X, y):
    """Make the self-tuning estimator to run, and build it for a few rows; nothing is trained.

    `estimator` is a torch estimator of this package, plain or self-tuning, or a pipeline that ends
    in one; `distributions` are ranges of its parameters, None those of a self-tuning estimator.
    Raises TypeError or ValueError if the estimator is of another class, a parameter cannot be tuned
    while training, or the net cannot be built.
    """
    net, prefix = _find_net(estimator)
    given = {_strip_prefix(prefix, name): values for name, values in (distributions or {}).items()}
    X, y = _transformed_rows(estimator, X, y)
    X, y = _take_rows(_first_rows(8, y, net), X, y)
    if isinstance(net, SelfTuningMixin):
        names, tuned = _from_self_tuning(net, given, X, y)
        run = clone(net).set_params(hyperparameters=tuned)
    else:
        names, run = _from_plain(net, given, X, y)
    start = _build_on_rows(run, X, y).tuning_.values()
    for name, value in start.items():
        if name == "sample_weight" or np.ndim(value):
            raise ValueError(
                f"{name!r} has a number for each row, class or weight, of which a search finds no "
                "average; fit the estimator itself, or tune it inside of BayesSearchCV"
            )
    values = {name: _round(value) for name, value in start.items()}
    if run.max_epochs <= run.warmup_epochs:
        raise ValueError(
            "max_epochs > warmup_epochs must hold for anything to be tuned, but got "
            f"max_epochs={run.max_epochs} and warmup_epochs={run.warmup_epochs}"
        )
    ranges = {name: run.hyperparameters[inner] for name, inner in names.items()}
    if prefix:
        whole = clone(estimator)
        run = whole.set_params(**{prefix.removesuffix("__"): run})
    return Runs(
        estimator=run,
        distributions={prefix + name: range_ for name, range_ in ranges.items()},
        starts=Starts(prefix, {prefix + name: inner for name, inner in names.items()}),
        first={prefix + name: values[inner] for name, inner in names.items()},
    )


def _round(value):
    """Round off the error of float32."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _find_net(estimator):
    """Return the net, and the prefix of its parameters."""
    found = inside(estimator)
    net = found.estimator
    if isinstance(net, SelfTuningMixin) or type(net) in (TorchClassifier, TorchRegressor):
        return net, found.prefix
    raise TypeError(
        "estimator must be a TorchClassifier, TorchRegressor, SelfTuningClassifier or "
        "SelfTuningRegressor, alone or inside of a Pipeline or a TransformedTargetRegressor, but "
        f"got {estimator!r}"
    )


def _strip_prefix(prefix, name):
    if not name.startswith(prefix):
        raise ValueError(
            f"{name!r} cannot be tuned while the network trains; in this pipeline names start "
            f"with {prefix!r}. Search it with BayesSearchCV"
        )
    return name.removeprefix(prefix)


def _transformed_rows(estimator, X, y):
    """Return some rows as the wrappers pass them to the net; all rows if there are no wrappers."""
    if not inside(estimator).names:
        return X, y
    rows = _first_rows(_ROWS, y, estimator)
    prepared = fit_wrappers(clone(estimator), *_take_rows(rows, X, y), {})
    return prepared.X, prepared.y


def _take_rows(rows, X, y):
    X = as_given(take_rows(with_rows(X, y), rows))
    return X, None if y is None else take_rows(y, rows)


def _first_rows(n, y, estimator):
    """Return the first rows, and one of each class."""
    if y is None:
        return np.arange(n)
    labels = np.asarray(y)
    rows = np.arange(min(n, len(labels)))
    if is_classifier(estimator) and labels.ndim == 1:
        rows = np.union1d(rows, np.unique(labels, return_index=True)[1])
    return rows


def _build_on_rows(net, X, y):
    """Return a copy of a net, built for some rows."""
    net = clone(net)
    if net.device == "auto":
        net.set_params(device="cpu")
    with ignoring(Warning):  # each run warns
        build(net, X, y)
    return net


def _from_self_tuning(net, given, X, y):
    """Return the names of hyperparameters by those of parameters, and the distributions."""
    for name in given:
        if not name.startswith(_OF_TUNED):
            check_names([name])
            raise ValueError(
                "a self-tuning estimator tunes its hyperparameters, whose names as parameters "
                f"start with {_OF_TUNED!r}, but got {name!r}; is it {_OF_TUNED + name!r}? What "
                "cannot be tuned while training is searched with BayesSearchCV"
            )
    tuned = {**(net.hyperparameters or {})}
    tuned |= {name.removeprefix(_OF_TUNED): values for name, values in given.items()}
    if not tuned:
        tuned = _build_on_rows(net, X, y)._distributions()
    return {_OF_TUNED + name: name for name in tuned}, tuned


def _from_plain(net, given, X, y):
    """Return the names of hyperparameters by those of parameters, and a self-tuning net."""
    if not given:
        raise ValueError(
            f"param_distributions must say what to tune of a {type(net).__name__}, but is empty"
        )
    names = {}
    for name in given:
        if name == _DECAY:
            _check_decay(net)
            names[name] = "weight_decay"
        elif name == "label_smoothing" and is_classifier(net):
            names[name] = name
        elif name.startswith("module__"):
            check_names([name])
            if isinstance(net.module, torch.nn.Module):
                raise ValueError(
                    f"{name!r} needs a module that is built anew, but module is an instance; give "
                    f"its class, or pass a {_self_tuning_name(net)}, which names layers"
                )
        else:
            _refuse(net, name)
    ranges = Ranges(given, _current_values(net, given))
    rates = {name for name in given if name not in names}
    names |= _layers_of_rates(net, rates, ranges, X, y)
    params = net.get_params(deep=False)
    if _DECAY in given:
        params.pop(_DECAY, None)
    if "label_smoothing" in given:
        params["label_smoothing"] = 0.0
    # Modules may leave out dropout layers with rate 0.
    params |= {name: value for name, value in _values_at(ranges, 0.3).items() if name in rates}
    starts = ranges.as_dict(ranges.start)
    cls = SelfTuningClassifier if is_classifier(net) else SelfTuningRegressor
    run = cls(
        warmup_epochs=_warmup(net.max_epochs),
        hyperparameters={names[name]: values for name, values in given.items()},
        initial={names[name]: _round(value) for name, value in starts.items()},
        **params,
    )
    if hasattr(net, "_metadata_request"):
        run._metadata_request = copy.deepcopy(net._metadata_request)
    return {name: names[name] for name in given}, run


def _warmup(n_epochs):
    """Return a warm-up that leaves most epochs for tuning; `fit` checks their number."""
    return min(_WARMUP, n_epochs // 3) if isinstance(n_epochs, int) and n_epochs > 0 else 0


def _check_decay(net):
    optimizer = resolve_optimizer(net.optimizer)
    decoupled = getattr(net, "optimizer__decoupled_weight_decay", False)
    if optimizer is torch.optim.AdamW or decoupled:
        raise ValueError(
            f"{_DECAY} is tuned as a penalty on the squared norm of the weights, which that of "
            f"optimizer={net.optimizer!r} is not; use optimizer='adam'"
        )


def _refuse(net, name):
    check_names([name])
    known = ["module__<a rate>", _DECAY] + ["label_smoothing"] * is_classifier(net)
    raise ValueError(
        f"of a {type(net).__name__} can be tuned while it trains: {', '.join(known)}; but got "
        f"{name!r}. For input noise, augmentation or the rate of a single layer pass a "
        f"{_self_tuning_name(net)}, whose parameter is {_OF_TUNED + name!r}"
    )


def _self_tuning_name(net):
    return "SelfTuningClassifier" if is_classifier(net) else "SelfTuningRegressor"


def _current_values(net, given):
    """Return the net's current values that lie inside their ranges."""
    params, inside = net.get_params(deep=True), {}
    for name, distribution in given.items():
        value = params.get(name)
        if not hasattr(distribution, "support") or not isinstance(value, int | float):
            continue
        low, high = distribution.support()
        if low < value < high:
            inside[name] = value
    return inside


def _values_at(ranges, share):
    """Return the values at a share of each range."""
    u = torch.full_like(ranges.start, np.log(share / (1 - share)))
    return ranges.as_dict(u)


def _layers_of_rates(net, names, ranges, X, y):
    """Find the layers whose rates the arguments of the module set, by changing one at a time."""
    if not names:
        return {}
    one, other = _values_at(ranges, 0.3), _values_at(ranges, 0.6)
    base = clone(net).set_params(**{name: one[name] for name in names})
    before = _tunable_numbers(_build_on_rows(base, X, y).module_)
    found = {}
    for name in sorted(names):
        after = _tunable_numbers(
            _build_on_rows(clone(base).set_params(**{name: other[name]}), X, y).module_
        )
        pair = one[name], other[name]
        places = [place for place in before if (before[place], after.get(place)) == pair]
        if not places:
            raise ValueError(
                f"{name!r} cannot be tuned while training, because it is the rate of no layer of "
                "the module (an argument must be passed on to layers as it is); search it with "
                "BayesSearchCV"
            )
        found[name] = "|".join(places)
    return found


def _tunable_numbers(module):
    """Return the rates of layers and the values of `HyperValue`s, by name."""
    numbers = {}
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        for attribute in ("p", "dropout", "weight_dropout"):
            if isinstance(getattr(layer, attribute, None), int | float):
                numbers[f"{prefix}{attribute}"] = getattr(layer, attribute)
        if isinstance(layer, HyperValue):
            numbers[layer.name] = layer.value
    return numbers
