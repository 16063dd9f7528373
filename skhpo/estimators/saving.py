"""Checkpoints of fitted estimators: tensors, numbers and strings."""

from __future__ import annotations

import numpy as np
import torch

from ..files import write_atomically
from ..training.checkpoint import check_complete, serialised

__all__ = ["CheckpointMixin"]


class CheckpointMixin:
    """`save_checkpoint`, and the parts of `load_checkpoint` that all estimators share.

    A subclass has `_trained_state`, which returns its own sections of the file, and raises
    `NotFittedError` before ``fit``.
    """

    # Version of the file, its sections, and the plain fitted attributes that it holds.
    _checkpoint_format = 1
    _checkpoint_sections = ()
    _checkpoint_plain = ()
    # Further ones of a subclass.
    _checkpointed = ()

    def save_checkpoint(self, path):
        """Write what is needed to predict, and to continue training exactly.

        The file holds tensors, numbers and strings only: ``torch.load(path, weights_only=True)``
        reads it, and loading runs no code from it. It has the weights (with a validation part both
        the best and the current ones) and other state of layers, the states of the optimizer, the
        schedule and the random generators, the history, and what ``fit`` learned about the data;
        it has neither the parameters nor the states of callbacks.

        Parameters
        ----------
        path : str, path-like or binary file
            A file at that path is replaced at once, when the new one is complete.

        Returns
        -------
        self : estimator
            The estimator itself.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        StorageError
            If the system does not let the file be written.
        """
        checkpoint = {
            "format": self._checkpoint_format,
            "estimator": type(self).__name__,
            **self._trained_state(),
            "learned": {k: getattr(self, k) for k in self._checkpoint_names()},
            "feature_names": [str(name) for name in getattr(self, "feature_names_in_", ())],
        }
        if hasattr(path, "write"):
            torch.save(checkpoint, path)
        else:
            write_atomically(path, serialised(checkpoint))
        return self

    def _read_checkpoint(self, path):
        """Read a checkpoint; ValueError if it belongs to another kind of estimator."""
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        sections = (*self._checkpoint_sections, "learned", "feature_names")
        check_complete(checkpoint, self._checkpoint_format, type(self).__name__, sections)
        return checkpoint

    def _take_learned(self, checkpoint):
        """Set the fitted attributes from a checkpoint."""
        for name, value in checkpoint["learned"].items():
            setattr(self, name, value)
        self.__dict__.pop("feature_names_in_", None)
        if checkpoint["feature_names"]:
            self.feature_names_in_ = np.array(checkpoint["feature_names"], dtype=object)

    def _checkpoint_names(self):
        names = (*self._checkpoint_plain, *self._checkpointed)
        return [name for name in names if hasattr(self, name)]
