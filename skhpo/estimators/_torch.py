"""Base of the torch classifier and regressor: what scikit-learn calls."""

from __future__ import annotations

import contextlib
import copy
import math
from functools import partial
from types import MappingProxyType

import numpy as np
import skorch.utils
import torch
from sklearn.base import clone, is_classifier
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import accuracy_score
from torch.utils.data import Dataset

from ..searchable import EndOfTraining, SearchTags
from ..training.data import as_array
from ..training.forwarding import as_float32, call_module
from ..training.modes import usual_modes
from ..training.structure import copied
from . import _ending
from ._hyperparameter_schedule import check_epochs_of_schedule
from .building import BuildingMixin
from .callbacks import with_epoch_table
from .exporting import ExportingMixin
from .feeding import make_iterator, read_targets
from .fitting import goes_on, prepare_fit, run_epochs
from .held_out import ARGUMENTS, check_sources, one_argument
from .parameters import ParametersMixin
from .predicting import PredictingMixin, score_of_heads
from .settings import (
    HiddenParameter,
    has_own_dataset,
    made_request_methods,
    routed,
    slices_batches,
)
from .state import StateMixin
from .validation import check_before_search, check_training_data, checked_inputs

__all__ = ["TorchEstimator"]


# Parameters on which the valid names of others depend.
_PARTS = {"module", "criterion", "optimizer", "lr_scheduler", "callbacks"}
_NOTHING = MappingProxyType({})


class TorchEstimator(
    ParametersMixin,
    BuildingMixin,
    PredictingMixin,
    StateMixin,
    ExportingMixin,
    CallbackSupportMixin,
):
    """Mixin over a skorch net. A subclass knows what targets mean, `Targets`:

    ``_check_targets(y, classes, reset)``
        checks and encodes targets, and learns `_targets` from the first ones;
    ``_check_dataset_targets(dataset, y, classes, reset)``
        does so for a torch `Dataset`;
    ``_learn_targets_alone()``
        learns without any, where that is possible;
    ``_out_features()``
        returns the required width of the module's output;
    ``_row_weights(y, sample_weight)``
        returns the sample weights including class weights;
    ``_infer_output_format(output)``
        learns the meaning of the module's output from a few rows.
    """

    # skorch fills these lists while it initializes.
    prefixes_ = [
        *("module", "criterion", "optimizer", "callbacks", "dataset", "compile"),
        *("iterator_train", "iterator_valid", "lr_scheduler", "seeds"),
        *("transform", "train_transform"),
    ]
    cuda_dependent_attributes_ = [
        *("module_", "criterion_", "optimizer_", "lr_schedule_", "_state"),
    ]
    _modules = ["module"]
    _criteria = ["criterion"]
    _optimizers = ["optimizer"]
    initialized_ = False
    virtual_params_ = {}
    transform = HiddenParameter()
    _transforms = MappingProxyType({})
    _transforms_vary = False
    _batch_weight = None
    _labels_are_encoded = False
    _low_precision = None
    _class_weight_of_loader = None
    _row_bytes = None
    _checkpointed = ("_plain_targets", "_meaning", "_output_shape")
    # Values of `hyperparameter_schedule` in the last epoch.
    _scheduled = _NOTHING
    # Whether `_own_runner` returns the runner of epochs.
    has_own_epochs = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # They would reject the metadata of the module's ``forward``, which may have any name.
        for name in {"set_fit_request", "set_partial_fit_request"} & {*made_request_methods(cls)}:
            delattr(cls, name)

    def __setattr__(self, name, value):
        # skorch looks into its lists of names first, for a fit hundreds of times.
        if isinstance(value, torch.nn.Module | torch.optim.Optimizer):
            super().__setattr__(name, value)
        else:
            object.__setattr__(self, name, value)

    @property
    def _default_callbacks(self):
        return with_epoch_table(super()._default_callbacks)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        *,
        validation_data=None,
        X_val=None,
        y_val=None,
        **fit_params,
    ):
        """Train a new network for `max_epochs` epochs.

        With ``warm_start=True`` a trained network is trained further, as by ``partial_fit``; a
        parameter of the module, the criterion, ... that was set meanwhile is an error.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            Inputs; arrays of more than two dimensions are images or sequences. The arrays of a
            dict are passed to the module by name. A `Dataset` yields pairs of input and target.
        y : array-like of shape (n_samples,) or (n_samples, ...), default=None
            Targets. None only if `X` is a `Dataset`. A regressor with a criterion of your own takes
            a dict of them, for several heads.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, relative to each other. A weight of zero removes the sample.
        validation_data : tuple (X, y), torch Dataset or array-like of rows, default=None
            What the network is checked on during training, in place of `validation_fraction` of
            the samples: other samples, or some of `X`, by their numbers or as a mask of shape
            (n_samples,), on which it is then not trained.
        X_val, y_val : array-like, default=None
            Such a pair under the names of scikit-learn, for a `Pipeline` whose
            ``transform_input=["X_val"]`` transforms it as it does `X`.
        **fit_params : dict
            Passed to the module's ``forward`` and to `train_split`, as in skorch. With
            scikit-learn's metadata routing the module gets what ``set_fit_request`` declares, and
            `train_split` what its splitter asks for.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a parameter is invalid. The message names the rule and the value.
        """
        continuing = goes_on(self)
        validation = one_argument(validation_data, X_val, y_val)
        with usual_modes():
            return self._fit(X, y, sample_weight, None, continuing, "fit", fit_params, validation)

    @with_callbacks
    def partial_fit(
        self,
        X,
        y=None,
        classes=None,
        sample_weight=None,
        *,
        validation_data=None,
        X_val=None,
        y_val=None,
        **fit_params,
    ):
        """Train for `max_epochs` more epochs, from the current state.

        Two calls of k epochs on the same data give bit for bit (on a CPU) the network of one
        ``fit`` of 2k epochs, also after a pickle or a checkpoint in between. Parameters of the
        module and the criterion that were set meanwhile are used by the next ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            As in ``fit``.
        y : array-like of shape (n_samples,) or (n_samples, ...), default=None
            Targets; for a classifier labels, or 0 and 1 for each of several labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur, for a classifier; needed in the first call only if `y`
            lacks some. A regressor ignores it.
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.
        validation_data, X_val, y_val : object, default=None
            As in ``fit``; they are not remembered from an earlier call.
        **fit_params : dict
            As in ``fit``.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        ValueError
            As in ``fit``; also if `y` has a label that was not in the first call, or another
            number of outputs.
        """
        continuing, task = self.initialized_, "partial_fit"
        validation = one_argument(validation_data, X_val, y_val)
        with usual_modes():
            return self._fit(X, y, sample_weight, classes, continuing, task, fit_params, validation)

    def _fit(self, X, y, sample_weight, classes, continuing, task, fit_params, validation):
        split_params = fit_params
        if fit_params:
            fit_params, split_params = routed(self, task, fit_params)
        data = prepare_fit(
            self, X, y, sample_weight, classes, continuing, fit_params, split_params, validation
        )
        given = {"X": X, "y": y, "sample_weight": sample_weight}
        self._run_epochs(*data, **given, task=task, fit_params=fit_params)
        return self

    def _run_epochs(self, train, valid, checks, **call):
        run_epochs(self, train, valid, checks, **call)

    def _check_sources(self, validation):
        check_sources(self, validation)

    @property
    def _has_seen_data(self):
        return hasattr(self, "_output_shape")

    def _labels_of_dataset(self, dataset, report=None):
        """Return the targets of a dataset as predictions have them; None if its items have none."""
        return read_targets(self, dataset, report)

    def _shape_targets(self, y):
        """Return encoded targets as the criterion takes them."""
        return self._targets.shaped(y, self._meaning, self._output_shape)

    def _learn_targets_alone(self):
        """Learn what can be known of targets without any, for predictions."""

    def get_iterator(self, dataset, training=False):
        """Make the `DataLoader` of a dataset. In training it shuffles, unless set otherwise.

        Parameters
        ----------
        dataset : torch Dataset
            Rows to read.
        training : bool, default=False
            Whether `iterator_train` is used, or `iterator_valid`.

        Returns
        -------
        iterator : iterable of batches
            A `DataLoader`, unless `iterator_train` or `iterator_valid` is another class.
        """
        return make_iterator(self, dataset, training=training)

    @property
    def transforms_vary(self):
        """Whether what transforms make of rows is known to depend on earlier calls."""
        return self._transforms_vary

    def check_data(self, X, y=None):
        """Check data beyond what ``fit`` checks; for subclasses.

        Parameters
        ----------
        X : array-like, dict of str to array-like, or torch Dataset
            Inputs.
        y : array-like, default=None
            Targets.
        """

    def _check_training_data(self, X, y, sample_weight, classes, reset):
        return check_training_data(self, X, y, sample_weight, classes, reset)

    def __skhpo_tags__(self):
        of_schedule = {}
        if self.hyperparameter_schedule is not None:
            of_schedule["check_epochs"] = partial(check_epochs_of_schedule, self)
        return SearchTags(
            **of_schedule,
            reads_rows=(
                self.validation_fraction is None
                and self.collate is None
                and slices_batches(self)
                and slices_batches(self, training=False)
            ),
            check_data=self._check_before_search,
            dataset_targets=self._labels_of_dataset,
            predicts_seen_classes=is_classifier(self) and self.classes is None,
            model_space=self._model_space,
            new_parameters=self._new_parameters,
            output_size=lambda: math.prod(self._output_shape),
            averages=("average", "lr_scheduler"),
            end_of_training=EndOfTraining(
                finds=self.validation_fraction is not None,
                found=partial(_ending.found, self),
                parameters=partial(_ending.parameters_for, self),
                steps_per_epoch=partial(_ending.steps_per_epoch, self),
                why_same=partial(_ending.why_same, self),
            ),
        )

    def _check_before_search(self, X, y, fit_params, varied):
        given = one_argument(**{k: v for k, v in fit_params.items() if k in ARGUMENTS})
        if given is not None and not varied & {"validation_fraction", "train_split"}:
            self._check_sources(given)
        schedule = () if "hyperparameter_schedule" in varied else self.hyperparameter_schedule
        twice = sorted(varied & set(schedule or ()))
        if twice:
            raise ValueError(
                f"{twice[0]!r} cannot be searched, because the estimator's hyperparameter_schedule "
                "sets it in each epoch; leave one of them out"
            )
        net, weight = clone(self), fit_params.get("sample_weight")
        is_dataset = isinstance(X, Dataset)
        data = X, y, weight
        if is_dataset or (X is not None and has_own_dataset(net)):  # rows may have any type
            data = None, None, None
        check_before_search(net, *data, varied, _PARTS, checked_inputs)
        if is_dataset:
            if "class_weight" in varied:
                net.set_params(class_weight=None)
            net._check_training_data(X, y, weight, None, True)

    def score(self, X, y=None, sample_weight=None):
        """Return the accuracy of a classifier, the coefficient of determination of a regressor.

        Of targets with more than two dimensions it is that of all their values, of a dict of
        targets minus the mean of the criterion.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, ...), default=None
            True targets. None only if `X` is a `Dataset`, whose targets are read.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        score : float
            Larger is better.
        """
        if getattr(self._targets, "are_heads", False):
            return score_of_heads(self, X, y, sample_weight)
        if y is None and isinstance(X, Dataset):
            y = self._labels_of_dataset(X)
        if np.ndim(y) < 2 or not self._has_positions(np.shape(y)):
            if sample_weight is None and self._are_integer_labels(y):
                predicted = self.predict(X)
                plain = type(predicted) is np.ndarray and predicted.dtype.kind in "iu"
                if plain and predicted.shape == y.shape:
                    # What `accuracy_score` returns, whose checks take longer than a small network.
                    return float(np.mean(y == predicted))
                return float(accuracy_score(y, predicted))  # not super's, which predicts again
            return super().score(X, y, sample_weight)
        y, predicted = (np.asarray(as_array(one)) for one in (y, self.predict(X)))
        if y.shape != predicted.shape:
            raise ValueError(
                f"y must have the shape {predicted.shape} of predictions, but has {y.shape}"
            )
        y, predicted = (one.reshape(len(one), -1) for one in (y, predicted))
        return self._score_of_positions(y, predicted, sample_weight)

    def _are_integer_labels(self, y):
        """Whether targets are an array of integers, which are classes like those of ``fit``."""
        return False

    def _has_positions(self, shape):
        """Whether samples with targets of a shape have a target for each of many positions."""
        return len(shape) > 2

    def infer(self, x, **fit_params):
        """Pass a batch through the module.

        Parameters
        ----------
        x : Tensor or dict of str to Tensor
            A batch of inputs.
        **fit_params : dict
            Passed to ``forward``.

        Returns
        -------
        output : Tensor or tuple of Tensor
            What the module returned.
        """
        x = skorch.utils.to_tensor(x, device=self.device_)
        if self._low_precision is not None:
            with torch.autocast(self._low_precision, torch.bfloat16):
                return as_float32(call_module(self.module_, x, fit_params))
        return call_module(self.module_, x, fit_params)

    def _forward_of_training(self):
        """Return the function from a batch of `Rows` to the module's output."""
        plain = type(self).infer is TorchEstimator.infer and self.input_shape_ is not None
        return self.module_ if plain and self._low_precision is None else self.infer

    def _forward_in_training(self, X):
        """Return the module's output for a batch of `Rows`."""
        # A transform may make several inputs of one.
        forward = self.infer if isinstance(X, dict | list | tuple) else self._forward_of_training()
        return forward(X)

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
            Whether this is a training batch; only these are weighted.

        Returns
        -------
        loss : Tensor of shape ()
            With gradients, for the optimizer.
        """
        y_pred = self._for_criterion(y_pred)
        if not isinstance(y_true, torch.Tensor):
            y_true = skorch.utils.to_tensor(y_true, device=self.device_)
        if getattr(y_pred, "dtype", None) is torch.float64 and y_true.dtype is torch.float32:
            y_true = y_true.double()  # some criteria of torch take one precision only
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
        """Return the input of the criterion: the first of several outputs for one of torch's."""
        several = isinstance(output, tuple)
        of_torch = several and type(self.criterion_).__module__.startswith("torch.")
        return output[0] if of_torch else output

    @contextlib.contextmanager
    def _as_callbacks_expect(self):
        """Adapt to skorch's callbacks within this context.

        Scoring callbacks compare predictions with encoded targets, so `predict` returns encoded
        labels; `device` is the resolved one instead of "auto".
        """
        self._labels_are_encoded = True
        try:
            with self._concrete_device():
                yield
        finally:
            self._labels_are_encoded = False

    def _snapshot(self):
        """Return the attributes with which a copy of this estimator predicts as it does now."""
        return {name + "_": copied(getattr(self, name + "_")) for name in self._modules}
