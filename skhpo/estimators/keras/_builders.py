"""Builders of models, their arguments, and the default network."""

from __future__ import annotations

import inspect

from ...define_by_run import check_all_known, split, takes_hp
from ..settings import arguments_of
from ._backend import compile_arguments, config_of, import_keras, is_model

__all__ = [
    "INFERRED",
    "build_model",
    "builder_arguments",
    "builder_of",
    "copy_model",
    "mlp",
]

# Arguments of a builder that are inferred from the data where its signature has them.
INFERRED = ("in_features", "input_shape", "out_features")


def mlp(input_shape, out_features, n_units=64, n_layers=1, activation="relu", dropout=0.0):
    """Make an uncompiled multilayer perceptron that returns logits or values."""
    layers = import_keras().layers
    stack = [layers.Input(input_shape)]
    if len(input_shape) != 1:
        stack.append(layers.Flatten())
    for _ in range(n_layers):
        stack.append(layers.Dense(n_units, activation=activation))
        if dropout:
            stack.append(layers.Dropout(dropout))
    return import_keras().Sequential([*stack, layers.Dense(out_features)])


def builder_of(build_fn):
    """Return the callable that makes models, or None for a built model."""
    if build_fn is None:
        return mlp
    if is_model(build_fn):
        return None
    if callable(build_fn):
        return build_fn
    raise ValueError(
        "build_fn must be a function that returns a Keras model, a Keras model, or None for a "
        f"multilayer perceptron, but got {build_fn!r}"
    )


def builder_arguments(build_fn):
    """Return the arguments of a builder, as `arguments_of` does, without a first one ``hp``."""
    try:
        builder = builder_of(build_fn)
    except ValueError:
        return {}
    if builder is None:
        return {}
    arguments = arguments_of(builder)
    if arguments is not None:
        arguments.pop("hp", None)
    return arguments


def required_arguments(builder):
    """Return the names of arguments without a default."""
    parameters = inspect.signature(builder).parameters.values()
    named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return [p.name for p in named if p.default is p.empty]


def build_model(builder, arguments):
    """Call a builder; arguments that its signature lacks are values of ``hp``.

    Raises TypeError if it does not return a Keras model, and ValueError if an argument has no
    value or is unknown.
    """
    hp = None
    if takes_hp(builder):
        arguments, hp = split(builder, arguments)
    needed = [name for name in required_arguments(builder) if name not in {**arguments, "hp": 0}]
    if needed:
        raise ValueError(
            f"every argument of build_fn needs a value, but {needed[0]!r} of "
            f"{_name(builder)} has none; set it, as in set_params({needed[0]}=...), or give it "
            "a default"
        )
    model = builder(**arguments) if hp is None else builder(hp, **arguments)
    if not is_model(model):
        what = "nothing" if model is None else repr(model)
        hint = "; does it lack its return statement?" if model is None else ""
        raise TypeError(
            f"build_fn must return a Keras model, but {_name(builder)} returned {what}{hint}"
        )
    if hp is not None:
        check_all_known(builder, arguments, hp)
    return model


def _name(builder):
    return getattr(builder, "__name__", None) or repr(builder)


def copy_model(model):
    """Copy a model with its weights and compilation."""
    keras = import_keras()
    copy = keras.models.clone_model(model)
    if model.built:
        if not copy.built:
            copy.build(model.input_shape)
        copy.set_weights(model.get_weights())
    if model.compiled:
        arguments = compile_arguments(model)
        optimizer = arguments["optimizer"]
        arguments["optimizer"] = type(optimizer).from_config(config_of(optimizer))
        for kind in ("metrics", "weighted_metrics"):
            arguments[kind] = keras.tree.map_structure(_copy_metric, arguments[kind])
        copy.compile(**arguments)
    return copy


def _copy_metric(metric):
    if isinstance(metric, import_keras().Metric):
        return type(metric).from_config(config_of(metric))
    return metric
