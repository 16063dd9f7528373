"""Checkpoints of fits, as their estimators write them."""

from __future__ import annotations

import io
from typing import Any

from ._fit_files import FitFile, FitFiles

__all__ = ["CheckpointFile", "Checkpoints", "ModelFiles"]


class CheckpointFile(FitFile):
    """A fit's checkpoint, which may be there or not."""

    __slots__ = ()
    kind = "checkpoint"

    def save(self, estimator: Any) -> None:
        """Write what the estimator's ``save_checkpoint`` does.

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
    """What later rungs go on from, until none can ask for it any more."""

    suffix = ".pt"
    file_type = CheckpointFile


class ModelFiles(FitFiles):
    """Checkpoints of the best rows, which a finished search keeps."""

    suffix = ".kept.pt"
    file_type = CheckpointFile
