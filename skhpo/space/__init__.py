"""The search space: dicts of parameters on one side, points of the unit cube on the other."""

from ._axes import make_axis
from ._foreign import Levels, Steps, translated
from ._log_randint import log_randint
from ._space import Dimension, SearchSpace

__all__ = ["Dimension", "Levels", "SearchSpace", "Steps", "log_randint", "make_axis", "translated"]
