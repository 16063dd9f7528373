"""The rule of the first layer of a `TabularMLP`."""

from __future__ import annotations

import torch

from ._normalizations import BatchNorm
from ._place import Rule, Unknown
from ._products import Embedding

__all__ = ["Table"]


class Table(Rule):
    """Embeddings of the first columns, then the normalized other ones."""

    def __init__(self, layer, place):
        if place.needs_gradient or place.is_integer or len(place.shape) != 2:
            raise Unknown("a table of something else than rows of the data")
        n_rows, n_all = place.shape
        self._n_columns, n_numbers = layer.n_columns, n_all - layer.n_columns
        self._embedding = self._norm = self._out = None
        if self._n_columns:
            self._offsets = layer.offsets
            of_codes = place.at(
                path=f"{place.path}embedding.", shape=(n_rows, self._n_columns), is_integer=True
            )
            self._embedding = Embedding(layer.embedding, of_codes)
        if n_numbers:
            self._norm = BatchNorm(
                layer.norm, place.at(path=f"{place.path}norm.", shape=(n_rows, n_numbers))
            )
        self.shape = n_rows, layer.out_features

    def forward(self, x):
        parts = []
        if self._embedding is not None:
            codes = x[..., : self._n_columns].long()
            codes += self._offsets * (codes > 0)
            parts.append(self._embedding.forward(codes).flatten(-2))
        if self._norm is not None:
            parts.append(self._norm.forward(x[..., self._n_columns :]))
        self._out = torch.cat(parts, -1, out=self._out)
        return self._out

    def backward(self, gradient):
        if self._embedding is not None:
            width = self._embedding.shape[-1]
            of_codes = gradient[..., : self._n_columns * width]
            self._embedding.backward(of_codes.unflatten(-1, (-1, width)).contiguous())
        return None
