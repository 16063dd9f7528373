"""The search space: a map between dicts of parameters and points of the unit cube."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._axes import Levels, identity, make_axis
    from ._cube import Dimension
    from ._distributions import log_randint, ordered
    from ._forbidden import MOST_REFUSED
    from ._space import SearchSpace, nearest, translated
    from ._views import as_written

__all__ = [
    "MOST_REFUSED",
    "Dimension",
    "Levels",
    "SearchSpace",
    "as_written",
    "identity",
    "log_randint",
    "make_axis",
    "nearest",
    "ordered",
    "translated",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "._axes": "Levels identity make_axis",
        "._cube": "Dimension",
        "._distributions": "log_randint ordered",
        "._forbidden": "MOST_REFUSED",
        "._space": "SearchSpace nearest translated",
        "._views": "as_written",
    },
)
