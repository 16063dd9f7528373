"""Several objectives and constraints: functions of arrays, which know neither trials nor searches.

Values of objectives have shape ``(n_points, n_objectives)`` and are maximised; a row with NaN has
failed. Violations of constraints have shape ``(n_points, n_constraints)``; a point is feasible
where all of its violations are at most 0, and NaN is not.
"""

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
