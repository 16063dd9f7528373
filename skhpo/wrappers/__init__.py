"""The estimator inside wrappers that only transform its inputs and outputs.

These are `Pipeline`, `TransformedTargetRegressor` and `FixedThresholdClassifier`, in any order and
depth, but not their subclasses. A fit is divided: `prepare` runs the wrappers' own ``fit`` around a
stand-in, which records the data for the estimator inside; then that one is trained in some way;
then `Prepared.assembled` replaces the stand-in by it. What the wrappers do (metadata routing,
checks of y, caches) is not implemented again.

Anything else is fitted as a whole, and `whats_lost` explains what that costs.
"""

from ._inside import Inside, arguments_inside, fitted_inside, inside, owner_of, whats_lost
from ._prepared import Prepared, prepare

__all__ = [
    "Inside",
    "Prepared",
    "arguments_inside",
    "fitted_inside",
    "inside",
    "owner_of",
    "prepare",
    "whats_lost",
]
