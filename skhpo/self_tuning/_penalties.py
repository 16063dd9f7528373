"""Penalties on weights and activations, with a strength per example."""

from __future__ import annotations

import torch

__all__ = ["l2_penalty", "plain_l2_penalty"]


def l2_penalty(weight, hyper_weight, scales, strengths):
    """Return the mean over the examples of strength / 2 times the squared norm of the weights.

    In closed form: with s = V r of an example, and rows of W_e and W_h, the squared norm of
    W_e + diag(s) W_h is the sum over rows of |W_e|^2 + 2 s <W_e, W_h> + s^2 |W_h|^2. Only the
    moments of s over the examples meet the large matrices.

    Parameters
    ----------
    weight, hyper_weight : Tensor of shape (n_out, ...)
    scales : Tensor of shape (n, n_out)
    strengths : Tensor of shape (n, 1)

    Returns
    -------
    penalty : Tensor of shape ()
    """
    return _L2.apply(weight, hyper_weight, scales, strengths)


def plain_l2_penalty(weight, strength):
    """Return strength / 2 times the squared norm of a weight.

    Parameters
    ----------
    weight : Tensor
    strength : Tensor of shape (n, 1)
        Its mean counts.
    """
    return 0.5 * strength.mean() * weight.square().sum()


class _L2(torch.autograd.Function):
    """The penalty with its gradient written out: a third of autograd's operations."""

    @staticmethod
    def forward(ctx, weight, hyper_weight, scales, strengths):
        n_out = len(weight)
        # n_out x 2 x fan_in
        rows = torch.stack((weight.view(n_out, -1), hyper_weight.view(n_out, -1)), 1)
        # n_out x 2 x 2: inner products of the rows of W_e and W_h
        products = torch.bmm(rows, rows.transpose(1, 2))
        first = strengths * scales
        second = (first * scales).mean(0)
        first = first.mean(0)
        zeroth = strengths.mean().expand(n_out)
        moments = torch.stack((zeroth, first, first, second), 1).view(n_out, 2, 2)
        ctx.save_for_backward(rows, products, moments, scales, strengths)
        ctx.shape = weight.shape
        return 0.5 * torch.dot(moments.view(-1), products.view(-1))

    @staticmethod
    def backward(ctx, grad):
        rows, products, moments, scales, strengths = ctx.saved_tensors
        of_rows = torch.bmm(moments * grad, rows)
        of_scales = torch.addcmul(products[:, 0, 1], scales, products[:, 1, 1])
        of_scales *= strengths * (grad / len(scales))
        of_weight, of_hyper_weight = (part.reshape(ctx.shape) for part in of_rows.unbind(1))
        return of_weight, of_hyper_weight, of_scales, None
