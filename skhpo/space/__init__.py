"""The search space: a map between dicts of parameters and points of the unit cube."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._axes import make_axis
    from ._cube import Dimension
    from ._forbidden import MOST_REFUSED
    from ._foreign import Levels, translated
    from ._log_randint import log_randint
    from ._ordered import ordered
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
        "Levels": "._foreign",
        "MOST_REFUSED": "._forbidden",
        "SearchSpace": "._space",
        "as_written": "._views",
        "log_randint": "._log_randint",
        "make_axis": "._axes",
        "ordered": "._ordered",
        "translated": "._foreign",
    },
)
