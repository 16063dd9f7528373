"""Where learning rates start: at a multiple of what was asked for, found before training."""

from __future__ import annotations

__all__ = ["FACTOR", "best_power"]

# Of neighbouring rates; the gradient goes on from there.
FACTOR = 3.0
# Rates in a row that are no better, after which the search ends: upwards losses rise steeply, but
# far above they may be those of dead units, the same for all rates.
_PATIENCE = {1: 1, -1: 2}
# Multiple of the smallest loss up to which a smaller rate is as good.
_NEARLY = 1.1


def best_power(loss_at, may_be):
    """Return the lowest power of `FACTOR` with about the smallest loss, by climbing from 0.

    Parameters
    ----------
    loss_at : callable
        Maps a power, a whole number, to a loss; one that is not finite is the worst.
    may_be : callable
        Maps a power to whether rates are inside of their ranges there.

    Returns
    -------
    power : int
    """
    losses = {0: _finite(loss_at(0))}
    best = 0
    for direction in (1, -1):
        power, misses = 0, 0
        while misses < _PATIENCE[direction] and may_be(power + direction):
            power += direction
            losses[power] = _finite(loss_at(power))
            if losses[power] < losses[best]:
                best, misses = power, 0
            else:
                misses += 1
        if best > 0:
            break
    # Few steps favour large rates, whose noise costs only later. Losses may be negative.
    nearly = losses[best] * (_NEARLY if losses[best] > 0 else 1 / _NEARLY)
    return min(power for power, loss in losses.items() if loss <= nearly)


def _finite(loss):
    return loss if loss < float("inf") else float("inf")
