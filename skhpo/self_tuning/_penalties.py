"""Penalties on weights and activations, with a strength per example."""

from __future__ import annotations

import torch

__all__ = ["Decay", "activity_penalty"]


class Decay:
    """L2 penalties on layers whose weights respond, with a strength per example.

    The penalty of a layer is the mean over the examples of strength / 2 times the squared norm of
    their weights: with s = V r, the sum over rows of |W_e|^2 + 2 s <W_e, W_h> + s^2 |W_h|^2. It
    depends on the moments of r only, so that no tensor per example is needed; its gradient is
    added in closed form. `places` are pairs of a layer and the hyperparameter that is its strength.
    """

    def __init__(self, places):
        self.names = list(dict.fromkeys(name for _, name in places))
        self.parts = [part for layer, _ in places for part in layer.penalised()]
        indices = [self.names.index(name) for layer, name in places for _ in layer.penalised()]
        self._name_of_part, self._bound = indices, None
        self._sizes = [part.n_rows for part in self.parts]
        scales = [part.response.detach() for part in self.parts]
        # V, without C.
        self._scales = [v[:n] for v, n in zip(scales, self._sizes, strict=True)]
        self._weights = [_by_rows(part, part.weight.detach()) for part in self.parts]
        self._hyper_weights = [_by_rows(part, part.hyper_weight.detach()) for part in self.parts]
        # Index of the strength of each row, where there are several.
        rows = torch.tensor(indices).repeat_interleave(torch.tensor(self._sizes))
        self._name_of_row = None if len(self.names) == 1 else rows.to(scales[0].device)
        self._shapes = [[-1, *[1] * (w.ndim - 1)] for w in self._weights]

    def bind(self, keeps):
        """Keep the current gradient tensors if the parameters keep them for the whole epoch."""
        self._bound = self._gradients() if keeps else None

    def _gradients(self):
        parts, sizes = self.parts, self._sizes
        of_weights = [_by_rows(p, _gradient(p.weight)) for p in parts]
        of_hyper_weights = [_by_rows(p, _gradient(p.hyper_weight)) for p in parts]
        of_scales = [_gradient(p.response)[:n] for p, n in zip(parts, sizes, strict=True)]
        return of_weights, of_hyper_weights, of_scales

    @torch.no_grad()
    def add_gradients(self, response, values, *, response_only=False):
        """Add the gradients of the penalties to those of the parameters.

        `response` is the response input, of shape (n, k); `values` are strengths of shape (n, 1),
        by name. With `response_only` W_e gets no gradient.
        """
        of_weights, of_hyper_weights, of_scales = self._bound or self._gradients()
        weights, hyper_weights = self._weights, self._hyper_weights
        moments = self._moments(response, values)
        zeroth, first, later = moments[:, 0, 0].unbind(), moments[:, 0, 1:], moments[:, 1:]
        scales = torch.cat(self._scales)
        if self._name_of_row is None:
            by_moment = torch.mm(scales, later[0])
        else:
            by_moment = torch.matmul(scales.unsqueeze(0), later)
            rows = self._name_of_row
            by_moment = by_moment[rows, torch.arange(len(rows), device=rows.device)]
            first = first[rows]
        # Means of strength * s and of strength * s^2, for each row.
        mean, by_second = by_moment[:, :1], by_moment[:, 1:]
        square = torch.linalg.vecdot(by_second, scales)
        means, squares = self._as_rows(mean), self._as_rows(square)
        if not response_only:
            torch._foreach_addcmul_(of_weights, weights, [zeroth[i] for i in self._name_of_part])
            torch._foreach_addcmul_(of_weights, hyper_weights, means)
        torch._foreach_addcmul_(of_hyper_weights, weights, means)
        torch._foreach_addcmul_(of_hyper_weights, hyper_weights, squares)
        inner, norm = (
            torch.cat([_inner(w, h) for w, h in zip(others, hyper_weights, strict=True)])
            for others in (weights, hyper_weights)
        )
        added = by_second.mul_(norm.unsqueeze(1)).addcmul_(inner.unsqueeze(1), first)
        torch._foreach_add_(of_scales, torch.split_with_sizes(added, self._sizes))

    def _as_rows(self, numbers):
        parts = torch.split_with_sizes(numbers, self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _moments(self, response, values):
        """Return the means over the examples of strength (1, r) (1, r)^T, one matrix per name."""
        n, k = response.shape
        strengths = torch.cat([values[name] for name in self.names], 1)
        extended = torch.cat((torch.ones_like(response[:, :1]), response), 1)
        weighted = strengths.unsqueeze(2) * extended.unsqueeze(1)
        return torch.mm(weighted.view(n, -1).t(), extended).div_(n).view(-1, k + 1, k + 1)


def _gradient(parameter):
    """Return the gradient of a parameter; for a frozen one a tensor that is discarded."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _by_rows(part, weight):
    """Return a weight, or its gradient, with rows for outputs."""
    return weight.t() if part.transposed else weight


def _inner(a, b):
    """Return the inner products of rows."""
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))


def activity_penalty(outputs, names, values):
    """Return the penalty on the outputs of recurrent layers (Merity et al. 2017, AR and TAR).

    Outputs have the shape (n, steps, n_hidden), values (n, 1). "ar" is the mean square of the
    outputs, "tar" that of the differences of successive ones.
    """
    total = 0.0
    for output in outputs:
        if "ar" in names:
            per_example = output.square().flatten(1).mean(1)
            total = total + (values["ar"][:, 0] * per_example).mean()
        if "tar" in names:
            per_example = (output[:, 1:] - output[:, :-1]).square().flatten(1).mean(1)
            total = total + (values["tar"][:, 0] * per_example).mean()
    return total
