"""Approximate solutions x of H x = v, by products with H only.

Notation: H is the Hessian of the training loss (symmetric), v the gradient of the validation loss,
both for all weights of a network in one vector; r = v - H x is the residual, d the damping.

========== =================================================================== ==============
solver     x                                                                   products with H
========== =================================================================== ==============
"neumann"  a sum_{k < n} (I - a H)^k v, with the step a (Lorraine et al. 2020)  n
"cg"       conjugate gradients (Hestenes and Stiefel 1952; Pedregosa 2016)      up to n
"identity" a v (Luketina et al. 2016)                                           1
========== =================================================================== ==============

A series whose terms grow diverges: the step exceeds 2 / (the largest eigenvalue), or an eigenvalue
is negative. It starts again with a smaller step, or with H + d I in place of H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

__all__ = ["SOLVERS", "Series", "Solution", "solve"]

# Restarts before a series is given up; each halves the step at least, or doubles the damping.
_MOST_RESTARTS = 30
# Terms below this share of the first one are lost in rounding, for float32 and for float64.
_ROUNDING = {torch.float32: 1e-7, torch.float64: 1e-15}


# Of a series that goes on over batches: the largest product of its step with a curvature that was
# seen (at 2 it diverges), and the growth of the step between two updates.
_SAFE, _GROWTH = 0.5, 1.02


class Series:
    """A Neumann series that goes on while H and v change, from batch to batch.

    Notation as above, with vectors as lists of tensors. `x`, the last solution or None, is changed
    in place. The step a adapts to the curvature along x, which shows a direction that grows; where
    that is not positive the damping is raised.
    """

    def __init__(self, x, step, damping):
        self.x, self.step, self.damping = x, step, damping

    def continue_with(self, product, v, n_terms):
        """Add terms, each a product; return the mixed derivative's product with the last x but one.

        `product` maps a vector, and whether the graph is still needed, to its products with H and
        with the mixed derivative (or None). `v` returns a list of tensors; it is called after the
        product of the first term, so that only two of x, v and the product are there at a time.
        """
        mixed = None
        for k in range(n_terms):
            begins = self.x is None
            x = v() if begins else self.x
            image, mixed = product(x, k + 1 < n_terms)
            square, of_image, inner = _dot(x, x), _dot(image, image), _dot(x, image)
            if not square or not math.isfinite(of_image):
                self.x = None
                continue
            along, norm = inner / square, math.sqrt(of_image / square)
            if begins:
                self.step = self.step or (_SAFE / norm if norm else 1.0)
            if along + self.damping <= 0 < norm:
                self.damping = max(2 * self.damping, -2 * along, 1e-2 * norm)
            seen = self.step * (norm + self.damping)
            if seen > _SAFE:
                self.step *= _SAFE / seen
            if begins:
                del image
                self.x = torch._foreach_mul(x, self.step)
                mixed = None if mixed is None else self.step * mixed
            elif seen > 2:
                self.x = None
            else:
                torch._foreach_mul_(x, 1 - self.step * self.damping)
                torch._foreach_add_(x, image, alpha=-self.step)
                del image
                torch._foreach_add_(x, v(), alpha=self.step)
                self.step *= _GROWTH
        return mixed


def _dot(one, other):
    return float(sum(a.flatten().dot(b.flatten()) for a, b in zip(one, other, strict=True)))


@dataclass(frozen=True)
class Solution:
    """An approximate solution x, and the residual v - H x, without damping.

    `step` and `damping` are the last ones; the step is NaN for conjugate gradients. `n_products`
    counts those with H, restarts included; `restarts`, how often the series diverged, or a
    direction had no positive curvature.
    """

    x: torch.Tensor
    residual: torch.Tensor
    step: float
    damping: float
    n_products: int
    restarts: int = 0


class _Diverges(Exception):
    """Terms grow. `curvature` is t.Ht / t.t for the term t, `norm` is |Ht| / |t|."""

    def __init__(self, curvature, norm, n_products):
        super().__init__()
        self.curvature, self.norm, self.n_products = curvature, norm, n_products


def solve(solver, product, v, n_terms, step=None, damping=0.0):
    """Solve H x = v approximately; return a `Solution`.

    `solver` is "neumann", "cg" or "identity"; `product` maps a vector to its product with H.
    Without a `step` it is the inverse of |H v| / |v|, for "identity" 1.
    """
    if not v.any():
        return Solution(torch.zeros_like(v), torch.zeros_like(v), step or 1.0, damping, 0)
    run, wasted, first_step = SOLVERS[solver], 0, step
    for restarts in range(_MOST_RESTARTS):
        try:
            found = run(product, v, n_terms, step, damping)
        except _Diverges as error:
            wasted += error.n_products
            if error.curvature <= 0:
                # As large as the negative curvature at least, and never a vanishing share of H.
                damping = max(2 * damping, -2 * error.curvature, 1e-2 * error.norm)
                step = first_step
            else:
                smaller = error.curvature / error.norm**2
                step = smaller if step is None else min(step / 2, smaller)
        else:
            residual = found.residual + found.damping * found.x
            return replace(
                *(found,),
                residual=residual,
                n_products=found.n_products + wasted,
                restarts=restarts,
            )
    raise ValueError(
        f"the series for the hypergradient diverges after {_MOST_RESTARTS} changes of its step and "
        f"damping (now {damping:g}): the training loss has no minimum near these weights; train "
        "longer, or use solver='identity'"
    )


def _neumann(product, v, n_terms, step, damping):
    term, total = v, torch.zeros_like(v)
    square = first = float(v.dot(v))
    for k in range(n_terms):
        image = product(term) + damping * term
        of_image, inner = float(image.dot(image)), float(term.dot(image))
        if step is None:
            step = math.sqrt(square / of_image) if of_image else 1.0
        total.add_(term, alpha=step)
        term = torch.add(term, image, alpha=-step)
        after = float(term.dot(term))
        lost = first * _ROUNDING.get(v.dtype, 1e-7) ** 2
        if not after <= square and not after <= lost:
            raise _Diverges(inner / square, math.sqrt(of_image / square), k + 1)
        square = after
    return Solution(total, term, step, damping, n_terms)


def _conjugate_gradients(product, v, n_terms, step, damping):
    x, residual, direction = torch.zeros_like(v), v.clone(), v.clone()
    square = first = float(v.dot(v))
    done, lost = 0, first * _ROUNDING.get(v.dtype, 1e-7) ** 2
    for done in range(1, n_terms + 1):
        image = product(direction) + damping * direction
        curvature, length = float(direction.dot(image)), float(direction.dot(direction))
        if curvature <= 0:
            raise _Diverges(curvature / length, math.sqrt(float(image.dot(image)) / length), done)
        along = square / curvature
        x.add_(direction, alpha=along)
        residual.add_(image, alpha=-along)
        after = float(residual.dot(residual))
        if after <= lost:
            break
        direction.mul_(after / square).add_(residual)
        square = after
    return Solution(x, residual, math.nan, damping, done)


def _identity(product, v, n_terms, step, damping):
    step = 1.0 if step is None else step
    return Solution(step * v, v - step * (product(v) + damping * v), step, damping, 1)


SOLVERS = {"neumann": _neumann, "cg": _conjugate_gradients, "identity": _identity}
