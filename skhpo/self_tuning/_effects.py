"""From names of hyperparameters to the layers and regularisers that they control."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass, field

from torch import nn

from ..names import nearest_first
from ._augmentation import IMAGES, INPUTS
from ._modulated import Modulated
from .layers import HyperDropout, HyperValue
from .recurrent import HyperLSTM

__all__ = ["OF_STEPS", "Effects", "check_names", "check_no_argument", "find_effects"]

# Settings of an optimizer are not in the loss; differentiation through its steps follows them.
OF_STEPS = ("lr", "momentum", "beta1", "beta2")

# Names, or last parts of names, that need a search around whole trainings.
_NOT_WHILE_TRAINING = {
    *("lr", "learning_rate", "optimizer", "momentum", "betas", "eps", "alpha", "nesterov"),
    *("batch_size", "max_epochs", "epochs", "n_epochs", "lr_scheduler", "schedule_epochs"),
    *("n_units", "n_layers", "n_channels", "kernel_size", "hidden_size", "width", "depth"),
    *("num_epochs", "num_layers", "num_units", "num_heads", "n_heads", "nhead", "n_hidden"),
    *("hidden_dim", "hidden_units", "hidden_features", "hidden_channels", "embedding_dim"),
    *("in_features", "out_features", "in_channels", "out_channels", "beta1", "beta2", "step_size"),
    *("activation", "normalization", "criterion", "init", "init_gain", "module", "patience"),
    *("gamma", "weight_init", "num_embeddings", "d_model", "stride", "padding", "dilation"),
    "units",
}
# Of parameters of a plain estimator.
_PREFIXES = ("optimizer__", "lr_scheduler__", "iterator_train__", "module__", "criterion__")
# Names of penalties on activations.
_ACTIVITY = ("ar", "tar")
# Dropout whose noise is not that of `HyperDropout`.
_SELF_NORMALIZING = (nn.AlphaDropout, nn.FeatureAlphaDropout)
# Names of hyperparameters in [0, 1).
_RATES = ("p", "dropout", "weight_dropout", "input_dropout", "label_smoothing")
# In an error; a large network has hundreds of layers.
_MOST_NAMES_SHOWN = 30


@dataclass
class Effects:
    """Where the values of hyperparameters are used.

    `inputs` are those that change the inputs, in the order of application; `smoothing` is whether
    "label_smoothing" is tuned; `decay` has pairs of a penalised layer and the strength; `activity`
    the penalties on activations, "ar" and "tar"; `per_batch` those with one value for a whole
    batch; `largest` their upper bounds, where the lower one is 0: user-defined ones have no bounds.
    """

    inputs: list = field(default_factory=list)
    smoothing: bool = False
    decay: list = field(default_factory=list)
    activity: list = field(default_factory=list)
    per_batch: set = field(default_factory=set)
    largest: dict = field(default_factory=dict)


def check_names(names, *, own=False):
    """Raise ValueError for a hyperparameter that cannot be tuned while training.

    With `own` any name may be that of a `HyperValue`.
    """
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"hyperparameters must be named by strings, but got {name!r}")
        nested = name.startswith(_PREFIXES) and not name.startswith("module__")
        last = name.rpartition("__")[2]
        if nested and last in ("weight_decay", "label_smoothing"):
            raise ValueError(f"{name!r} is called {last!r} where it is tuned while training")
        if own and not nested:
            continue
        if nested or name.removeprefix("module__").rpartition(".")[2] in _NOT_WHILE_TRAINING:
            setting = name.removeprefix("optimizer__")
            follows = ""
            if setting.rpartition(".")[2] in OF_STEPS:
                follows = f", or follow {setting!r} by variant='unrolled' of a self-tuning network"
            raise ValueError(
                f"{name!r} cannot be tuned while training: there is no inner loop; search it with "
                f"BayesSearchCV{follows}"
            )


def find_effects(module, context, input_shape, smooths, arguments=()):
    """Assign hyperparameters to the layers of a converted module, and return all `Effects`.

    `smooths` tells whether there are labels to be smoothed; `arguments` are those that build the
    module. Raises ValueError if a name matches nothing, or two match the same place.
    """
    places = _places(module)
    everywhere = _global_names(input_shape, smooths)
    effects, taken = Effects(), {}
    for name in context.names:
        if name in everywhere:
            found = [name]
        else:
            patterns = name.split("|")
            found = [p for p in places if any(fnmatch.fnmatchcase(p, one) for one in patterns)]
        if not found:
            check_names([name])
            check_no_argument(name, arguments)
            _raise_unmatched(name, [*everywhere, *places], input_shape, module)
        if name == "weight_decay":
            found = [place for place in places if f".{place}".endswith(".weight_decay")]
            if not found:
                raise ValueError(
                    "weight_decay needs a layer whose weights respond, but the module has none; "
                    "leave convert='auto', or use layers of skhpo.self_tuning"
                )
        for place in found:
            if place in taken:
                raise ValueError(
                    f"{taken[place]!r} and {name!r} are two ranges for one thing, {place!r}; "
                    "leave one of them out"
                )
            taken[place] = name
    for place, name in taken.items():
        if place in places:
            _assign(effects, *places[place], name)
        if not (place in places and isinstance(places[place][0], HyperValue)):
            effects.largest[name] = 1.0 if place.rpartition(".")[2] in _RATES else math.inf
    if "cutout_length" in taken and input_shape is not None:
        # The side of a longer square would be beyond the image.
        effects.largest["cutout_length"] = float(max(input_shape[-2:]))
    effects.inputs = [name for name in (*IMAGES, *INPUTS) if name in taken]
    effects.smoothing = "label_smoothing" in taken
    effects.activity = [name for name in _ACTIVITY if name in taken]
    if effects.activity and not any(isinstance(m, HyperLSTM) for m in module.modules()):
        raise ValueError(f"{effects.activity[0]!r} needs an LSTM, but the module has none")
    effects.per_batch |= set(effects.activity)
    return effects


def _places(module):
    """Return the hyperparameters of the layers: a dict from name to (layer, attribute)."""
    places = {}
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(layer, HyperDropout):
            places[f"{prefix}p"] = layer, "p"
        elif isinstance(layer, HyperValue):
            places[layer.name] = layer, "value"
        elif isinstance(layer, Modulated):
            places[f"{prefix}weight_decay"] = layer, "weight_decay"
            for attribute in layer.rates:
                if attribute == "dropout" and getattr(layer, "num_layers", 2) < 2:
                    continue  # there is nothing in between
                places[f"{prefix}{attribute}"] = layer, attribute
    return places


def _global_names(input_shape, smooths):
    names = ["weight_decay", *INPUTS, *_ACTIVITY]
    if smooths:
        names.append("label_smoothing")
    if input_shape is None or len(input_shape) in (2, 3):
        names += IMAGES
    if input_shape is not None and (len(input_shape) != 3 or input_shape[0] != 3):
        names = [name for name in names if name not in ("saturation", "hue")]
    return names


def _assign(effects, layer, attribute, name):
    if attribute == "weight_decay":
        effects.decay.append((layer, name))
    elif isinstance(layer, HyperDropout):
        layer.name = name
    elif isinstance(layer, HyperValue):
        pass
    else:
        layer.rates[attribute] = name
        if attribute in layer.per_batch:
            effects.per_batch.add(name)


def check_no_argument(name, arguments):
    """Raise ValueError if a hyperparameter is an argument that builds the module, such as a width.

    Call it for names that match nothing else.
    """
    if name.removeprefix("module__") in arguments:
        argument = "module__" + name.removeprefix("module__")
        raise ValueError(
            f"{name!r} is an argument with which the module is built, and cannot change while it "
            f"trains; search {argument!r} with BayesSearchCV"
        )


def _raise_unmatched(name, known, input_shape, module):
    check_names([name])
    shown = nearest_first(name, dict.fromkeys(known))
    more = f", and {len(shown) - _MOST_NAMES_SHOWN} more" if len(shown) > _MOST_NAMES_SHOWN else ""
    why = ""
    if name in IMAGES:
        kind = "images of three channels" if name in ("saturation", "hue") else "images"
        why = f" (it needs {kind}, but a sample has the shape {tuple(input_shape or ())})"
    elif name == "label_smoothing":
        why = " (there are no labels)"
    elif any(isinstance(m, _SELF_NORMALIZING) for m in _matched_layers(name, module)):
        why = " (an AlphaDropout keeps its rate; use torch.nn.Dropout)"
    elif name.endswith(".p"):
        why = " (a layer of torch.nn.Dropout must be there, also if its rate is 0)"
    raise ValueError(
        f"hyperparameters must match something in the module, but {name!r} matches nothing{why}; "
        f"there is, the nearest first: {', '.join(shown[:_MOST_NAMES_SHOWN])}{more}"
    )


def _matched_layers(name, module):
    """Return the layers whose rate a name, maybe with patterns, stands for."""
    patterns = [one.removesuffix(".p") for one in name.split("|")]
    named = module.named_modules()
    return [m for k, m in named if any(fnmatch.fnmatchcase(k, one) for one in patterns)]
