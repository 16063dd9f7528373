"""Parameters of a Keras estimator: its own, those of its builder, and those of the optimizer."""

from __future__ import annotations

import contextlib
import numbers

from ..._compat import Interval, Options, StrOptions, validate_parameter_constraints
from ...define_by_run import definitions_of, explored, is_asked_for, newcomers, takes_hp
from ...names import nearest_first
from ..defaults import same_value
from ..parameters import NamesMixin, named_in_init
from ._builders import INFERRED, builder_arguments, builder_of
from ._compiling import optimizer_arguments, resolve_optimizer

__all__ = ["ParametersMixin"]

# Parameters that may also be passed to ``fit``, where Keras has them.
_OF_FIT = (
    *("batch_size", "epochs", "verbose", "callbacks", "validation_split", "shuffle"),
    *("class_weight", "steps_per_epoch", "validation_steps", "validation_batch_size"),
    "validation_freq",
)
# Prefixes under which scikeras has the arguments of the model and of its methods.
_OF_SCIKERAS = ("model", "build_fn", "fit")


class ParametersMixin(NamesMixin):
    """`get_params`, `set_params`, and checks of names and values."""

    _stray_names = ()
    # Beside what `_check_params` says.
    _parameter_constraints = {
        "shuffle": ["boolean"],
        "verbose": [Options(numbers.Integral, {0, 1, 2}), StrOptions({"auto"})],
        "warm_start": ["boolean"],
        "validation_freq": [Interval(numbers.Integral, 1, None, closed="left"), list, tuple],
    }

    @classmethod
    def _own_names(cls):
        return list(named_in_init(cls))

    def _get_param_names(self):
        return sorted({*self._own_names(), *self._stray_names})

    def _store(self, arguments):
        """Store the arguments of ``__init__``, its ``locals()``; ``fit`` checks further names."""
        kwargs = arguments["kwargs"]
        for name, value in arguments.items():
            if name not in ("self", "kwargs"):
                setattr(self, name, value)
        if kwargs:
            self._stray_names = tuple(kwargs)
            vars(self).update(kwargs)

    def get_params(self, deep=True):
        """Get parameters for this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list the builder's arguments that were not set, too, with their defaults,
            and what it asks ``hp`` for. Those that are inferred from the data have the value None.

        Returns
        -------
        params : dict of str to object
        """
        # One that was given the name of a property is not found by getattr.
        stray = {name: vars(self)[name] for name in self._stray_names}
        params = {n: stray[n] if n in stray else getattr(self, n) for n in self._get_param_names()}
        if not deep:
            return params
        arguments = builder_arguments(self.build_fn) or {}
        defaults = {k: None if k in INFERRED else v for k, v in arguments.items()}
        asked = {k: d.default for k, d in (definitions_of(self.build_fn) or {}).items()}
        return {**defaults, **asked, **params}

    def set_params(self, **params):
        """Set the parameters of this estimator; the next ``fit`` uses them.

        Names that were given to the constructor are looked at by ``fit``.

        Parameters
        ----------
        **params : dict
            Parameters, the builder's arguments under their own names.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If a name is unknown; the message lists the known ones, the nearest first.
        """
        own = self._own_names()
        for name in sorted(params, key=lambda name: name not in own):
            if name not in own and name not in self._stray_names:
                self._check_name(name, params)
            setattr(self, name, params[name])
            if name in own:
                continue
            if name not in self._stray_names:
                self._stray_names = (*self._stray_names, name)
        return self

    @contextlib.contextmanager
    def _overridden(self, fit_params):
        """Within this context parameters have the values that ``fit`` was passed for them."""
        known = [name for name in _OF_FIT if name in self._own_names()]
        unknown = [name for name in fit_params if name not in known]
        if unknown:
            names = ", ".join(nearest_first(unknown[0], known))
            raise ValueError(
                f"fit of {type(self).__name__} has no argument {unknown[0]!r}; beside X, y, "
                f"sample_weight and validation_data it takes, the nearest first: {names}"
            )
        before = {name: getattr(self, name) for name in fit_params}
        vars(self).update(fit_params)
        if "callbacks" in fit_params:
            self._callbacks = self._fresh_callbacks()
        try:
            yield
        finally:
            vars(self).update(before)

    def _check_name(self, name, params=None):
        """Raise ValueError unless the builder or the optimizer has an argument of that name."""
        component, _, argument = name.partition("__")
        if name == "model":
            raise ValueError(
                f"{type(self).__name__} takes what makes the model as build_fn, but got model=...; "
                "write build_fn=..."
            )
        if component in _OF_SCIKERAS and argument:
            raise ValueError(
                f"{type(self).__name__} has the arguments of build_fn and of fit under their own "
                f"names, but got {name!r}; did you mean {argument!r}?"
            )
        if component == "optimizer" and argument:
            if argument not in optimizer_arguments(self.optimizer):
                known = [f"optimizer__{k}" for k in optimizer_arguments(self.optimizer)]
                self._raise_unknown(name, known)
            return
        if hasattr(type(self), name):
            raise ValueError(
                f"an argument of build_fn must not have the name of an attribute of "
                f"{type(self).__name__}, but {name!r} has; give it another name"
            )
        arguments = builder_arguments(self.build_fn)
        if arguments is None or name in arguments:
            return
        if not takes_hp(self.build_fn):
            self._raise_unknown(name, [*arguments, *self._own_names()])
        if params is None:  # the fit looks at it when all is known
            return
        together = {**self._builder_settings(), **params}
        if not is_asked_for(self.build_fn, name, together):
            known = definitions_of(self.build_fn) or {}
            self._raise_unknown(name, [*arguments, *known, *self._own_names()])

    def _check_names(self):
        """Raise for names that were wrong in ``__init__``."""
        for name in self._stray_names:
            self._check_name(name)

    def _check_params(self):
        """Raise for names that were wrong in ``__init__`` and for values out of range."""
        builder_of(self.build_fn)
        own = {name: getattr(self, name) for name in self._own_names()}
        validate_parameter_constraints(self._parameter_constraints, own, type(self).__name__)
        self._check_names()
        if self.optimizer is not None:
            resolve_optimizer(self.optimizer)
        _check_integer("epochs", self.epochs)
        for name in ("batch_size", "validation_batch_size", "validation_steps", "steps_per_epoch"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name))
        split = self.validation_split
        if not isinstance(split, numbers.Real) or not 0 <= split < 1:
            raise ValueError(f"validation_split must be a number in [0, 1), but got {split!r}")
        callbacks = self.callbacks
        if callbacks is not None and not isinstance(callbacks, list | tuple):
            raise ValueError(
                f"callbacks must be None or a list of Keras callbacks, but got {callbacks!r}"
            )

    def _builder_settings(self):
        """Return the arguments for the builder that were set.

        One that has the name of a parameter of the estimator (``optimizer``, say) gets its value
        where that is not the default.
        """
        known = builder_arguments(self.build_fn)
        settings = {k: getattr(self, k) for k in self._stray_names if not _is_nested(k)}
        own = named_in_init(type(self))
        for name in known or ():
            if name in own and not same_value(getattr(self, name), own[name]):
                settings[name] = getattr(self, name)
        return settings

    def _model_space(self, shapes):
        """Return what the builder asks ``hp`` for, as a space of this estimator."""
        return explored(self.build_fn, self._written(shapes), anew=True).distributions()

    def _model_newcomers(self, params, shapes):
        """Return what the builder asks for under a configuration and was not found to ask for."""
        values = {**self._builder_settings(), **params}
        new = newcomers(self.build_fn, self._written(shapes), values)
        return {name: definition.default for name, definition in new.items()}

    def _written(self, shapes):
        """Return the arguments in the builder's signature that are set, or said by the data."""
        written = builder_arguments(self.build_fn) or {}
        return {k: v for k, v in {**shapes, **self._builder_settings()}.items() if k in written}

    def _optimizer_settings(self):
        prefix = "optimizer__"
        names = [name for name in self._stray_names if name.startswith(prefix)]
        return {name.removeprefix(prefix): getattr(self, name) for name in names}


def _is_nested(name):
    return "__" in name


def _check_integer(name, value):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, but got {value!r}")
