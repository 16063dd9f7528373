"""The estimator inside wrappers that only transform what goes in and comes out of it.

Those are `Pipeline`, `TransformedTargetRegressor` and `FixedThresholdClassifier`, in any order and
depth, of exactly these classes: a subclass may do anything. A fit is taken apart there: first
`prepare` runs the wrappers' own ``fit`` around a stand-in, which notes what the estimator inside is
to be fitted on; then that one is trained, in whatever way; then `Prepared.assembled` puts it in the
place of the stand-in. Nothing of what the wrappers do (routing of metadata, checks of y, caches) is
written again here.

Anything else is fitted whole, and `whats_lost` says what that costs.
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
