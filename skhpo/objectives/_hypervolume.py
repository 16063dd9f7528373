"""The volume that a front dominates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._fronts import pareto_ranks

__all__ = ["hypervolume"]


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume between a reference point and what points dominate, exactly.

    Two objectives are swept once; each further one costs a factor of the number of points (slices
    along the last objective [1]_).

    Parameters
    ----------
    values : array-like of shape (n_points, n_objectives)
        Larger is better. Rows with NaN, and those that are not better than the reference point in
        all objectives, have no volume.
    reference : array-like of shape (n_objectives,)
        The reference point.

    Returns
    -------
    float
        0.0 where no point is better than the reference point.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the reference point is not finite.

    References
    ----------
    .. [1] L. While, P. Hingston, L. Barone, S. Huband. A faster algorithm for calculating
       hypervolume. IEEE Transactions on Evolutionary Computation 10 (2006).

    Examples
    --------
    >>> from skhpo.objectives import hypervolume
    >>> hypervolume([[2.0, 1.0], [1.0, 2.0]], [0.0, 0.0])
    3.0
    """
    points, origin = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    if points.ndim != 2 or origin.shape != points.shape[1:]:
        raise ValueError(
            "values must have shape (n_points, n_objectives) and reference (n_objectives,), but "
            f"got {points.shape} and {origin.shape}"
        )
    if not np.isfinite(origin).all():
        raise ValueError(f"reference must be finite, but got {origin.tolist()}")
    with np.errstate(invalid="ignore"):
        above = points[(points > origin).all(axis=1)] - origin
    return _volume(above)


def _volume(points: NDArray[np.float64]) -> float:
    """Return the volume between the origin and points with positive coordinates."""
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    if points.shape[1] == 2:
        order = np.argsort(-points[:, 0], kind="stable")
        x, y = points[order].T
        height = np.maximum.accumulate(y)
        return float(np.sum(x * np.diff(height, prepend=0.0)))
    points = points[pareto_ranks(points) == 1]
    points = points[np.argsort(-points[:, -1], kind="stable")]
    below = np.append(points[1:, -1], 0.0)
    volume = 0.0
    for i, (top, bottom) in enumerate(zip(points[:, -1], below, strict=True)):
        if top > bottom:
            volume += (top - bottom) * _volume(points[: i + 1, :-1])
    return float(volume)
