"""Gradients of a network's losses for all weights in one vector, and products with the Hessian.

Notation: w are the weights, h the hyperparameters, L the training loss, V the validation loss.
"""

from __future__ import annotations

import torch

__all__ = ["Curvature", "StepCurvature", "flat_gradient"]


class Curvature:
    """The Hessian of a training loss and its mixed derivative, by products only.

    `parts` are functions without arguments that return the parts whose sum is L: one for each
    batch. The graph of a single part is made once; those of several are made for each product, one
    at a time.
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


class StepCurvature:
    """The Hessian and the mixed derivative of a training step's own batch.

    Vectors are lists of tensors like the weights, so that none is copied. `gradients` are those of
    the loss without penalties, with their graph, or None; `h` are values as a function of
    `position`. Penalties are quadratic: they have closed forms, and no graph.
    """

    def __init__(self, gradients, weights, objective, h, position):
        pairs = zip(gradients, weights, strict=True)
        self._known = [i for i, (g, _) in enumerate(pairs) if g is not None and g.requires_grad]
        self._gradients, self.weights = gradients, weights
        self._objective, self._h, self._position = objective, h, position

    def product(self, x, keeps=True):
        """Return the product of the Hessian with x, and that of x with d2L/dw du, or None.

        Without `keeps` the graph is freed: it is the last product.
        """
        weights = self.weights
        x_of = dict(zip(weights, x, strict=True))
        image, mixed = [None] * len(weights), None
        of_penalty = self._objective.mixed_of_penalty(self._h, x_of)
        if of_penalty is not None:
            (mixed,) = torch.autograd.grad(of_penalty, [self._position], retain_graph=True)
        if self._known:
            *image, own = torch.autograd.grad(
                [self._gradients[i] for i in self._known],
                [*weights, self._position],
                [x[i] for i in self._known],
                retain_graph=keeps,
                allow_unused=True,
            )
            mixed = own if mixed is None else mixed if own is None else mixed + own
        pairs = zip(image, weights, strict=True)
        image = [torch.zeros_like(w) if part is None else part for part, w in pairs]
        self._objective.add_gradients_of_penalty(
            self._h, dict(zip(weights, image, strict=True)), x_of
        )
        return image, mixed

    def product_of_vector(self, x):
        """Return the product of the Hessian with x, both as one vector."""
        parts = x.split([w.numel() for w in self.weights])
        pairs = zip(parts, self.weights, strict=True)
        image, _ = self.product([part.view_as(w) for part, w in pairs])
        return torch.cat([part.flatten() for part in image])


def flat_gradient(output, weights, vector=None):
    """Return the gradient of `output` (times a vector) for all weights, as one vector."""
    if not output.requires_grad:
        return torch.cat([torch.zeros_like(w).flatten() for w in weights])
    found = torch.autograd.grad(
        output, weights, vector, retain_graph=vector is not None, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in found])
