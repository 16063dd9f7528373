"""From trials to fit results."""

from ._callbacks import FitContexts, told
from ._continuation import way_to_continue
from ._devices import slots_of
from ._evaluator import Evaluator
from ._files import separate_files
from ._refit import refit
from ._seeds import derive_seed
from ._setup import configured
from ._tasks import Setting

__all__ = [
    "Evaluator",
    "FitContexts",
    "Setting",
    "configured",
    "derive_seed",
    "refit",
    "separate_files",
    "slots_of",
    "told",
    "way_to_continue",
]
