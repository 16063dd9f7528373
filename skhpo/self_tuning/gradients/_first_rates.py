"""Where learning rates start: at a multiple of what was asked for, found before training."""

from __future__ import annotations

import math

__all__ = ["FACTOR", "best_power"]

# Of neighbouring rates; the gradient goes on from there.
FACTOR = 3.0
# Rates in a row that are no better, after which the search ends: upwards losses rise steeply, but
# far above they may be those of dead units, the same for all rates.
_PATIENCE = {1: 1, -1: 2}
# Powers down to which rates that do not lower the first loss do not count as such.
_LOWEST = -8
# Distances of powers that are tried around the best one at last.
_FINER = (0.5, 0.25)
# Share of the fall of the loss that a smaller rate must reach.
_MOST = 0.9


def best_power(loss_at, may_be, first=math.inf, nearly=1.1):
    """Return the lowest power of `FACTOR` with about the smallest loss, by climbing from 0.

    Half a power to either side of the best whole one is tried as well, then a quarter. If the loss
    at 0 is not below `first`, the network may be destroyed: lower powers are tried in any case.
    It is 0 if no loss is below `first`.

    Parameters
    ----------
    loss_at : callable
        Maps a power to a loss; one that is not finite is the worst.
    may_be : callable
        Maps a power to whether rates are inside of their ranges there.
    first : float, default=inf
        Loss before the steps; NaN is above any other.
    nearly : float, default=1.1
        Multiple of the smallest loss up to which a smaller rate is as good, if it also reaches most
        of the fall from `first`.
    """
    first = _finite(first)
    losses = {0: _finite(loss_at(0))}
    best = 0
    for direction in (1, -1):
        power, misses = 0, 0
        while misses < _PATIENCE[direction] and may_be(power + direction):
            power += direction
            losses[power] = _finite(loss_at(power))
            if losses[power] < losses[best]:
                best, misses = power, 0
            elif direction > 0 or losses[best] < first or power <= _LOWEST:
                misses += 1
        # A rate that destroys the network may do so less by chance where it is larger.
        if best > 0 and losses[0] < first:
            break
    for step in _FINER:
        for power in (best + step, best - step):
            if may_be(power):
                losses[power] = _finite(loss_at(power))
        best = min(losses, key=losses.get)
    if not losses[best] < first:
        return 0
    # Few steps favour large rates, whose noise costs only later. Losses may be negative.
    smallest = losses[best]
    limit = smallest * (nearly if smallest > 0 else 1 / nearly)
    if math.isfinite(first) and math.isfinite(smallest):
        limit = min(limit, max(smallest, first - _MOST * (first - smallest)))
    return min(power for power, loss in losses.items() if loss <= limit)


def _finite(loss):
    return loss if loss < math.inf else math.inf
