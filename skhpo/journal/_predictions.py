"""Predictions of fits: arrays of numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ._fit_files import FitFile, FitFiles, Name

__all__ = ["PredictionFiles"]


class _PredictionFile(FitFile):
    __slots__ = ()
    kind = "predictions"


class PredictionFiles(FitFiles):
    """Predictions for the test parts of splits, as arrays in NumPy's format."""

    suffix = ".npy"
    file_type = _PredictionFile

    def put(self, key: Name, predictions: NDArray[Any], *, sync: bool = False) -> None:
        """Write the predictions of a fit.

        Parameters
        ----------
        key : (int, int, int)
        predictions : ndarray
            Of numbers.
        sync : bool, default=False
            Whether they shall survive a crash of the machine.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        self.file(key, "").write(
            lambda file: npy.write_array(file, predictions, allow_pickle=False), sync=sync
        )

    def get(self, key: Name) -> NDArray[np.floating[Any]] | None:
        """Return the predictions of a fit; None where there is no file, or none that is whole."""
        content = self.content(key)
        return None if content is None else npy.read_array(io.BytesIO(content), allow_pickle=False)
