"""Parameters of a net: its own, and those of its module, optimizer, criterion and iterators."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator
from skorch.setter import optimizer_setter

from .._compat import Options, StrOptions, print_inside, validate_parameter_constraints
from ..arguments import COUNT, COUNT_OR_ZERO, NON_NEGATIVE, POSITIVE, Number
from ..define_by_run import (
    definitions_of,
    explored,
    is_asked_for,
    newcomers,
    split,
)
from ..names import nearest_first, resolve_criterion, resolve_optimizer, resolve_scheduler
from ..space import as_written, identity
from ..training.schedule import schedule_defaults
from .settings import (
    STREAMS,
    TRANSFORMS,
    NetPart,
    arguments_of,
    arguments_of_callbacks,
    arguments_of_transform,
    begins_with_hp,
    check_settings,
    nested_parameters,
    refuse_changes,
    signature_of,
)
from .transforms import made_transforms

__all__ = [
    "INFERRED",
    "NamesMixin",
    "ParametersMixin",
    "named_in_init",
]


# In an error: as many as can be read at a glance.
_MOST_NAMES_SHOWN = 12
# Arguments of a module that are inferred from the data.
INFERRED = ("in_features", "in_channels", "input_shape", "out_features", "n_categories")

_GIVEN_BY_THE_NET = {
    "module": (),
    "criterion": (),
    "optimizer": ("params",),
    "iterator_train": ("dataset",),
    "iterator_valid": ("dataset",),
    "dataset": ("X", "y"),
    "lr_scheduler": ("optimizer", "last_epoch", "verbose"),
    "transform": (),
    "train_transform": (),
}
_LISTED = ("module", "criterion", "optimizer", "lr_scheduler")


class NamesMixin(NetPart):  # type: ignore[misc] # skorch has no types
    """The error for an unknown parameter."""

    def _raise_unknown(self, name: str, known: Any) -> None:
        known = nearest_first(name, dict.fromkeys(k for k in known if k != name))
        shown = ", ".join(known[:_MOST_NAMES_SHOWN])
        if len(known) > _MOST_NAMES_SHOWN:
            shown += f", and {len(known) - _MOST_NAMES_SHOWN} more (see get_params())"
        raise ValueError(
            f"Invalid parameter {name!r} for estimator {type(self).__name__}. "
            f"Valid parameters are, the nearest first: {shown}."
        )


class ParametersMixin(NamesMixin):
    """`get_params`, `set_params`, checks of names and values, and a text of them."""

    _stray_names = ()
    # Parameters, and components whose parameters, only a new network takes.
    _of_new_network = frozenset(
        {
            *("module", "criterion", "optimizer", "lr_scheduler", "lr_multipliers"),
            *("init", "init_gain", "device", "amp", "compile"),
        }
    )
    # Those set since the network was made, with the values that it has.
    _waiting: Mapping[str, Any] = MappingProxyType({})
    # `_check_params` and `check_settings` check what cannot be declared.
    _parameter_constraints = {
        "lr": [NON_NEGATIVE, torch.Tensor],
        "max_epochs": [COUNT],
        "batch_size": [COUNT, Options(numbers.Integral, {-1})],
        "validation_fraction": [Number(numbers.Real, 0, 1, closed="neither"), None],
        "check_every": [COUNT, None],
        "patience": [COUNT, None],
        "min_epochs": [COUNT_OR_ZERO],
        "schedule_epochs": [COUNT, None],
        "init_gain": [POSITIVE],
        "max_norm": [POSITIVE, None],
        "scale_target": [StrOptions({"standard"}), None],
        "recalibrate": ["boolean"],
        "max_grad_norm": [POSITIVE, None],
        "accumulate": [COUNT],
        "average": [StrOptions({"ema", "swa"}), None],
        "average_decay": [Number(numbers.Real, 0, 1, closed="neither")],
        "average_from": [COUNT, None],
        "label_smoothing": [Number(numbers.Real, 0, 1, closed="left")],
        "transform": [callable, None],
        "train_transform": [callable, None],
        "collate": [None, callable, StrOptions({"pad"})],
        "group_by_length": ["boolean", StrOptions({"auto"})],
        "batch_sampler": [StrOptions({"balanced"}), None],
        "amp": ["boolean", StrOptions({"auto"})],
        "seeds": [dict, None],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "callbacks": [None, StrOptions({"disable"}), list, tuple],
        "predict_nonlinearity": [None, callable, StrOptions({"auto"})],
        "compile": ["boolean"],
        "use_caching": ["boolean", StrOptions({"auto"})],
        "torch_load_kwargs": [None, dict],
    }

    def _get_param_names(self) -> Any:
        own = {*named_in_init(type(self)), *self._stray_names}
        # Asked several times per fit, with dozens of names of which none is nested.
        return sorted(own) + sorted(k for k in vars(self) if "__" in k and _is_nested(k))

    def _store(self, arguments: Any) -> None:
        """Store the arguments of ``__init__``, its ``locals()``; ``fit`` checks further names."""
        kwargs = arguments["kwargs"]
        for name, value in arguments.items():
            if name not in ("self", "kwargs"):
                object.__setattr__(self, name, value)  # without skorch's search for modules
        self._stray_names = tuple(name for name in kwargs if "__" not in name)
        self.__dict__.update(kwargs)

    def get_params(self, deep: bool = True) -> Any:
        """Get parameters for this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the defaults of unset parameters of the module, the criterion, the
            optimizer and the callbacks. The module's ``in_features`` and ``out_features`` are
            None: they are inferred in ``fit``.

        Returns
        -------
        params : dict of str to object
            By name, nested ones as ``module__n_units``.
        """
        params = {
            name: vars(self).get(name) if name in TRANSFORMS else getattr(self, name)
            for name in self._get_param_names()
        }
        if not deep:
            return params
        defaults: dict[str, Any] = {}
        for component in _LISTED:
            if isinstance(getattr(self, component), torch.nn.Module | None):
                continue
            arguments = self._arguments_of(component) or {}
            defaults |= {f"{component}__{k}": v for k, v in arguments.items()}
        for name in TRANSFORMS:
            arguments = self._arguments_of(name) or {}
            defaults |= {f"{name}__{k}": v for k, v in arguments.items()}
        for name in INFERRED:
            if f"module__{name}" in defaults:
                defaults[f"module__{name}"] = None
        defaults.pop("optimizer__lr", None)
        pinned = self.seeds if isinstance(self.seeds, dict) else {}
        defaults |= {f"seeds__{name}": pinned.get(name) for name in STREAMS}
        return {**defaults, **self._get_params_callbacks(deep=True), **params}

    def _get_params_callbacks(self, deep: bool = True) -> Any:
        """Return the callbacks and their parameters, those of replaced ones excluded."""
        if not deep:
            return {}
        callbacks = {**dict(getattr(self, "callbacks_", ())), **dict(self._default_callbacks)}
        replaced = {
            name: vars(self).get(f"callbacks__{name}", callbacks[name]) for name in callbacks
        }
        known = arguments_of_callbacks(replaced)
        return {f"callbacks__{name}": value for name, value in known.items()}

    # In place of skorch's text, which lists layers.
    def __repr__(self, N_CHAR_MAX: int = 700) -> Any:
        return BaseEstimator.__repr__(_as_written(self), N_CHAR_MAX)

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        params = super()._get_params_html(*args, **kwargs)
        params.update({name: as_written(value) for name, value in params.items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set the parameters of this estimator.

        After ``fit``, callbacks, transforms, ``lr`` and ``optimizer__*`` take effect at once, the
        last two in the current optimizer, and `freeze` in the next ``partial_fit``; everything
        else, and `lr` if there is an `lr_scheduler`, is used by the next ``fit``. That of
        ``warm_start=True`` goes on with a network, and is an error where it cannot take a change.

        Parameters
        ----------
        **params : dict
            Parameters, also nested ones: ``module__n_units=32``.

        Returns
        -------
        self : estimator
            The estimator itself.

        Raises
        ------
        ValueError
            If a name is unknown; the message lists the known ones, the nearest first.
        """
        names = self._get_param_names()
        plain = {k: v for k, v in params.items() if "__" not in k}
        nested = {k: v for k, v in params.items() if "__" in k}
        for name in plain:
            if name not in names:
                self._raise_unknown(name, [*names, *self.get_params(deep=True)])
        has = self.get_params() if self.initialized_ and any(map(self._waits, params)) else {}
        for name, value in plain.items():
            setattr(self, name, value)
        for name in nested:
            self._check_nested_name(name, nested)
        for name, value in nested.items():
            if _is_nested(name):
                setattr(self, name, value)
        if self.initialized_:
            self._apply_to_running(params)
            waiting = {name: has.get(name) for name in params if self._waits(name)}
            waiting.update(self._waiting)
            if waiting:
                self._waiting = {
                    name: value
                    for name, value in waiting.items()
                    if identity(vars(self).get(name)) != identity(value)
                }
        return self

    def _waits(self, name: str) -> bool:
        """Whether a parameter that is set waits for a new network."""
        component, is_nested, _ = name.partition("__")
        if name == "lr":
            return self.lr_schedule_ is not None
        if component == "optimizer" and is_nested:
            return not self._is_of_group(name)
        return component in self._of_new_network

    def _is_of_group(self, name: str) -> bool:
        """Whether the current optimizer takes the setting ``optimizer__*`` at once."""
        optimizer = getattr(self, "optimizer_", None)
        if optimizer is None or name.startswith("optimizer__param_groups__"):
            return optimizer is not None
        return name.removeprefix("optimizer__") in optimizer.param_groups[0]

    def _check_takes_parameters(self) -> None:
        """Raise ValueError if parameters were set that the network cannot take any more."""
        now = vars(self)
        refuse_changes({k: (now.get(k), made) for k, made in self._waiting.items()}, "network")

    def _apply_to_running(self, params: Any) -> None:
        if any(name.split("__")[0] == "callbacks" for name in params):
            self._initialize_callbacks()
        if any(name.split("__")[0] in TRANSFORMS for name in params):
            self._transforms = made_transforms(self)
        if "freeze" in params:
            self._freeze_changed = True
        optimizer = getattr(self, "optimizer_", None)
        if optimizer is None:
            return
        for name, value in params.items():
            if name == "lr" and self.lr_schedule_ is not None:
                continue
            if name == "lr" and self.lr_multipliers:
                for group in optimizer.param_groups:
                    group["lr"] = value * group["lr_multiplier"]
            elif name == "lr" or (name.startswith("optimizer__") and self._is_of_group(name)):
                optimizer_setter(self, name, value)

    def _arguments_of(self, component: str) -> Any:
        """Return the valid arguments of a component, or None if any name is valid."""
        if component in TRANSFORMS:
            return arguments_of_transform(vars(self).get(component))
        try:
            factory = self._factory_of(component)
        except ValueError:
            return None
        arguments = arguments_of(factory)
        if arguments is None:
            return None
        if component == "module" and begins_with_hp(factory):
            return self._arguments_with_hp(arguments)
        given = _GIVEN_BY_THE_NET[component]
        arguments = {k: v for k, v in arguments.items() if k not in given}
        return arguments | self._own_defaults(component)

    def _own_defaults(self, component: str) -> Any:
        """Return the arguments of a component whose defaults differ from its signature."""
        if component == "lr_scheduler":
            return schedule_defaults(self.lr_scheduler)
        if component == "optimizer":
            return {"param_groups": ()}
        if component in ("iterator_train", "iterator_valid"):
            return {"batch_size": self.batch_size, "shuffle": component == "iterator_train"}
        return {}

    def _arguments_with_hp(self, arguments: Any) -> Any:
        """Return the arguments of a module's builder and the hyperparameters that it asks for."""
        asked = definitions_of(self.module)
        if asked is None:
            return None
        arguments = {k: v for k, v in arguments.items() if k != "hp"}
        return arguments | {name: definition.default for name, definition in asked.items()}

    def _model_space(self, shapes: Any) -> Any:
        """Return the hyperparameters of the module's builder as a space of this estimator."""
        space = explored(self.module, self._written_arguments(shapes), anew=True).distributions()
        if isinstance(space, dict):
            return _prefixed(space)
        return [_prefixed(one) for one in space]

    def _new_parameters(self, params: Any, shapes: Any) -> Any:
        """Return hyperparameters that the builder asks for only under this configuration."""
        values = {**self._module_settings(), **_without_prefix(params)}
        new = newcomers(
            self.module, self._written_arguments(shapes), split(self.module, values)[1].given
        )
        return _prefixed({name: definition.default for name, definition in new.items()})

    def _module_settings(self) -> Any:
        return _without_prefix(vars(self))

    def _written_arguments(self, shapes: Any) -> Any:
        """Return the arguments in the builder's signature that are set or inferred."""
        return split(self.module, {**shapes, **self._module_settings()})[0]

    def _factory_of(self, component: str) -> Any:
        value = getattr(self, component)
        if component == "optimizer":
            value = resolve_optimizer(value)
        elif component == "criterion":
            value = resolve_criterion(value)
        elif component == "lr_scheduler" and value is not None:
            value = resolve_scheduler(value)
        return type(value) if isinstance(value, torch.nn.Module) else value

    def _check_nested_name(self, name: str, params: Any = None) -> None:
        component, _, argument = name.partition("__")
        if component == "callbacks":
            known = list(self._get_params_callbacks(deep=True))
            known += [f"callbacks__{k}" for k, _ in self._uniquely_named_callbacks()]
            if not any(name == k or name.startswith(k + "__") for k in known):
                self._raise_unknown(name, known)
            return
        if component == "seeds":
            if argument not in STREAMS:
                self._raise_unknown(name, [f"seeds__{stream}" for stream in STREAMS])
            return
        if component not in self.prefixes_:
            self._raise_unknown(name, [*self.prefixes_, *self.get_params(deep=True)])
        if component not in _GIVEN_BY_THE_NET or name.startswith("optimizer__param_groups__"):
            return
        if component == "lr_scheduler" and self.lr_scheduler is None:
            return
        arguments = self._arguments_of(component)
        if arguments == {} and component in TRANSFORMS:
            raise ValueError(
                f"{name} needs a class or a function with such an argument as {component}, but "
                f"{component}={vars(self).get(component)!r}; pass the class"
            )
        if arguments is not None and argument not in arguments:
            if component == "module" and begins_with_hp(self.module):
                values = {**self._module_settings(), **_without_prefix(params or {})}
                if params is None or is_asked_for(self.module, argument, values):
                    return
            self._raise_unknown(name, [f"{component}__{k}" for k in arguments])

    def _check_names(self) -> None:
        """Raise for invalid names passed to ``__init__``."""
        if self._stray_names:
            known = set(self.get_params(deep=True)) - set(self._stray_names)
            self._raise_unknown(self._stray_names[0], sorted(known))
        for name in self._get_param_names():
            if _is_nested(name):
                self._check_nested_name(name)

    def _check_params(self) -> None:
        """Raise for invalid names passed to ``__init__`` and for invalid values."""
        self._check_names()
        if not callable(self.module) and not isinstance(self.module, torch.nn.Module):
            raise ValueError(
                "module must be a torch.nn.Module class or instance, or a callable that returns "
                f"a module, but got {self.module!r}"
            )
        # The defaults of this package are valid, by its own constraints.
        root: Any = next(filter(_is_root, type(self).__mro__))
        of_class = self._parameter_constraints
        defaults, of_root = named_in_init(root), root._parameter_constraints
        own = {
            k: v
            for k, v in self.get_params(deep=False).items()
            if k not in defaults or v is not defaults[k] or of_class.get(k) is not of_root.get(k)
        }
        validate_parameter_constraints(of_class, own, type(self).__name__)
        resolve_optimizer(self.optimizer)
        resolve_criterion(self.criterion)
        check_settings(self)

    def _pinned_seeds(self) -> Any:
        """Return the seeds of streams that are set; ``seeds__init`` wins over ``seeds``."""
        return {**(self.seeds or {}), **nested_parameters(self, "seeds")}

    def _seed_of(self, stream: Any) -> Any:
        """Return the seed of a stream: the one pinned, else `seed_`."""
        pinned = self._pinned_seeds().get(stream)
        return self.seed_ if pinned is None else int(pinned)

    def _validate_params(self) -> None:
        # A fit, which has a few inputs here, has checked them; callbacks may have set others.
        if self._few_inputs is None or self.callbacks:
            self._check_params()


def _as_written(net: Any) -> Any:
    """Return an estimator for printing, whose parameters have no addresses in their texts."""
    shown = object.__new__(type(net))
    written = {name: as_written(value) for name, value in net.get_params(deep=False).items()}
    vars(shown).update(vars(net) | written)
    return shown


print_inside(ParametersMixin, _as_written)


def _prefixed(params: Any) -> Any:
    return {f"module__{name}": value for name, value in params.items()}


def _without_prefix(params: Any) -> Any:
    prefix = "module__"
    return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}


def named_in_init(cls: Any) -> dict[str, Any]:
    """Return the parameters of an estimator class and its bases, from name to default."""
    return _read_init(cls)


@functools.lru_cache(maxsize=256)
def _read_init(cls: Any) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = signature_of(base.__init__)
        named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
        own = {**{p.name: p.default for p in named if p.name != "self"}, **own}
        # A subclass may pass on what it does not name itself.
        if not any(p.kind is p.VAR_KEYWORD for p in parameters) or _is_root(base):
            break
    return own


def _is_root(cls: Any) -> bool:
    # Estimators of this package that derive from these pass on what they do not name.
    return str(cls.__module__).startswith("skhpo.estimators.")


def _is_nested(name: str) -> bool:
    return (
        "__" in name
        and not name.startswith("_")
        and not name.endswith("_")
        and not name.startswith("optimizer__param_groups__")
    )
