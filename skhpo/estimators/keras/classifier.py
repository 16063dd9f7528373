"""The Keras classifier."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d

from .._labels import check_labels, encode, multi_label_classes, sorted_classes, weights_of_classes
from .._validation import as_array
from ._backend import import_keras
from ._compiling import loss_name, returns_logits
from ._estimator import KerasEstimator

__all__ = ["KerasClassifier"]


class KerasClassifier(ClassifierMixin, KerasEstimator):
    """Classifier around a Keras 3 model.

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
    validation_batch_size, validation_steps, steps_per_epoch : int or None, default=None
        As of ``keras.Model.fit``.
    validation_freq : int, default=1
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
    n_features_in_ : int
        Size of the second dimension of `X`; not for dicts.
    feature_names_in_ : ndarray of shape (n_features_in_,)
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

    _multi_label = False
    _multi_label = False
    _checkpointed = ("_labels", "_meaning", "_width", "_multi_label", "_sparse")

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
        self.build_fn = build_fn
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = metrics
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_split = validation_split
        self.validation_batch_size = validation_batch_size
        self.validation_steps = validation_steps
        self.validation_freq = validation_freq
        self.steps_per_epoch = steps_per_epoch
        self.shuffle = shuffle
        self.verbose = verbose
        self.callbacks = callbacks
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self._store_further(kwargs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X, y=None, classes=None, sample_weight=None, validation_data=None):
        """Train for `epochs` more epochs, from where the model stands.

        Trained twice for k epochs on the same data, a model is (on a CPU) what it is after one
        ``fit`` of 2k epochs, also after a pickle or a checkpoint in between.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or dict of str to array-like
            As in ``fit``.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or 0 and 1 for each of several labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur; needed in the first call only if `y` lacks some.
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.
        validation_data : tuple of (array-like, array-like), default=None
            As in ``fit``.

        Returns
        -------
        self : estimator

        Raises
        ------
        RuntimeError
            If the model was trained before and Keras does not run on torch.
        """
        continuing = self.__sklearn_is_fitted__()
        return self._fit(X, y, sample_weight, classes, validation_data, continuing)

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or dict of str to array-like

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels; where there are several, 1 for those with a probability above one half.
        """
        probabilities = self.predict_proba(X)
        if self._multi_label:
            return (probabilities > 0.5).astype(self._known_classes.dtype)
        return self._known_classes[probabilities.argmax(axis=1)]

    def predict_proba(self, X):
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or dict of str to array-like

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            The columns are in the order of `classes_`.
        """
        outputs = self._predict_outputs(X)
        logits, n_classes = self._meaning == "logits", len(self._known_classes)
        if self._multi_label:
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
        """ndarray of shape (n_classes,) or (n_labels, 2): the labels, or 0 and 1 for each."""
        if not hasattr(self, "_known_classes"):
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit")
        if self._multi_label:
            return multi_label_classes(len(self._known_classes))
        return self._known_classes

    @property
    def _labels(self):
        """The classes as plain values, for checkpoints."""
        return {"dtype": self._known_classes.dtype.str, "values": self._known_classes.tolist()}

    @_labels.setter
    def _labels(self, labels):
        self._known_classes = np.array(labels["values"], dtype=np.dtype(labels["dtype"]))

    def _check_targets(self, y, classes, reset):
        y = check_array(as_array(y), ensure_2d=False, dtype=None, input_name="y")
        several = y.ndim == 2 and y.shape[1] > 1 and type_of_target(y) == "multilabel-indicator"
        if reset:
            self._multi_label = several
        elif several != self._multi_label or (several and y.shape[1] != len(self._known_classes)):
            raise ValueError(
                "y must have as many labels per sample as in the first call, but got the shape "
                f"{y.shape}"
            )
        if several:
            if self.class_weight is not None:
                raise ValueError(
                    f"class_weight={self.class_weight!r} needs one label per sample, but y has "
                    f"the shape {y.shape}; set class_weight=None"
                )
            self._known_classes = np.arange(y.shape[1])
            return y.astype(np.int64)
        y = column_or_1d(y, warn=True)
        check_labels(y, "y")
        check_classification_targets(y)
        if reset:
            given = y if classes is None else classes
            self._known_classes = sorted_classes(given, "y" if classes is None else "classes")
        elif classes is not None and set(classes) != set(self._known_classes):
            raise ValueError(
                f"classes must be those of the first call, {self._known_classes!r}, but got "
                f"{classes!r}"
            )
        return encode(y, self._known_classes)

    def _out_features(self):
        return len(self._known_classes)

    def _row_weights(self, y, sample_weight):
        if self.class_weight is None:
            return sample_weight
        per_class = weights_of_classes(self.class_weight, self._known_classes, y)[y]
        return per_class if sample_weight is None else per_class * sample_weight

    def _binary_outputs(self, output):
        return self._multi_label or output.shape[1:] in ((), (1,))

    def _infer_loss(self, model, output):
        self._check_width(output, "no loss can be inferred for the uncompiled model: ")
        losses = import_keras().losses
        logits = bool(returns_logits(model, None))
        if self._binary_outputs(output):
            return losses.BinaryCrossentropy(from_logits=logits)
        return losses.SparseCategoricalCrossentropy(from_logits=logits)

    def _default_metrics(self, model, loss, output):
        if self._binary_outputs(output) and returns_logits(model, loss):
            return [import_keras().metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
        return ["accuracy"]

    def _check_width(self, output, prefix=""):
        n_classes = len(self._known_classes)
        width = output.shape[1] if output.ndim == 2 else None
        enough = (
            width == n_classes
            if self._multi_label
            else width is not None and (width >= n_classes or (width == 1 and n_classes == 2))
        )
        if not enough:
            what = f"for each of {n_classes} {'labels' if self._multi_label else 'classes'}"
            raise ValueError(
                f"{prefix}the model must have an output {what}"
                f"{', or one' if n_classes == 2 else ''}, but returns the shape "
                f"(n_samples, {', '.join(map(str, output.shape[1:]))}); let the builder take "
                "out_features, which is inferred from the data"
            )

    def _understand(self, model, output):
        output = output.reshape(-1, 1) if output.ndim == 1 else output
        self._check_width(output)
        self._width = output.shape[1]
        logits = returns_logits(model, model.loss)
        if logits is None:
            logits = not _are_probabilities(output, each=self._binary_outputs(output))
        self._meaning = "logits" if logits else "probabilities"
        self._sparse = loss_name(model.loss).startswith("sparse") if model.loss else True

    def _dummies(self, n):
        return np.zeros((n, len(self._known_classes)) if self._multi_label else n, dtype=np.int64)

    def _shape_targets(self, y):
        if self._multi_label:
            return y.astype(np.float32)
        if self._width == 1:
            return y.astype(np.float32).reshape(-1, 1)
        return y if self._sparse else np.eye(self._width, dtype=np.float32)[y]


def _are_probabilities(output, each):
    inside = bool(((output >= 0) & (output <= 1)).all())
    return inside and (each or bool(np.allclose(output.sum(axis=1), 1, atol=1e-3)))
