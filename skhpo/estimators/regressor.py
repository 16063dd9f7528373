"""The torch regressor."""

from __future__ import annotations

import numpy as np
import skorch.dataset
from sklearn.metrics import r2_score
from skorch import NeuralNetRegressor
from torch.utils.data import DataLoader

from ..modules import MLP
from ..names import CRITERIA
from ._numbers import Heads, Numbers, check_numbers
from ._outputs import as_predictions, last_operations, link_of
from ._torch import TorchEstimator
from .feeding import first_batch
from .predicting import knowing_format

__all__ = ["TorchRegressor"]


class TorchRegressor(TorchEstimator, NeuralNetRegressor):
    """Regressor around a torch module.

    A skorch net that accepts the inputs of scikit-learn's regressors, trains about as fast as a
    hand-written loop, and can continue training exactly. Networks learn targets of large values
    badly: ``scale_target="standard"`` is worth a trial.

    Parameters
    ----------
    module : class, callable or torch.nn.Module, default=MLP
        Makes the network. Where its signature has them, ``in_features`` (values per
        sample), ``input_shape`` (shape of a sample), ``in_channels`` (its first dimension) and
        ``out_features`` (the number of targets) are inferred from the data;
        ``module__in_features=...`` and so on override that. All its other arguments are
        parameters, ``module__*``. An instance is copied with its weights.
    criterion : str, class, callable or torch.nn.Module, default="mse"
        The loss: "mse", "mae", "huber", "smooth_l1", "poisson_nll" (the module returns logarithms
        of rates), "gaussian_nll" (it returns a pair of mean and variance), ..., or a class. Its
        arguments are ``criterion__*``.
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
    validation_fraction : float or None, default=None
        Share of the samples, in (0, 1), held out to check the network during training, identical
        rows on the same side. The network with the best check predicts. None trains on all
        samples; a search holds out data anyway.
    monitor : str, default="valid_loss"
        The checked metric: the loss, or a scorer of scikit-learn by its name ("r2").
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
        ones: `lr`, ``optimizer__*``,
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
    scale_target : {"standard"} or None, default=None
        "standard" trains on targets with mean 0 and variance 1, those of the training rows, and
        predicts in the units of `y`; several outputs are scaled each by itself, images all alike.
        Losses are of scaled targets, scorers of `monitor` get what ``predict`` returns.
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
        Maps the module's output to predictions. "auto" infers it from the criterion: "poisson_nll"
        takes logarithms, unless ``criterion__log_input=False``, "bce_with_logits" takes logits.
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
    n_features_in_ : int
        Size of the second dimension of `X`; not for dicts and datasets.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where `X` has string names.
    input_shape_ : tuple of int or None
        Shape of one sample.
    target_mean_, target_scale_ : ndarray of shape () or (n_outputs,)
        With `scale_target`: what is subtracted from `y`, and what it is then divided by.
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
    TorchClassifier : The same for classes.
    SelfTuningRegressor : Finds its regularization while it trains.
    KerasRegressor : The same around a Keras model.
    sklearn.neural_network.MLPRegressor : Multilayer perceptrons without torch.

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
    >>> from sklearn.datasets import make_regression
    >>> from skhpo import TorchRegressor
    >>> X, y = make_regression(n_features=5, random_state=0)
    >>> net = TorchRegressor(lr=0.01, random_state=0).fit(X, y / y.std())
    >>> net.score(X, y / y.std()) > 0.9
    True
    >>> net.predict(X[:2]).shape
    (2,)
    """

    _meaning = "values"
    _kinds_of_targets = Numbers, Heads

    def __init__(
        self,
        module=MLP,
        *,
        criterion="mse",
        optimizer="adamw",
        lr=1e-3,
        max_epochs=50,
        batch_size=32,
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
        scale_target=None,
        max_norm=None,
        recalibrate=False,
        max_grad_norm=None,
        accumulate=1,
        average=None,
        average_decay=0.999,
        average_from=None,
        random_state=None,
        device="auto",
        amp=False,
        seeds=None,
        warm_start=False,
        verbose=0,
        callbacks=None,
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_targets(self, y, classes, reset):
        self._targets, y = check_numbers(self, None if reset else self._targets, y)
        return y

    def _check_dataset_targets(self, dataset, y, classes, reset):
        if y is None and reset and self.scale_target is not None:
            y = self._labels_of_dataset(dataset)
        if y is None and reset:
            self._check_targets(first_batch(self, dataset)[1], classes, reset)
        return None if y is None else self._check_targets(y, classes, reset)

    def _score_of_positions(self, y, predicted, sample_weight):
        return r2_score(y, predicted, sample_weight=sample_weight, multioutput="variance_weighted")

    @property
    def target_mean_(self):
        """What is subtracted from targets, an ndarray of shape () or (n_outputs,)."""
        return self._part_of_scaling(0)

    @property
    def target_scale_(self):
        """What targets are divided by, an ndarray of shape () or (n_outputs,)."""
        return self._part_of_scaling(1)

    def _part_of_scaling(self, i):
        if self._targets is None or self._targets.scaling is None:
            raise AttributeError(f"{type(self).__name__} has scaled no targets")
        return np.array(self._targets.scaling[i])

    def _out_features(self):
        return self._targets.width if isinstance(self._targets, Numbers) else None

    def _row_weights(self, y, sample_weight):
        return sample_weight

    def _infer_output_format(self, output):
        operations, output = last_operations(output), output.detach()
        self._output_shape = tuple(output.shape[1:])
        width, wanted = int(np.prod(self._output_shape, dtype=int)), self._out_features()
        if wanted not in (None, width) and type(self.criterion_) in CRITERIA.values():
            of_values, of_output = (
                "".join(f", {size}" for size in shape)
                for shape in (self._targets.of_values, self._output_shape)
            )
            raise ValueError(
                f"the module must return {wanted} values per sample for targets of shape (n_samples"
                f"{of_values}), but it returns an output of shape (n{of_output}); let the module "
                "take `out_features`, or set the parameter of the module that is its width"
            )
        self._meaning = link_of(output, operations, self.criterion_)
        if self.scale_target is not None and self._meaning != "values":
            raise ValueError(
                f"scale_target={self.scale_target!r} needs a criterion that takes any numbers, but "
                f"criterion {type(self.criterion_).__name__} takes rates, counts or probabilities; "
                "set scale_target=None"
            )

    def _get_predict_nonlinearity(self):
        self.check_is_fitted()
        if isinstance(self.predict_nonlinearity, str) and self.predict_nonlinearity == "auto":
            if getattr(self._targets, "are_heads", False):
                return lambda output: output
            return as_predictions(self._meaning)
        return super()._get_predict_nonlinearity()

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict of str to array-like, or torch Dataset
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            With the dimensions that `y` had in ``fit``, in the precision of the network: float32
            unless its module has another one. For a dict of targets what the module returns, a dict
            or a tuple of arrays.
        """
        if getattr(self._targets, "are_heads", False):
            return self.predict_outputs(X)
        output = self._shaped_outputs(X)
        if self._targets is None or self._targets.scaling is None or self._labels_are_encoded:
            return output
        return (output * self.target_scale_ + self.target_mean_).astype(output.dtype)

    def _shape_of_predictions(self):
        width = int(np.prod(self._output_shape, dtype=int))
        return tuple(self._targets.of_values) if width == self._out_features() else None

    def _shaped_outputs(self, X):
        net = knowing_format(self, X)
        output = net.predict_outputs(X)
        if net._targets is None and output.shape[1:] == (1,):
            return output[:, 0]
        if int(np.prod(output.shape[1:], dtype=int)) == self._out_features():
            return output.reshape(len(output), *self._targets.of_values)
        return output

    @property
    def predict_proba(self):
        """A regressor has none, although skorch's has."""
        raise AttributeError(f"{type(self).__name__} has no predict_proba; use predict")
