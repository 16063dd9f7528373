"""The search classes."""

from ._generic import SearchCV
from ._hyperband import HalvingHyperbandSearchCV
from ._observers import SearchStart

__all__ = ["HalvingHyperbandSearchCV", "SearchCV", "SearchStart"]
