"""From trials to fit results."""

from ._continuation import way_to_continue
from ._devices import slots_of
from ._evaluator import Evaluator
from ._fit import Setting, configured, refit
from ._seeds import derive_seed

__all__ = [
    "Evaluator",
    "Setting",
    "configured",
    "derive_seed",
    "refit",
    "slots_of",
    "way_to_continue",
]
