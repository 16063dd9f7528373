"""Hyperparameters that follow the gradient through the last training steps."""

from __future__ import annotations

import contextlib
import itertools

import torch

from ...limits import check_time
from ...process import total_memory
from ._first_rates import FACTOR, best_power
from ._optimizers import FlatOptimizer, check_can_unroll
from ._runner import GradientRunner

__all__ = ["UnrolledRunner", "unrolled_bytes"]

# Vectors of all weights, and results of operations for a batch, that a step leaves in the graph;
# measured on MLPs and convolutions with Adam, rounded up.
_VECTORS_PER_STEP, _RESULTS_PER_STEP = 14, 2
# Optimizers for which the gradient is that of the average of a window; measured for learning rates
# of an MLP that start 30 times too small (docs/benchmarks/hypergradients.md).
_AVERAGED = (torch.optim.SGD,)


# Windows of the steps with which learning rates are compared before training, at most an epoch,
# and validation rows.
_FIRST_WINDOWS, _MOST_ROWS = 5, 1024


class UnrolledRunner(GradientRunner):
    """Differentiates through windows of `n_steps` training steps (Shaban et al. 2019).

    An epoch is divided into windows of about `n_steps` steps. After each of them the gradient of
    the loss of a batch of validation data goes back through its steps, those of the optimizer
    included, and the hyperparameters move.

    The end of a window is short-sighted: a smaller learning rate lowers the loss at once, by
    damping the noise of the last steps, and costs only later (Wu et al. 2018). For SGD the gradient
    is therefore that of the average of the weights of the window, in which the noise cancels. The
    steps of Adam and RMSprop do not shrink with the gradient, and in their average even far too
    long steps would cancel: there it is that of the last weights.
    """

    needs_graph_of_window = True

    def __init__(self, net, batches, valid, *, n_steps):
        super().__init__(net, batches, valid)
        self.n_steps = n_steps
        self.averages = isinstance(net.optimizer_, _AVERAGED)
        steps = self.tuning.effects.steps
        check_can_unroll(net.optimizer_, steps)
        self.rates = [name for name in steps if name.rpartition(".")[2] == "lr"]
        if self.rates and net.lr_scheduler is not None:
            raise ValueError(
                f"{self.rates[0]!r} is tuned, but lr_scheduler={net.lr_scheduler!r} sets it, "
                "too; leave one of them out"
            )
        if self.valid is not None and self.needs_graph_of_window:
            _check_memory(net, n_steps, batches.batch_size)

    def train(self, network, n_epochs, *, tunes):
        """Train and tune for an epoch; return the losses and sizes of the batches."""
        self.optimizer = FlatOptimizer(
            *(network.state.optimizer, self.objective.trained(), self.tuning.effects.steps)
        )
        self.w, self.state = self.optimizer.gather()
        if n_epochs == 0 and self.valid is not None:
            asked_for = self.net.initial or {}
            names = [name for name in self.rates if name not in asked_for]
            if names:
                self._search_rates(network, names)
        losses, sizes, window = [], [], []
        ends = self._window_ends(len(network.batches))
        try:
            for number, batch in enumerate(self.batches(network), start=1):
                check_time()
                window.append(batch)
                if not tunes or number in ends:
                    losses += self._train_window(network, n_epochs, window, tunes=tunes)
                    sizes += [len(batch[1]) for batch in window]
                    window = []
        finally:
            self.optimizer.scatter(self.w, self.state)
        return losses, sizes

    def _search_rates(self, network, names):
        """Move learning rates to the multiple of theirs that trains the fastest.

        From far below the gradient takes long, and far above the first steps destroy the network.
        The first steps are therefore tried before training, each time from the same start.
        """
        tuning, ranges = self.tuning, self.tuning.ranges
        values = {name: float(tuning.values()[name]) for name in names}

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
                return self._loss_after_first_steps(network, h)

        power = best_power(loss_at, may_be)
        with torch.no_grad():
            for name, value in multiple(power).items():
                tuning.part_of(name).fill_(ranges.unconstrained(name, value))

    @contextlib.contextmanager
    def _undone(self, state):
        """Restore weights, buffers and streams after this context."""
        buffers = {name: buffer.clone() for name, buffer in self.objective.buffers.items()}
        streams = {name: stream.state() for name, stream in state.streams.items()}
        try:
            yield
        finally:
            self.w, self.state = self.optimizer.gather()
            for name, buffer in self.objective.buffers.items():
                buffer.copy_(buffers[name])
            for name, before in streams.items():
                state.streams[name].set_state(before)

    def _loss_after_first_steps(self, network, h):
        """Return the validation loss after the first steps at given values."""
        w, state = self.w.requires_grad_(), self.state
        for batch in itertools.islice(self.batches(network), _FIRST_WINDOWS * self.n_steps):
            check_time()
            w, state, _ = self._step(w, state, h, batch, keep=False)
        rows, module = self.valid_rows, self.objective.module
        module.eval()
        with self.tuning_drawing, torch.no_grad():
            n = min(len(rows), _MOST_ROWS)  # evenly spaced: they may be sorted by class
            batch = rows.take(torch.arange(n) * len(rows) // n)
            loss = self.objective.validation_loss(h, *batch, self.optimizer.views(w))
        module.train()
        return float(loss)

    def _window_ends(self, n_batches):
        n_windows = max(1, round(n_batches / self.n_steps))
        return {round(n_batches * (i + 1) / n_windows) for i in range(n_windows)}

    def _train_window(self, network, n_epochs, window, *, tunes):
        tuning, losses, total = self.tuning, [], 0.0
        h = tuning.tensors() if tunes else self.current_values(n_epochs)
        w, state = self.w.requires_grad_(), self.state
        for batch in window:
            w, state, loss = self._step(w, state, h, batch, keep=tunes)
            losses.append(loss)
            total = total + w if self.averages else w
            tuning.n_steps += 1
            if network.each_batch:
                network.after_batch()
        if tunes:
            self._move(total / len(window) if self.averages else w)
        self.w, self.state = w.detach(), {key: part.detach() for key, part in state.items()}
        return losses

    def _step(self, w, state, h, batch, *, keep):
        """Return weights and state after a step, and the loss; with `keep` differentiable."""
        objective, parameters = self.objective, self.optimizer.views(w)
        with self.drawing:
            loss = objective.loss_without_penalty(
                *(h, *batch), w=parameters, generator=self.generator
            )
        objective.keep_buffers()
        total = loss + objective.penalty(h, parameters)
        (g,) = torch.autograd.grad(total, w, create_graph=keep)
        with contextlib.nullcontext() if keep else torch.no_grad():
            w, state = self.optimizer.step(w, g, state, h)
        return w if keep else w.requires_grad_(), state, loss.detach()

    def _move(self, w):
        """Update the hyperparameters by the gradient of a batch of validation data."""
        tuning, module = self.tuning, self.objective.module
        module.eval()
        with self.tuning_drawing:
            valid_loss = self.objective.validation_loss(
                *(tuning.tensors(), *next(self.valid)), self.optimizer.views(w)
            )
        module.train()
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
