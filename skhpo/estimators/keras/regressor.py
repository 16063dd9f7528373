"""The Keras regressor."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import RegressorMixin

from ...training.modes import usual_modes
from .._numbers import as_numbers
from ._compiling import loss_name, takes_logits, warn_of_logits
from ._estimator import KerasEstimator, as_floats

__all__ = ["KerasRegressor"]


class KerasRegressor(RegressorMixin, KerasEstimator):
    """Regressor around a Keras 3 model.

    Targets are not scaled; `sklearn.compose.TransformedTargetRegressor` does that.

    Parameters
    ----------
    build_fn : callable, keras.Model or None, default=None
        What makes the model. Its arguments are parameters of the estimator, under their own
        names; ``input_shape`` (shape of a sample), ``in_features`` (values per sample) and
        ``out_features`` (number of targets) are inferred from the data where its signature has
        them, and one that has the name of a parameter below gets its value where that was set.
        A builder whose first argument is ``hp`` defines its hyperparameters while it runs, see
        `distributions_of`. The model may be compiled or not. A built model is copied, with its
        weights. None makes a multilayer perceptron with the arguments ``n_units=64``,
        ``n_layers=1``, ``activation="relu"`` and ``dropout=0.0``.
    loss : str, keras.losses.Loss, callable or None, default=None
        None is that of a compiled model, and "mean_squared_error" for others.
    optimizer : str, class, keras.optimizers.Optimizer or None, default=None
        None is that of a compiled model, and "adam" for others. Its arguments are
        ``optimizer__*`` (``optimizer__learning_rate``), of a compiled model, too.
    metrics : list or None, default=None
        None are those of a compiled model, and none for others.
    epochs : int, default=50
        Epochs that a ``fit`` or a ``partial_fit`` trains.
    batch_size : int or None, default=32
        Samples per batch. None is 32.
    validation_split : float, default=0.0
        Share of the samples, the last ones, on which the model is evaluated after each epoch, and
        which it is not trained on.
    validation_batch_size, validation_steps : int or None, default=None
        As of ``keras.Model.fit``.
    validation_freq : int, default=1
        As of ``keras.Model.fit``.
    steps_per_epoch : int or None, default=None
        As of ``keras.Model.fit``.
    shuffle : bool, default=True
        Whether the samples come in a new order in each epoch.
    verbose : {0, 1, 2, "auto"}, default=0
        What Keras prints.
    callbacks : list of keras.callbacks.Callback, default=None
        Each fit uses copies of them.
    warm_start : bool, default=False
        Whether ``fit`` trains a trained model further, as ``partial_fit`` does.
    random_state : int, RandomState instance, Generator or None, default=None
        Seed of the initial weights, the order of the samples, and the dropout. None draws a new
        one, `seed_`. The global generators, from which Keras draws, are put back after a fit.
    **kwargs : dict
        Arguments of `build_fn`, and ``optimizer__*``.

    Attributes
    ----------
    model_, model : keras.Model
        The fitted model.
    history_ : dict of str to list of float
        What Keras reports, a value per epoch; also ``model_.history.history``.
    n_iter_ : int
        Epochs trained so far, over all calls.
    best_epoch_ : int
        The epoch, from 1, with the best value of what the first `EarlyStopping` among `callbacks`
        monitors, else of "val_loss"; the last one where nothing was validated.
    n_features_in_ : int
        Size of the second dimension of `X`; not for dicts.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where `X` has string names.
    input_shape_ : tuple of int or None
        Shape of one sample.
    n_parameters_ : int
        Numbers in the model's weights.
    seed_ : int
        The seed that was used.

    See Also
    --------
    KerasClassifier : Its notes on backends, pickles and threads hold here, too.
    TorchRegressor : The same around a torch module; several times as fast on small networks.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skhpo import KerasRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> net = KerasRegressor(n_units=16, epochs=10, optimizer__learning_rate=0.1, random_state=0)
    >>> net.fit(X, y / 100).score(X, y / 100) > 0.3
    True
    """

    _meaning = "values"
    _checkpointed = ("_target_shape", "_meaning")

    def __init__(
        self,
        build_fn=None,
        *,
        loss=None,
        optimizer=None,
        metrics=None,
        epochs=50,
        batch_size=32,
        validation_split=0.0,
        validation_batch_size=None,
        validation_steps=None,
        validation_freq=1,
        steps_per_epoch=None,
        shuffle=True,
        verbose=0,
        callbacks=None,
        warm_start=False,
        random_state=None,
        **kwargs,
    ):
        self._store(locals())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X, y=None, sample_weight=None, validation_data=None, **fit_params):
        """Train for `epochs` more epochs, from where the model stands.

        Trained twice for k epochs on the same data, a model is (on a CPU) what it is after one
        ``fit`` of 2k epochs, also after a pickle or a checkpoint in between.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            As in ``fit``.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.
        validation_data : tuple of (array-like, array-like), default=None
            As in ``fit``.
        **fit_params : dict
            As in ``fit``.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        RuntimeError
            If the model was trained before and Keras does not run on torch.
        """
        continuing = self.__sklearn_is_fitted__()
        with usual_modes(), self._overridden(fit_params):
            return self._fit(X, y, sample_weight, None, validation_data, continuing)

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the precision in which the model computes, which is float32 unless set otherwise.
        """
        outputs = self.predict_outputs(X)
        if self._meaning == "logits":
            outputs = expit(outputs)
        elif self._meaning == "class_logits":
            outputs = softmax(outputs, axis=1)
        return outputs.reshape(-1, *self._target_shape)

    def _check_targets(self, y, classes, reset):
        y = as_numbers(y)
        if y.ndim > 2:
            raise ValueError(
                f"y must have at most two dimensions, but has the shape {y.shape}; use a "
                "TorchRegressor for images and the like as targets"
            )
        if reset:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != self._target_shape:
            raise ValueError(
                f"y must have targets of shape {self._target_shape} as in the first call, but got "
                f"{y.shape[1:]}"
            )
        return y

    def _out_features(self):
        return int(np.prod(self._target_shape))

    def _row_weights(self, y, sample_weight):
        return sample_weight

    def _infer_loss(self, output):
        return "mean_squared_error"

    def _default_metrics(self, loss, output):
        return None

    def _infer_output_format(self, model, output):
        values = output.values
        if values.size != len(values) * self._out_features():
            raise ValueError(
                f"the model must have an output for each of {self._out_features()} targets, but "
                f"returns the shape (n_samples, {', '.join(map(str, values.shape[1:]))}); let the "
                "builder take out_features, which is inferred from the data"
            )
        warn_of_logits(model.loss, output)
        if model.loss is not None and takes_logits(model.loss):
            binary = "binary" in loss_name(model.loss)
            self._meaning = "logits" if binary else "class_logits"
        else:
            self._meaning = "values"

    def _dummy_targets(self, n):
        return np.zeros((n, *self._target_shape))

    def _shape_targets(self, y):
        return as_floats(y.reshape(len(y), self._out_features()))
