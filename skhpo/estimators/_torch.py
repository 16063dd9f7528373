"""What the torch classifier and regressor share: fitting and predicting."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import skorch.utils
import torch
from sklearn.callback import CallbackSupportMixin, with_callbacks
from skorch.utils import to_device

from ..rows import RowSubset
from ._building import BuildingMixin
from ._checkpoint import CheckpointMixin
from ._data import Rows, n_rows, sample_shape
from ._feeding import FeedingMixin, first_batch
from ._parameters import ParametersMixin
from ._precision import as_float32
from ._printing import with_epoch_table
from ._randomness import Stream
from ._selection import hold_out
from ._training import run_epochs
from ._validation import check_inputs, check_sample_weight

__all__ = ["TorchEstimator"]


class TorchEstimator(
    ParametersMixin, BuildingMixin, FeedingMixin, CheckpointMixin, CallbackSupportMixin
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
        *("module_", "criterion_", "optimizer_", "lr_schedule_", "_running_weights"),
    ]
    _modules = ["module"]
    _criteria = ["criterion"]
    _optimizers = ["optimizer"]
    history_ = None
    initialized_ = False
    virtual_params_ = {}
    _batch_weight = None
    _labels_are_encoded = False
    _low_precision = None
    lr_schedule_ = None
    # Whether `_epochs_of_its_own` gives what trains for an epoch.
    _has_own_epochs = False
    # A search may pass a RowSubset for X.
    _reads_rows = True

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
            Passed to the module's ``forward``, as in skorch.

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
        data = self._prepare_fit(X, y, sample_weight, classes, continuing, fit_params)
        given = {"X": X, "y": y, "sample_weight": sample_weight}
        self._run_epochs(*data, **given, task=task, fit_params=fit_params)
        return self

    def _run_epochs(self, train, valid, checks, **call):
        run_epochs(self, train, valid, checks, **call)

    def _prepare_fit(self, X, y, sample_weight, classes, continuing, fit_params):
        """Check everything, build the net, and return ``(train, valid, checks)``."""
        self.check_training_readiness()
        self._check_params()
        reset = not continuing
        inputs, targets, weight = self._check_training_data(X, y, sample_weight, classes, reset)
        self.check_data(X, y)
        self._targets_are_encoded = not isinstance(X, torch.utils.data.Dataset)
        if reset:
            self._build(inputs, fit_params)
        dataset, checks = self._hold_out(inputs, targets, weight)
        return *self._split(dataset, targets, fit_params), checks

    def _hold_out(self, X, y, weight):
        """Return what is trained on, and the checks on the rest or None."""
        if self.validation_fraction is None:
            return self._as_dataset(X, y, weight), None
        return hold_out(self, X, y, weight)

    def check_data(self, X, y=None):
        """Do nothing; for subclasses that check more than ``fit`` does."""

    def _check_training_data(self, X, y, sample_weight, classes, reset):
        if isinstance(X, torch.utils.data.Dataset):
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight needs X as an array, but X is a torch Dataset; override "
                    "get_loss to weight its rows"
                )
            y = self._check_dataset_targets(X, y, classes, reset)
            if reset:
                self._remember_input(first_batch(X)[0])
            return X, y, None
        X, y = check_inputs(self, X, y, reset=reset, needs_y=True)
        weight = check_sample_weight(sample_weight, n_rows(X))
        y = self._check_targets(y, classes, reset)
        weight = self._row_weights(y, weight)
        if weight is not None:
            if not weight.any():
                raise ValueError(
                    "sample_weight times class_weight leaves no sample: all products are zero"
                )
            if not weight.all():
                kept = np.flatnonzero(weight)
                X = {k: v[kept] for k, v in X.items()} if isinstance(X, Mapping) else X[kept]
                y, weight = y[kept], weight[kept]
            weight = (weight / weight.mean()).astype(np.float32)
        if reset:
            self._remember_input(X)
        return X, y, weight

    def _remember_input(self, X):
        """Keep what later inputs must agree with."""
        self.input_shape_ = sample_shape(X)
        arrays = X if isinstance(X, Mapping) else {None: X}
        self._integer_inputs = {name: not _is_floating(array) for name, array in arrays.items()}

    def _build(self, X, fit_params):
        """Initialize the net for the data, and pass a few rows through it.

        What is wrong with the module is said before any training.
        """
        self._inferred = {"out_features": self._out_features()}
        if self.input_shape_:
            self._inferred["in_features"] = int(np.prod(self.input_shape_))
            self._inferred["in_channels"] = self.input_shape_[0]
            self._inferred["input_shape"] = self.input_shape_
        is_dataset = isinstance(X, torch.utils.data.Dataset)
        few = first_batch(X)[0] if is_dataset else _first_rows(X)
        self._few_inputs = few
        try:
            self.initialize()
            if not is_dataset:
                few, _, _ = self._rows(few).take(torch.arange(n_rows(few)))
            self._understand(self._try(to_device(few, self.device_), fit_params))
        except BaseException:
            # Not a network that could predict, or be continued.
            self.initialized_ = False
            vars(self).pop("module_", None)
            raise
        finally:
            self._few_inputs = None

    def _try(self, inputs, fit_params):
        self._set_training(False)
        # A stream of its own: what is drawn here must not shift the streams of training. The graph
        # says which operation came last.
        with torch.enable_grad(), self._drawing_from(Stream(self.seed_, "trial")):
            try:
                output = self.infer(inputs, **fit_params)
            except Exception as error:
                named = inputs.items() if isinstance(inputs, Mapping) else [("X", inputs)]
                shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in named)
                raise ValueError(
                    f"the module must accept a batch of the data, but for inputs of shape {shapes} "
                    f"it raised {type(error).__name__}: {error}"
                ) from error
        return output[0] if isinstance(output, tuple) else output

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
        if not isinstance(X, torch.utils.data.Dataset):
            X, _ = check_inputs(self, X, None, reset=False, needs_y=False)
            X = self._rows(X)
        if isinstance(X, Rows):
            batches = ((X, None) for X, _, _ in self._batches(X, training=False).triples())
        else:
            batches = self.get_iterator(X, training=False)
        for batch in batches:
            yield to_device(self.evaluation_step(batch, training=training), device=device)

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

    def __copy__(self):
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin


def _first_rows(X):
    if scipy.sparse.issparse(X):
        return X[:8].toarray()
    if isinstance(X, RowSubset):
        return np.asarray(X[:8])
    return {k: v[:8] for k, v in X.items()} if isinstance(X, Mapping) else X[:8]


def _is_floating(array):
    if isinstance(array, torch.Tensor):
        return array.is_floating_point()
    return array.dtype.kind == "f"
