"""From parameters and a few rows of data to a module that was tested, and what trains it."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from ..define_by_run import check_all_known, split
from ..names import resolve_criterion, resolve_optimizer
from ..training.data import floating_dtype, sample_shape, wants_integers
from ..training.forwarding import (
    call_module,
    cast_floats,
    low_precision,
    resolve_device,
)
from ..training.groups import find_frozen, grouped, set_frozen
from ..training.initialization import NamedInitialization, initialize_weights
from ..training.modes import usual_modes
from ..training.randomness import Stream, draw_seed
from ..training.runners import begin_momentum, fused_is_faster
from ..training.sequences import Sequences, as_batch
from ..training.structure import copied, frozen, is_of_torch, is_setting, makes_layers
from ._hyperparameter_schedule import scheduled_arguments
from ._outputs import learn_from, store_input_format
from .feeding import first_batch
from .parameters import INFERRED
from .settings import (
    TRANSFORMS,
    NetPart,
    begins_with_hp,
    changed_settings,
    nested_parameters,
    signature_of,
)
from .transforms import made_transforms, seen_by_module

__all__ = [
    "BuildingMixin",
    "apply_freeze",
    "build_for",
]


class BuildingMixin(NetPart):  # type: ignore[misc] # skorch has no types
    """The ``initialize*`` methods of skorch: seeded, by name, quiet, with inferred arguments."""

    _inferred: dict[str, Any] = {}
    _few_inputs: Any = None
    # Those of modules of networks that are built together: see `Findings`.
    _templates: dict[Any, Any] | None = None
    # Whether `freeze` was set since it was applied.
    _freeze_changed = False

    @usual_modes()
    def initialize(self) -> Self:
        """Make the module, the criterion and the optimizer, and start an empty history.

        ``fit`` calls this; call it yourself to load parameters into a net that was never fitted,
        or to freeze some, before ``partial_fit``. Without data nothing can be inferred:
        ``module__in_features`` must be set, and to predict before the first data a classifier
        needs `classes`.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        _settle_device_and_seed(self)
        self._transforms = _transforms_of(self)
        names = ("shuffle", "forward", "augment")
        streams = {name: Stream(self._seed_of(name), name) for name in names}
        self._low_precision = low_precision(self.amp, self.device_)
        self.initialized_ = False
        self._scheduled: Mapping[str, Any] = {}
        self.__dict__.pop("_waiting", None)
        self._made_state().restart(streams)
        NeuralNet.initialize(self)
        self._gathered_state()
        apply_freeze(self)
        self.n_parameters_ = sum(p.numel() for p in self.module_.parameters())
        return self

    def _initialize_module(self, reason: Any = None) -> Self:
        if not hasattr(self, "seed_"):  # asked for the module alone
            _settle_device_and_seed(self)
        with self._current_init_context("module"):
            modules, initialization = _made_modules(self)
            for name, module in modules.items():
                if isinstance(module, nn.Module):
                    initialize_weights(
                        module, self.init, self.init_gain, initialization.generator_of
                    )
                    # Which looks at each tensor; those of a new module are on the CPU.
                    tensors = itertools.chain(module.parameters(), module.buffers())
                    if self.device_.type != "cpu" or not all(t.is_cpu for t in tensors):
                        module = module.to(self.device_)
                    setattr(self, name + "_", self.torch_compile(module, name=name))
        return self

    def initialize_module(self) -> Self:
        """Make the module. An instance is copied, so that training does not change it.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        kwargs = self.get_params_for("module")
        _check_arguments(self, kwargs)
        if begins_with_hp(self.module):
            arguments, hp = split(self.module, kwargs)
            module = self.module(hp, **arguments)
            check_all_known(self.module, arguments, hp)
        else:
            module = self.initialized_instance(self.module, kwargs)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"module must make a torch.nn.Module, but {self.module!r} returned {module!r}"
            )
        self.module_ = module
        return self

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Collect the arguments of a component: those set, and for the module those inferred.

        Parameters
        ----------
        prefix : str
            "module", "criterion", "iterator_train", ...

        Returns
        -------
        kwargs : dict
            By name of the argument.
        """
        kwargs = self._get_params_for(prefix)
        if self.hyperparameter_schedule:
            kwargs |= scheduled_arguments(self, prefix)
        if prefix == "criterion":  # such as class weights computed by scikit-learn
            arrays = {k: torch.from_numpy(v) for k, v in kwargs.items() if type(v) is np.ndarray}
            return {**kwargs, **arrays}
        if prefix != "module":
            return kwargs
        kwargs = {k: v for k, v in kwargs.items() if k not in INFERRED or v is not None}
        if isinstance(self.module, nn.Module):
            return kwargs
        taken = _free_arguments(self.module)
        inferred = {k: v for k, v in self._inferred.items() if k in taken}
        return {**inferred, **kwargs}

    def _get_params_for(self, prefix: str) -> dict[str, Any]:
        return nested_parameters(self, prefix.removesuffix("__"))

    def initialized_instance(self, instance_or_cls: Any, kwargs: Mapping[str, Any]) -> Any:
        """Make a component; an instance without arguments is copied.

        Parameters
        ----------
        instance_or_cls : torch.nn.Module or callable
            The component, or what makes it.
        kwargs : dict
            Arguments for what makes it.

        Returns
        -------
        instance : object
            The component.
        """
        if isinstance(instance_or_cls, nn.Module) and not kwargs:
            return copied(instance_or_cls)
        return NeuralNet.initialized_instance(self, instance_or_cls, kwargs)

    def _initialize_criterion(self, reason: Any = None) -> Self:
        with self._current_init_context("criterion"):
            with NamedInitialization(self._seed_of("init")):
                self.initialize_criterion()
            _check_is_set(self, "criterion", self._criteria)
            for name in self._criteria:
                criterion = getattr(self, name + "_")
                if isinstance(criterion, nn.Module):
                    # Class weights from NumPy are float64.
                    criterion = criterion.to(self.device_, floating_dtype(self.module_))
                    criterion = self.torch_compile(criterion, name=name)
                    setattr(self, name + "_", criterion)
        return self

    def initialize_criterion(self) -> Self:
        """Make the criterion.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        criterion = resolve_criterion(self.criterion)
        self.criterion_ = self.initialized_instance(criterion, self.get_params_for("criterion"))
        return self

    def _initialize_optimizer(self, reason: Any = None) -> Self:
        with self._current_init_context("optimizer"):
            self.initialize_optimizer()
        return self

    def initialize_optimizer(self, triggered_directly: None = None) -> Self:
        """Make the optimizer; Adam, AdamW and SGD with momentum in torch's fused implementation.

        Parameters
        ----------
        triggered_directly : None
            Ignored; accepted because skorch passes it.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        named = list(self.get_all_learnable_params())
        (groups,), kwargs = self.get_params_for_optimizer("optimizer", named)
        if self.lr_multipliers:
            groups = grouped(named, self.lr_multipliers, kwargs["lr"])
        optimizer = resolve_optimizer(self.optimizer)
        settings = changed_settings(self, "optimizer")
        if self.hyperparameter_schedule:
            settings |= scheduled_arguments(self, "optimizer")
        if fused_is_faster(optimizer, settings, self.module_):
            kwargs["fused"] = True
        self.optimizer_ = optimizer(groups, **kwargs)
        if optimizer is torch.optim.SGD:
            begin_momentum(self.optimizer_)
        return self


def _made_modules(net: Any) -> tuple[dict[str, Any], NamedInitialization]:
    """Return the modules by name, with weights from the seed, and the `NamedInitialization`."""
    initialization = NamedInitialization(net._seed_of("init"))
    key = _key_of_template(net)
    if key is not None and key in net._templates:
        return {"module": net._templates[key].make(initialization)}, initialization
    with initialization:
        net.initialize_module()
        _check_is_set(net, "module", net._modules)
        modules = {name: getattr(net, name + "_") for name in net._modules}
        _materialize(net, modules["module"])
    for module in modules.values():
        if isinstance(module, nn.Module):
            initialization.settle(module)
    if key is not None and (template := initialization.template(modules["module"])):
        net._templates[key] = template
    return modules, initialization


def _key_of_template(net: Any) -> Any:
    """Return what is the same for networks whose modules differ in the seed alone, or None.

    It is known of classes of torch and of this package with simple arguments.
    """
    if net._templates is None or net._modules != ["module"]:
        return None
    arguments = net.get_params_for("module")
    if not (makes_layers(net.module) and all(map(is_setting, arguments.values()))):
        return None
    return net.module, frozen(arguments)


def _transforms_of(net: Any) -> dict[str, Any]:
    is_set = any(vars(net).get(name) is not None for name in TRANSFORMS)
    return made_transforms(net) if is_set else {}


def _settle_device_and_seed(net: Any) -> None:
    net.device_ = resolve_device(net.device)
    net.seed_ = draw_seed(net.random_state)


def apply_freeze(net: Any) -> None:
    """Note which parameters `freeze` freezes, after thawing those that it froze before."""
    state = net._state
    if net.freeze or state.frozen_until:
        named = list(net.get_all_learnable_params())
        set_frozen(named, dict.fromkeys(state.frozen_until, 0), 0)
        state.frozen_until = find_frozen(named, net.freeze) if net.freeze else {}
    net._freeze_changed = False


def _check_is_set(net: Any, part: str, names: Sequence[str]) -> None:
    """Raise ValueError if an overridden method did not set the attribute ``<part>_``."""
    if not hasattr(net, part + "_"):
        others = ", ".join(name + "_" for name in names if name != part) or "nothing"
        raise ValueError(
            f"initialize_{part}() must set {part}_, which training, predictions and "
            f"checkpoints use, but {type(net).__name__}.initialize_{part}() sets {others}; "
            f"rename the main one to {part}_, only further ones may have names of their own"
        )


def _materialize(net: Any, module: Any) -> None:
    """Set the shapes of lazy layers by one forward pass."""
    if not any(map(nn.parameter.is_lazy, module.parameters())):
        return
    few = net._few_inputs
    if few is None and getattr(net, "input_shape_", None) is None:
        raise ValueError(
            "initialize() without data cannot give lazy layers their shapes; give them their "
            "sizes, or call fit(X, y)"
        )
    if few is None:
        few = np.zeros((2, *net.input_shape_), int if net._integer_inputs[None] else float)
        few = seen_by_module(net, few)
    few = cast_floats(as_batch(few), torch.float32, integers=not wants_integers(module))
    was_training = module.training
    module.eval()
    with torch.no_grad():
        call_module(module, few)
    module.train(was_training)


def _check_arguments(net: Any, kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError if an argument of the module is neither set nor inferred."""
    if isinstance(net.module, nn.Module):
        return
    parameters = {p.name: p for p in signature_of(net.module)}
    needed = [name for name in INFERRED if name in parameters and name not in kwargs]
    missing = [name for name in needed if parameters[name].default is inspect.Parameter.empty]
    if missing == ["n_categories"] and "in_features" in net._inferred:
        raise ValueError(
            f"module {net.module!r} must know the `n_categories` of the first columns, but "
            "they are only known of an array as skhpo.preprocessing.TableEncoder returns it; "
            "put that right before the network, or set module__n_categories, () if there are "
            "none"
        )
    if missing:
        names = ", ".join(f"module__{name}" for name in missing)
        if net._few_inputs is not None:
            raise ValueError(f"{names} must be set, because rows of such X do not tell it")
        raise ValueError(
            f"initialize() without data cannot infer {names}; set it, or call fit(X, y)"
        )


def _free_arguments(factory: Any) -> set[str]:
    """Return the written arguments that no `functools.partial` has set already."""
    try:
        parameters = signature_of(factory)
    except (TypeError, ValueError):
        return set()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named - set(getattr(factory, "keywords", None) or ())


def build_for(
    net: Any,
    X: Any,
    fit_params: Mapping[str, Any],
    y: Any = None,
    n_categories: Any = None,
    once: Callable[[str, Callable[[], Any]], Any] | None = None,
    templates: dict[Any, Any] | None = None,
) -> None:
    """Initialize the net for the data, and test the module on a few rows before training.

    `once` is a function of `Findings`, and `templates` are those of its modules.
    """
    few, _ = first_batch(net, X, y)
    net._transforms, net._transforms_vary = _transforms_of(net), False
    seen = seen_by_module(net, few) if net._transforms else few
    net._inferred = _inferred_from(net, seen)
    if n_categories is not None:
        net._inferred["n_categories"] = n_categories
    store_input_format(net, X, few)
    net._few_inputs, net._templates = seen, templates
    try:
        net.initialize()
        look = partial(learn_from, net, X, few, fit_params)
        look() if once is None or not _only_looks(net) else once("look", look)
    except BaseException:
        # This net can neither predict nor continue.
        net.initialized_ = False
        if net._state is not None:
            net._state.parts.pop("module", None)
        raise
    finally:
        net._few_inputs = net._templates = None


def _inferred_from(net: Any, seen: Any) -> dict[str, Any]:
    """Return arguments of the module that are inferred from what it sees of a few rows."""
    inferred: dict[str, Any] = {}
    if not getattr(net._targets, "are_heads", False):
        inferred["out_features"] = net._out_features()
    shape = sample_shape(seen)
    if shape:
        size = int(np.prod(shape))
        inferred |= {"in_features": size, "in_channels": shape[0], "input_shape": shape}
    elif isinstance(seen, Mapping) and all(name == 0 or isinstance(name, tuple) for name in seen):
        # A single input that is a sequence of vectors.
        values = seen.get(0)
        n_before = 1 if isinstance(values, Sequences) else 2
        values = values.values if isinstance(values, Sequences) else values
        if values is not None and values.ndim > n_before:
            inferred["in_features"] = int(np.prod(values.shape[n_before:]))
    return inferred


def _only_looks(net: Any) -> bool:
    """Whether a pass in evaluation changes neither the module nor what transforms its inputs.

    Other modules may keep something of their first batch.
    """
    parts = [getattr(net, name + "_") for name in net._modules + net._criteria]
    return not net._transforms and all(
        isinstance(part, nn.Module) and all(map(is_of_torch, part.modules())) for part in parts
    )
