"""Group compatible networks, train each group in lockstep, fall back to single training."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..estimators.callbacks import begin_training, why_hooked
from ..estimators.fitting import (
    Findings,
    activate,
    goes_on,
    prepare_fit,
    return_to,
    run_epochs,
    snapshot,
)
from ..estimators.held_out import ARGUMENTS, one_argument
from ..faults import warn_of_mistake
from ..limits import FitTimeoutError, time_for
from ..training.batches import RowBatches
from ..training.data import SubsetRows
from ..training.engine import ActiveNetwork, train
from ..training.modes import usual_modes
from ._members import Member, graph_of, max_group_size, obstacle
from ._registry import LockstepError, log
from ._runner import LockstepRunner

__all__ = ["train_together"]


@usual_modes()
def train_together(members, *, most=None):
    """Train networks in place, those that share a graph in lockstep.

    Each network is the same as after training alone, up to rounding. Networks that cannot be
    trained in lockstep are trained alone; the logger "skhpo" gives the reason at level DEBUG.

    Parameters
    ----------
    members : list of Member
        The networks, unfitted or to be continued, each with its data.
    most : int or None, default=None
        Largest number of networks in a group; None is the best measured one for their size.

    Returns
    -------
    errors : list of (Exception or None)
        The error of the ``fit`` of each network.
    """
    errors = [None] * len(members)
    graphs, inputs, findings = {}, {}, Findings()
    for number, member in enumerate(members):
        with _recording(errors, number):
            reason = obstacle(member.net, member.fit_params)
            if reason is not None:
                _log_fallback(reason, 1)
                _fit(member)
                continue
            built = _build(number, member, findings)
            reason = _obstacle_of_data(built)
            if reason is not None:
                _log_fallback(reason, 1)
                _train_alone(built)
                continue
            _share_inputs(built, inputs)
            built.net._set_training(True)  # new networks share a graph with networks that go on
            graphs.setdefault(graph_of(built), []).append(built)
    for group in graphs.values():
        size = most or max_group_size(group[0].net)
        # Groups of about the same size.
        n_parts = -(-len(group) // size)
        for i in range(n_parts):
            _train(group[i::n_parts], errors)
    return errors


@dataclass(eq=False)
class _Built:
    """A member with a built network and checked data: training part, validation part, checks.

    `checkpoint` holds the previous state of a network that is continued.
    """

    number: int
    member: Member
    data: tuple
    network: ActiveNetwork
    checkpoint: dict | None

    @property
    def net(self):
        return self.member.net

    @property
    def batches(self):
        return self.network.batches


def _build(number, member, findings=None):
    net = member.net
    continuing = bool(net.initialized_) if member.continuing else goes_on(net)
    checkpoint = None
    if continuing:
        checkpoint = snapshot(net)
    weight, classes = (member.fit_params.get(name) for name in ("sample_weight", "classes"))
    validation = one_argument(**{k: v for k, v in member.fit_params.items() if k in ARGUMENTS})
    settings = {"validation": validation, "findings": None if continuing else findings}
    data = prepare_fit(net, member.X, member.y, weight, classes, continuing, {}, **settings)
    network = activate(net, data[0], data[2])
    return _Built(number, member, data, network, checkpoint)


def _obstacle_of_data(built):
    batches = built.batches
    if built.net.transforms_vary:
        return "what a transform makes of rows depends on earlier calls"
    reason = why_hooked(built.net, batches, built.data[1], {})
    if reason is not None:
        return reason
    if not isinstance(batches, RowBatches):
        return "a DataLoader makes the batches"
    if isinstance(batches.rows.source, Mapping):
        return "X is a dict"
    if batches.rows.are_items and (reason := _obstacle_of_items(batches.rows)) is not None:
        return reason
    if not len(batches):
        return "there is no batch"
    if batches.formats is None:
        return "inputs or targets of a batch are several tensors"
    if built.net.device_.type not in ("cpu", "cuda"):
        return f"device {built.net.device_} has no fused optimizers"
    if torch.is_autocast_enabled(built.net.device_.type):
        return "autocast is on"
    return None


def _obstacle_of_items(rows):
    if rows.targets is None:
        return "the targets of the Dataset are not known beforehand"
    if rows.reader.needs_loader:
        return "processes of a DataLoader read the items"
    if rows.formats is None:
        return "the items of the Dataset are no pairs of an array and a target"
    return None


def _share_inputs(built, inputs):
    """Let networks with the same array share its tensor."""
    X, rows = built.member.X, built.batches.rows
    if (
        isinstance(X, np.ndarray)
        and isinstance(rows.source, torch.Tensor)
        and len(rows.source) == len(X)
    ):
        key = id(X), rows.source.dtype, rows.source.device
        rows.source = inputs.setdefault(key, rows.source)
    elif isinstance(rows.source, SubsetRows) and rows.source.is_sent:
        key = id(X.array), rows.source.dtype, rows.source.tensor.device
        rows.source.tensor = inputs.setdefault(key, rows.source.tensor)


def _train(nets, errors):
    """Train networks that share a graph jointly; alone or in halves if that fails."""
    if len(nets) == 1:
        _log_fallback("no other net shares its graph", 1)
        with _recording(errors, nets[0].number):
            _train_alone(nets[0])
        return
    try:
        runner = LockstepRunner(nets)
    except LockstepError as reason:
        _log_fallback(reason, len(nets))
        for built in nets:
            with _recording(errors, built.number):
                _train_alone(built)
        return
    except Exception as error:
        _train_again(nets, error, errors)
        return
    for built in nets:
        begin_training(built.net, built.member.X, built.member.y)
    found = {}
    try:
        with time_for(len(nets)):
            train(runner.networks, runner, found)
    except FitTimeoutError as error:
        found |= {built.network: error for built in _unfinished(nets, found)}
    except (Exception, SystemExit) as error:
        lost = _unfinished(nets, found)
        _train_again(lost, error, errors)
        nets = [built for built in nets if built not in lost]
    for built in nets:
        errors[built.number] = found.get(built.network)
        if errors[built.number] is None:
            built.net.notify("on_train_end", X=built.member.X, y=built.member.y)


def _unfinished(nets, found):
    return [built for built in nets if not (built.network.is_done or built.network in found)]


def _train_again(nets, error, errors):
    """Train the networks of a group that failed: in halves if it was too large, else alone."""
    halved = _is_out_of_memory(error) and len(nets) > 1
    _log_fallback(f"{type(error).__name__}: {error}", len(nets))
    again = []
    for built in nets:
        with _recording(errors, built.number):
            with _restored(built):
                again.append(_build(built.number, built.member))
            if not halved:
                _train_alone(again.pop())
    if not (halved or any(errors[built.number] is not None for built in nets)):
        warn_of_mistake(error, f"{len(nets)} networks were trained one by one, not in lockstep")
    if again:
        half = len(again) // 2
        _train(again[:half], errors)
        _train(again[half:], errors)


@contextlib.contextmanager
def _restored(built):
    """Restore a network to its state before the group, with the same seed, within this context."""
    net = built.net
    given = net.random_state
    if built.checkpoint is not None:
        return_to(net, built.checkpoint)
    else:
        net.random_state = net.seed_
    try:
        yield
    finally:
        net.random_state = given


def _is_out_of_memory(error):
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _train_alone(built):
    member = built.member
    task = "partial_fit" if member.continuing else "fit"
    given = {"X": member.X, "y": member.y, "sample_weight": member.fit_params.get("sample_weight")}
    with time_for(1):
        run_epochs(built.net, *built.data, **given, task=task, fit_params={})


def _fit(member):
    fit = member.net.partial_fit if member.continuing else member.net.fit
    with time_for(1):
        fit(member.X, member.y, **member.fit_params)


def _log_fallback(reason, n_nets):
    log.debug("%d of the nets of a group are trained alone: %s", n_nets, reason)


@contextlib.contextmanager
def _recording(errors, number):
    try:
        yield
    except (Exception, SystemExit, FitTimeoutError) as error:
        errors[number] = error
