"""What the torch classifier and regressor share: fitting and predicting."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import skorch.utils
import torch
from sklearn.callback import CallbackSupportMixin, with_callbacks
from skorch.utils import to_device
from torch.utils.data import DataLoader

from .._compat import num_samples
from ..searchable import SearchTags
from ..training.device import as_float32, plain_tuple
from ._building import BuildingMixin
from ._callbacks import check_monitors, let_callbacks_set_params, with_epoch_table
from ._first_look import FirstLookMixin
from ._routing import drop_made_request_methods, routed
from .fitting import run_epochs
from .parameters import ParametersMixin
from .selection import hold_out
from .state import StateMixin
from .validation import check_before_search, check_sample_weight

__all__ = ["TorchEstimator"]

# Parameters that decide which further ones there are.
_PARTS = {"module", "criterion", "optimizer", "lr_scheduler", "callbacks"}


_NOTHING = MappingProxyType({})


class TorchEstimator(
    ParametersMixin,
    BuildingMixin,
    FirstLookMixin,
    StateMixin,
    CallbackSupportMixin,
):
    """Mixin over a skorch net. A subclass knows about targets:

    ``_check_targets(y, classes, reset)``
        checks and encodes the targets, and learns from the first ones;
    ``_check_dataset_targets(dataset, y, classes, reset)``
        does so for a torch `Dataset`;
    ``_out_features()``
        says how wide the module's output must be;
    ``_row_weights(y, sample_weight)``
        adds what else weights the samples;
    ``_understand(output)``
        is shown what the module returns for a few rows;
    ``_shape_targets(y)``, ``_encode_batch(y)``
        make of encoded targets, or of a `Dataset`'s, what the criterion gets;
    ``_decode(y)``, ``_strata(y)``
        make of encoded targets what a scorer gets, and what a validation part is stratified by.
    """

    # skorch fills these lists while it initializes; here they are known beforehand.
    prefixes_ = [
        *("module", "criterion", "optimizer", "callbacks", "dataset", "compile"),
        *("iterator_train", "iterator_valid", "lr_scheduler", "seeds"),
    ]
    cuda_dependent_attributes_ = [
        *("module_", "criterion_", "optimizer_", "lr_schedule_", "_state"),
    ]
    _modules = ["module"]
    _criteria = ["criterion"]
    _optimizers = ["optimizer"]
    initialized_ = False
    virtual_params_ = {}
    _batch_weight = None
    _labels_are_encoded = False
    _low_precision = None
    _row_bytes = None
    # Whether `_own_runner` gives what trains for an epoch.
    _has_own_epochs = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        drop_made_request_methods(cls)

    @property
    def _default_callbacks(self):
        return with_epoch_table(super()._default_callbacks)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    def fit(self, X, y=None, sample_weight=None, **fit_params):
        """Train a fresh network for `max_epochs` epochs.

        With ``warm_start=True`` a trained network is trained further, as by ``partial_fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            Inputs; arrays of more than two dimensions are images or sequences. The arrays of a
            dict are passed to the module by name. A `Dataset` yields pairs of input and target.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. None only if `X` is a `Dataset`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, relative to each other. A weight of zero removes the sample.
        **fit_params : dict
            Passed to the module's ``forward`` and to `train_split`, as in skorch. With
            scikit-learn's metadata routing the module gets what ``set_fit_request`` declares, and
            `train_split` what its splitter asks for.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If the data or a parameter is invalid. The message names the rule and the value.
        """
        continuing = bool(self.warm_start and self.initialized_)
        return self._fit(X, y, sample_weight, None, continuing, "fit", fit_params)

    def _fit(self, X, y, sample_weight, classes, continuing, task, fit_params):
        fit_params, split_params = routed(self, task, fit_params)
        data = self._prepare_fit(X, y, sample_weight, classes, continuing, fit_params, split_params)
        given = {"X": X, "y": y, "sample_weight": sample_weight}
        self._run_epochs(*data, **given, task=task, fit_params=fit_params)
        return self

    def _run_epochs(self, train, valid, checks, **call):
        run_epochs(self, train, valid, checks, **call)

    def _prepare_fit(
        self, X, y, sample_weight, classes, continuing, fit_params, split_params=_NOTHING
    ):
        """Check everything, build the net, and return ``(train, valid, checks)``."""
        self.check_training_readiness()
        self._check_params()
        # A net that was only initialized knows nothing of data yet.
        reset = not (continuing and self._has_seen_data)
        inputs, targets, weight = self._check_training_data(X, y, sample_weight, classes, reset)
        self.check_data(X, y)
        self._targets_are_encoded = not isinstance(inputs, torch.utils.data.Dataset)
        if not continuing:
            let_callbacks_set_params(self, X, y)
            self._build(inputs, fit_params, targets)
        elif reset:
            self._learn_from(inputs, self._first_batch(inputs, targets)[0], fit_params)
        dataset, checks = self._hold_out(inputs, targets, weight)
        whole = inputs if checks is None else dataset
        train, valid = self._split(dataset, whole, targets, split_params)
        check_monitors(self, valid, checks)
        return train, valid, checks

    @property
    def _has_seen_data(self):
        return hasattr(self, "_output_shape")

    def _hold_out(self, X, y, weight):
        """Return what is trained on, and the checks on the rest or None."""
        if self.validation_fraction is None:
            return self._as_dataset(X, y, weight, training=True), None
        return hold_out(self, X, y, weight)

    def check_data(self, X, y=None):
        """Do nothing; for subclasses that check more than ``fit`` does."""

    def _check_training_data(self, X, y, sample_weight, classes, reset):
        if y is None and not isinstance(X, torch.utils.data.Dataset) and self._has_own_dataset():
            X = self.get_dataset(X)
        if isinstance(X, torch.utils.data.Dataset):
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight needs X as an array, but X is a torch Dataset; override "
                    "get_loss to weight its rows"
                )
            return X, self._check_dataset_targets(X, y, classes, reset), None
        if y is None and self.iterator_train is not DataLoader:
            # Not done unasked: where y was forgotten, skorch's data set yields zeros.
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; if "
                f"iterator_train={self.iterator_train!r} and iterator_valid yield targets of their "
                "own, pass skorch.dataset.Dataset(X) as X"
            )
        X, y = self._check_inputs(X, y, reset=reset, needs_y=True)
        weight = check_sample_weight(sample_weight, num_samples(y))
        y = self._check_targets(y, classes, reset)
        weight = self._row_weights(y, weight)
        if weight is None:
            return X, y, None
        if self._reads_as_given(X):
            self._refuse_weights(training=True)
        if not weight.any():
            raise ValueError(
                "sample_weight times class_weight leaves no sample: all products are zero"
            )
        if not weight.all():
            kept = np.flatnonzero(weight)
            X = {k: v[kept] for k, v in X.items()} if isinstance(X, Mapping) else X[kept]
            y, weight = y[kept], weight[kept]
        return X, y, (weight / weight.mean()).astype(np.float32)

    def __skhpo_tags__(self):
        return SearchTags(
            reads_rows=self.validation_fraction is None and self._reads_rows,
            check_data=self._check_before_search,
            model_space=self._model_space,
            new_parameters=self._model_newcomers,
        )

    def _check_before_search(self, X, y, fit_params, varied):
        check_before_search(self, X, y, fit_params.get("sample_weight"), varied, _PARTS)

    def infer(self, x, **fit_params):
        """Pass a batch through the module.

        Parameters
        ----------
        x : Tensor or dict of str to Tensor
        **fit_params : dict
            Passed to ``forward``.

        Returns
        -------
        output : Tensor or tuple of Tensor
        """
        x = skorch.utils.to_tensor(x, device=self.device_)
        if self._low_precision is not None:
            with torch.autocast(self._low_precision, torch.bfloat16):
                return as_float32(self._forward(x, fit_params))
        return self._forward(x, fit_params)

    def _forward(self, x, fit_params):
        if isinstance(x, Mapping):
            return self.module_(**self._merge_x_and_fit_params(x, fit_params))
        return self.module_(x, **fit_params)

    def _forward_of_training(self):
        """Return what maps a batch of `Rows` to the module's output, with no detour."""
        plain = type(self).infer is TorchEstimator.infer and self.input_shape_ is not None
        return self.module_ if plain and self._low_precision is None else self.infer

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss of a batch, weighted where there are weights.

        Parameters
        ----------
        y_pred : Tensor of shape (n, ...)
            What the module returned.
        y_true : Tensor of shape (n,) or (n, n_outputs)
            Encoded targets.
        X : Tensor or dict of str to Tensor, default=None
            The batch.
        training : bool, default=False
            Whether the batch is one of training; only then it is weighted.

        Returns
        -------
        loss : Tensor of shape ()
        """
        y_pred = self._for_criterion(y_pred)
        if not isinstance(y_true, torch.Tensor):
            y_true = skorch.utils.to_tensor(y_true, device=self.device_)
        weight = self._batch_weight if training else None
        if weight is None:
            return self.criterion_(y_pred, y_true)
        if not hasattr(self.criterion_, "reduction"):
            raise ValueError(
                "sample_weight and class_weight need a criterion with a `reduction`, as torch's "
                f"have, but criterion is {self.criterion!r}"
            )
        per_row = copy.copy(self.criterion_)
        per_row.reduction = "none"
        losses = per_row(y_pred, y_true)
        if losses.ndim > 1:
            losses = losses.flatten(1).mean(1)
        return (losses * weight).mean()

    def _for_criterion(self, output):
        """Return what the criterion gets: one of torch's takes the first of several outputs."""
        several = isinstance(output, tuple)
        of_torch = several and type(self.criterion_).__module__.startswith("torch.")
        return output[0] if of_torch else output

    def forward_iter(self, X, training=False, device="cpu"):
        """Yield what the module returns, batch by batch.

        Parameters
        ----------
        X : array-like, dict of str to array-like, or torch Dataset
        training : bool, default=False
            Whether dropout and the like are active.
        device : str, default="cpu"
            Where the outputs are put.

        Yields
        ------
        output : Tensor or tuple of Tensor
        """
        self.check_is_fitted()
        net = self if self._has_seen_data else copy.copy(self)
        if not isinstance(X, torch.utils.data.Dataset):
            X, _ = net._check_inputs(X, reset=net is not self, needs_y=False)
        if net is not self:
            net._remember_input(X, net._first_batch(X)[0])
        dataset = net._as_dataset(X, training=False)
        for inputs in net._batches(dataset, training=False).inputs():
            output = self.evaluation_step((inputs, None), training=training)
            yield to_device(plain_tuple(output), device=device)

    def _predict_outputs(self, X):
        nonlinearity = self._get_predict_nonlinearity()
        outputs = []
        for output in self.forward_iter(X):
            output = output[0] if isinstance(output, tuple) else output
            outputs.append(skorch.utils.to_numpy(nonlinearity(output)))
        return np.concatenate(outputs, axis=0)

    @contextlib.contextmanager
    def _as_callbacks_expect(self):
        """While skorch's callbacks run, be what they know.

        Those that score compare predictions with encoded targets, so labels are encoded, too;
        and `device` is one that torch understands, which "auto" is not.
        """
        self._labels_are_encoded = True
        try:
            with self._concrete_device():
                yield
        finally:
            self._labels_are_encoded = False

    def _snapshot(self):
        """Return what turns a copy of this estimator into one that predicts as it does now."""
        return {name + "_": copy.deepcopy(getattr(self, name + "_")) for name in self._modules}
