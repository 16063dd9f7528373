"""Hyperparameters that follow the gradient through the last training steps."""

from __future__ import annotations

import contextlib
import itertools

import torch

from ...limits import check_time
from ...process import total_memory
from ._first_rates import FACTOR, best_power
from ._guard import Snapshot, has_diverged
from ._optimizers import FlatOptimizer, check_can_unroll
from ._plain_steps import PlainSteps
from ._runner import GradientRunner

__all__ = ["UnrolledRunner", "unrolled_bytes"]

# Vectors of all weights, and results of operations for a batch, that a step leaves in the graph;
# measured on MLPs and convolutions with Adam, rounded up.
_VECTORS_PER_STEP, _RESULTS_PER_STEP = 14, 2
# Optimizers for which the gradient is that of the average of a window; measured for learning rates
# of an MLP that start 30 times too small (docs/benchmarks/hypergradients.md).
_AVERAGED = (torch.optim.SGD,)


# Steps with which learning rates are compared before training, at most so many epochs, and
# validation rows.
_FIRST_STEPS, _FIRST_EPOCHS, _MOST_ROWS = 50, 15, 1024
# Multiple of the smallest loss in these steps up to which a smaller rate is as good: noise of the
# steps costs later, and does not shrink with the gradient unless the steps do.
_NEARLY, _NEARLY_OF_AVERAGED = 1.15, 1.1
# With learning rates and other settings of the optimizer alone, one window of so many is unrolled:
# rates are found before training, and move slowly (docs/benchmarks/hypergradients.md).
_WINDOWS_OF_SETTINGS = 8
# Factor of rates after a window that destroyed the network, and tries of a window.
_LOWER, _MOST_TRIES = 0.5, 10


class UnrolledRunner(GradientRunner):
    """Differentiates through windows of `n_steps` training steps (Shaban et al. 2019).

    An epoch is divided into windows of about `n_steps` steps. After some of them, on average one in
    `train_steps` steps, the gradient of the loss of a batch of validation data goes back through
    the window's steps, those of the optimizer included, and the hyperparameters move. The others
    are trained without autograd, where all layers have rules.

    Where learning rates are tuned, a window that destroyed the network is trained again at half of
    them.

    The end of a window is short-sighted: a smaller learning rate lowers the loss at once, by
    damping the noise of the last steps, and costs only later (Wu et al. 2018). For SGD the gradient
    is therefore that of the average of the weights of the window, in which the noise cancels, and
    first rates are compared by such an average, too. The steps of Adam and RMSprop do not shrink
    with the gradient, and in their average even far too long steps would cancel: there it is that
    of the last weights.
    """

    needs_graph_of_window = True

    def __init__(self, net, batches, valid, *, n_steps, train_steps=None):
        super().__init__(net, batches, valid)
        self.n_steps = n_steps
        self.plain = PlainSteps(*(net, batches, self.objective, self.drawing, self.generator))
        self.averages = isinstance(net.optimizer_, _AVERAGED)
        steps = self.tuning.effects.steps
        check_can_unroll(net.optimizer_, steps)
        self.rates = [name for name in steps if name.rpartition(".")[2] == "lr"]
        if self.rates and net.lr_scheduler is not None:
            raise ValueError(
                f"{self.rates[0]!r} is tuned, but lr_scheduler={net.lr_scheduler!r} sets it, "
                "too; leave one of them out"
            )
        if train_steps is None:
            only_settings = set(steps) == set(self.tuning.names)
            self.every = _WINDOWS_OF_SETTINGS if only_settings else 1
        else:
            self.every = max(1, round(train_steps / n_steps))
        if self.valid is not None and self.needs_graph_of_window:
            _check_memory(net, n_steps, max(batches.sizes(), default=0))

    def train(self, network, n_epochs, *, tunes):
        """Train and tune for an epoch; return the losses and sizes of the batches."""
        self.optimizer = FlatOptimizer(
            *(network.state.optimizer, self.objective.trained(), self.tuning.effects.steps)
        )
        self.plain.begin_epoch(self.optimizer, self.current_values(n_epochs))
        if n_epochs == 0 and self.valid is not None:
            asked_for = self.net.initial or {}
            names = [name for name in self.rates if name not in asked_for]
            if names:
                self._search_rates(network, names)
        losses, sizes, window = [], [], []
        n_windows, done = max(1, round(len(network.batches) / self.n_steps)), 0
        ends = {round(len(network.batches) * (i + 1) / n_windows) for i in range(n_windows)}
        for number, batch in enumerate(self.batches(network), start=1):
            window.append(batch)
            if number in ends:
                # The first one after half of them, for short runs.
                number_of_window = n_epochs * n_windows + done + 1 + self.every // 2
                due = tunes and number_of_window % self.every == 0
                losses += self._train_window(network, n_epochs, window, tunes=tunes, due=due)
                sizes += [len(batch[1]) for batch in window]
                done, window = done + 1, []
        return losses, sizes

    def _search_rates(self, network, names):
        """Move learning rates to the multiple of theirs that trains the fastest.

        From far below the gradient takes long, and far above the first steps destroy the network.
        The first steps are therefore tried before training, each time from the same start.
        """
        tuning, ranges = self.tuning, self.tuning.ranges
        values = {name: float(tuning.values()[name]) for name in names}
        n_steps = min(_FIRST_STEPS, _FIRST_EPOCHS * len(network.batches))

        def multiple(power):
            return {name: value * FACTOR**power for name, value in values.items()}

        def may_be(power):
            pairs = [(ranges.support(name), value) for name, value in multiple(power).items()]
            return all(low < value < high for (low, high), value in pairs)

        def loss_at(power):
            h = {k: v.detach() for k, v in tuning.tensors().items()}
            for name, value in multiple(power).items():
                h[name] = torch.full_like(h[name], value)
            with self._undone(network.state):
                return self._loss_of_rows(h, self._trained_for(network, h, n_steps))

        nearly = _NEARLY_OF_AVERAGED if self.averages else _NEARLY
        first = self._loss_of_rows(tuning.tensors())
        power = best_power(loss_at, may_be, first, nearly)
        with torch.no_grad():
            for name, value in multiple(power).items():
                tuning.part_of(name).fill_(ranges.unconstrained(name, value))
        self._current = None, None

    def _trained_for(self, network, h, n_steps):
        """Train for some steps; return None, or the average of the weights of the last ones."""
        epochs = (self.batches(network) for _ in itertools.count())
        batches = itertools.chain.from_iterable(epochs)
        if not self.averages:
            self.plain.run(h, itertools.islice(batches, n_steps))
            return None
        n_last = min(self.n_steps, n_steps)
        self.plain.run(h, itertools.islice(batches, n_steps - n_last))
        trained = self.objective.trained()
        total = {name: torch.zeros_like(p.detach()) for name, p in trained.items()}
        for batch in itertools.islice(batches, n_last):
            self.plain.run(h, [batch])
            with torch.no_grad():
                torch._foreach_add_(list(total.values()), list(trained.values()), alpha=1 / n_last)
        return total

    @contextlib.contextmanager
    def _undone(self, state):
        """Restore weights, the state of the optimizer, buffers and streams after this context."""
        streams = {name: stream.state() for name, stream in state.streams.items()}
        before = Snapshot(self.objective, state.optimizer)
        try:
            yield
        finally:
            before.restore()
            for name, kept in streams.items():
                state.streams[name].set_state(kept)

    def _loss_of_rows(self, h, weights=None):
        """Return the loss of some validation rows; weights of None are those of the module."""
        rows = self.valid_rows
        n = min(len(rows), _MOST_ROWS)  # evenly spaced: they may be sorted by class
        return self._loss_of(h, rows.take(torch.arange(n) * len(rows) // n), weights)

    def _loss_of(self, h, batch, weights=None):
        with torch.no_grad():
            return float(self.validation_loss(h, batch, weights))

    def _train_window(self, network, n_epochs, window, *, tunes, due):
        """Train with some batches, and move the hyperparameters if it is `due`."""
        after_batch = network.after_batch if network.each_batch else None
        guards = tunes and bool(self.rates)
        for _ in range(_MOST_TRIES):
            before = Snapshot(self.objective, network.state.optimizer) if guards else None
            tangents = self.tuning.tangents
            if due:
                losses, move = self._differentiable_steps(window, after_batch)
            else:
                h = self.current_values(n_epochs)
                losses, move = self.plain.run(h, window, after_batch), None
            if not guards or not self._has_diverged(window[-1][:3], before):
                break
            before.restore()
            self.tuning.tangents = tangents
            self._lower_rates()
        self.tuning.n_steps += len(window)
        if move is not None:
            move()
        return losses

    def _has_diverged(self, batch, before):
        h = self.current_values(0)
        return has_diverged(
            *(self.tuning, self._loss_of(h, batch)),
            lambda: self._loss_of(h, batch, before.weights),
        )

    @torch.no_grad()
    def _lower_rates(self):
        ranges, tuning = self.tuning.ranges, self.tuning
        for name in self.rates:
            low, _ = ranges.support(name)
            value = max(low, _LOWER * float(tuning.tensors()[name]))
            tuning.part_of(name).fill_(ranges.unconstrained(name, value))
        self._current = None, None

    def _differentiable_steps(self, window, after_batch):
        """Return the losses of a window, and the function that moves the hyperparameters by it."""
        h, losses, total = self.tuning.tensors(), [], 0.0
        w, state = self.optimizer.gather()
        for batch in window:
            check_time()
            w, state, loss = self.plain.step(
                w if losses else w.requires_grad_(), state, h, batch, keep=True
            )
            losses.append(loss)
            total = total + w if self.averages else w
            if after_batch is not None:
                after_batch()
        self.optimizer.scatter(w, state)
        of_validation = total / len(window) if self.averages else w
        return losses, lambda: self._move(of_validation)

    def _move(self, w):
        """Update the hyperparameters by the gradient of a batch of validation data."""
        tuning = self.tuning
        valid_loss = self.validation_loss(
            tuning.tensors(), next(self.valid), self.optimizer.views(w)
        )
        (gradient,) = torch.autograd.grad(
            valid_loss, [tuning.position], allow_unused=True, materialize_grads=True
        )
        if gradient.isfinite().all():
            tuning.move(gradient)


def unrolled_bytes(net, n_steps, batch_size):
    """Estimate the memory of the graph of some training steps."""
    parameters = list(net.module_.parameters())
    weights = sum(p.numel() * p.element_size() for p in parameters)
    results = (net._row_bytes or 0) * batch_size
    return n_steps * (_VECTORS_PER_STEP * weights + _RESULTS_PER_STEP * results)


def _check_memory(net, n_steps, batch_size):
    needed = unrolled_bytes(net, n_steps, batch_size)
    if net.device_.type == "cuda":
        there = torch.cuda.mem_get_info(net.device_)[0]
    else:
        there = total_memory()
    if there is not None and needed > there:
        raise ValueError(
            f"the graph of n_steps={n_steps} training steps needs about {needed / 2**30:.1f} GiB, "
            f"but there are {there / 2**30:.1f}; lower n_steps to "
            f"{max(1, int(n_steps * there / needed))}, or use variant='implicit'"
        )
