"""Checkpoints of fits, in the format of their estimators."""

from __future__ import annotations

import io
from typing import Any

from ._fit_files import FitFile, FitFiles

__all__ = ["CheckpointFile", "Checkpoints", "ModelFiles"]


class CheckpointFile(FitFile):
    """The checkpoint of a fit, which may exist or not."""

    __slots__ = ()
    kind = "checkpoint"

    def save(self, estimator: Any) -> None:
        """Write the checkpoint that the estimator's ``save_checkpoint`` makes.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        self.write(estimator.save_checkpoint)

    def load(self, estimator: Any) -> Any:
        """Load what was saved into an estimator.

        Returns
        -------
        estimator or None
            None where there is no file, or a damaged one, or another fit's, which is put aside.
        """
        content = self.read()
        return None if content is None else estimator.load_checkpoint(io.BytesIO(content))


class Checkpoints(FitFiles):
    """Checkpoints from which later rungs continue, kept as long as a rung may need them."""

    suffix = ".pt"
    file_type = CheckpointFile


class ModelFiles(FitFiles):
    """Checkpoints of the best rows, which a finished search keeps."""

    suffix = ".kept.pt"
    file_type = CheckpointFile
