"""The variants of self-tuning: the state and the runner of each."""

from __future__ import annotations

from ._arguments import N_TERMS, RESPONDING, value_of
from ._runner import TuningRunner
from ._tuning import Tuning
from .gradients import (
    ForwardRunner,
    GlobalRunner,
    GradientTuning,
    ImplicitRunner,
    UnrolledRunner,
)

__all__ = ["make_runner", "make_tuning"]


def make_tuning(net, distributions):
    """Make the tuning state of an estimator whose module is made."""
    return (Tuning if net.variant in RESPONDING else GradientTuning)(net, distributions)


def make_runner(net, batches, valid):
    """Make the runner of an estimator's epochs; `valid` is None where nothing is tuned."""
    if net.variant in RESPONDING:
        return TuningRunner(net, batches, valid, value_of(net, "train_steps"))
    if net.variant == "unrolled":
        n_steps = value_of(net, "n_steps")
        if value_of(net, "mode") == "forward":
            return ForwardRunner(net, batches, valid, n_steps=n_steps)
        return UnrolledRunner(net, batches, valid, n_steps=n_steps, train_steps=net.train_steps)
    if net.variant == "global":
        return GlobalRunner(net, batches, valid, train_steps=value_of(net, "train_steps"))
    solver = value_of(net, "solver")
    n_terms = N_TERMS[solver] if net.n_terms is None else net.n_terms
    settings = {"train_steps": value_of(net, "train_steps"), "solver": solver, "n_terms": n_terms}
    return ImplicitRunner(net, batches, valid, **settings)
