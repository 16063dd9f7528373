"""Penalties on weights and activations, with a strength per example."""

from __future__ import annotations

import torch

__all__ = ["activity_penalty", "add_l2_gradient", "moments_of"]


def moments_of(response, strengths):
    """Return the moments of the response input that an L2 penalty needs.

    Parameters
    ----------
    response : Tensor of shape (n, k)
    strengths : Tensor of shape (n, 1)

    Returns
    -------
    zeroth, first, second : Tensor of shape (1,), (k,) and (k, k)
        Means over the examples of strength, strength r and strength r r^T.
    """
    weighted = strengths * response
    second = torch.mm(weighted.t(), response).div_(len(response))
    return strengths.mean(0), weighted.mean(0), second


def add_l2_gradient(layer, moments, *, response_only=False):
    """Add to a layer's gradients those of the L2 penalty that has a strength per example.

    The penalty is the mean over the examples of strength / 2 times the squared norm of their
    weights, that is, with s = V r and a sum over rows, of |W_e|^2 + 2 s <W_e, W_h> + s^2 |W_h|^2.
    It is a function of the moments of r: no loop over examples, and no tensor per example.

    Parameters
    ----------
    layer : Modulated
        With gradients.
    moments : tuple of Tensor
        From `moments_of`.
    response_only : bool, default=False
        Whether W_e is left alone.
    """
    zeroth, first, second = moments
    weight, hyper_weight = layer.weight.detach(), layer.hyper_weight.detach()
    of_weight, of_hyper_weight = layer.weight.grad, layer.hyper_weight.grad
    if layer.transposed:
        weight, hyper_weight, of_hyper_weight = weight.t(), hyper_weight.t(), of_hyper_weight.t()
        of_weight = None if of_weight is None else of_weight.t()
    n_out = layer.n_rows
    scales = layer.response.detach()[:n_out]  # V
    by_second = torch.mm(scales, second)
    mean = torch.mv(scales, first)  # of strength s, for each row
    square = (by_second * scales).sum(1)  # of strength s^2
    mean_rows = layer.as_rows(mean)
    if not response_only:
        of_weight.addcmul_(weight, zeroth).addcmul_(hyper_weight, mean_rows)
    of_hyper_weight.addcmul_(weight, mean_rows).addcmul_(hyper_weight, layer.as_rows(square))
    flat, hyper_flat = weight.flatten(1), hyper_weight.flatten(1)
    inner, norm = (flat * hyper_flat).sum(1), (hyper_flat * hyper_flat).sum(1)
    of_scales = layer.response.grad[:n_out]
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
