"""Gradients of a network's losses for all weights in one vector, and products with the Hessian.

Notation: w are the weights, h the hyperparameters, L the training loss, V the validation loss.
"""

from __future__ import annotations

import torch

__all__ = ["Curvature", "flat_gradient"]


class Curvature:
    """The Hessian of a training loss and its mixed derivative, by products only.

    Parameters
    ----------
    parts : list of callable
        Without arguments they return the parts whose sum is L: one for each batch. The graph of a
        single part is made once; those of several are made for each product, one at a time.
    weights : list of Tensor
        Leaves that require gradients.
    """

    def __init__(self, parts, weights):
        self.parts, self.weights = parts, weights
        self._kept = self._gradient_of(parts[0]) if len(parts) == 1 else None

    def _gradient_of(self, part):
        found = torch.autograd.grad(part(), self.weights, create_graph=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in found])

    def _gradients(self):
        if self._kept is not None:
            yield self._kept
        else:
            yield from map(self._gradient_of, self.parts)

    def gradient(self):
        """Return dL/dw."""
        return sum(gradient.detach() for gradient in self._gradients())

    def product(self, vector):
        """Return the product of the Hessian with a vector."""
        return sum(flat_gradient(g, self.weights, vector) for g in self._gradients())

    def mixed(self, vector, values):
        """Return the product of a vector with d2L/dw dh: a list of tensors like `values`.

        None stands for hyperparameters that L does not depend on.
        """
        total = [None] * len(values)
        for gradient in self._gradients():
            if not gradient.requires_grad:
                continue
            found = torch.autograd.grad(
                gradient, values, vector, retain_graph=self._kept is not None, allow_unused=True
            )
            pairs = zip(total, found, strict=True)
            total = [b if a is None else a if b is None else a + b for a, b in pairs]
        return total


def flat_gradient(output, weights, vector=None):
    """Return the gradient of `output` (times a vector) for all weights, as one vector."""
    if not output.requires_grad:
        return torch.cat([torch.zeros_like(w).flatten() for w in weights])
    found = torch.autograd.grad(
        output, weights, vector, retain_graph=vector is not None, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in found])
