"""The gradient of the validation loss of a trained network for hyperparameters of its training."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from ..._compat import StrOptions
from ...arguments import COUNT, NON_NEGATIVE, POSITIVE, check_arguments
from ...training.modes import usual_modes
from ._curvature import Curvature
from ._solvers import SOLVERS, solve
from ._trained import TrainedNetwork
from ._unwrapped import unwrapped

__all__ = ["Hypergradient", "hypergradient"]

_CONSTRAINTS = {
    "solver": [StrOptions(set(SOLVERS))],
    "n_terms": [COUNT],
    "step_size": [POSITIVE, None],
    "damping": [NON_NEGATIVE],
    "batch_size": [COUNT, None],
}
# Bytes of results of operations that are held at once where `batch_size` is None.
_BYTES_AT_ONCE = 2**28


@dataclass(frozen=True)
class Hypergradient:
    """What `hypergradient` returns.

    Parameters
    ----------
    gradient : dict of str to float or ndarray
        Derivatives of the validation loss for each hyperparameter.
    error : dict of str to float or ndarray
        Estimates of their absolute errors from solving the linear system approximately: what the
        residual contributes, by as many steps of conjugate gradients, with their own share of it
        left over. Infinite where these do not reduce the residual.
    values : dict of str to float or ndarray
        The values of the hyperparameters.
    valid_loss : float
    remaining : float
        Predicted change of the validation loss if training went on to the minimum of the training
        loss. Where it is large the gradient is not that of the trained network.
    residual : float
        Norm of the residual of the linear system as a share of that of its right side.
    n_products : int
        Products with the Hessian.
    step, damping : float
        Step of the series, and damping of the Hessian, that were used at last.
    diverged : bool
        Whether the given step, or the damping, had to be changed because terms grew.
    zero : dict of str to str
        Why a gradient is zero everywhere, for each hyperparameter for which it is.
    """

    gradient: dict[str, Any]
    error: dict[str, Any]
    values: dict[str, Any]
    valid_loss: float
    remaining: float
    residual: float
    n_products: int
    step: float
    damping: float
    diverged: bool
    zero: dict[str, str] = field(default_factory=dict)


def hypergradient(
    estimator,
    X,
    y,
    validation_data,
    names=None,
    *,
    values=None,
    sample_weight=None,
    solver="cg",
    n_terms=20,
    step_size=None,
    damping=0.0,
    batch_size=None,
):
    """Differentiate the validation loss of a trained network for its hyperparameters.

    By the implicit function theorem, at a minimum w of the training loss L the derivative of the
    validation loss V for hyperparameters h is ``-dV/dw (d2L/dw2)^-1 d2L/dw dh``. The linear system
    is solved by products with the Hessian, which is never formed.

    Parameters
    ----------
    estimator : TorchClassifier, TorchRegressor, SelfTuningClassifier or SelfTuningRegressor
        Fitted, until the training loss changes little; also inside of a `Pipeline`, whose
        transformers change the data, or a `TransformedTargetRegressor`.
    X : array-like of shape (n_samples, ...) or dict of str to array-like
        The data that it was trained on.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Its targets.
    validation_data : tuple (X, y)
        Data that the network was not trained on.
    names : list of str, default=None
        "weight_decay", "<layer>.weight_decay" (also of a single parameter), and the same with
        "[:]" for a strength of each weight; "label_smoothing", "class_weight" (one for each
        class), "sample_weight" (one for each row), "input_noise" and augmentations that shift,
        turn or colour; the name of a `HyperValue`; "criterion.<argument>" of a number. None: all
        that a self-tuning estimator has, "weight_decay" of another.
    values : dict of str to float or array-like, default=None
        Values with which the network was trained, where they are not those of the estimator.
    sample_weight : array-like of shape (n_samples,), default=None
        That of ``fit``.
    solver : {"cg", "neumann", "identity"}, default="cg"
        Conjugate gradients (Pedregosa 2016), the Neumann series (Lorraine et al. 2020), or a
        multiple of the identity for the inverse Hessian (Luketina et al. 2016).
    n_terms : int, default=20
        Terms of the series, or most steps of conjugate gradients.
    step_size : float or None, default=None
        Step of the series (below 2 / the largest eigenvalue), or the multiple of the identity. None
        estimates it, or is 1 for the identity.
    damping : float, default=0.0
        Multiple of the identity that is added to the Hessian. It is raised, with a warning, where
        the curvature is negative.
    batch_size : int or None, default=None
        Rows that pass the network at once. None: all, if their results fit into 256 MiB.

    Returns
    -------
    Hypergradient
        The derivatives, by name, and what they were computed from.

    Raises
    ------
    ValueError
        If a name is not in the training loss, or has no derivative there.

    Notes
    -----
    "weight_decay" of a plain estimator is that of its optimizer, on all parameters; that of a
    self-tuning one is on weights of at least two dimensions. The decoupled decay of "adamw" is not
    in the training loss.

    Dropout and input noise use one draw of random numbers; batch normalization normalizes by all
    rows that pass at once.

    References
    ----------
    Lorraine, Vicol, Duvenaud, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
    AISTATS 2020. Pedregosa, "Hyperparameter optimization with approximate gradient", ICML 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import TorchClassifier
    >>> from skhpo.self_tuning import hypergradient
    >>> X, y = load_iris(return_X_y=True)
    >>> net = TorchClassifier(optimizer="adam", optimizer__weight_decay=0.1, random_state=0)
    >>> net.fit(X[::2], y[::2])  # doctest: +ELLIPSIS
    TorchClassifier(...)
    >>> held_out = X[1::2], y[1::2]
    >>> found = hypergradient(net, X[::2], y[::2], held_out, ["weight_decay"], damping=1)
    >>> found.gradient["weight_decay"] > 0  # too strong
    True
    """
    check_arguments(
        *("hypergradient", _CONSTRAINTS),
        **{"solver": solver, "n_terms": n_terms, "step_size": step_size},
        **{"damping": damping, "batch_size": batch_size},
    )
    with usual_modes():
        if isinstance(validation_data, tuple | list) and len(validation_data) == 2:
            estimator, (X, y), validation_data = unwrapped(estimator, (X, y), validation_data)
        parts = validation_data, names, values or {}, sample_weight
        system = _System(TrainedNetwork(estimator, X, y, *parts), batch_size)
        return system.solve(solver, n_terms, step_size, damping)


class _System:
    """The linear system of the implicit function theorem, and the derivatives around it."""

    def __init__(self, trained, batch_size):
        self.trained = trained
        self.objective, self.h = trained.objective, trained.h
        self.batch_size = batch_size
        trained = self.objective.trained()
        self.weights = {k: p.detach().requires_grad_() for k, p in trained.items()}
        self.leaves = [self.h[name] for name in self.trained.names]

    def solve(self, solver, n_terms, step, damping):
        """Return the `Hypergradient`."""
        names, leaves = self.trained.names, self.leaves
        v, direct, valid_loss = self._validation()
        self.objective.module.train()
        curvature = Curvature(self._parts(), list(self.weights.values()))
        found = solve(solver, curvature.product, v, n_terms, step, damping)
        indirect = curvature.mixed(found.x, leaves)
        error, n_more = self._error(curvature, found, n_terms)
        zero, gradient = {}, {}
        for name, one, other in zip(names, direct, indirect, strict=True):
            terms = [part for part in (one, None if other is None else -other) if part is not None]
            gradient[name] = sum(terms, torch.zeros_like(self.h[name]))
            if not gradient[name].any():
                zero[name] = _why_zero(v, one is None and other is None)
        # The search for a step of its own is no news.
        given = step is not None and found.step != step
        diverged = found.restarts > 0 and (given or found.damping > damping)
        self._warn(zero, found if diverged else None)
        return Hypergradient(
            gradient=_plain(gradient),
            error=_plain(dict(zip(names, error, strict=True))),
            values=_plain({name: self.h[name] for name in names}),
            valid_loss=valid_loss,
            remaining=-float(found.x.dot(curvature.gradient())),
            residual=float(found.residual.norm() / v.norm()) if v.any() else 0.0,
            n_products=found.n_products + n_more,
            step=found.step,
            damping=found.damping,
            diverged=diverged,
            zero=zero,
        )

    def _error(self, curvature, found, n_terms):
        """Estimate the error of the gradient from the residual; return also the products."""
        leaves = self.leaves
        if not found.residual.any():
            return [torch.zeros_like(leaf) for leaf in leaves], 0
        more = solve("cg", curvature.product, found.residual, n_terms, None, found.damping)
        left = float(more.residual.norm() / found.residual.norm())
        factor = 1 / (1 - left) if left < 1 else math.inf
        parts = curvature.mixed(more.x, leaves)
        errors = [
            torch.zeros_like(leaf) if part is None else factor * part.abs()
            for leaf, part in zip(leaves, parts, strict=True)
        ]
        return errors, more.n_products

    def _chunks(self, rows):
        size = self.batch_size or max(1, _BYTES_AT_ONCE // (self.trained.net._row_bytes or 1))
        return torch.arange(len(rows)).split(size)

    def _parts(self):
        """Return the shares of the training loss, one for each batch."""
        objective, rows, net = self.objective, self.trained.rows, self.trained.net
        chunks, generator = self._chunks(rows), torch.Generator(net.device_)

        def share(number, index):
            X, y, weight = rows.take(index)
            generator.manual_seed(net.seed_ + number)
            with objective.drawing(net.seed_ + number):
                total = objective.training_loss(
                    self.h, X, y, weight, index, self.weights, generator
                )
            return total * (len(index) / len(rows))

        return [
            lambda number=number, index=index: share(number, index)
            for number, index in enumerate(chunks)
        ]

    def _validation(self):
        """Return dV/dw, the direct derivatives for hyperparameters, and V."""
        valid, weights = self.trained.valid, self.weights
        self.objective.module.eval()
        v, direct, loss = 0.0, [None] * len(self.leaves), 0.0
        tensors = [*weights.values(), *self.leaves]
        for index in self._chunks(valid):
            share = self.objective.validation_loss(self.h, *valid.take(index), weights)
            share = share * (len(index) / len(valid))
            found = torch.autograd.grad(share, tensors, allow_unused=True)
            pairs = zip(found, weights.values(), strict=False)
            v = v + torch.cat(
                [(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs]
            )
            pairs = zip(direct, found[len(weights) :], strict=True)
            direct = [b if a is None else a if b is None else a + b for a, b in pairs]
            loss += float(share.detach())
        return v, direct, loss

    def _warn(self, zero, found):
        for name, why in zero.items():
            warnings.warn(
                f"the gradient of the validation loss for {name!r} is zero: {why}", stacklevel=4
            )
        if found is not None:
            change = (
                f"with damping {found.damping:g}, because the curvature is negative in some "
                "direction: the network is not at a minimum of its training loss"
                if found.damping
                else f"with step {found.step:g}"
            )
            warnings.warn(
                f"the series for the hypergradient diverged, and was computed {change}",
                stacklevel=4,
            )


def _why_zero(v, absent):
    if not v.any():
        return "no weight changes the validation loss; the units may be saturated, or dead"
    if absent:
        return "the training loss does not depend on it"
    return (
        "no gradient of the training loss depends on it at these weights (a penalty on weights "
        "that are zero, or noise before dead units)"
    )


def _plain(tensors):
    """Return numbers and arrays."""
    arrays = {name: t.detach().cpu().numpy() for name, t in tensors.items()}
    return {name: array if array.ndim else float(array) for name, array in arrays.items()}
