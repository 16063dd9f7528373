"""Harmonica: which few parameters matter, from random samples."""

from .region import Region, RestrictedSpace, Term
from .scheduler import Harmonica, Stage

__all__ = ["Harmonica", "Region", "RestrictedSpace", "Stage", "Term"]
