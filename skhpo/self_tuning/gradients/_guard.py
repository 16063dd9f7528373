"""Windows of training that destroy the network are trained again, at lower rates."""

from __future__ import annotations

import math

import torch

__all__ = ["Snapshot", "has_diverged"]


def has_diverged(tuning, end, start):
    """Whether a window of training steps has undone what training had reached.

    The loss of its last batch, `end`, has crossed the middle between the first and the best such
    loss (the first one, until the best is half of it), or is not finite. `tuning` keeps both, as
    `levels`; `start` returns the loss of the same batch before the window. Losses of dead units are
    those of an untrained network, which this is below.
    """
    if not math.isfinite(end):
        return True
    if tuning.levels is None:
        first = start()
        tuning.levels = [first, first]
    first, best = tuning.levels
    has_learned = best < first - 0.5 * abs(first)
    limit = (first + best) / 2 if has_learned else first
    if end > limit and start() <= limit:
        return True
    tuning.levels = [first, min(best, end)]
    return False


class Snapshot:
    """Weights, buffers and the state of the optimizer, to go back to.

    `weights` are copies of the trained parameters by name.
    """

    def __init__(self, objective, optimizer):
        self._objective, self._optimizer = objective, optimizer
        trained = objective.trained().items()
        self.weights = {name: p.detach().clone() for name, p in trained}
        self._buffers = {name: b.clone() for name, b in objective.buffers.items()}
        self._states = {p: _copied(state) for p, state in optimizer.state.items()}

    @torch.no_grad()
    def restore(self):
        """Go back."""
        for name, parameter in self._objective.trained().items():
            parameter.copy_(self.weights[name])
        for name, buffer in self._objective.buffers.items():
            buffer.copy_(self._buffers[name])
        state = self._optimizer.state
        state.clear()
        state.update({p: _copied(kept) for p, kept in self._states.items()})


def _copied(state):
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
