"""The search space: a map between dicts of parameters and points of the unit cube."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._axes import Levels, make_axis
    from ._cube import Dimension
    from ._distributions import log_randint, ordered, translated
    from ._forbidden import MOST_REFUSED
    from ._space import SearchSpace
    from ._views import as_written

__all__ = [
    "MOST_REFUSED",
    "Dimension",
    "Levels",
    "SearchSpace",
    "as_written",
    "log_randint",
    "make_axis",
    "ordered",
    "translated",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "Dimension": "._cube",
        "Levels": "._axes",
        "MOST_REFUSED": "._forbidden",
        "SearchSpace": "._space",
        "as_written": "._views",
        "log_randint": "._distributions",
        "make_axis": "._axes",
        "ordered": "._distributions",
        "translated": "._distributions",
    },
)
