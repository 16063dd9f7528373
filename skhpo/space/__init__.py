"""The search space: a map between dicts of parameters and points of the unit cube."""

from ._axes import make_axis
from ._foreign import Levels, Steps, translated
from ._log_randint import log_randint
from ._space import Dimension, SearchSpace

__all__ = ["Dimension", "Levels", "SearchSpace", "Steps", "log_randint", "make_axis", "translated"]
