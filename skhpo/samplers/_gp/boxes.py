"""The part of a space of objectives that no known point dominates, cut into boxes.

All objectives are maximised. A point *dominates* another that it exceeds or equals in every
objective.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["non_dominated_boxes"]

Array = NDArray[np.float64]


def non_dominated_boxes(points: Array, reference: Array) -> tuple[Array, Array]:
    """Cut what lies above the reference and is dominated by no point into disjoint boxes.

    Parameters
    ----------
    points : ndarray of shape (n, 2) or (n, 3)
        Points may dominate one another, and lie below the reference.
    reference : ndarray of shape (2,) or (3,)

    Returns
    -------
    lower, upper : ndarray of shape (n_boxes, 2) or (n_boxes, 3)
        Opposite corners, with infinite upper ends: at most ``n + 1`` boxes for two objectives, and
        ``2 n + 1`` for three (Yang et al., 2019, "Efficient computation of expected hypervolume
        improvement using box decomposition algorithms", whose sweep this is).
    """
    points = points[(points > reference).all(axis=1)]
    if len(reference) == 2:
        # A slab of a constant third objective, whose height is left out again.
        points = np.column_stack([points, np.ones(len(points))])
        lower, upper = _sweep(points, np.append(reference, 0.0))
        bottom = lower[:, 2] == 0.0
        return lower[bottom, :2], upper[bottom, :2]
    return _sweep(points, reference)


def _sweep(points: Array, reference: Array) -> tuple[Array, Array]:
    """Move a plane down the third objective, and cut what it crosses into strips.

    A strip is ``(left, right, bottom, top)``: between left and right in the first objective, above
    bottom in the second, and not dominated below top in the third. A point ends the strips of
    which it dominates a part.
    """
    left, bottom, floor = reference.tolist()
    strips = [(left, np.inf, bottom, np.inf)]
    boxes: list[tuple[float, ...]] = []  # lower corner, upper corner
    for x, y, z in points[np.argsort(-points[:, 2], kind="stable")].tolist():
        first = next(i for i, strip in enumerate(strips) if strip[2] < y)
        last = first
        while last < len(strips) and strips[last][0] < x and strips[last][2] < y:
            left, right, bottom, top = strips[last]
            if top > z:
                boxes.append((left, bottom, z, right, np.inf, top))
            last += 1
        if last == first:  # dominated
            continue
        new = [(strips[first][0], x, y, z)]
        _, right, bottom, _ = strips[last - 1]
        if right > x:
            new.append((x, right, bottom, z))
        strips[first:last] = new
    boxes += [(left, bottom, floor, right, np.inf, top) for left, right, bottom, top in strips]
    corners = np.array(boxes)
    return corners[:, :3], corners[:, 3:]
