"""Whether the results of a search fit into the memory of this machine."""

from __future__ import annotations

from ..process import total_memory

__all__ = ["check_size"]

# What a trial and each of its fits take at the peak, in bytes: docs/benchmarks/cluster.md. A plan
# is refused only if half of that would be too much.
_OF_TRIAL = 500
_OF_FIT = 60


def check_size(n_trials: int | None, n_fits: int) -> None:
    """Refuse a search whose results alone exceed the memory of this machine.

    Parameters
    ----------
    n_trials : int or None
        None where that is unknown.
    n_fits : int
        Per trial.

    Raises
    ------
    ValueError
        With the numbers.
    """
    memory = total_memory()
    if n_trials is None or memory is None:
        return
    needed = n_trials * (_OF_TRIAL + n_fits * _OF_FIT)
    if needed / 2 > memory:
        raise ValueError(
            f"the results of a search must fit into memory, but those of {n_trials:,} trials with "
            f"{n_fits} fits each, {n_trials * n_fits:,} fits, take about {needed / 1e9:,.0f} GB "
            f"and this machine has {memory / 1e9:,.0f} GB; plan fewer iterations or candidates, or "
            "set max_time, which ends a search when it is over"
        )
