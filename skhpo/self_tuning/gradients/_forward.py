"""Hyperparameters that follow the gradient through all training steps so far.

Notation: w are the weights, g the gradient of the training loss, u the unconstrained
hyperparameters, of which there are K. Z is a tangent, the derivative of w or of a part of the
optimizer's state for each of them.
"""

from __future__ import annotations

import torch

from ._unrolled import UnrolledRunner

__all__ = ["ForwardRunner"]

# Each number costs a product with the Hessian per step.
_MOST_NUMBERS = 20


class ForwardRunner(UnrolledRunner):
    """Carries derivatives along with training, in forward mode (Franceschi et al. 2017, RTHO).

    A step maps the tangents of weights and state to new ones; every `n_steps` steps the
    hyperparameters move. The horizon is the whole training, whose memory is that of K networks.
    """

    needs_graph_of_window = False

    def __init__(self, net, batches, valid, *, n_steps):
        super().__init__(net, batches, valid, n_steps=n_steps, train_steps=n_steps)
        position = self.tuning.position
        if self.valid is not None and len(position) > _MOST_NUMBERS:
            raise ValueError(
                f"mode='forward' is for at most {_MOST_NUMBERS} numbers, but there are "
                f"{len(position)}; use mode='reverse', or variant='implicit'"
            )

    def _differentiable_steps(self, window, after_batch):
        losses = []
        self.w, self.state = self.optimizer.gather()
        for batch in window:
            losses.append(self._step_with_tangents(batch))
            if after_batch is not None:
                after_batch()
        self.optimizer.scatter(self.w, self.state)
        return losses, self._move_along_tangents

    def _step_with_tangents(self, batch):
        """Update weights, state and tangents; return the loss."""
        tuning, before = self.tuning, {"w": self.w, **self.state}
        inputs = {key: part.detach().requires_grad_() for key, part in before.items()}
        state = {key: part for key, part in inputs.items() if key != "w"}
        w, state, loss = self.plain.step(inputs["w"], state, tuning.tensors(), batch, keep=True)
        tuning.tangents = _mapped(
            *([*inputs.values(), tuning.position], {"w": w, **state}, self._tangents())
        )
        self.w, self.state = w.detach(), {key: part.detach() for key, part in state.items()}
        return loss

    def _tangents(self):
        """Return the tangents; zeros before the first step, and after they were not finite."""
        before = self.tuning.tangents
        like = {"w": self.w, **self.state}
        fits = before is not None and all(
            before[key].shape[1:] == part.shape and before[key].isfinite().all()
            for key, part in like.items()
        )
        n = len(self.tuning.position)
        return (
            before if fits else {key: part.new_zeros(n, *part.shape) for key, part in like.items()}
        )

    def _move_along_tangents(self):
        tuning = self.tuning
        w = self.w.detach().requires_grad_()
        loss = self.validation_loss(tuning.tensors(), next(self.valid), self.optimizer.views(w))
        v, direct = torch.autograd.grad(
            loss, [w, tuning.position], allow_unused=True, materialize_grads=True
        )
        gradient = tuning.tangents["w"] @ v + direct
        if gradient.isfinite().all():
            tuning.move(gradient)


def _mapped(inputs, outputs, tangents):
    """Return the tangents of outputs, by two backward passes for each number of the last input.

    With v of the shapes of the outputs, the derivative of <outputs, v> for the inputs is linear in
    v; its derivative for v along a tangent of the inputs is that tangent mapped to the outputs.
    """
    v = [torch.zeros_like(part, requires_grad=True) for part in outputs.values()]
    back = torch.autograd.grad(
        list(outputs.values()), inputs, v, create_graph=True, materialize_grads=True
    )
    of_numbers = torch.eye(len(inputs[-1]), dtype=inputs[-1].dtype, device=inputs[-1].device)
    mapped = []
    for k, of_number in enumerate(of_numbers):
        along = [*(tangent[k] for tangent in tangents.values()), of_number]
        pairs = [(one, z) for one, z in zip(back, along, strict=True) if one.requires_grad]
        ends, starts = zip(*pairs, strict=True)
        mapped.append(
            torch.autograd.grad(ends, v, starts, retain_graph=True, materialize_grads=True)
        )
    columns = zip(*mapped, strict=True)
    return {key: torch.stack(column) for key, column in zip(outputs, columns, strict=True)}
