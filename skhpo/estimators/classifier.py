"""The torch classifier."""

from __future__ import annotations

import numpy as np
import skorch.dataset
import torch
from sklearn.callback import with_callbacks
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import DataLoader

from ._feeding import read_targets, targets_at_hand
from ._names import resolve_criterion
from ._outputs import as_probabilities, meaning_of
from ._torch import TorchEstimator
from ._validation import as_array
from .modules import MLP

__all__ = ["TorchClassifier"]


class TorchClassifier(TorchEstimator, NeuralNetClassifier):
    """X"""

    _class_weight_of_loader = None
    _checkpointed = ("_labels", "_meaning", "_output_shape")

    def __init__(
        self,
        module=MLP,
        *,
        criterion="cross_entropy",
        optimizer="adamw",
        lr=1e-3,
        max_epochs=50,
        batch_size=32,
        class_weight=None,
        random_state=None,
        device="auto",
        warm_start=False,
        verbose=0,
        callbacks=None,
        classes=None,
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
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.warm_start = warm_start
        self.verbose = verbose
        self.callbacks = callbacks
        self.classes = classes
        self.train_split = train_split
        self.iterator_train = iterator_train
        self.iterator_valid = iterator_valid
        self.dataset = dataset
        self.predict_nonlinearity = predict_nonlinearity
        self.compile = compile
        self.use_caching = use_caching
        self.torch_load_kwargs = torch_load_kwargs
        self._store_further(kwargs)

    @property
    def classes_(self):
        """ndarray of shape (n_classes,): the labels."""
        if self._labels_are_encoded:
            return np.arange(len(self._known_classes))
        if not hasattr(self, "_known_classes"):
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit")
        return self._known_classes

    @property
    def _labels(self):
        """The classes as plain values, for checkpoints."""
        return {"dtype": self._known_classes.dtype.str, "values": self._known_classes.tolist()}

    @_labels.setter
    def _labels(self, labels):
        self._known_classes = np.array(labels["values"], dtype=np.dtype(labels["dtype"]))

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
        y : array-like of shape (n_samples,), default=None
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur; needed in the first call only if `y` lacks some.
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
            As in ``fit``; also if `y` has a label that was not in the first call.
        """
        continuing = self.initialized_
        return self._fit(X, y, sample_weight, classes, continuing, "partial_fit", fit_params)

    def _check_targets(self, y, classes, reset):
        y = check_array(as_array(y), ensure_2d=False, dtype=None, input_name="y")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self._learn_classes(y, classes, reset)
        return self._encode(y)

    def _learn_classes(self, y, classes, reset):
        if reset:
            classes = self.classes if classes is None else classes
            self._known_classes = np.unique(y) if classes is None else np.asarray(classes)
        elif classes is not None and set(classes) != set(self._known_classes):
            raise ValueError(
                f"classes must be those of the first call, {self._known_classes!r}, but got "
                f"{classes!r}"
            )

    def _check_dataset_targets(self, dataset, y, classes, reset):
        given = self.classes if classes is None else classes
        if y is None:
            y = targets_at_hand(dataset)
        if y is None and reset and given is None:
            y = read_targets(self.get_iterator(dataset, training=False))
        if y is None:
            self._learn_classes(None, classes, reset)
            return None
        y = np.asarray(y)
        self._learn_classes(y, classes, reset)
        y = self._encode(y, positions=True)
        self._class_weight_of_loader = None
        if self.class_weight is not None:
            per_class = self._class_weights(y)
            self._class_weight_of_loader = per_class / per_class[y].mean()
        return y

    def _encode(self, y, positions=False):
        """Return the positions of labels among the classes.

        With `positions` integers are positions already where the classes are names.
        """
        known = self._known_classes
        if positions and y.dtype.kind in "iu" and known.dtype.kind in "US":
            y = known[y]
        order = np.argsort(known)
        position = np.searchsorted(known, y, sorter=order)
        encoded = order[np.minimum(position, len(known) - 1)]
        if not np.array_equal(known[encoded], y):
            unseen = np.setdiff1d(y, known)
            raise ValueError(
                f"y must have only the labels {known!r} of the first call, but has {unseen!r}; "
                "pass all labels to the first call: partial_fit(X, y, classes=...)"
            )
        return encoded.astype(np.int64)

    def _out_features(self):
        if not hasattr(self, "_known_classes"):
            return None
        criterion = resolve_criterion(self.criterion)
        binary = (nn.BCEWithLogitsLoss, nn.BCELoss)
        kind = criterion if isinstance(criterion, type) else type(criterion)
        return 1 if issubclass(kind, binary) else len(self._known_classes)

    def _row_weights(self, y, sample_weight):
        if self.class_weight is None:
            return sample_weight
        per_class = self._class_weights(y)[y]
        return per_class if sample_weight is None else per_class * sample_weight

    def _class_weights(self, y):
        known = self._known_classes
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            counts = np.bincount(y, minlength=len(known))
            return len(y) / (len(known) * np.maximum(counts, 1))
        if not isinstance(self.class_weight, dict):
            raise ValueError(
                "class_weight must be None, 'balanced' or a dict from label to weight, but got "
                f"{self.class_weight!r}"
            )
        labels = known.tolist()
        unknown = [label for label in self.class_weight if label not in labels]
        if unknown:
            raise ValueError(
                f"class_weight has the labels {unknown!r}, but the classes are {known!r}"
            )
        return np.array([float(self.class_weight.get(label, 1)) for label in labels])

    def _understand(self, output):
        self._meaning = meaning_of(output, self.criterion_, len(self._known_classes))
        self._output_shape = tuple(output.shape[1:])

    def _shape_targets(self, y):
        if self._meaning.startswith("binary"):
            return y.astype(np.float32).reshape(-1, *self._output_shape)
        return y

    def _encode_batch(self, y):
        encoded = np.asarray(y)
        if not self._targets_are_encoded:
            encoded = self._encode(encoded, positions=True)
        if self._class_weight_of_loader is not None:
            weight = self._class_weight_of_loader[encoded].astype(np.float32)
            self._set_batch_weight(torch.as_tensor(weight, device=self.device_))
        encoded = self._shape_targets(encoded)
        return torch.as_tensor(encoded, device=self.device_)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        if self._meaning == "probabilities" and isinstance(self.criterion_, nn.NLLLoss):
            y_pred = torch.log(y_pred + torch.finfo(y_pred.dtype).eps)
        return super().get_loss(y_pred, y_true, X=X, training=training)

    def _get_predict_nonlinearity(self):
        self.check_is_fitted()
        if isinstance(self.predict_nonlinearity, str) and self.predict_nonlinearity == "auto":
            return as_probabilities(self._meaning)
        return super()._get_predict_nonlinearity()

    def predict(self, X):
        """Predict labels."""
        positions = self.predict_proba(X).argmax(axis=1)
        return self.classes_[positions]

    def predict_proba(self, X):
        """Predict probabilities."""
        return self._predict_outputs(X)
