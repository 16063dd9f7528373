"""The search classes."""

from ._generic import SearchCV
from ._hyperband import HalvingHyperbandSearchCV

__all__ = ["HalvingHyperbandSearchCV", "SearchCV"]
