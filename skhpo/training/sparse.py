"""Rows of a sparse matrix as dense tensors."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["SparseRows"]


class SparseRows:
    """What `Rows` needs of a tensor, over a CSR matrix.

    Parameters
    ----------
    matrix : CSR matrix or array of shape (n_samples, n_features)
    """

    def __init__(self, matrix):
        self.matrix = matrix
        self.shape = matrix.shape
        self.dtype = torch.from_numpy(matrix.data[:0]).dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return SparseRows(self.matrix[np.asarray(index)])

    def numel(self):
        """Return the number of values, zeros included."""
        return self.shape[0] * self.shape[1]

    def index_select(self, dim, index):
        """Return rows as a dense tensor of shape (len(index), n_features)."""
        return torch.from_numpy(self.matrix[index.numpy()].toarray())
