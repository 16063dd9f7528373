"""The Keras classifier."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin

from ...training.modes import usual_modes
from .._targets import multi_label_classes
from ._estimator import KerasEstimator
from ._targets import LabelsMixin

__all__ = ["KerasClassifier"]


class KerasClassifier(ClassifierMixin, LabelsMixin, KerasEstimator):
    """Classifier around a Keras 3 model.

    The arguments of the function that builds the model are parameters of the estimator, so that a
    search sets them like any others.

    Parameters
    ----------
    build_fn : callable, keras.Model or None, default=None
        What makes the model. Its arguments are parameters of the estimator, under their own
        names; ``input_shape`` (shape of a sample), ``in_features`` (values per sample) and
        ``out_features`` (number of classes) are inferred from the data where its signature has
        them, and one that has the name of a parameter below gets its value where that was set.
        A builder whose first argument is ``hp`` defines its hyperparameters while it runs, see
        `distributions_of`. The model may be compiled or not. A built model is copied, with its
        weights. None makes a multilayer perceptron with the arguments ``n_units=64``,
        ``n_layers=1``, ``activation="relu"`` and ``dropout=0.0``.
    loss : str, keras.losses.Loss, callable or None, default=None
        None is that of a compiled model. For others it is inferred from the width of the output:
        "sparse_categorical_crossentropy", or "binary_crossentropy" for one output, or for several
        labels per sample; on logits, unless the last activation is a softmax or a sigmoid.
    optimizer : str, class, keras.optimizers.Optimizer or None, default=None
        None is that of a compiled model, and "adam" for others. Its arguments are
        ``optimizer__*`` (``optimizer__learning_rate``), of a compiled model, too.
    metrics : list or None, default=None
        None are those of a compiled model, and ``["accuracy"]`` for others.
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
    class_weight : dict, "balanced" or None, default=None
        Weights by label; "balanced" makes the classes count alike. Multiplied with
        `sample_weight`. Labels that `y` lacks are ignored if all others have a weight.
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
    classes_ : ndarray of shape (n_classes,) or (n_labels, 2)
        The labels, sorted; for several labels per sample a row ``[0, 1]`` for each of them.
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
    TorchClassifier : The same around a torch module; several times as fast on small networks.

    Notes
    -----
    Keras runs on torch unless the environment variable ``KERAS_BACKEND`` says otherwise; import it
    after this class. The first ``fit`` imports it.

    A pickle holds the builder and the variables; the model is made again when it is asked for.

    Fits in several threads of one process wait for each other, because Keras draws from global
    generators: search with processes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import KerasClassifier
    >>> import keras
    >>> def create_model(units=32):
    ...     hidden = keras.layers.Dense(units, activation="relu")
    ...     model = keras.Sequential([hidden, keras.layers.Dense(3, activation="softmax")])
    ...     model.compile("adam", "sparse_categorical_crossentropy")
    ...     return model
    >>> X, y = load_iris(return_X_y=True)
    >>> net = KerasClassifier(create_model, units=16, epochs=30, random_state=0)
    >>> net.set_params(optimizer__learning_rate=0.02).fit(X, y).score(X, y) > 0.9
    True
    """

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
        class_weight=None,
        warm_start=False,
        random_state=None,
        **kwargs,
    ):
        self._store(locals())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(
        self, X, y=None, classes=None, sample_weight=None, validation_data=None, **fit_params
    ):
        """Train for `epochs` more epochs, from where the model stands.

        Trained twice for k epochs on the same data, a model is (on a CPU) what it is after one
        ``fit`` of 2k epochs, also after a pickle or a checkpoint in between.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            As in ``fit``.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or 0 and 1 for each of several labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur; needed in the first call only if `y` lacks some.
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
            return self._fit(X, y, sample_weight, classes, validation_data, continuing)

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels; where there are several, 1 for those with a probability above one half. Where
            targets are one-hot (one 1 per row, and a categorical loss or a softmax), 1 for the
            most probable one.
        """
        probabilities = self.predict_proba(X)
        if self._one_hot:
            chosen = np.eye(len(self._targets.classes), dtype=self._targets.classes.dtype)
            return chosen[probabilities.argmax(axis=1)]
        if self._targets.several:
            return (probabilities > 0.5).astype(self._targets.classes.dtype)
        return self._targets.classes[probabilities.argmax(axis=1)]

    def predict_proba(self, X):
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or list or dict of str to array-like
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            The columns are in the order of `classes_`.
        """
        outputs = self.predict_outputs(X)
        logits, n_classes = self._meaning == "logits", len(self._targets.classes)
        if self._targets.several and not self._one_hot:
            return expit(outputs) if logits else outputs
        if self._width == 1:
            second = (expit(outputs) if logits else outputs).reshape(-1, 1)
            return np.ones_like(second) if n_classes == 1 else np.hstack([1 - second, second])
        # A builder may have outputs for classes that this y has not got.
        if logits:
            return softmax(outputs[:, :n_classes], axis=1)
        if self._width == n_classes:
            return outputs
        outputs = outputs[:, :n_classes]
        return outputs / np.maximum(outputs.sum(axis=1, keepdims=True), np.finfo("f4").tiny)

    @property
    def classes_(self):
        """Labels, an ndarray of shape (n_classes,), or (n_labels, 2) of 0 and 1 for each label."""
        if self._targets is None:
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit")
        if self._targets.several:
            return multi_label_classes(len(self._targets.classes))
        return self._targets.classes
