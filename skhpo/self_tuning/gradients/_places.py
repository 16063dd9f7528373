"""From names of hyperparameters to the places of the training loss that they change."""

from __future__ import annotations

import fnmatch
import inspect
from dataclasses import dataclass, field

import torch
from sklearn.base import is_classifier

from ...names import nearest_first
from .._augmentation import IMAGES, INPUTS
from .._effects import OF_STEPS, check_names, check_no_argument
from ..layers import HyperValue

__all__ = ["ELEMENTWISE", "Places", "dropout_rates", "find_places"]

# Ending of the name of a penalty that has a strength for each weight.
ELEMENTWISE = "[:]"
# Layers whose masks multiply what they get by numbers with a mean of 1.
_DROPOUTS = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
_DECAY = "weight_decay"
_CRITERION = "criterion."
# Changes of the inputs that are differentiable in their strength.
_CONTINUOUS = (*(name for name in IMAGES if not name.startswith("cutout")), "input_noise")
# Regularisation by whole numbers has no derivative, and these masks are drawn within a layer; a
# response follows them.
_BY_RESPONSE = ("weight_dropout", "cutout_length", "cutout_holes", "ar", "tar")
# Rates of masks, in layers of dropout or within others.
_RATES = ("p", "dropout", "input_dropout")
# Criteria of which torch does not differentiate this argument.
_WEIGHTED = (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)


@dataclass
class Places:
    """Where hyperparameters enter the training loss.

    Attributes
    ----------
    decay : dict of str to list of str
        Penalised parameters by hyperparameter.
    inputs : list of str
        Changes of the inputs, in the order of application.
    rows : list of str
        Of "class_weight" and "sample_weight" those that are there.
    smoothing : bool
        Whether "label_smoothing" is there.
    values : list of str
        Names of `HyperValue` in the module.
    dropout : dict of str to list of str
        Paths of dropout layers by hyperparameter.
    steps : dict of str to list of str
        Parameters by hyperparameter whose last part is a setting of the optimizer.
    criterion : dict of str to str
        Attributes of the criterion by hyperparameter.
    shapes : dict of str to tuple of int
        Of the values; () is a number.
    """

    decay: dict = field(default_factory=dict)
    inputs: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    smoothing: bool = False
    values: list = field(default_factory=list)
    dropout: dict = field(default_factory=dict)
    steps: dict = field(default_factory=dict)
    criterion: dict = field(default_factory=dict)
    shapes: dict = field(default_factory=dict)


def find_places(
    net,
    module,
    names,
    n_rows,
    *,
    all_weights=False,
    constants=(),
    of_steps=False,
    of_masks=False,
):
    """Return the `Places` of hyperparameters.

    Parameters
    ----------
    net : torch estimator
        Built.
    module : torch.nn.Module
    names : iterable of str
    n_rows : int
        Of the training data.
    all_weights : bool, default=False
        Whether "weight_decay" is on all parameters, as that of an optimizer; otherwise on those
        of at least two dimensions.
    constants : collection of str, default=()
        Those of `names` that nothing is differentiated for, which need no derivative.
    of_steps : bool, default=False
        Whether settings of the optimizer are followed.
    of_masks : bool, default=False
        Whether rates of dropout layers are followed, whose masks are drawn anew in each step.

    Raises
    ------
    ValueError
        If a name matches nothing, or something that has no derivative.
    """
    parameters = dict(module.named_parameters())
    known = _known(net, module, parameters)
    found, taken = Places(), {}
    for name in names:
        if of_steps and isinstance(name, str) and name.rpartition(".")[2] in OF_STEPS:
            _assign_setting(found, name, parameters, taken)
            continue
        if of_masks and isinstance(name, str) and _assign_dropout(found, name, module, taken):
            continue
        kind = "inputs" if name in constants and name in (*IMAGES, *INPUTS) else _kind(name, known)
        if kind == "decay":
            matched = _penalised(name, parameters, all_weights=all_weights)
            if not matched:
                _refuse(name, known, net, of_masks)
            for parameter in matched:
                if parameter in taken:
                    raise ValueError(
                        f"{taken[parameter]!r} and {name!r} are two penalties of {parameter!r}; "
                        "leave one of them out"
                    )
                taken[parameter] = name
            found.decay[name] = matched
            n = sum(parameters[k].numel() for k in matched)
            found.shapes[name] = (n,) if name.endswith(ELEMENTWISE) else ()
        elif kind is None:
            _refuse(name, known, net, of_masks)
        else:
            weighs = name == "criterion.weight" and isinstance(net.criterion_, _WEIGHTED)
            if weighs and name not in constants:
                raise ValueError(
                    f"{name!r} has no derivative in torch's {type(net.criterion_).__name__}; "
                    "tune 'class_weight' in place of it"
                )
            found.shapes[name] = _assign(found, kind, name, net, n_rows)
    found.inputs = [name for name in (*IMAGES, *INPUTS) if name in found.inputs]
    return found


def _known(net, module, parameters):
    """Return the kinds of all hyperparameters that there are, by name; penalties by one name."""
    known = dict.fromkeys([_DECAY, _DECAY + ELEMENTWISE], "decay") if parameters else {}
    known |= dict.fromkeys(["sample_weight", "input_noise"], "rows")
    known["input_noise"] = "inputs"
    shape = getattr(net, "input_shape_", None)
    if shape is not None and len(shape) in (2, 3):
        colours = len(shape) == 3 and shape[0] == 3
        images = (k for k in _CONTINUOUS if colours or k not in ("saturation", "hue"))
        known |= dict.fromkeys(images, "inputs")
    if is_classifier(net):
        known["label_smoothing"] = "smoothing"
        if net.classes_.ndim == 1:
            known["class_weight"] = "rows"
    known |= {m.name: "values" for m in module.modules() if isinstance(m, HyperValue)}
    known |= {_CRITERION + k: "criterion" for k in _criterion_numbers(net.criterion_)}
    return known


def _criterion_numbers(criterion):
    """Return the numbers and tensors of floats that a criterion has as arguments."""
    if not isinstance(criterion, torch.nn.Module):
        return {}
    arguments = inspect.signature(type(criterion).__init__).parameters
    values = {k: getattr(criterion, k, None) for k in arguments}
    values = {k: v for k, v in values.items() if k not in ("label_smoothing", "size_average")}
    return {
        k: v
        for k, v in values.items()
        if type(v) is float or (isinstance(v, torch.Tensor) and v.is_floating_point())
    }


def _kind(name, known):
    if not isinstance(name, str):
        raise TypeError(f"hyperparameters must be named by strings, but got {name!r}")
    if name in known:
        return known[name]
    plain = name.removesuffix(ELEMENTWISE)
    return "decay" if plain == _DECAY or plain.endswith("." + _DECAY) else None


def _penalised(name, parameters, *, all_weights):
    """Return the parameters that a penalty is on: of layers, or else single ones, by patterns."""
    weights = [k for k, p in parameters.items() if all_weights or p.ndim > 1]
    plain = name.removesuffix(ELEMENTWISE)
    if plain == _DECAY:
        return weights
    patterns = [one.removesuffix("." + _DECAY) for one in plain.split("|")]
    return _matching(patterns, {k: k.rpartition(".")[0] for k in weights}) or _matching(
        patterns, {k: k for k in parameters}
    )


def _assign_setting(found, name, parameters, taken):
    """Note a setting of the optimizer, of all parameters or of those of some layers."""
    patterns, _, setting = name.rpartition(".")
    if patterns:
        by_layer = {k: k.rpartition(".")[0] for k in parameters}
        matched = _matching(patterns.split("|"), by_layer) or _matching(
            patterns.split("|"), {k: k for k in parameters}
        )
    else:
        matched = list(parameters)
    if not matched:
        raise ValueError(
            f"{name!r} must name layers or parameters of the module, but matches none; there are: "
            f"{', '.join(nearest_first(patterns, parameters))}"
        )
    for parameter in matched:
        place = parameter, setting
        if place in taken:
            raise ValueError(
                f"{taken[place]!r} and {name!r} are both {setting} of {parameter!r}; leave one of "
                "them out"
            )
        taken[place] = name
    found.steps[name], found.shapes[name] = matched, ()


def dropout_rates(module):
    """Return the paths of dropout layers, by the names of their rates."""
    layers = module.named_modules()
    return {f"{k}.p" if k else "p": k for k, layer in layers if type(layer) in _DROPOUTS}


def _assign_dropout(found, name, module, taken):
    """Note a rate of dropout layers, if the name matches any; return whether it does."""
    rates = dropout_rates(module)
    matched = _matching(name.split("|"), {k: k for k in rates})
    for rate in matched:
        if rate in taken:
            raise ValueError(
                f"{taken[rate]!r} and {name!r} are both the rate {rate!r}; leave one of them out"
            )
        taken[rate] = name
    if matched:
        found.dropout[name], found.shapes[name] = [rates[k] for k in matched], ()
    return bool(matched)


def _matching(patterns, texts):
    """Return the names whose text matches a pattern."""
    return [k for k, text in texts.items() if any(fnmatch.fnmatchcase(text, p) for p in patterns)]


def _assign(found, kind, name, net, n_rows):
    """Note a hyperparameter, and return the shape of its value."""
    if kind == "criterion":
        attribute = name.removeprefix(_CRITERION)
        found.criterion[name] = attribute
        value = getattr(net.criterion_, attribute)
        return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
    if kind == "smoothing":
        found.smoothing = True
        return ()
    getattr(found, kind).append(name)
    sizes = {"sample_weight": n_rows, "class_weight": len(getattr(net, "classes_", ()))}
    return (sizes[name],) if name in sizes else ()


def _refuse(name, known, net, of_masks):
    last = name.rpartition(".")[2].removesuffix(ELEMENTWISE)
    if last in _RATES and not of_masks:
        raise ValueError(
            f"{name!r} has no derivative here, because the loss of a trained network has one draw "
            "of the masks; variant='implicit' follows rates of dropout layers in training"
        )
    if last in _RATES:
        there = ", ".join(nearest_first(name, dropout_rates(net.module_))) or "none"
        raise ValueError(
            f"{name!r} must name rates of layers of torch.nn.Dropout, but matches none; there are: "
            f"{there}; variant='stn' or 'delta' follows those within other layers"
        )
    if last in _BY_RESPONSE:
        raise ValueError(
            f"{name!r} has no derivative here, because it acts by random masks or whole numbers; "
            "variant='stn' or 'delta' follows it"
        )
    if last in OF_STEPS:
        raise ValueError(
            f"{name!r} is a setting of the optimizer and not in the training loss; "
            "variant='unrolled' follows it, and BayesSearchCV searches it"
        )
    check_names([name])
    check_no_argument(name, [k.removeprefix("module__") for k in net.get_params()])
    shown = ", ".join(nearest_first(name, [*known, "<layer>.weight_decay"]))
    raise ValueError(
        f"hyperparameters must be in the training loss of {type(net).__name__}, but {name!r} "
        f"matches nothing; there is, the nearest first: {shown}"
    )
