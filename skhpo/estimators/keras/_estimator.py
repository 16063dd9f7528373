"""Base of the Keras classifier and regressor: building, fitting and predicting."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError

from ..._compat import num_samples
from ...exceptions import NonFiniteLossError
from ...faults import warn_of_mistake
from ...limits import check_time, current_slot
from ...rows import Inputs, is_dataset
from ...searchable import SearchTags
from ...training.data import as_dict, n_rows, sample_shape
from ...training.modes import usual_modes
from ...training.randomness import draw_seed
from ..settings import refuse_changes
from ..validation import check_before_search, check_inputs, check_sample_weight, keep_weighted
from ._backend import for_model, import_keras, require_torch
from ._ending import best_epoch, end_of_training
from ._parameters import ParametersMixin
from ._randomness import OwnGlobals
from ._recipe import Recipe, outputs_for
from ._state import StateMixin

__all__ = ["KerasEstimator", "as_floats"]

# Smallest batch of predictions.
_PREDICTED_AT_ONCE = 256
# Arguments of `fit` that are no parameters.
_OF_DATA = ("sample_weight", "validation_data")
# The parameter that counts the epochs of `fit` and `partial_fit`.
_COUNTED = "epochs"


class KerasEstimator(ParametersMixin, StateMixin, BaseEstimator):
    """Base of the estimators. A subclass handles the targets:

    ``_check_targets(y, classes, reset)``
        checks and encodes the targets, and learns from the first ones;
    ``_out_features()``
        returns the required width of the model's output;
    ``_row_weights(y, sample_weight)``
        returns the sample weights including class weights;
    ``_infer_loss(output)``, ``_default_metrics(loss, output)``
        return defaults for the compilation of a model;
    ``_infer_output_format(model, output)``
        learns the meaning of the model's output from a few rows, an `Outputs`;
    ``_shape_targets(y)``
        converts encoded targets for the loss;
    ``_dummy_targets(n)``
        returns some encoded targets.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.non_deterministic = False
        return tags

    def __sklearn_is_fitted__(self):
        return "_net" in vars(self) or "_packed" in vars(self)

    @property
    def model(self):
        """The fitted model, a `keras.Model`, as `model_`."""
        return self.model_

    @property
    def best_epoch_(self):
        """Epoch, from 1, with the best monitored value; the last one without any."""
        last = self.n_iter_
        return best_epoch(self) or last

    def fit(self, X, y=None, sample_weight=None, validation_data=None, **fit_params):
        """Train a new model for `epochs` epochs.

        With ``warm_start=True`` a trained model is trained further, as by ``partial_fit``; an
        argument of the builder, the loss or the optimizer that was set meanwhile is an error.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            Inputs; those of a dict go to the model's inputs by name, those of a list of arrays, one
            for each input, in their order.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, relative to each other. A weight of zero removes the sample.
        validation_data : tuple of (array-like, array-like), default=None
            Inputs and targets on which the model is evaluated after each epoch; a third item
            weights them.
        **fit_params : dict
            Values of parameters for this call: ``epochs``, ``batch_size``, ``callbacks``,
            ``verbose``, ``validation_split``, ``class_weight`` and others that
            ``keras.Model.fit`` takes.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            Before any training, if the data, a parameter or what the builder returns is invalid.
            The message names the rule, the value and the fix.
        """
        continuing = bool(self.warm_start and self.__sklearn_is_fitted__())
        if continuing:
            now = Recipe.of(self, self._inferred, self._inputs)
            refuse_changes(now.differences(self._recipe), "model")
        with usual_modes(), self._overridden(fit_params):
            return self._fit(X, y, sample_weight, None, validation_data, continuing)

    def _fit(self, X, y, sample_weight, classes, validation_data, continuing):
        self._check_params()
        self._check_sources(validation_data)
        import_keras()
        if continuing:
            require_torch("going on with a trained model")
        inputs, targets, weight = self._check_training_data(
            X, y, sample_weight, classes, not continuing
        )
        if validation_data is not None:
            validation_data = self._check_validation_data(validation_data)
        if not continuing:
            self._build(inputs)
        if self._callbacks_changed or not continuing:
            self._callbacks, self._callbacks_changed = self._fresh_callbacks(), False
        if validation_data is not None:
            X_valid, y_valid, *weight_valid = validation_data
            validation_data = X_valid, self._shape_targets(y_valid), *weight_valid
        self._train(inputs, self._shape_targets(targets), weight, validation_data)
        return self

    def _check_training_data(self, X, y, sample_weight, classes, reset):
        X, y = self._check_inputs(X, y, reset=reset, needs_y=True)
        weight = check_sample_weight(sample_weight, n_rows(X))
        y = self._check_targets(y, classes, reset)
        weight = self._row_weights(y, weight)
        if weight is not None:
            X, y, weight, _ = keep_weighted(X, y, weight)
        if reset:
            self.input_shape_ = sample_shape(X)
            self._integer_inputs = {k: v.dtype.kind in "iu" for k, v in as_dict(X).items()}
        return as_floats(X), y, weight

    def __skhpo_tags__(self):
        return SearchTags(
            counted=_COUNTED,
            check_data=self._check_before_search,
            check_resource=_check_resource,
            dataset_targets=self._refuse_dataset,
            predicts_seen_classes=is_classifier(self),
            model_space=self._model_space,
            new_parameters=self._new_parameters,
            output_size=self._out_features,
            n_parameters=self._count_parameters,
            end_of_training=end_of_training(self),
        )

    def _check_before_search(self, X, y, fit_params, varied):
        others = {k: v for k, v in fit_params.items() if k not in _OF_DATA}
        net = clone(self)
        with net._overridden(others):
            if "validation_split" not in varied:
                net._check_sources(fit_params.get("validation_data"))
        weight = fit_params.get("sample_weight")
        parts, check = {"build_fn", "optimizer"}, type(self)._check_inputs
        check_before_search(clone(self), X, y, weight, varied, parts, check)

    def _count_parameters(self, X, y):
        """Return how many parameters the model would have for such data; None if it is not one."""
        net = clone(self)
        try:
            inputs, _, _ = net._check_training_data(X, y, None, None, True)
            net._build(inputs)
        except Exception as error:  # the fit says what is wrong
            warn_of_mistake(error, "the number of parameters is not known")
            return None
        return net.n_parameters_

    def _refuse_dataset(self, dataset, report=None):
        raise TypeError(
            f"{type(self).__name__} takes arrays, but X is a torch Dataset "
            f"({type(dataset).__name__}); use a TorchClassifier or TorchRegressor, or give X and y "
            "as arrays"
        )

    def _check_sources(self, data):
        if data is not None and self.validation_split:
            raise ValueError(
                "rows to check on must come from one source, but fit got validation_data and "
                f"validation_split={self.validation_split!r} holds rows out; set "
                "validation_split=0, or leave validation_data out"
            )

    def _check_validation_data(self, data):
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ValueError(
                "validation_data must be a pair (X, y), or (X, y, sample_weight), but got "
                f"{type(data).__name__}{f' of {len(data)}' if hasattr(data, '__len__') else ''}"
            )
        try:
            X, y = self._check_inputs(data[0], data[1], reset=False, needs_y=True)
            weight = [check_sample_weight(one, n_rows(X)) for one in data[2:] if one is not None]
            return as_floats(X), self._check_targets(y, None, False), *weight
        except ValueError as error:
            raise ValueError(f"validation_data must be like X and y, but: {error}") from error

    def _check_inputs(self, X, y, *, reset, needs_y):
        """Check `X`; a list of arrays, one for each input of the model, is a dict by position."""
        if is_dataset(X):
            self._refuse_dataset(X)
        if isinstance(y, Mapping | Inputs):
            raise ValueError(
                f"{type(self).__name__} takes y as an array, but it is a dict of targets; for "
                "several heads use a TorchRegressor with a criterion of your own"
            )
        if isinstance(X, list | tuple) and X and all(hasattr(one, "shape") for one in X):
            if reset and y is not None:
                # As many arrays as samples: each array is a sample.
                n = num_samples(y)
                several = len(X) != n and {len(one) for one in X} == {n}
            else:
                several = not reset and None not in self._integer_inputs
            X = dict(enumerate(X)) if several else X
        return check_inputs(self, X, y, reset=reset, needs_y=needs_y)

    def _build(self, X):
        """Make the model for the data, and test it on a few rows before training."""
        for name in ("_net", "_packed", "history_", "n_iter_"):
            vars(self).pop(name, None)
        self._inferred = {"out_features": self._out_features()}
        if self.input_shape_ is not None:
            self._inferred["input_shape"] = self.input_shape_
            self._inferred["in_features"] = int(np.prod(self.input_shape_))
        few = _rows(X, 0, 8)
        self._inputs = {k: (v.shape[1:], v.dtype.str) for k, v in as_dict(few).items()}
        self.seed_ = draw_seed(self.random_state)
        self._recipe = Recipe.of(self, self._inferred, self._inputs)
        with self._device():
            model = self._recipe.model(self, few)
        self._net = model
        self._generators = OwnGlobals(self.seed_, "train")
        self.n_iter_ = 0
        self.history_ = {}
        self.n_parameters_ = int(model.count_params())

    def _fresh_callbacks(self):
        # Copies, because callbacks have state.
        return copy.deepcopy(list(self.callbacks or ()))

    def _check_is_fitted(self):
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                "appropriate arguments before using this estimator."
            )

    def _device(self):
        """Return the context in which Keras computes on the device of the fit's slot."""
        slot = current_slot()
        return contextlib.nullcontext() if slot is None else import_keras().device(slot)

    def _train(self, X, y, weight, validation_data):
        keras = import_keras()
        model, done = self.model_, self.n_iter_

        class Watch(keras.callbacks.Callback):
            def on_train_begin(watch, logs=None):
                self._n_steps = watch.params["steps"]

            def on_train_batch_begin(self, batch, logs=None):
                check_time()

            def on_epoch_end(self, epoch, logs=None):
                loss = (logs or {}).get("loss", 0.0)
                if not math.isfinite(loss):
                    raise NonFiniteLossError(
                        f"the training loss must be finite, but is {loss} in epoch {epoch + 1}; "
                        "lower optimizer__learning_rate, or scale the data"
                    )

        if validation_data is not None:
            validation_data = for_model(validation_data[0]), *validation_data[1:]
        with self._device(), self._generators.lent():
            model.fit(
                for_model(X),
                y,
                sample_weight=weight,
                batch_size=self.batch_size,
                epochs=done + self.epochs,
                initial_epoch=done,
                verbose=self.verbose,
                callbacks=[Watch(), *self._callbacks],
                validation_split=self.validation_split,
                validation_data=validation_data,
                shuffle=self.shuffle,
                steps_per_epoch=self.steps_per_epoch,
                validation_steps=self.validation_steps,
                validation_batch_size=self.validation_batch_size,
                validation_freq=self.validation_freq,
            )
        self._record(model.history)

    def _record(self, history):
        """Append the new epochs to both histories, Keras' and `history_`."""
        new = {name: [float(value) for value in values] for name, values in history.history.items()}
        self.history_ = {
            name: self.history_.get(name, []) + new.get(name, [])
            for name in dict.fromkeys([*self.history_, *new])
        }
        self.n_iter_ += len(history.epoch)
        history.history = {name: list(values) for name, values in self.history_.items()}
        history.epoch = list(range(self.n_iter_))

    @usual_modes()
    def predict_outputs(self, X):
        """Return the model's outputs, computed in batches without global generators.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            Samples.

        Returns
        -------
        outputs : ndarray of shape (n_samples, ...)
            What the model returns.
        """
        self._check_is_fitted()
        X, _ = self._check_inputs(X, None, reset=False, needs_y=False)
        model, size = self.model_, max(self.batch_size or 0, _PREDICTED_AT_ONCE)
        outputs = []
        with self._device():
            for start in range(0, n_rows(X), size):
                outputs.append(outputs_for(model, _rows(X, start, start + size)))
        return np.concatenate(outputs)


def _check_resource(resource):
    """Raise if a search needs to continue training and the backend cannot."""
    if resource == _COUNTED:
        require_torch("a search whose resource is 'epochs'")


def _rows(X, start, stop):
    if isinstance(X, dict):
        return {k: _rows(v, start, stop) for k, v in X.items()}
    rows = X[start:stop]
    return as_floats(rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows))


def as_floats(X):
    """Convert numbers to Keras' float type, once instead of batch by batch."""
    if isinstance(X, dict):
        return {k: as_floats(v) for k, v in X.items()}
    return X.astype(import_keras().config.floatx(), copy=False)
