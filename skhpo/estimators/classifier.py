"""The torch classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import skorch.dataset
import torch
from numpy.typing import NDArray
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import DataLoader

from ..modules import MLP
from ._outputs import as_probabilities, last_operations, meaning_of, two_columns
from ._targets import (
    BINARY,
    Labels,
    check_labels_of,
    check_labels_of_dataset,
    current_smoothing,
    encode,
    kind_of_criterion,
    multi_label_classes,
    sorted_classes,
    weights_of_classes,
    with_positions_as_rows,
)
from ._torch import TorchEstimator
from .predicting import knowing_format
from .settings import changed_settings, reads_by_number

__all__ = ["TorchClassifier"]


class TorchClassifier(TorchEstimator, NeuralNetClassifier):
    """Classifier around a torch module.

    A skorch net that accepts the inputs of scikit-learn's classifiers, trains about as fast as a
    hand-written loop, and can continue training exactly.

    Parameters
    ----------
    module : class, callable or torch.nn.Module, default=MLP
        Makes the network. Where its signature has them, ``in_features`` (values per
        sample), ``input_shape`` (shape of a sample), ``in_channels`` (its first dimension) and
        ``out_features`` (one per class, or 1 for a binary criterion) are inferred from the data;
        ``module__in_features=...`` and so on override that. All its other arguments are
        parameters, ``module__*``. An instance is copied with its weights.
    criterion : str, class, callable or torch.nn.Module, default="cross_entropy"
        The loss: "cross_entropy" (on logits), "nll" (the module returns probabilities or
        log-probabilities), "bce_with_logits" (two classes, one output), ..., or a class. Its
        arguments are ``criterion__*``. For targets of several labels "cross_entropy" is the
        binary cross-entropy of each label.
    optimizer : str, class or callable, default="adamw"
        "adamw", "adam", "sgd", "rmsprop", "nadam", ..., or a class. Its arguments are
        ``optimizer__*`` (``optimizer__weight_decay``).
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=50
        Epochs that a ``fit`` or a ``partial_fit`` trains.
    batch_size : int, default=32
        Samples per batch; -1 puts all in one. The last batch of an epoch may be smaller, but one
        of less than a quarter joins the one before: a step by the gradient of a few samples would
        be mostly noise (docs/benchmarks/last_batch.md). Predictions take as many at once, or up to
        1,024 where all that the module computes for them fits into 8 MiB;
        ``iterator_valid__batch_size`` sets their number.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; "balanced" weights them inversely to their frequency. Multiplied by
        `sample_weight`. Labels that `y` lacks are ignored if all others have a weight.
    validation_fraction : float or None, default=None
        Share of the samples, in (0, 1), held out to check the network during training:
        stratified, identical rows on the same side. The network with the best check predicts.
        None trains on all samples; a search holds out data anyway.
    monitor : str, default="valid_loss"
        The checked metric: the loss, or a scorer of scikit-learn by its name ("accuracy").
    check_every : int or None, default=None
        Batches between two checks; None checks after each epoch.
    patience : int or None, default=None
        Checks without improvement after which training stops, at the end of an epoch.
    min_epochs : int, default=1
        Epochs before which training does not stop.
    lr_scheduler : str, class or None, default=None
        Schedule of the learning rate: "cosine", "linear", "polynomial" and "one_cycle" take
        `schedule_epochs`; "step", "exponential", "plateau", ..., or a class of torch. Its
        arguments are ``lr_scheduler__*``.
    schedule_epochs : int or None, default=None
        Length of the schedule; after it the last learning rate is kept. None is the `max_epochs`
        of the first call, in a search that varies them their largest value.
    hyperparameter_schedule : dict of str to list or callable, default=None
        Values that parameters have in each epoch (``{"module__dropout": [0.0, 0.1, 0.2]}``), or
        functions from the number of epochs before to the value, in place of the parameters' own
        ones: `lr`, ``optimizer__*``, `label_smoothing`,
        ``module__*`` (a rate of layers) and ``criterion__*``.
    init : str, default="default"
        Distribution of the initial weights: "default" (that of the layers), "zeros", "uniform",
        "normal", "orthogonal", "lecun_normal", "xavier_normal", "kaiming_normal",
        "lecun_uniform", .... All but the first make biases zero.
    init_gain : float, default=1.0
        Factor of the initial weights.
    lr_multipliers : dict of str to float, default=None
        Factors of the learning rate by patterns of parameter names (``{"output.*": 10}``), as
        in `fnmatch`; the first pattern that matches counts.
    freeze : dict of str to int or True, default=None
        Epochs for which parameters are frozen, by patterns of their names (``{"linear_*": 3}``);
        True freezes them permanently. Batch normalizations still update their statistics.
    max_norm : float or None, default=None
        Largest Euclidean norm of the incoming weights of a unit, enforced after each step.
    recalibrate : bool, default=False
        Whether the moving averages of batch normalization are replaced, once training has ended
        and the best weights are restored, by the statistics of all training rows, in one more
        pass. Training that goes on goes on from the moving averages.
    max_grad_norm : float or None, default=None
        Largest Euclidean norm of the gradients of a step, of all parameters together; larger ones
        are scaled down.
    accumulate : int, default=1
        Batches per step of the optimizer, which is that of one batch of all their rows. The last
        step of an epoch may have fewer. `check_every` and schedules then count steps.
    average : {"ema", "swa"} or None, default=None
        Average of the weights with which the network is checked and predicts: exponential, over the
        steps, or plain, over the ends of epochs; training goes on with the weights themselves.
    average_decay : float, default=0.999
        Decay of "ema" per step, in (0, 1); in the first steps smaller.
    average_from : int or None, default=None
        First epoch that is averaged. None is 1 for "ema", and for "swa" after three quarters of
        `schedule_epochs`.
    label_smoothing : float, default=0.0
        Share in [0, 1) of the target that is spread over all classes. Like all settings of the
        criterion it is part of "valid_loss"; ``monitor="neg_log_loss"`` leaves it out.
    batch_sampler : {"balanced"} or None, default=None
        "balanced" puts equally many samples of each class into a batch; those of rare classes
        repeat.
    random_state : int, RandomState instance, Generator or None, default=None
        Seed of the initial weights, the order of the samples, and the dropout. None draws a new
        one, `seed_`. No global generator is used.
    device : str, torch.device or None, default="auto"
        "auto" is the first available of "cuda", "mps" and "cpu"; None is "cpu".
    amp : bool or "auto", default=False
        Whether the module computes in bfloat16 where that is safe; "auto": on CUDA devices that
        support it. Worthwhile for networks whose steps are bound by arithmetic; it makes those of
        small ones slower.
    seeds : dict of str to int, default=None
        Seeds of single streams of randomness ("init", "shuffle", "forward", "validation",
        "augment"), in place of `random_state`. Also parameters, ``seeds__init``.
    warm_start : bool, default=False
        Whether ``fit`` trains a trained network further, as ``partial_fit`` does.
    verbose : int, default=0
        With 1 a table of the epochs is printed.
    callbacks : None, "disable" or list of skorch callbacks, default=None
        They see every batch, which costs time. For scikit-learn's see ``set_callbacks``.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels in any order, where `y` may lack some. A torch `Dataset` may have their positions
        as targets.
    train_split : callable or None, default=None
        Splits off data to be scored after each epoch, such as ``skorch.dataset.ValidSplit(5)``.
    iterator_train, iterator_valid : class, default=torch.utils.data.DataLoader
        Used for a torch `Dataset`, or where arguments (``iterator_valid__collate_fn``) other than
        ``batch_size``, ``shuffle`` and ``drop_last`` are set. Arrays need none: their batches are
        slices of one tensor. The first is used for training; the second for validation, checks,
        predictions and the first batch that the module is tested with.
    dataset : class, default=skorch.dataset.Dataset
        Another class is constructed with `X` as given (of any kind) and the encoded targets, for
        predictions without targets.
    transform, train_transform : callable, class or None, default=None
        Change the inputs of each batch, tensors of shape (n, ...) on the device: the first those
        of all rows, the second then those of training rows, with draws of torch from the stream
        "augment", anew in each epoch. They return as many rows. A class is made with the parameters
        ``transform__*``, ``train_transform__*``; a function gets them as arguments. Objects of
        torchvision, and those with an attribute ``per_row``, get each row by itself.
    collate : {"pad"}, callable or None, default=None
        What makes a batch of items of different lengths, in training, checks and predictions:
        "pad" fills sequences up with zeros to the longest of the batch, and passes ``lengths``,
        ``mask`` (True where there is an item) or ``padding_mask`` to a ``forward`` that has such
        arguments. A callable is the ``collate_fn`` of a `DataLoader`. None makes one array of them.
    group_by_length : bool or "auto", default="auto"
        Whether the sequences of a batch have about the same length, so that there is less padding.
        A torch `Dataset` needs an attribute ``lengths`` for that. "auto": with ``collate="pad"``,
        where lengths are known and differ.
    predict_nonlinearity : callable, None or "auto", default="auto"
        Maps the module's output to probabilities; None where it returns them. "auto" infers from
        the criterion, the module's last operation and the range of a few outputs whether these
        are logits, probabilities or log-probabilities; an error or a warning asks if it cannot.
    compile : bool, default=False
        Whether the module goes through ``torch.compile``; arguments ``compile__*``.
    use_caching : bool or "auto", default="auto"
        Whether skorch's scoring callbacks keep predictions.
    torch_load_kwargs : dict or None, default=None
        Arguments of ``torch.load`` in ``load_params``. Pickles are loaded as pickles are.
    **kwargs : dict
        ``module__*``, ``criterion__*``, ``optimizer__*``, ``iterator_train__*``,
        ``iterator_valid__*``, ``dataset__*``, ``callbacks__*``, ``compile__*``,
        ``lr_scheduler__*``, ``seeds__*``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or (n_labels, 2)
        The labels, sorted; for several labels per sample a row ``[0, 1]`` for each of them.
    n_features_in_ : int
        Size of the second dimension of `X`; not for dicts and datasets.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where `X` has string names.
    input_shape_ : tuple of int or None
        Shape of one sample.
    n_iter_ : int
        Epochs trained so far, over all calls.
    best_epoch_ : int
        The epoch, from 1, with the best check, whose network predicts; the last one where there
        was no check.
    n_parameters_ : int
        Numbers in the module's parameters.
    history_ : skorch.history.History
        A row per epoch: "epoch", "train_loss" (mean over the samples, while it was trained),
        "train_loss_best", "train_batch_count", "dur" (seconds). With `validation_fraction` also
        the last check, "valid_loss" or "valid_" and the monitor, and with that as a prefix
        "_best" (whether there was a new best one), "_trend" (slope per check) and "_spread"
        (standard deviation), both over the last `patience` checks (5 if it is None); "checks"
        lists those of the epoch. With `lr_scheduler` also "lr", with
        `hyperparameter_schedule` "hyperparameters", the values by name.
    module_, criterion_, optimizer_ : object
        The current module, criterion and optimizer.
    device_ : torch.device
        Their device.
    seed_ : int
        The seed that was used.
    lr_schedule_ : object or None
        The current schedule, with `lr_scheduler`.
    callbacks_, initialized_, init_context_, prefixes_, virtual_params_, \
cuda_dependent_attributes_ : object
        As of skorch's nets.

    See Also
    --------
    TorchRegressor : The same for numbers.
    SelfTuningClassifier : Finds its regularization while it trains.
    KerasClassifier : The same around a Keras model.
    sklearn.neural_network.MLPClassifier : Multilayer perceptrons without torch.

    Notes
    -----
    Inputs become float32 (or the type of the module's parameters); integers stay integers where
    the module has an `Embedding`. On a CPU, float32 arrays are used in place, also memory maps;
    others are converted at once up to 1 GiB, else batch by batch. Other devices get all the data
    at once if it takes at most half of their free memory. CSR matrices become dense batch by
    batch.

    The seed gives named streams ("init" with one per parameter name, "shuffle", "forward",
    "validation", "augment"), so that draws from one never shift another, and fits in several
    threads do not interfere.

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

    _kinds_of_targets = (Labels,)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

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
        validation_fraction=None,
        monitor="valid_loss",
        check_every=None,
        patience=None,
        min_epochs=1,
        lr_scheduler=None,
        schedule_epochs=None,
        hyperparameter_schedule=None,
        init="default",
        init_gain=1.0,
        lr_multipliers=None,
        freeze=None,
        max_norm=None,
        recalibrate=False,
        max_grad_norm=None,
        accumulate=1,
        average=None,
        average_decay=0.999,
        average_from=None,
        label_smoothing=0.0,
        batch_sampler=None,
        random_state=None,
        device="auto",
        amp=False,
        seeds=None,
        warm_start=False,
        verbose=0,
        callbacks=None,
        classes=None,
        train_split=None,
        iterator_train=DataLoader,
        iterator_valid=DataLoader,
        dataset=skorch.dataset.Dataset,
        transform=None,
        train_transform=None,
        collate=None,
        group_by_length="auto",
        predict_nonlinearity="auto",
        compile=False,
        use_caching="auto",
        torch_load_kwargs=None,
        **kwargs,
    ):
        self._store(locals())

    def _check_params(self) -> None:
        super()._check_params()
        if self.batch_sampler and vars(self).get("iterator_train__shuffle") is False:
            raise ValueError(
                f"batch_sampler={self.batch_sampler!r} orders the samples, but "
                "iterator_train__shuffle=False keeps their order; leave one of them out"
            )
        smoothing = self.label_smoothing
        if not smoothing and "label_smoothing" not in (self.hyperparameter_schedule or ()):
            return
        if "label_smoothing" in changed_settings(self, "criterion"):
            raise ValueError(
                "label_smoothing and criterion__label_smoothing are the same; set one of them"
            )
        if not issubclass(kind_of_criterion(self), (*BINARY, nn.CrossEntropyLoss)):
            raise ValueError(
                f"label_smoothing={smoothing} needs criterion 'cross_entropy' or "
                f"'bce_with_logits', but criterion={self.criterion!r}"
            )

    def _check_targets(self, y: Any, classes: Any, reset: bool) -> NDArray[np.int64]:
        known = None if reset else self._targets
        self._targets, encoded = check_labels_of(self, known, y, classes)
        return encoded

    def _check_dataset_targets(self, dataset: Any, y: Any, classes: Any, reset: bool) -> Any:
        known = None if reset else self._targets
        self._targets, y = check_labels_of_dataset(self, known, dataset, y, classes)
        self._class_weight_of_loader = None
        weighted = y is not None and self.class_weight is not None
        if weighted and not reads_by_number(self, dataset, training=True):
            per_class = weights_of_classes(self.class_weight, self._targets.classes, y)
            self._class_weight_of_loader = per_class / per_class[y].mean()
        return y

    def _learn_targets_alone(self) -> None:
        if self.classes is None:
            raise ValueError(
                f"{type(self).__name__} must know the labels to predict them, but has seen no y; "
                "call fit or partial_fit first, or set classes"
            )
        self._targets = Labels.learned(None, None, None, self.classes)

    def _row_weights(self, y: Any, sample_weight: Any) -> Any:
        return self._targets.row_weights(self.class_weight, y, sample_weight)

    def _labels_of_dataset(self, dataset: Any, report: Any = None) -> Any:
        y = super()._labels_of_dataset(dataset, report)
        if y is None or isinstance(y, Mapping) or y.ndim != 1 or self.classes is None:
            return y
        classes = np.unique(self.classes)
        return classes[encode(y, classes, order=np.asarray(self.classes))]

    def initialize_criterion(self) -> Self:
        """Make the criterion, that of several labels where samples have several.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        several = self._targets is not None and self._targets.several
        if several and kind_of_criterion(self) is nn.CrossEntropyLoss:
            kwargs = changed_settings(self, "criterion")
            self.criterion_ = self.initialized_instance(nn.BCEWithLogitsLoss, kwargs)
            return self
        super().initialize_criterion()
        if self.label_smoothing and isinstance(self.criterion_, nn.CrossEntropyLoss):
            self.criterion_.label_smoothing = float(self.label_smoothing)
        return self

    def _out_features(self) -> int | None:
        labels = self._targets
        if labels is None:
            return None
        binary = issubclass(kind_of_criterion(self), BINARY) and not labels.several
        return 1 if binary else len(labels.classes)

    def _infer_output_format(self, output: torch.Tensor) -> None:
        labels, ask = self._targets, isinstance(self.predict_nonlinearity, str)
        operations, output = last_operations(output), output.detach()
        self._output_shape = tuple(output.shape[1:])
        if labels.shape:
            output = with_positions_as_rows(self.criterion_, labels, output)
        self._meaning = meaning_of(
            output, operations, self.criterion_, len(labels.classes), labels.several, ask=ask
        )

    def get_loss(
        self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False
    ) -> torch.Tensor:
        y_pred = self._for_criterion(y_pred)
        if isinstance(self.criterion_, nn.NLLLoss) and self._meaning == "probabilities":
            y_pred = torch.log(y_pred + torch.finfo(y_pred.dtype).eps)
        if isinstance(self.criterion_, BINARY) and (smoothing := current_smoothing(self)):
            y_true = y_true * (1 - smoothing) + smoothing / 2
        loss: torch.Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss

    def _are_integer_labels(self, y):
        known = self._targets
        arrays = y, None if known is None else known.classes
        plain = (type(a) is np.ndarray and a.ndim == 1 and a.dtype.kind in "iu" for a in arrays)
        return all(plain) and len(y) > 0 and not known.several

    def _has_positions(self, shape):
        return bool(self._targets.shape)

    def _score_of_positions(self, y, predicted, sample_weight):
        return float(np.average((y == predicted).mean(axis=1), weights=sample_weight))

    @property
    def classes_(self):
        """Labels, an ndarray of shape (n_classes,), or (n_labels, 2) of 0 and 1 for each label."""
        labels = self._targets
        if labels is not None and labels.several:
            return multi_label_classes(len(labels.classes))
        known = None if labels is None else labels.classes
        if known is None and self.initialized_ and self.classes is not None:
            known = sorted_classes(self.classes, "classes")
        if known is None:
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit")
        return np.arange(len(known)) if self._labels_are_encoded else known

    def _get_predict_nonlinearity(self):
        self.check_is_fitted()
        if isinstance(self.predict_nonlinearity, str) and self.predict_nonlinearity == "auto":
            return as_probabilities(self._meaning)
        nonlinearity, labels = super()._get_predict_nonlinearity(), self._targets
        if labels.several or len(labels.classes) != 2:
            return nonlinearity

        def of_both(output):
            made = nonlinearity(output)
            return two_columns(made) if made.shape[1:] in ((), (1,)) else made

        return of_both

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels; where there are several, 1 for those with a probability above one half.
        """
        if self._targets is not None and self._targets.several:
            return (self.predict_proba(X) > 0.5).astype(self._targets.classes.dtype)
        positions = self.predict_proba(X).argmax(axis=1)
        return self.classes_[positions]

    def predict_proba(self, X):
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Of float32; the columns are in the order of `classes_`.
        """
        return knowing_format(self, X).predict_outputs(X)
