"""Parameters of a Keras estimator: its own, those of its builder, and those of the optimizer."""

from __future__ import annotations

import contextlib
import numbers

from ..._compat import Options, StrOptions, validate_parameter_constraints
from ...arguments import COUNT, Number
from ...define_by_run import definitions_of, explored, is_asked_for, newcomers, takes_hp
from ...names import nearest_first
from ..parameters import NamesMixin, named_in_init
from ..settings import same_value
from ._builders import INFERRED, builder_arguments, builder_of
from ._compiling import optimizer_arguments, resolve_optimizer

__all__ = ["ParametersMixin"]

# Parameters that may also be passed to ``fit``, where Keras has them.
_OF_FIT = (
    *("batch_size", "epochs", "verbose", "callbacks", "validation_split", "shuffle"),
    *("class_weight", "steps_per_epoch", "validation_steps", "validation_batch_size"),
    "validation_freq",
)
# Prefixes of scikeras for the arguments of the model and of its methods.
_OF_SCIKERAS = ("model", "build_fn", "fit")


class ParametersMixin(NamesMixin):
    """`get_params`, `set_params`, and checks of names and values."""

    _stray_names = ()
    # Whether `callbacks` are others than those that the last call used.
    _callbacks_changed = False
    # `_check_params` checks what cannot be declared.
    _parameter_constraints = {
        "epochs": [COUNT],
        "batch_size": [COUNT, None],
        "validation_split": [Number(numbers.Real, 0, 1, closed="left")],
        "validation_batch_size": [COUNT, None],
        "validation_steps": [COUNT, None],
        "steps_per_epoch": [COUNT, None],
        "callbacks": [None, list, tuple],
        "shuffle": ["boolean"],
        "verbose": [Options(numbers.Integral, {0, 1, 2}), StrOptions({"auto"})],
        "warm_start": ["boolean"],
        "validation_freq": [COUNT, list, tuple],
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
            Whether to include the defaults of the builder's unset arguments and of the
            hyperparameters that it asks for. Arguments inferred from the data are None.

        Returns
        -------
        params : dict of str to object
            By name.
        """
        # getattr does not find one with the name of a property.
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

        The next ``partial_fit`` uses those of ``fit`` itself, such as `epochs` and `callbacks`, but
        not those of the model, its loss and its optimizer. Names passed to the constructor are
        checked by ``fit``.

        Parameters
        ----------
        **params : dict
            Parameters, the builder's arguments under their own names.

        Returns
        -------
        self : estimator
            The estimator itself.

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
        if "callbacks" in params:
            self._callbacks_changed = True
        return self

    @contextlib.contextmanager
    def _overridden(self, fit_params):
        """Override parameters by arguments of ``fit`` within this context."""
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
        self._callbacks_changed |= "callbacks" in fit_params
        try:
            yield
        finally:
            vars(self).update(before)
            self._callbacks_changed |= "callbacks" in fit_params

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
        if params is None:  # the fit checks it when all values are known
            return
        together = {**self._builder_settings(), **params}
        if not is_asked_for(self.build_fn, name, together):
            known = definitions_of(self.build_fn) or {}
            self._raise_unknown(name, [*arguments, *known, *self._own_names()])

    def _check_names(self):
        """Raise for invalid names passed to ``__init__``."""
        for name in self._stray_names:
            self._check_name(name)

    def _check_params(self):
        """Raise for invalid names passed to ``__init__`` and for invalid values."""
        builder_of(self.build_fn)
        own = {name: getattr(self, name) for name in self._own_names()}
        validate_parameter_constraints(self._parameter_constraints, own, type(self).__name__)
        self._check_names()
        if self.optimizer is not None:
            resolve_optimizer(self.optimizer)

    def _builder_settings(self):
        """Return the arguments set for the builder.

        An argument with the name of a parameter of the estimator (such as ``optimizer``) gets its
        value unless that is the default.
        """
        known = builder_arguments(self.build_fn)
        settings = {k: getattr(self, k) for k in self._stray_names if "__" not in k}
        own = named_in_init(type(self))
        for name in known or ():
            if name in own and not same_value(getattr(self, name), own[name]):
                settings[name] = getattr(self, name)
        return settings

    def _model_space(self, shapes):
        """Return the hyperparameters of the builder as a space of this estimator."""
        return explored(self.build_fn, self._written_arguments(shapes), anew=True).distributions()

    def _new_parameters(self, params, shapes):
        """Return hyperparameters that the builder asks for only under this configuration."""
        values = {**self._builder_settings(), **params}
        new = newcomers(self.build_fn, self._written_arguments(shapes), values)
        return {name: definition.default for name, definition in new.items()}

    def _written_arguments(self, shapes):
        """Return the arguments in the builder's signature that are set or inferred."""
        written = builder_arguments(self.build_fn) or {}
        return {k: v for k, v in {**shapes, **self._builder_settings()}.items() if k in written}

    def _optimizer_settings(self):
        prefix = "optimizer__"
        names = [name for name in self._stray_names if name.startswith(prefix)]
        return {name.removeprefix(prefix): getattr(self, name) for name in names}
