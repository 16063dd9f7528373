"""Several objectives and constraints: functions of arrays, which know neither trials nor searches.

Values of objectives have shape ``(n_points, n_objectives)`` and are maximised; a row with NaN has
failed. Violations of constraints have shape ``(n_points, n_constraints)``; a point is feasible
where all of its violations are at most 0, and NaN is not.
"""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._fronts import (
        bound_violations,
        pareto_ranks,
        promotion_order,
        spread_order,
        total_violation,
    )
    from ._hypervolume import hypervolume

__all__ = [
    "bound_violations",
    "hypervolume",
    "pareto_ranks",
    "promotion_order",
    "spread_order",
    "total_violation",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "._fronts": "bound_violations pareto_ranks promotion_order spread_order total_violation",
        "._hypervolume": "hypervolume",
    },
)
