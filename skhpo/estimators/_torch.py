"""What the torch classifier and regressor share: fitting and predicting."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping

import numpy as np
import skorch.dataset
import skorch.utils
import torch
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.utils import to_device
from torch.utils.data import DataLoader, IterableDataset, Subset

from ._building import BuildingMixin
from ._checkpoint import CheckpointMixin
from ._data import RowBatches, Rows, is_torch_dataset, n_rows, sample_shape, wants_integers
from ._parameters import ParametersMixin
from ._randomness import OwnGenerators, Stream
from ._training import LoaderBatches, run_epochs
from ._validation import check_inputs, check_sample_weight

__all__ = ["TorchEstimator"]

_ITERATOR_SETTINGS = {"batch_size", "shuffle", "drop_last"}
_PREDICTED_VALUES_AT_ONCE = 2**20


class TorchEstimator(ParametersMixin, BuildingMixin, CheckpointMixin, CallbackSupportMixin):
    """Mixin over a skorch net. A subclass knows the targets.

    It has ``_check_targets(y, classes, reset)``, which returns the encoded targets,
    ``_row_weights(y, sample_weight)``, ``_out_features``, ``_understand(output)``, which is shown
    what the module returns for a few rows, ``_shape_targets(y)`` and ``_encode_batch(y)``.
    """

    # skorch fills these lists while it initializes; here they are known beforehand.
    prefixes_ = [
        *("module", "criterion", "optimizer", "callbacks", "dataset", "compile"),
        *("iterator_train", "iterator_valid"),
    ]
    cuda_dependent_attributes_ = ["module_", "criterion_", "optimizer_"]
    _modules = ["module"]
    _criteria = ["criterion"]
    _optimizers = ["optimizer"]
    history_ = None
    initialized_ = False
    virtual_params_ = {}
    _batch_weight = None
    _labels_are_encoded = False

    @with_callbacks
    def fit(self, X, y=None, sample_weight=None, **fit_params):
        """Train a fresh network for `max_epochs` epochs.

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
        self.check_training_readiness()
        self._check_params()
        reset = not continuing
        inputs, targets, weight = self._check_data(X, y, sample_weight, classes, reset)
        if reset:
            self._inferred = self._infer(inputs)
            self._few_inputs = self._first_inputs(inputs)
            try:
                self.initialize()
            finally:
                self._few_inputs = None
            self._try_module(inputs, fit_params)
        self.check_data(X, y)
        train, valid = self._split(self._as_dataset(inputs, targets, weight), targets)
        run_epochs(
            self,
            train,
            valid,
            X=X,
            y=y,
            sample_weight=sample_weight,
            task=task,
            fit_params=fit_params,
        )
        return self

    def check_data(self, X, y=None):
        """Do nothing; for subclasses that check more than ``fit`` does."""

    def _check_data(self, X, y, sample_weight, classes, reset):
        if is_torch_dataset(X):
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight needs X as an array; with a torch Dataset let the loss "
                    "weight its rows (override get_loss, or use a custom criterion)"
                )
            if y is None:
                y = self._dataset_targets(X)
            if y is not None:
                self._check_targets(y, classes, reset)
            if reset:
                self._remember_input(self._peek(X)[0])
            return X, None, None
        X, y = check_inputs(self, X, y, reset=reset, needs_y=True)
        y = self._check_targets(y, classes, reset)
        weight = check_sample_weight(sample_weight, n_rows(X))
        weight = self._row_weights(y, weight)
        if weight is not None and not weight.all():
            kept = np.flatnonzero(weight)
            X = {k: v[kept] for k, v in X.items()} if isinstance(X, Mapping) else X[kept]
            y, weight = y[kept], weight[kept]
        if weight is not None:
            weight = (weight / weight.mean()).astype(np.float32)
        if reset:
            self._remember_input(X)
        return X, y, weight

    def _remember_input(self, X):
        """Keep what later calls must agree with."""
        self.input_shape_ = sample_shape(X)
        arrays = X if isinstance(X, Mapping) else {None: X}
        self._integer_inputs = {k: not _is_floating(v) for k, v in arrays.items()}

    def _infer(self, X):
        inferred = {"out_features": self._out_features()}
        shape = self.input_shape_
        if shape:
            inferred["in_features"] = int(np.prod(shape))
            inferred["input_shape"] = shape
            inferred["in_channels"] = shape[0]
        return {k: v for k, v in inferred.items() if v is not None}

    def _first_inputs(self, X):
        if is_torch_dataset(X):
            return to_device(self._peek(X)[0], "cpu")
        return None if isinstance(X, Mapping) else torch.as_tensor(X[:2].copy()).float()

    def _input_dtypes(self):
        floats = (p.dtype for p in self.module_.parameters() if p.is_floating_point())
        floating = next(floats, torch.get_default_dtype())
        keep = wants_integers(self.module_)
        dtypes = {
            k: torch.int64 if keep and was_integer else floating
            for k, was_integer in self._integer_inputs.items()
        }
        return dtypes.get(None, dtypes)

    def _rows(self, X, y=None, weight=None):
        return Rows(X, y, weight, dtype=self._input_dtypes(), device=self.device_)

    def _try_module(self, X, fit_params):
        """Pass a few rows through the module, to say what is wrong before any training."""
        if is_torch_dataset(X):
            inputs = to_device(self._peek(X)[0], self.device_)
        else:
            n = min(8, n_rows(X))
            few = {k: v[:n] for k, v in X.items()} if isinstance(X, Mapping) else X[:n]
            inputs = self._rows(few).take(torch.arange(n))[0]
        self._set_training(False)
        # A stream of its own: what is drawn here must not shift the streams of training.
        with torch.no_grad(), OwnGenerators(Stream(self.seed_, "trial")):
            try:
                output = self.infer(inputs, **fit_params)
            except Exception as error:
                shape = (
                    {k: tuple(v.shape) for k, v in inputs.items()}
                    if isinstance(inputs, Mapping)
                    else tuple(inputs.shape)
                )
                raise ValueError(
                    f"the module must accept a batch of X, but with inputs of shape {shape} it "
                    f"raised {type(error).__name__}: {error}"
                ) from error
        self._understand(output[0] if isinstance(output, tuple) else output)

    def _as_dataset(self, X, y, weight):
        if is_torch_dataset(X):
            return X
        y = self._shape_targets(y)
        if self._slices_batches():
            return self._rows(X, y, weight)
        if weight is not None:
            raise ValueError(
                "sample_weight and class_weight need the default `dataset` and `iterator_train`, "
                f"but got dataset={self.dataset!r}, iterator_train={self.iterator_train!r} with "
                f"arguments {sorted(self._iterator_arguments())}; leave those at their defaults"
            )
        rows = self._rows(X, y)
        inputs = rows.take(torch.arange(len(rows)))[0]
        return self.get_dataset(to_device(inputs, "cpu"), y)

    def _slices_batches(self):
        cls = type(self)
        return (
            self.dataset is skorch.dataset.Dataset
            and self.iterator_train is DataLoader
            and not NeuralNet.get_params_for(self, "dataset")
            and self._iterator_arguments() <= _ITERATOR_SETTINGS
            and cls.get_dataset is NeuralNet.get_dataset
            and cls.get_iterator is TorchEstimator.get_iterator
            and cls.get_split_datasets is NeuralNet.get_split_datasets
        )

    def _iterator_arguments(self):
        return set(NeuralNet.get_params_for(self, "iterator_train"))

    def _split(self, dataset, y):
        if not self.train_split:
            return dataset, None
        if isinstance(dataset, Rows):
            train, valid = self.train_split(dataset, y)
        else:
            train, valid = self.get_split_datasets(dataset, y)
        return _plain_rows(train), _plain_rows(valid)

    def _batches(self, dataset, *, training, forward=None):
        if not isinstance(dataset, Rows):
            return LoaderBatches(self, self.get_iterator(dataset, training=training), forward)
        settings = self.get_params_for("iterator_train" if training else "iterator_valid")
        generator = None
        if training and settings.get("shuffle", True):
            generator = self._streams["shuffle"].generator()
        batch_size = settings.get("batch_size", self.batch_size)
        if not training and "batch_size" not in settings:
            batch_size = max(batch_size, self._prediction_batch_size())
        return RowBatches(
            dataset,
            len(dataset) if batch_size == -1 else batch_size,
            generator,
            drop_last=bool(training and settings.get("drop_last", False)),
            on_weight=self._set_batch_weight,
        )

    def _set_batch_weight(self, weight):
        self._batch_weight = weight

    def _prediction_batch_size(self):
        values = int(np.prod(self.input_shape_)) if self.input_shape_ else 1024
        return min(1024, max(1, _PREDICTED_VALUES_AT_ONCE // max(1, values)))

    def get_iterator(self, dataset, training=False):
        """Make the `DataLoader` of a dataset. In training it shuffles, unless told otherwise.

        Parameters
        ----------
        dataset : torch Dataset
        training : bool, default=False
            Whether `iterator_train` is used, or `iterator_valid`.

        Returns
        -------
        iterator : iterable of batches
        """
        component = "iterator_train" if training else "iterator_valid"
        factory = getattr(self, component)
        if factory is not DataLoader:
            return NeuralNet.get_iterator(self, dataset, training=training)
        kwargs = {"batch_size": self.batch_size, **self.get_params_for(component)}
        if kwargs["batch_size"] == -1:
            kwargs["batch_size"] = len(dataset)
        if "batch_sampler" in kwargs:
            kwargs.pop("batch_size")
        orders_itself = {"sampler", "batch_sampler", "shuffle"} & set(kwargs)
        if training and not orders_itself and not isinstance(dataset, IterableDataset):
            kwargs["shuffle"] = True
        # Without one, DataLoader draws from torch's default generator, even in order.
        stream = self._streams["shuffle"] if training else Stream(self.seed_, "loader")
        kwargs.setdefault("generator", stream.generator())
        return factory(dataset, **kwargs)

    def _peek(self, dataset):
        """Return a first batch of a dataset without touching the streams."""
        if isinstance(dataset, IterableDataset):
            batch = next(iter(DataLoader(dataset, batch_size=2, generator=torch.Generator())))
        else:
            rows = [dataset[i] for i in range(min(8, len(dataset)))]
            batch = torch.utils.data.default_collate(rows)
        X, y = batch
        return X, y

    def _prepare_batch(self, batch):
        X, y = skorch.dataset.unpack_data(batch)
        X = to_device(X, self.device_)
        return X, self._encode_batch(y)

    def _dataset_targets(self, dataset):
        """Return the targets of a dataset where they are at hand, else None."""
        if isinstance(dataset, Subset):
            y = self._dataset_targets(dataset.dataset)
            return None if y is None else y[np.asarray(dataset.indices)]
        if isinstance(dataset, torch.utils.data.TensorDataset) and len(dataset.tensors) == 2:
            return np.asarray(dataset.tensors[1])
        y = getattr(dataset, "y", getattr(dataset, "targets", None))
        return None if y is None else np.asarray(y)

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
        if isinstance(x, Mapping):
            return self.module_(**self._merge_x_and_fit_params(x, fit_params))
        return self.module_(x, **fit_params)

    def _infers_plainly(self):
        return type(self).infer is TorchEstimator.infer

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss of a batch, weighted where there are weights.

        Parameters
        ----------
        y_pred : Tensor of shape (n, ...)
            What the module returned.
        y_true : Tensor of shape (n,) or (n, n_outputs)
            Encoded targets.
        X : Tensor or dict of str to Tensor, default=None
        training : bool, default=False

        Returns
        -------
        loss : Tensor of shape ()
        """
        if not isinstance(y_true, torch.Tensor):
            y_true = skorch.utils.to_tensor(y_true, device=self.device_)
        weight = self._batch_weight if training else None
        if weight is None:
            return self.criterion_(y_pred, y_true)
        per_row = self._criterion_per_row()(y_pred, y_true)
        if per_row.ndim > 1:
            per_row = per_row.flatten(1).mean(1)
        return (per_row * weight).mean()

    def _criterion_per_row(self):
        if not hasattr(self.criterion_, "reduction"):
            raise ValueError(
                "weights need a criterion with a `reduction`, as torch's have, but criterion is "
                f"{self.criterion!r}"
            )
        per_row = copy.copy(self.criterion_)
        per_row.reduction = "none"
        return per_row

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
        check_is_fitted(self)
        if not is_torch_dataset(X):
            X, _ = check_inputs(self, X, None, reset=False, needs_y=False)
            X = self._rows(X)
        for batch in self._batches(X, training=False, forward=contextlib.nullcontext()):
            yield to_device(self.evaluation_step(batch, training=training), device=device)

    def _predict_outputs(self, X):
        nonlinearity = self._get_predict_nonlinearity()
        outputs = []
        for output in self.forward_iter(X, training=False):
            output = output[0] if isinstance(output, tuple) else output
            outputs.append(skorch.utils.to_numpy(nonlinearity(output)))
        return np.concatenate(outputs, axis=0)

    def _snapshot(self):
        """Return what makes an estimator that predicts as this one does now."""
        return {name + "_": copy.deepcopy(getattr(self, name + "_")) for name in self._modules}

    def __copy__(self):
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin


def _plain_rows(dataset):
    """Return a part of `Rows`, as train/valid splits make it, as `Rows`."""
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, Rows):
        return dataset.dataset.subset(dataset.indices)
    return dataset


def _is_floating(array):
    if isinstance(array, torch.Tensor):
        return array.is_floating_point()
    return array.dtype.kind == "f"
