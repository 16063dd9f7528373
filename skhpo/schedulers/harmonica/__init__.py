"""Harmonica: which few parameters matter, from random samples."""

from ._arguments import samples_of_stage
from .region import Region
from .restricted import RestrictedSpace
from .scheduler import Harmonica, Stage
from .system import Term

__all__ = ["Harmonica", "Region", "RestrictedSpace", "Stage", "Term", "samples_of_stage"]
