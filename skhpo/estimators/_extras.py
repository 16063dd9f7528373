"""What goes on beside the steps of the optimizer."""

from __future__ import annotations

from ..training.weights import constrain_rows

__all__ = ["Extras"]


class Extras:
    """Freezing, constraints, the schedule and the checks of one call of ``fit``.

    Parameters
    ----------
    net : estimator
    checks : Checks or None

    Attributes
    ----------
    each_batch : bool
        Whether `after_batch` does anything.
    """

    def __init__(self, net, checks):
        self.net = net
        self.checks = checks
        self.schedule = net.lr_schedule_
        self.weights = []
        if net.max_norm is not None:
            self.weights = [p for _, p in net.get_all_learnable_params() if p.ndim > 1]
        steps = self.schedule is not None and self.schedule.every_batch
        looks = checks is not None and net.check_every is not None
        self.each_batch = bool(self.weights or steps or looks)

    @property
    def stopped(self):
        """Whether patience has run out."""
        return self.checks is not None and self.net._counters["stopped"]

    def begin_epoch(self):
        """Before the first batch."""
        self.net._freeze_and_thaw()
        if self.checks is not None:
            self.checks.begin_epoch()

    def after_batch(self):
        """After a step of the optimizer."""
        if not self.each_batch:
            return
        counters = self.net._counters
        counters["n_batches"] += 1
        if self.weights:
            constrain_rows([p for p in self.weights if p.requires_grad], self.net.max_norm)
        if self.checks is not None:
            self.checks.after_batch(counters["n_batches"])
        if self.schedule is not None:
            self.schedule.after_batch(counters["n_batches"])

    def end_epoch(self):
        """After the last batch, while the epoch's row of the history is written."""
        if self.schedule is not None:
            self.net.history.record("lr", float(self.net.optimizer_.param_groups[0]["lr"]))
        if self.checks is not None:
            self.checks.end_epoch()

    def after_epoch(self):
        """Once the epoch counts as trained."""
        if self.schedule is not None:
            self.schedule.after_epoch(self.net.n_iter_, self.net._counters["last"])
