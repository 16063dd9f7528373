"""What the self-tuning classifier and regressor share."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from scipy.stats import loguniform, uniform
from torch import nn

from .._compat import Options, StrOptions, num_samples
from ..arguments import COUNT, COUNT_OR_ZERO, NON_NEGATIVE, POSITIVE
from ..estimators import MLP
from ..estimators.parameters import ParametersMixin
from ..estimators.settings import slices_batches
from ..estimators.state import held_part
from ..names import resolve_optimizer
from ..rows import is_row_numbers
from ..training.batches import RowBatches
from ..training.data import wants_integers
from ..training.randomness import Stream, may_draw
from ..training.structure import copied
from ._arguments import RESPONDING, VARIANTS, check_arguments_of, value_of
from ._effects import check_names
from ._fixed import are_fixed
from ._module_conversion import set_rates
from ._retraining import retrain
from ._variants import make_runner, make_tuning
from .layers import HyperValue

__all__ = ["SelfTuningMixin"]

# Prefix of hyperparameters as parameters of the estimator.
_NESTED = "hyperparameters__"
# Streams of random numbers in addition to those of a plain estimator.
_STREAMS = ("perturbation", "tuning")
# Parameters of the plain estimators that must keep their defaults.
_UNUSED = {
    **{"amp": False, "compile": False, "max_norm": None, "check_every": None},
    **{"transform": None, "train_transform": None},
    **{"accumulate": 1, "average": None, "max_grad_norm": None},
    # Lists and functions as hyperparameters are such a schedule.
    "hyperparameter_schedule": None,
}
# Arguments of the constructor that the plain estimator stores, and what else is local there.
_OF_PLAIN = ("module", "validation_fraction", "optimizer", "kwargs", "self", "__class__")
# What to do in place of some parameters that are not used.
_INSTEAD = {
    "transform": "change X before, or put a layer that does so into the module",
    "train_transform": "put layers that augment rows into the module, with rates to tune",
}


class SelfTuningMixin:
    """Mixin over a torch estimator, which builds the plain network and predicts."""

    _stateful = ("tuning",)
    tuning_ = held_part("tuning", "Tuning: the converted module and where its hyperparameters are.")
    _parameter_constraints = {
        **ParametersMixin._parameter_constraints,
        "tune_scales": ["boolean"],
        "train_steps": [COUNT, None],
        "val_steps": [COUNT],
        "warmup_epochs": [COUNT_OR_ZERO],
        "init_scale": [POSITIVE],
        "hyper_lr": [POSITIVE],
        "response_lr": [POSITIVE, None],
        "entropy_weight": [NON_NEGATIVE],
        "variant": [StrOptions(set(VARIANTS))],
        "solver": [StrOptions({"neumann", "cg", "identity"}), None],
        "n_terms": [COUNT, None],
        "n_steps": [COUNT, None],
        "mode": [StrOptions({"reverse", "forward"}), None],
        "n_hidden": [COUNT, None],
        "convert": [StrOptions({"auto"}), Options(bool, {False})],
        "refit": [StrOptions({"final", "schedule"}), None],
    }
    _of_new_network = ParametersMixin._of_new_network | {"hyperparameters", "variant"}
    has_own_epochs = True
    cuda_dependent_attributes_ = [
        *("module_", "criterion_", "optimizer_", "lr_schedule_", "_state", "tuning_"),
    ]

    def __init__(
        self,
        module=MLP,
        hyperparameters=None,
        *,
        initial=None,
        variant="stn",
        train_steps=None,
        val_steps=1,
        warmup_epochs=5,
        entropy_weight=1e-3,
        init_scale=1.0,
        tune_scales=True,
        hyper_optimizer=None,
        hyper_lr=0.1,
        response_lr=None,
        solver=None,
        n_terms=None,
        n_steps=None,
        mode=None,
        n_hidden=None,
        refit=None,
        convert="auto",
        validation_fraction=0.2,
        optimizer="adam",
        **kwargs,
    ):
        own = {name: value for name, value in locals().items() if name not in _OF_PLAIN}
        super().__init__(
            module, validation_fraction=validation_fraction, optimizer=optimizer, **kwargs
        )
        vars(self).update(own)

    def _fit(self, X, y, sample_weight, classes, continuing, task, fit_params, validation):
        super()._fit(X, y, sample_weight, classes, continuing, task, fit_params, validation)
        tunes = not are_fixed(self.hyperparameters)
        if not (task == "fit" and tunes):
            return self
        if self.max_epochs <= self.warmup_epochs:
            warnings.warn(
                "nothing was tuned, because all epochs were for warming up: max_epochs="
                f"{self.max_epochs} and warmup_epochs={self.warmup_epochs}; raise max_epochs, or "
                "lower warmup_epochs",
                stacklevel=4,
            )
        elif self.variant not in RESPONDING and not self.tuning_.counts["updates"]:
            warnings.warn(
                f"nothing was tuned in {self.tuning_.n_steps} training steps, because no update of "
                f"the hyperparameters was due (train_steps={self.train_steps} with "
                f"variant={self.variant!r}, after warmup_epochs={self.warmup_epochs}), or the "
                "gradients were not finite; raise max_epochs, or lower train_steps",
                stacklevel=4,
            )
        return self

    def get_params(self, deep=True):
        """Get parameters for this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list those of the module, the optimizer and so on, and each hyperparameter,
            as ``hyperparameters__<name>``.

        Returns
        -------
        params : dict of str to object
            By name.
        """
        params = super().get_params(deep=deep)
        if deep and isinstance(self.hyperparameters, dict):
            params |= {f"{_NESTED}{name}": value for name, value in self.hyperparameters.items()}
        return params

    def set_params(self, **params):
        """Set the parameters of this estimator; they are used by the next ``fit``.

        Parameters
        ----------
        **params : dict
            ``hyperparameters__<name>`` replaces one hyperparameter, or adds it. Otherwise as in
            `TorchClassifier`.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        own = {k.removeprefix(_NESTED): v for k, v in params.items() if k.startswith(_NESTED)}
        params = {k: v for k, v in params.items() if not k.startswith(_NESTED)}
        if own:
            before = params.get("hyperparameters", self.hyperparameters)
            params["hyperparameters"] = {**(before if isinstance(before, dict) else {}), **own}
        return super().set_params(**params)

    def __skhpo_tags__(self):
        return replace(super().__skhpo_tags__(), averages=(), end_of_training=None)

    def _check_params(self):
        super()._check_params()
        check_arguments_of(self)
        given = self.get_params(deep=False)
        for name, default in _UNUSED.items():
            if given[name] != default:
                raise ValueError(
                    f"{name} must be {default!r} in a self-tuning network, but got "
                    f"{given[name]!r}; {_INSTEAD.get(name, 'its training steps are its own')}"
                )
        if callable(self.collate):
            raise ValueError(
                "collate must be None or 'pad' in a self-tuning network, whose steps read rows by "
                f"number, but got {self.collate!r}; pass sequences as a list, with collate='pad'"
            )
        for name in ("hyperparameters", "initial"):
            if not isinstance(getattr(self, name), dict | None):
                raise ValueError(f"{name} must be None or a dict, but got {getattr(self, name)!r}")
        if self.hyperparameters is not None:
            if not self.hyperparameters:
                raise ValueError(
                    "hyperparameters must not be empty; None tunes the rates of the dropout "
                    "layers and the weight decay"
                )
            check_names(self.hyperparameters, own=True)
            if "label_smoothing" in self.hyperparameters and getattr(self, "label_smoothing", 0):
                raise ValueError(
                    "label_smoothing is tuned, but the estimator has "
                    f"label_smoothing={self.label_smoothing} of its own; leave that out"
                )
        if resolve_optimizer(self.optimizer) is torch.optim.LBFGS:
            raise ValueError(f"optimizer={self.optimizer!r} needs a loss that it can ask for again")
        try:
            resolve_optimizer(value_of(self, "hyper_optimizer"))
        except ValueError as error:
            raise ValueError(str(error).replace("optimizer", "hyper_optimizer", 1)) from None

    def _check_sources(self, validation):
        if isinstance(validation, torch.utils.data.Dataset):
            raise ValueError(
                "validation_data of a self-tuning network must be a pair (X, y), or the numbers or "
                f"a mask of rows of X, but got a {type(validation).__name__}"
            )
        is_pair = validation is not None and not is_row_numbers(validation)
        if "sample_weight" in (self.hyperparameters or {}) and not is_pair:
            raise ValueError(
                "a weight for each row of X is tuned on other rows; pass validation_data to fit, a "
                "pair (X, y)"
            )
        if validation is not None:  # in place of validation_fraction
            return
        if self.validation_fraction is None and not are_fixed(self.hyperparameters):
            raise ValueError(
                "hyperparameters are tuned on data held out, but validation_fraction=None; set "
                "it, such as to 0.2, or pass validation_data to fit"
            )
        super()._check_sources(validation)

    def _distributions(self):
        if self.hyperparameters is not None:
            return dict(self.hyperparameters)
        kinds = nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d
        if self.variant not in RESPONDING:
            return {"weight_decay": loguniform(1e-6, 0.1)}
        layers = self.module_.named_modules()
        rates = {f"{path}.p": uniform(0, 0.9) for path, m in layers if isinstance(m, kinds)}
        return {**rates, "weight_decay": loguniform(1e-6, 0.1)}

    def initialize(self):
        """Make the module, its response, the criterion and the optimizers.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        super().initialize()
        self._state.streams |= {name: Stream(self.seed_, name) for name in _STREAMS}
        self.tuning_.find(self)
        return self

    def _initialize_module(self, reason=None):
        super()._initialize_module(reason)
        self.tuning_ = make_tuning(self, self._distributions())
        return self

    def get_all_learnable_params(self):
        """Yield the names and parameters of the module with its response, and of the criterion.

        Yields
        ------
        name : str
        parameter : torch.nn.Parameter
        """
        yield from self.tuning_.own_parameters(self)
        if isinstance(self.criterion_, nn.Module):
            yield from self.criterion_.named_parameters()

    def initialize_optimizer(self, triggered_directly=None):
        """Make the optimizer of the weights.

        Parameters
        ----------
        triggered_directly : None
            Ignored; accepted because skorch passes it.

        Returns
        -------
        self : estimator
            The estimator itself.

        Raises
        ------
        ValueError
            If it decays weights itself while that is tuned.
        """
        super().initialize_optimizer(triggered_directly)
        decays = {group.get("weight_decay", 0) for group in self.optimizer_.param_groups}
        if self.tuning_.tunes_decay and any(decays):
            raise ValueError(
                f"weight decay is tuned, but the optimizer has weight_decay={max(decays)} of its "
                "own; set optimizer__weight_decay=0"
            )
        return self

    def _check_training_data(self, X, y, sample_weight, classes, reset):
        data = super()._check_training_data(X, y, sample_weight, classes, reset)
        if "sample_weight" in (self.hyperparameters or {}):
            n_removed = num_samples(y) - num_samples(data[1])
            if n_removed:
                raise ValueError(
                    "each row has a weight that is tuned, but sample_weight or class_weight is "
                    f"zero for {n_removed} rows; leave them out of X"
                )
        return data

    def _run_epochs(self, train, valid, checks, **call):
        if self.tuning_.is_fixed:
            self.tuning_.ranges.check_epochs(self.n_iter_ + self.max_epochs)
        if self.tuning_.best_weights is not None:
            # The weights are those of a refit; tuning continues from its own.
            self._state.set_weights(self.tuning_.best_weights)
            self.tuning_.best_weights = None
        super()._run_epochs(train, valid, checks, **call)
        self.tuning_.warn()
        if self.refit is not None and not self.tuning_.is_fixed:
            retrain(self, train, checks)

    def _own_runner(self, train_batches, checks, fit_params):
        if fit_params:
            raise ValueError(f"a self-tuning network takes no fit_params, but got {fit_params}")
        in_memory = isinstance(train_batches, RowBatches) and not train_batches.rows.are_items
        if not in_memory or not slices_batches(self, training=False):
            raise ValueError(
                "a self-tuning network needs X as an array, and dataset, iterator_train, "
                "iterator_valid and train_split at their defaults"
            )
        changes = self.tuning_.effects.inputs
        if changes and self._integer_inputs.get(None, True) and self._looks_up():
            raise ValueError(
                f"{changes[0]!r} needs X as one array of real numbers, but it is a dict, or the "
                "module has an Embedding and X is of integers"
            )
        if checks is not None:
            # Dropout of torch draws nothing in a check, whose module is that of predictions.
            known = isinstance(self.criterion_, nn.Module) and not may_draw(self.criterion_)
            checks.measure.may_draw = self.tuning_.may_draw or not known
        valid = None if checks is None else checks.measure.valid
        return self._make_runner(train_batches, valid)

    def _make_runner(self, batches, valid):
        return make_runner(self, batches, valid)

    def _looks_up(self):
        return self.input_shape_ is None or wants_integers(self.module_)

    @property
    def schedule_(self):
        """Value of each hyperparameter at the end of each epoch, a dict of str to list."""
        return self._by_name("hyperparameters")

    @property
    def scales_(self):
        """Scales of the perturbations, unconstrained, a dict of str to list of float."""
        return self._by_name("scales")

    def _by_name(self, column):
        rows = self.history[:, column]
        return {name: [row[name] for row in rows] for name in self._hyperparameter_names()}

    def _hyperparameter_names(self):
        tuned = self.tuning_.names
        return tuned if self.hyperparameters is None else tuple(self.hyperparameters)

    @property
    def best_hyperparameters_(self):
        """Values in that epoch, a dict of str to object."""
        return {name: values[self.best_epoch_ - 1] for name, values in self.schedule_.items()}

    def response_curve(self, name):
        """Return the validation loss along a hyperparameter, with variant="global".

        No network is trained for it: the weights at each value are those of the hypernetwork.

        Parameters
        ----------
        name : str
            The others have the values of the last epoch.

        Returns
        -------
        values, losses : ndarray of shape (50,)
            Over the whole range.
        """
        self.check_is_fitted()
        curves = getattr(self.tuning_, "curves", {})
        if name not in curves:
            raise ValueError(
                f"a response curve needs variant='global' and one of {sorted(curves)}, but got "
                f"variant={self.variant!r} and {name!r}"
            )
        return curves[name]

    def _plain_module(self):
        return self.collapse().cpu()

    def collapse(self):
        """Return a plain module with the weights and rates found: what ``predict`` uses.

        Returns
        -------
        module : torch.nn.Module
            A copy, of the class that `module` makes, in evaluation mode.
        """
        self.check_is_fitted()
        module = copied(self.module_)
        if self.variant not in RESPONDING:
            best = self.best_hyperparameters_
            for name, paths in self.tuning_.effects.dropout.items():
                for path in paths:
                    module.get_submodule(path).p = best[name]
            return module.eval()
        # Values that the module reads belong to its weights, which a refit may have trained.
        own = {m.name: m.value for m in module.modules() if isinstance(m, HyperValue)}
        set_rates(module, self.tuning_.module, {**self.best_hyperparameters_, **own})
        return module.eval()
