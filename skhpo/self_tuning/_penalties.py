"""Penalties on weights and activations, with a strength per example."""

from __future__ import annotations

import torch

__all__ = ["Decay", "activity_penalty"]


class Decay:
    """L2 penalties on layers whose weights respond, with a strength per example.

    The penalty of a layer is the mean over the examples of strength / 2 times the squared norm of
    their weights, that is, with s = V r and a sum over rows, of |W_e|^2 + 2 s <W_e, W_h> +
    s^2 |W_h|^2. It is a function of the moments of r: no loop over examples, and no tensor per
    example. Its gradient is added in closed form.

    Parameters
    ----------
    places : list of (layer, str)
        Layers, and the hyperparameter that is the strength.
    """

    def __init__(self, places):
        self.names = list(dict.fromkeys(name for _, name in places))
        self.parts = [
            (part, self.names.index(name)) for layer, name in places for part in layer.penalised()
        ]

    @torch.no_grad()
    def add_gradients(self, response, values, *, response_only=False):
        """Add the gradients of the penalties to those that the parameters have.

        Parameters
        ----------
        response : Tensor of shape (n, k)
            Response input.
        values : dict of str to Tensor of shape (n, 1)
            Strengths, by name.
        response_only : bool, default=False
            Whether W_e is left alone.
        """
        moments = self._moments(response, values)
        zeroth, first = moments[:, 0, 0].unbind(), moments[:, 0, 1:].unbind()
        later = moments[:, 1:].unbind()
        for part, i in self.parts:
            _add_gradient(part, zeroth[i], first[i], later[i], response_only)

    def _moments(self, response, values):
        """Return the means over the examples of strength (1, r) (1, r)^T, one matrix per name."""
        n, k = response.shape
        strengths = torch.cat([values[name] for name in self.names], 1)
        extended = torch.cat((torch.ones_like(response[:, :1]), response), 1)
        weighted = strengths.unsqueeze(2) * extended.unsqueeze(1)
        return torch.mm(weighted.view(n, -1).t(), extended).div_(n).view(-1, k + 1, k + 1)


def _add_gradient(part, zeroth, first, later, response_only):
    weight, hyper_weight, scales = part.weight, part.hyper_weight, part.response
    of_weight, of_hyper_weight, of_scales = weight.grad, hyper_weight.grad, scales.grad
    if part.transposed:
        weight, hyper_weight, of_hyper_weight = weight.t(), hyper_weight.t(), of_hyper_weight.t()
        of_weight = None if response_only else of_weight.t()
    if scales.shape[0] > part.n_rows:
        scales, of_scales = scales[: part.n_rows], of_scales[: part.n_rows]  # V, without C
    by_moment = torch.mm(scales, later)
    mean, by_second = by_moment[:, :1], by_moment[:, 1:]  # of strength s, for each row
    square = (by_second * scales).sum(1)  # of strength s^2
    mean_rows = part.as_rows(mean)
    if not response_only:
        of_weight.addcmul_(weight, zeroth).addcmul_(hyper_weight, mean_rows)
    of_hyper_weight.addcmul_(weight, mean_rows).addcmul_(hyper_weight, part.as_rows(square))
    inputs = list(range(1, weight.ndim))
    inner, norm = (weight * hyper_weight).sum(inputs), (hyper_weight * hyper_weight).sum(inputs)
    of_scales.addr_(inner, first).addcmul_(norm.unsqueeze(1), by_second)


def activity_penalty(outputs, names, values):
    """Return the penalty on the outputs of recurrent layers (Merity et al. 2017, AR and TAR).

    Parameters
    ----------
    outputs : list of Tensor of shape (n, steps, n_hidden)
        What recurrent layers return.
    names : list of str
        "ar": mean square of the outputs; "tar": of the differences of successive ones.
    values : dict of str to Tensor of shape (n, 1)

    Returns
    -------
    penalty : Tensor of shape ()
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
