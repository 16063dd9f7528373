"""The torch regressor."""

from __future__ import annotations

import numpy as np
import skorch.dataset
import torch
from sklearn.callback import with_callbacks
from sklearn.utils.validation import check_array
from skorch import NeuralNetRegressor
from torch.utils.data import DataLoader

from ._feeding import first_batch
from ._names import CRITERIA
from ._torch import TorchEstimator
from ._validation import as_array
from .modules import MLP

__all__ = ["TorchRegressor"]


class TorchRegressor(TorchEstimator, NeuralNetRegressor):
    """X"""

    _checkpointed = ("_target_shape", "_output_shape")

    def __init__(
        self,
        module=MLP,
        *,
        criterion="mse",
        optimizer="adamw",
        lr=1e-3,
        max_epochs=50,
        batch_size=32,
        random_state=None,
        device="auto",
        warm_start=False,
        verbose=0,
        callbacks=None,
        train_split=None,
        iterator_train=DataLoader,
        iterator_valid=DataLoader,
        dataset=skorch.dataset.Dataset,
        predict_nonlinearity="auto",
        compile=False,
        use_caching="auto",
        torch_load_kwargs=None,
        **kwargs,
    ):
        self.module = module
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.warm_start = warm_start
        self.verbose = verbose
        self.callbacks = callbacks
        self.train_split = train_split
        self.iterator_train = iterator_train
        self.iterator_valid = iterator_valid
        self.dataset = dataset
        self.predict_nonlinearity = predict_nonlinearity
        self.compile = compile
        self.use_caching = use_caching
        self.torch_load_kwargs = torch_load_kwargs
        self._store_further(kwargs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @with_callbacks
    def partial_fit(self, X, y=None, classes=None, sample_weight=None, **fit_params):
        """Train for `max_epochs` more epochs, from where the network stands.

        Trained twice for k epochs on the same data, a network is bit by bit (on a CPU) what it
        is after one ``fit`` of 2k epochs, also after a pickle or a checkpoint in between. What
        was set with ``set_params`` meanwhile about the module or the criterion waits for the
        next ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            As in ``fit``.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.
        classes : None
            Ignored; the argument is there because skorch's nets have it.
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.
        **fit_params : dict
            Passed to the module's ``forward``.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            As in ``fit``; also if `y` has another number of outputs than in the first call.
        """
        continuing = self.initialized_
        return self._fit(X, y, sample_weight, None, continuing, "partial_fit", fit_params)

    def _check_targets(self, y, classes, reset):
        y = as_array(y)
        y = check_array(y, ensure_2d=False, allow_nd=True, dtype="numeric", input_name="y")
        if y.ndim > 2:
            raise ValueError(
                "y must have shape (n_samples,) or (n_samples, n_outputs), but got "
                f"{y.shape}; flatten the targets"
            )
        if reset:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != tuple(self._target_shape):
            raise ValueError(
                f"y must have the shape (n_samples, {', '.join(map(str, self._target_shape))}) of "
                f"the first call, but got {y.shape}"
            )
        limit = np.finfo(np.float32).max
        if y.size and np.abs(y).max() > limit:
            raise ValueError(
                f"y must fit into float32 (at most {limit:.3g}), but has the value "
                f"{np.abs(y).max():.3g}; scale the targets"
            )
        return y.astype(np.float32)

    def _check_dataset_targets(self, dataset, y, classes, reset):
        if y is None and reset:
            y = first_batch(dataset)[1]
        return None if y is None else self._check_targets(y, classes, reset)

    def _out_features(self):
        if not hasattr(self, "_target_shape"):
            return None
        return int(np.prod(self._target_shape, dtype=int))

    def _row_weights(self, y, sample_weight):
        return sample_weight

    def _understand(self, output):
        self._output_shape = tuple(output.shape[1:])
        width, wanted = int(np.prod(self._output_shape, dtype=int)), self._out_features()
        if width != wanted and type(self.criterion_) in CRITERIA.values():
            raise ValueError(
                f"the module must return {wanted} values per sample for targets of shape (n_samples"
                f"{', ' + str(wanted) if self._target_shape else ''}), but it returns an output of "
                f"shape (n, {', '.join(map(str, self._output_shape))}); let the module take "
                "`out_features`, or set the parameter of the module that is its width"
            )

    def _shape_targets(self, y):
        if int(np.prod(self._output_shape, dtype=int)) == int(np.prod(y.shape[1:], dtype=int)):
            return y.reshape(-1, *self._output_shape)
        return y

    def _encode_batch(self, y):
        y = torch.as_tensor(y, dtype=torch.float32, device=self.device_)
        return self._shape_targets(y)

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            With the dimensions that `y` had in ``fit``.
        """
        output = self._predict_outputs(X).astype(np.float64)
        if int(np.prod(output.shape[1:], dtype=int)) == self._out_features():
            return output.reshape(len(output), *self._target_shape)
        return output

    @property
    def predict_proba(self):
        """A regressor has none, although skorch's has."""
        raise AttributeError(f"{type(self).__name__} has no predict_proba; use predict")
