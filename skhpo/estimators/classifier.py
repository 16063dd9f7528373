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
from ._labels import encode, weights_of_classes
from ._names import resolve_criterion
from ._outputs import as_probabilities, meaning_of
from ._torch import TorchEstimator
from ._validation import as_array
from .modules import MLP

__all__ = ["TorchClassifier"]


class TorchClassifier(TorchEstimator, NeuralNetClassifier):
    """Classifier around a torch module.

    A skorch net that takes what scikit-learn's classifiers take, trains about as fast as a
    hand-written loop, and can be continued bit by bit.

    Parameters
    ----------
    module : class, callable or torch.nn.Module, default=MLP
        What makes the network. Where its signature has them, ``in_features`` (values per
        sample), ``input_shape`` (shape of a sample), ``in_channels`` (its first dimension) and
        ``out_features`` (one per class, or 1 for a binary criterion) are inferred from the data;
        ``module__in_features=...`` and so on override that. All its other arguments are
        parameters, ``module__*``. An instance is copied and trained from the weights it has.
    criterion : str, class, callable or torch.nn.Module, default="cross_entropy"
        The loss: "cross_entropy" (on logits), "nll" (the module returns probabilities or
        log-probabilities), "bce_with_logits" (two classes, one output), ..., or a class. Its
        arguments are ``criterion__*``.
    optimizer : str, class or callable, default="adamw"
        "adamw", "adam", "sgd", "rmsprop", "nadam", ..., or a class. Its arguments are
        ``optimizer__*`` (``optimizer__weight_decay``).
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=50
        Epochs that a ``fit`` or a ``partial_fit`` trains.
    batch_size : int, default=32
        Samples per batch; -1 puts all in one. The last batch of an epoch may be smaller, but a
        last batch of one sample joins the one before.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; "balanced" makes them count alike. Multiplied with
        `sample_weight`.
    random_state : int, RandomState instance, Generator or None, default=None
        Seed of the initial weights, the order of the samples, and the dropout. None draws a new
        one, `seed_`. No global generator is used or touched.
    device : str, torch.device or None, default="auto"
        "auto" is the first of "cuda", "mps" and "cpu" that there is; None is "cpu".
    warm_start : bool, default=False
        Whether ``fit`` trains a trained network further, as ``partial_fit`` does.
    verbose : int, default=0
        With 1 a table of the epochs is printed.
    callbacks : None, "disable" or list of skorch callbacks, default=None
        They see every batch, which costs time. For scikit-learn's see ``set_callbacks``.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels, where `y` may lack some. A torch `Dataset` may have their positions as targets.
    train_split : callable or None, default=None
        Splits off data to be scored after each epoch, such as ``skorch.dataset.ValidSplit(5)``.
    iterator_train, iterator_valid : class, default=torch.utils.data.DataLoader
        Used for a torch `Dataset`, or where arguments ``iterator_train__*`` other than
        ``batch_size``, ``shuffle`` and ``drop_last`` are set. Arrays need none: their batches are
        slices of one tensor.
    dataset : class, default=skorch.dataset.Dataset
        Made of arrays where a `DataLoader` is used for them.
    predict_nonlinearity : callable, None or "auto", default="auto"
        What makes a prediction of the module's output. "auto" knows by the criterion and
        by a few outputs whether these are logits, probabilities or log-probabilities.
    compile : bool, default=False
        Whether the module goes through ``torch.compile``; arguments ``compile__*``.
    use_caching : bool or "auto", default="auto"
        Whether skorch's scoring callbacks keep predictions.
    torch_load_kwargs : dict or None, default=None
        Arguments of ``torch.load`` in ``load_params``.
    **kwargs : dict
        ``module__*``, ``criterion__*``, ``optimizer__*``, ``iterator_train__*``,
        ``iterator_valid__*``, ``dataset__*``, ``callbacks__*``, ``compile__*``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        Size of the second dimension of `X`; not for dicts and datasets.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where `X` has string names.
    input_shape_ : tuple of int or None
        Shape of one sample.
    n_iter_ : int
        Epochs trained so far, over all calls.
    n_parameters_ : int
        Numbers in the module's parameters.
    history_ : skorch.history.History
        A row per epoch: "epoch", "train_loss" (mean over the samples, while it was trained),
        "train_loss_best", "train_batch_count", "dur" (seconds).
    module_, criterion_, optimizer_ : object
        The running parts.
    device_ : torch.device
        Where they are.
    seed_ : int
        The seed that was used.

    Notes
    -----
    Inputs become float32 (or the type of the module's parameters); integers stay integers where
    the module has an `Embedding`. On a CPU, float32 arrays are used in place, also memory maps;
    others are converted at once up to 1 GiB, else batch by batch. Other devices get all the data
    at once if it takes at most half of their free memory.

    The seed gives named streams ("init" with one per parameter name, "shuffle", "forward"), so
    that what one of them draws never shifts another, and fits in several threads do not meet.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import TorchClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = TorchClassifier(module__n_units=16, lr=0.01, random_state=0)
    >>> net.fit(X, y).score(X, y) > 0.9
    True
    >>> net.n_iter_, net.n_parameters_
    (50, 131)
    """

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
        return encode(y, self._known_classes)

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
        y = encode(y, self._known_classes, positions_allowed=True)
        self._class_weight_of_loader = None
        if self.class_weight is not None:
            per_class = weights_of_classes(self.class_weight, self._known_classes, y)
            self._class_weight_of_loader = per_class / per_class[y].mean()
        return y

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
        per_class = weights_of_classes(self.class_weight, self._known_classes, y)[y]
        return per_class if sample_weight is None else per_class * sample_weight

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
            encoded = encode(encoded, self._known_classes, positions_allowed=True)
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
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        positions = self.predict_proba(X).argmax(axis=1)
        return self.classes_[positions]

    def predict_proba(self, X):
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            float32; the columns are in the order of `classes_`.
        """
        return self._predict_outputs(X)
