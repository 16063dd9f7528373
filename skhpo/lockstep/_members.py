"""Which networks may be trained in lockstep, when that is faster, and how many at once."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from torch import nn

from ..estimators.feeding import zeros_for
from ..estimators.fitting import build, is_of_probabilities
from ..estimators.held_out import ARGUMENTS
from ..estimators.settings import (
    changed_settings,
    made_request_methods,
    own_classes,
    slices_batches,
)
from ..faults import warn_of_mistake
from ..modules import MLP, ConvNet, TabularMLP
from ..names import resolve_criterion, resolve_optimizer
from ..rows import DatasetRows
from ..training.batches import largest_batch
from ..training.forwarding import low_precision, resolve_device
from ..training.modes import usual_modes
from ..training.structure import copied, structure
from ._optimizers import OPTIMIZERS, settings_of

__all__ = [
    "Member",
    "built_for",
    "graph_of",
    "group_key",
    "max_group_size",
    "obstacle",
    "overridden",
    "pays",
]

# Settings of optimizers that may differ from network to network.
_FREE_SETTINGS = {
    *("lr", "betas", "eps", "weight_decay", "momentum", "dampening", "lr_multiplier"),
    *("max_momentum", "base_momentum", "max_lr", "min_lr", "alpha", "rho", "lambd", "t0"),
    *("momentum_decay", "lr_decay", "etas", "step_sizes"),
}

# Methods that a subclass may define without changing how a network is trained.
_FREE = {
    *("__init__", "__doc__", "__module__", "__qualname__", "__sklearn_tags__", "__parameters__"),
    *("__static_attributes__", "__firstlineno__", "__annotations__", "__slotnames__"),
    *("_sklearn_output_config", "_sklearn_auto_wrap_output_keys", "_doc_link_module"),
    *("_get_param_names", "get_params", "set_params", "check_data", "_estimator_type"),
    *("predict", "predict_proba", "score", "initialize_module", "initialize_criterion"),
    *("__abstractmethods__", "_abc_impl"),
}
# Arguments of the package's modules that may differ within a group.
_RATES = ("module__dropout", "module__input_dropout")
# Parameters that may change by a schedule.
_FOLLOWED = {"lr", "optimizer__weight_decay"}


# Measured (docs/benchmarks/lockstep.md and gpu.md): on a GPU larger groups gain nothing, on a CPU
# little, and leave more workers without one.
_MOST = {"cpu": 30, "cuda": 128}
# Memory of a group: on a GPU a share of all memory, not of the free one, which differs from run to
# run.
_SHARE = 0.25
_CPU_BYTES = 2**29
# From these sizes on arithmetic takes more time on a CPU than the overhead of operations.
_MOST_PRODUCTS = 8 * 10**6
_MOST_PARAMETERS = 125_000
# Assumed size of a batch of all rows.
_ROWS = 1024
# Values per parameter of a network: itself, its gradient, and two of the optimizer.
_COPIES = 4


@dataclass
class Member:
    """One network of a group, and its training data.

    `train_together` trains the networks of a list of members. They may differ in their data, and
    in all that does not change the graph of the network.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
        Unfitted, or fitted and to be continued.
    X, y : array-like
        As of ``net.fit``.
    fit_params : dict, default={}
        Further arguments of ``net.fit``: ``sample_weight``, ....
    continuing : bool, default=False
        Whether to train as ``net.partial_fit`` does, for ``net.max_epochs`` more epochs.

    See Also
    --------
    train_together : Trains members in lockstep.
    predict_together : Outputs of several networks.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import TorchClassifier
    >>> from skhpo.lockstep import Member, train_together
    >>> X, y = load_iris(return_X_y=True)
    >>> nets = [TorchClassifier(lr=lr, max_epochs=1, random_state=0) for lr in (1e-3, 1e-2)]
    >>> train_together([Member(net, X, y) for net in nets])
    [None, None]
    """

    net: Any
    X: Any
    y: Any
    fit_params: dict = field(default_factory=dict)
    continuing: bool = False


def obstacle(net, fit_params=()):
    """Return why a network can never be trained in lockstep, judged by its parameters.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
    fit_params : iterable of str, default=()
        Names of further arguments of ``fit``.

    Returns
    -------
    reason : str or None
        None if no reason is known.
    """
    try:
        return _obstacle(net, fit_params)
    except ValueError as error:  # a value that fit will reject
        return str(error)


def _obstacle(net, fit_params):
    anew = overridden(type(net))
    if anew:
        return f"{type(net).__name__} overrides {', '.join(anew)}"
    if net.has_own_epochs:
        return f"{type(net).__name__} has training steps of its own"
    if net.callbacks and net.callbacks != "disable":
        return "callbacks look into each batch"
    if changed_settings(net, "callbacks") or hasattr(net, "_skl_callbacks"):
        return "callbacks look into each epoch"
    forwarded = sorted(set(fit_params) - {"sample_weight", "classes", *ARGUMENTS})
    if forwarded:
        return f"{', '.join(forwarded)} is passed to the module's forward"
    if net.train_split:
        return f"train_split={net.train_split!r} scores through skorch's own loop"
    if not slices_batches(net):
        return "dataset, iterator_train or get_split_datasets feeds rows one by one"
    if net.collate is not None:
        return f"collate={net.collate!r} makes the batches"
    changing = sorted(set(net.hyperparameter_schedule or ()) - _FOLLOWED)
    if changing:
        return f"hyperparameter_schedule changes {changing[0]}, which lockstep does not follow"
    for name in ("compile", "verbose"):
        if getattr(net, name):
            return f"{name}={getattr(net, name)!r} is for single networks"
    if resolve_optimizer(net.optimizer) not in OPTIMIZERS:
        known = ", ".join(sorted(cls.__name__ for cls in OPTIMIZERS))
        return f"optimizer={net.optimizer!r} has no lockstep form; {known} have"
    for option in ("differentiable", "capturable"):
        if vars(net).get(f"optimizer__{option}"):
            return f"optimizer__{option}=True is for single networks"
    criterion = resolve_criterion(net.criterion)
    kind = criterion if isinstance(criterion, type) else type(criterion)
    if not kind.__module__.startswith("torch.nn.modules.loss"):
        return f"criterion={net.criterion!r} is not one of torch's"
    return None


def overridden(cls):
    """Return the methods and attributes of a net that classes outside this package override."""
    of_user = own_classes(cls)
    own = (set(vars(base)) - set(made_request_methods(base)) for base in of_user)
    known = [base for base in cls.__mro__ if base not in of_user]
    names = set().union(*own) - _FREE
    return sorted(name for name in names if any(name in vars(base) for base in known))


def group_key(net) -> Hashable:
    """Return a hashable key that all networks of a group share, judged by their parameters.

    Networks with different keys never share a graph; networks with the same key may still have
    different graphs, which `train_together` detects.
    """
    settings = {f"module__{k}": v for k, v in changed_settings(net, "module").items()}
    of_module = []
    for name, value in sorted(settings.items()):
        if net.module in (MLP, ConvNet, TabularMLP) and name in _RATES:
            of_module.append((name, bool(value)))
        elif isinstance(value, bool | int | str | tuple | type(None)):
            of_module.append((name, _hashable(value)))
    module = id(net.module) if isinstance(net.module, torch.nn.Module) else net.module
    plain = ("criterion", "optimizer", "batch_size", "accumulate", "device", "amp")
    return (
        type(net),
        _hashable(module),
        tuple(of_module),
        tuple(_hashable(getattr(net, name)) for name in plain),
        _hashable(sorted(changed_settings(net, "iterator_train").items())),
    )


def _hashable(value):
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def graph_of(run):
    """Return a hashable description of everything that networks of a group must share."""
    net, state = run.net, run.network.state
    smoothing = ("label_smoothing",) if isinstance(net.criterion_, nn.CrossEntropyLoss) else ()
    positions = {id(p): name for name, p in net.module_.named_parameters()}
    groups = tuple(
        (
            tuple(positions.get(id(p)) for p in group["params"]),
            tuple((k, v) for k, v in setting if k not in _FREE_SETTINGS),
            bool(group.get("momentum")),
        )
        for group, setting in zip(
            net.optimizer_.param_groups, settings_of(net.optimizer_), strict=True
        )
    )
    frozen = tuple(state.frozen_until.items())
    return (
        type(net),
        structure(net.module_, rated=True),
        structure(net.criterion_, smoothing),
        is_of_probabilities(net),
        type(net.optimizer_),
        groups,
        frozen and (frozen, state.counters.n_epochs),
        run.batches.batch_size,
        net.accumulate,
        run.batches.formats,
        run.batches.rows.formats,
        net.device_,
        low_precision(net.amp, net.device_),
    )


def pays(net, n_members):
    """Return how many networks like this one to train jointly; 1 if that would not be faster.

    At most 30 on a CPU and 128 on a GPU, and no more than fit into 512 MiB, or a quarter of the
    GPU's memory. On a CPU 1, if its linear layers and convolutions have more than 8 million
    multiplications in the forward pass of a batch, or it has more than 125,000 parameters.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
        Its size is only known if it is built.
    n_members : int
        Number of nets to train.

    Returns
    -------
    size : int
    """
    if obstacle(net) is not None:
        return 1
    if net.initialized_ and net.device_.type == "cpu" and _is_arithmetic(net):
        return 1
    return max(1, min(n_members, _most(net)))


def _is_arithmetic(net):
    batch_size = _ROWS if net.batch_size == -1 else net.batch_size
    n_parameters = sum(p.numel() for p in net.module_.parameters())
    return n_parameters > _MOST_PARAMETERS or batch_size * _products(net) > _MOST_PRODUCTS


def _products(net):
    """Return the multiplications for a row in linear layers and convolutions."""
    if net.input_shape_ is None:
        return 0
    calls = []

    def note(layer, args, output):
        calls.append((layer, output.shape[1:]))

    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    try:
        module = copied(net.module_).eval()
        for layer in module.modules():
            if isinstance(layer, kinds):
                layer.register_forward_hook(note)
        with torch.no_grad():
            module(zeros_for(net))
    except Exception as error:  # the error is raised where the net is trained
        warn_of_mistake(error, "the work of a network is not known")
        return 0
    # Each output value is a sum of as many products as a unit has weights.
    return sum(math.prod(shape) * layer.weight[0].numel() for layer, shape in calls)


def max_group_size(net):
    """Return how many networks like this built one go into a group, at least two."""
    return max(2, _most(net))


def _most(net):
    try:
        device = getattr(net, "device_", None) or resolve_device(net.device)
    except ValueError:
        return 1  # fit will raise the error
    most = _MOST.get(device.type, _MOST["cpu"])
    if not net.initialized_:
        return most
    room = _CPU_BYTES
    if device.type == "cuda":
        room = _SHARE * torch.cuda.mem_get_info(device)[1]
    return min(most, int(room / _bytes_of(net)))


def _bytes_of(net):
    """Estimate the memory of a network of a group."""
    batch_size = _ROWS if net.batch_size == -1 else largest_batch(net.batch_size)
    of_row = 4 * math.prod(net.input_shape_ or (1,)) * _COPIES
    of_parameters = sum(p.numel() * p.element_size() for p in net.module_.parameters())
    return max(1, _COPIES * of_parameters + batch_size * of_row)


@usual_modes()
def built_for(net, X, y):
    """Return a copy of a network, built for such data without an optimizer; None if that fails.

    Only the shape of `X` and its type, if numeric, are used: in a pipeline the network gets other
    data, most often of that shape. Of a dataset a few items are read.
    """
    y = np.asarray(y)
    rows = np.arange(min(8, len(y)))
    if is_classifier(net) and y.ndim == 1:
        rows = np.unique(y, return_index=True)[1]
    dtype = getattr(X, "dtype", None)
    numbers = getattr(dtype, "kind", "O") in "fiu"
    if isinstance(X, DatasetRows):
        few = X[rows].given()
    elif isinstance(X, list | tuple) and _has_lengths(X):
        return None  # sequences of different lengths, which nothing collates: the fit says so
    else:
        few = np.zeros((len(rows), *np.shape(X)[1:]), dtype=dtype if numbers else np.float32)
    net = clone(net)
    try:
        build(net, few, y[rows], optimizer=False)
    except Exception as error:  # the fit raises it again
        warn_of_mistake(error, "the size of a network is not known")
        return None
    return net


def _has_lengths(rows):
    """Whether the rows of a list have different lengths."""
    return len({len(one) if hasattr(one, "__len__") else None for one in rows}) > 1
