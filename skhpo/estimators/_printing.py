"""How an estimator prints: as scikit-learn's do, and distributions as they were written."""

from sklearn.base import BaseEstimator

from .._compat import print_inside
from ..space import as_written

__all__ = ["PrintingMixin"]


class PrintingMixin:
    """Replace skorch's ``__repr__``, which lists layers, by that of scikit-learn."""

    def __repr__(self, N_CHAR_MAX=700):
        return BaseEstimator.__repr__(_as_written(self), N_CHAR_MAX)

    def _get_params_html(self, *args, **kwargs):
        params = super()._get_params_html(*args, **kwargs)
        params.update({name: as_written(value) for name, value in params.items()})
        return params


def _as_written(net):
    """Return an estimator for printing, whose parameters have no addresses in their texts."""
    shown = object.__new__(type(net))
    written = {name: as_written(value) for name, value in net.get_params(deep=False).items()}
    vars(shown).update(vars(net) | written)
    return shown


print_inside(PrintingMixin, _as_written)
