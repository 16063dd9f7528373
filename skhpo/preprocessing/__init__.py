"""From tables of mixed columns to what a network takes."""

from ._encoder import TableEncoder
from ._table import EncodedTable, n_categories_of

__all__ = ["EncodedTable", "TableEncoder", "n_categories_of"]
