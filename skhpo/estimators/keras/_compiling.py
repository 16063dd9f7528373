"""Compilation of models with the builder's, the user's and inferred losses and optimizers."""

from __future__ import annotations

import inspect
import math
import warnings

from ...names import nearest_first
from .._outputs import UNIT, only
from ._backend import compile_arguments, config_of, import_keras

__all__ = [
    "compile_model",
    "is_of_keras",
    "loss_name",
    "optimizer_arguments",
    "resolve_optimizer",
    "takes_logits",
    "warn_of_logits",
]


def loss_name(loss):
    """Return the normalised name of a loss: "sparsecategoricalcrossentropy"."""
    if not isinstance(loss, str):
        loss = getattr(loss, "__name__", None) or type(loss).__name__
    return loss.lower().replace("_", "")


def is_of_keras(loss):
    """Whether a loss is one of Keras' own, or the name of one."""
    return isinstance(loss, str) or str(getattr(loss, "__module__", "")).startswith("keras.")


def takes_logits(loss):
    """Whether a loss applies the sigmoid or the softmax itself; None where unknown."""
    config = config_of(loss) if hasattr(loss, "get_config") else {}
    flag = config.get("from_logits", getattr(loss, "from_logits", None))
    if isinstance(flag, bool):
        return flag
    return False if is_of_keras(loss) and "crossentropy" in loss_name(loss) else None


def warn_of_logits(loss, output):
    """Warn if a loss gets probabilities instead of logits, or the reverse."""
    logits = takes_logits(loss) if loss is not None else None
    name = loss_name(loss) if loss is not None else ""
    inside = bool(((output.values >= 0) & (output.values <= 1 + 1e-6)).all())
    if logits and inside and only(output.operations, UNIT):
        warnings.warn(
            f"loss {name} with from_logits=True takes logits, but the model ends in a "
            f"{' or a '.join(sorted(output.operations))}, from which it learns little; leave out "
            "from_logits=True, or that activation",
            stacklevel=2,
        )
    if logits is False and not inside:
        warnings.warn(
            f"loss {name} takes probabilities, but the model returns {output.values.min():.3g} to "
            f"{output.values.max():.3g}; let it end in a softmax or a sigmoid, or use a loss with "
            "from_logits=True",
            stacklevel=2,
        )


def resolve_optimizer(value):
    """Return the class of an optimizer that is given by name, as a class or as an instance."""
    optimizers = import_keras().optimizers
    if inspect.isclass(value):
        return value
    if isinstance(value, optimizers.Optimizer):
        return type(value)
    known = _optimizers()
    found = known.get(str(value).lower().replace("_", ""))
    if found is None or not isinstance(value, str):
        names = ", ".join(repr(name) for name in nearest_first(value, known))
        raise ValueError(
            f"optimizer must be a Keras optimizer, its class or its name, but got {value!r}; "
            f"known: {names}"
        )
    return found


def _optimizers():
    optimizers = import_keras().optimizers
    base = optimizers.Optimizer
    classes = {name: cls for name, cls in vars(optimizers).items() if inspect.isclass(cls)}
    return {
        name.lower(): cls
        for name, cls in classes.items()
        if issubclass(cls, base) and cls is not base and name != "LossScaleOptimizer"
    }


def optimizer_arguments(value):
    """Return the names of the arguments of an optimizer; of any one where `value` is None."""
    classes = _optimizers().values() if value is None else [resolve_optimizer(value)]
    names = {}
    for cls in classes:
        parameters = inspect.signature(cls).parameters.values()
        names |= {p.name: None for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    return list(names)


def make_optimizer(value, arguments):
    """Make an optimizer; an instance is copied, with some of its settings replaced."""
    cls = resolve_optimizer(value)
    config = {} if isinstance(value, str) or inspect.isclass(value) else config_of(value)
    config = {k: v for k, v in config.items() if k != "name"}
    unknown = [name for name in arguments if name not in optimizer_arguments(value)]
    if unknown:
        known = nearest_first(unknown[0], optimizer_arguments(value))
        raise ValueError(
            f"{cls.__name__} has no argument {unknown[0]!r}, as set by optimizer__{unknown[0]}; "
            f"it has, the nearest first: {', '.join(known)}"
        )
    if not config:
        return cls(**arguments)
    return cls.from_config({**config, **arguments})


def compile_model(
    model, *, loss, optimizer, optimizer_settings, metrics, infer_loss, default_metrics
):
    """Compile a model, or replace those settings of its compilation that are not None.

    `infer_loss` returns the loss of a model that has none; `default_metrics` maps the loss to the
    metrics of a model that was not compiled.
    """
    arguments = compile_arguments(model) if model.compiled else {}
    has_loss = arguments.get("loss") is not None or (model.compiled and _computes_its_loss(model))
    if loss is None and not has_loss:
        loss = infer_loss()
    if metrics is None and not model.compiled:
        metrics = default_metrics(loss)
    changed = False
    if optimizer is None and model.compiled and set(optimizer_settings) == {"learning_rate"}:
        model.optimizer.learning_rate = optimizer_settings["learning_rate"]
    elif optimizer is not None or optimizer_settings or not model.compiled:
        base = optimizer if optimizer is not None else arguments.get("optimizer") or "adam"
        arguments["optimizer"] = make_optimizer(base, optimizer_settings)
        changed = True
    given = {"loss": loss, "metrics": metrics}
    given = {name: value for name, value in given.items() if value is not None}
    if changed or given:
        model.compile(**{**arguments, **given})
    rate = float(import_keras().ops.convert_to_tensor(model.optimizer.learning_rate))
    if not 0 <= rate < math.inf:
        raise ValueError(
            f"the learning rate must be a number >= 0, but is {rate}; set optimizer__learning_rate"
        )


def _computes_its_loss(model):
    """Whether a model overrides its training step or its loss."""
    base = import_keras().Model
    return any(
        getattr(type(model), name) is not getattr(base, name)
        for name in ("compute_loss", "train_step")
    )
