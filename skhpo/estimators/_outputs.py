"""What a module returns for a few rows: its meaning (logits, values, ...), and how it was made."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..training.data import as_dict, sample_shape
from ..training.forwarding import ResultBytes, row_count
from ..training.randomness import Stream
from .feeding import batches_of, drawing_from, first_rows, prepared_inputs, rows_of
from .settings import overridden, reads_as_given, slices_batches
from .transforms import batch_transform, transformed_in_training

__all__ = [
    "REAL",
    "SIGMOID",
    "SOFTMAX",
    "UNIT",
    "are_logits",
    "as_predictions",
    "as_probabilities",
    "last_operations",
    "learn_from",
    "link_of",
    "meaning_of",
    "only",
    "store_input_format",
    "sum_to_one",
    "takes_logits",
    "two_columns",
]

# Of so many the softmax takes less time along the rows on a CPU (a fifth for 10, as long for 60).
_FEW_CLASSES = 32

SIGMOID = frozenset({"sigmoid", "hardsigmoid"})
SOFTMAX = frozenset({"softmax"})
# Operations with results in [0, 1].
UNIT = SIGMOID | SOFTMAX
# Operations whose results may be negative.
REAL = frozenset(
    {
        *("addmm", "mm", "mv", "addmv", "addbmm", "bmm", "baddbmm", "dot", "linear"),
        *("mkldnnlinear", "mkldnnconvolution", "convolution", "nativelayernorm", "nativegroupnorm"),
        *("nativebatchnorm", "cudnnbatchnorm", "fusedrmsnorm", "embedding", "embeddingbag"),
        *("logsoftmax", "logsigmoid", "log", "logsumexp", "tanh", "hardtanh", "elu", "gelu"),
        *("silu", "leakyrelu", "prelu", "mish"),
    }
)
# Operations that keep, scale or shift the range of their inputs.
_PASSED = frozenset(
    {
        *("view", "unsafeview", "reshapealias", "squeeze", "unsqueeze", "select", "slice", "index"),
        *("indexselect", "gather", "t", "transpose", "permute", "expand", "clone", "tocopy"),
        *("alias", "asstrided", "cat", "stack", "split", "unbind", "unsafesplit", "narrow"),
        *("mean", "sum", "add", "sub", "rsub", "mul", "div", "neg", "clamp", "clampmin"),
        *("max", "min", "amax", "amin", "maximum", "minimum", "clampmax", "where", "copyslices"),
        *("flip", "roll", "contiguous", "todevice", "copy"),
    }
)

_RATES = frozenset({"exp", "softplus", "relu"})
# Criteria under which an output approaches the target itself.
_NEAR_TARGETS = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


def last_operations(output: torch.Tensor) -> frozenset[str]:
    """Return the lower-case names of the operations that an output comes from.

    Views, sums, products and averages are skipped: ``1 - torch.sigmoid(x)`` comes from a sigmoid.
    Empty if there is no graph.
    """
    to_visit, seen, found = [output.grad_fn], set(), set()
    while to_visit:
        node = to_visit.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = re.sub(r"backward\d*$", "", node.name().lower())
        if name in _PASSED:
            to_visit += [before for before, _ in node.next_functions]
        elif not name.endswith("accumulategrad"):
            found.add(name)
    return frozenset(found)


def only(operations: frozenset[str], kinds: frozenset[str]) -> bool:
    """Whether operations are known and all among `kinds`."""
    return bool(operations) and operations <= kinds


def takes_logits(criterion: Any) -> bool | None:
    """Whether a criterion applies the sigmoid or the softmax itself; None where unknown."""
    if isinstance(criterion, nn.CrossEntropyLoss | nn.BCEWithLogitsLoss):
        return True
    if isinstance(criterion, nn.MultiLabelSoftMarginLoss | nn.MultiMarginLoss):
        return True
    if isinstance(criterion, nn.BCELoss):
        return False
    flag = getattr(criterion, "from_logits", None)
    return flag if isinstance(flag, bool) else None


def are_logits(output: torch.Tensor, operations: frozenset[str]) -> bool | None:
    """Whether a few outputs are logits, by their range and `last_operations`; None if in doubt."""
    if not _within_unit(output):
        # Unbounded positive numbers have no threshold between two classes.
        positive = operations and not operations & (REAL | UNIT) and bool((output >= 0).all())
        return None if positive else True
    if only(operations, UNIT):
        return False
    return True if operations & REAL else None


def meaning_of(
    output: torch.Tensor,
    operations: frozenset[str],
    criterion: Any,
    n_classes: int,
    multi_label: bool = False,
    *,
    ask: bool = True,
) -> str:
    """Infer what a classifier's module returns, from the criterion and a few rows of output.

    Parameters
    ----------
    output : Tensor of shape (n, ...)
    operations : frozenset of str
        `last_operations` of the output.
    criterion : callable
    n_classes : int
        Or the number of labels.
    multi_label : bool, default=False
        Whether samples have any number of labels.
    ask : bool, default=True
        Whether an ambiguous output is an error, or a warning, that asks for a
        `predict_nonlinearity`.

    Returns
    -------
    {"logits", "probabilities", "log_probabilities", "each_probability", "binary_logit", \
            "binary_probability", "label_logits", "label_probabilities", "label_values"}

    Raises
    ------
    ValueError
        If the output does not fit the number of classes or the criterion, or is ambiguous.
    """
    width = output.shape[1] if output.ndim > 1 else 1
    if multi_label:
        _check_labels(output, criterion, n_classes)
    else:
        _check_width(output, width, criterion, n_classes)
    _check_range(output, operations, criterion)
    logits = takes_logits(criterion)
    if multi_label:
        if isinstance(criterion, _NEAR_TARGETS) and not only(operations, UNIT):
            return "label_values"
        logits = _decided(logits, output, operations, criterion, ask)
        return "label_logits" if logits else "label_probabilities"
    if width < n_classes:
        logits = _decided(logits, output, operations, criterion, ask)
        return "binary_logit" if logits else "binary_probability"
    if logits:
        return "logits"
    if sum_to_one(output):
        return "probabilities"
    if bool((output <= 0).all()) and sum_to_one(output.exp()):
        return "log_probabilities"
    if isinstance(criterion, nn.NLLLoss):
        raise ValueError(
            "criterion NLLLoss needs a module that returns probabilities or log-probabilities "
            "(its last layer is Softmax or LogSoftmax), but its rows do not sum to one; use "
            "criterion='cross_entropy' for a module that returns logits"
        )
    if logits is None:
        logits = are_logits(output, operations)
    if logits is None and ask:
        warnings.warn(
            f"{_cannot_tell(output, criterion)}; predict takes the class with the largest one, and "
            "predict_proba their softmax; set predict_nonlinearity to what makes probabilities of "
            "them",
            stacklevel=2,
        )
    return "each_probability" if logits is False else "logits"


def _decided(
    logits: bool | None, output: torch.Tensor, operations: frozenset[str], criterion: Any, ask: bool
) -> bool:
    """Whether outputs that are compared with a threshold are logits."""
    if logits is None:
        logits = are_logits(output, operations)
    if logits is None and ask:
        raise ValueError(
            f"{_cannot_tell(output, criterion)}; set predict_nonlinearity to what makes "
            "probabilities of them (torch.sigmoid, or None where they are probabilities), or end "
            "the module in a Sigmoid or a linear layer"
        )
    return logits is not False


def _cannot_tell(output: torch.Tensor, criterion: Any) -> str:
    return (
        f"neither the criterion {type(criterion).__name__} nor the module tells whether its "
        f"outputs (from {output.min().item():.3g} to {output.max().item():.3g}) are logits or "
        "probabilities"
    )


def _check_width(output: torch.Tensor, width: int, criterion: Any, n_classes: int) -> None:
    name = type(criterion).__name__
    if isinstance(criterion, nn.BCEWithLogitsLoss | nn.BCELoss):
        fits, wanted = width == 1 and n_classes == 2, "1 output for exactly 2 classes"
    else:
        fits, wanted = width == n_classes, f"{n_classes} outputs for {n_classes} classes"
        # An unknown criterion may accept a single output.
        fits = fits or (width == 1 and n_classes == 2 and not _is_of_torch(criterion))
    if not fits or output.ndim > 2:
        raise ValueError(
            f"with criterion {name} the module must return {wanted}, but y has {n_classes} "
            f"classes and the module returns an output of shape (n, "
            f"{', '.join(map(str, output.shape[1:]))}); let the module take `out_features`, or "
            "set the parameter of the module that is its width; where y may lack some, set "
            "`classes` to all labels"
        )
    weight = getattr(criterion, "weight", None)
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss | nn.MultiMarginLoss) and (
        weight is not None and weight.shape != (n_classes,)
    ):
        raise ValueError(
            f"criterion__weight must have a weight for each of {n_classes} classes, but has the "
            f"shape {tuple(weight.shape)}; class_weight={{label: weight}} also does where y lacks "
            "labels"
        )


def _check_labels(output: torch.Tensor, criterion: Any, n_labels: int) -> None:
    if output.ndim != 2 or output.shape[1] != n_labels:
        raise ValueError(
            f"the module must return {n_labels} outputs for {n_labels} labels, but it returns an "
            f"output of shape (n, {', '.join(map(str, output.shape[1:]))}); let the module take "
            "`out_features`, or set the parameter of the module that is its width"
        )
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss | nn.MultiMarginLoss):
        raise ValueError(
            f"criterion {type(criterion).__name__} takes one class per sample, but y has several "
            "labels; use criterion='bce_with_logits'"
        )


def _check_range(output: torch.Tensor, operations: frozenset[str], criterion: Any) -> None:
    """Raise or warn if a criterion gets probabilities instead of logits, or the reverse."""
    name = type(criterion).__name__
    if isinstance(criterion, nn.BCELoss) and not _within_unit(output):
        worst = output.min() if output.min() < 0 else output.max()
        raise ValueError(
            f"criterion BCELoss takes probabilities, but the module returns {worst.item():.3g}; "
            "end it in a Sigmoid, or use criterion='bce_with_logits'"
        )
    if isinstance(criterion, nn.MultiMarginLoss) or not takes_logits(criterion):
        return
    summed = isinstance(criterion, nn.CrossEntropyLoss) and not operations & REAL
    # Outside [0, 1] they were scaled, or have another meaning.
    if (only(operations, UNIT) and _within_unit(output)) or (summed and sum_to_one(output)):
        layer, fix = ("Sigmoid" if only(operations, SIGMOID) else "Softmax"), ""
        if isinstance(criterion, nn.BCEWithLogitsLoss):
            fix = ", or use criterion='bce'"
        elif layer == "Softmax":
            fix = ", or use criterion='nll'"
        warnings.warn(
            f"criterion {name} takes logits, but the module returns probabilities, as after a "
            f"{layer}, from which it learns little; leave that layer out{fix}",
            stacklevel=2,
        )


def _within_unit(output: torch.Tensor) -> bool:
    # Tolerance for rounding after a division by a sum.
    return bool(((output >= 0) & (output <= 1 + 1e-6)).all())


def sum_to_one(output: torch.Tensor) -> bool:
    """Whether the values of each row are >= 0 and sum to one."""
    if output.ndim != 2 or output.shape[1] < 2 or not bool((output >= 0).all()):
        return False
    # Tolerance for log-probabilities of many classes in bfloat16.
    return torch.allclose(output.sum(1), output.new_ones(1), atol=1e-2)


def as_probabilities(meaning: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from such outputs to probabilities (n, n_classes)."""
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "logits": _softmax,
        "log_probabilities": torch.exp,
        "probabilities": torch.clone,
        "each_probability": _normalised,
        "binary_logit": lambda output: two_columns(torch.sigmoid(output)),
        "binary_probability": two_columns,
        "label_logits": torch.sigmoid,
        "label_probabilities": torch.clone,
        "label_values": functools.partial(torch.clamp, min=0, max=1),
    }
    return functions[meaning]


def _normalised(output: torch.Tensor) -> torch.Tensor:
    return output / output.sum(1, keepdim=True).clamp_min(torch.finfo(output.dtype).tiny)


def two_columns(output: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of both classes, given that of the second."""
    of_second = output.reshape(-1)
    return torch.stack((1 - of_second, of_second), 1)


def link_of(output: torch.Tensor, operations: frozenset[str], criterion: Any) -> str:
    """Infer what a regressor's module returns, from the criterion and a few rows of output.

    Returns "values", "logs", "logits" or "class_logits". Raises ValueError if the output does not
    fit the criterion.
    """
    _check_range(output, operations, criterion)
    log_input = getattr(criterion, "log_input", None)
    if log_input is False and bool((output < 0).any()):
        raise ValueError(
            f"criterion {type(criterion).__name__} with log_input=False takes rates >= 0, but the "
            f"module returns {output.min().item():.3g}; end it in a Softplus, or leave log_input "
            "at True"
        )
    if log_input is True:
        if only(operations, _RATES):
            warnings.warn(
                f"criterion {type(criterion).__name__} takes the logarithms of rates, but the "
                f"module ends in {', '.join(sorted(operations))}, as if it returned rates; set "
                "criterion__log_input=False, or leave that layer out",
                stacklevel=2,
            )
        return "logs"
    if isinstance(criterion, nn.KLDivLoss) and not criterion.log_target:
        return "logs"
    if not takes_logits(criterion):
        return "values"
    several = isinstance(criterion, nn.CrossEntropyLoss)
    return "class_logits" if several else "logits"


def as_predictions(link: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from such outputs to predicted targets."""
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "values": torch.clone,
        "logs": torch.exp,
        "logits": torch.sigmoid,
        "class_logits": _softmax,
    }
    return functions[link]


def _softmax(output: torch.Tensor) -> torch.Tensor:
    """Return the softmax over dimension 1."""
    if output.ndim != 2 or output.shape[1] > _FEW_CLASSES or not output.is_cpu:
        return torch.softmax(output, 1)
    return torch.softmax(output.mT.contiguous(), 0).mT.contiguous()


def _is_of_torch(criterion: Any) -> bool:
    return type(criterion).__module__.startswith("torch.")


def learn_from(net: Any, X: Any, few: Any, fit_params: Mapping[str, Any]) -> None:
    """Learn input and output formats of the built module from a first batch."""
    store_input_format(net, X, few)
    inputs = _test_batch(net, X, few)
    if "train_transform" in net._transforms:
        _test_module(net, transformed_in_training(net, inputs), fit_params)
    output = _test_module(net, inputs, fit_params)
    if getattr(net._targets, "are_heads", False):
        _check_heads(output)
        net._meaning, net._output_shape = "own", ()
        return
    output = output[0] if isinstance(output, tuple) else output
    if isinstance(output, torch.Tensor):
        net._infer_output_format(output)
        return
    _check_is_taken_apart(net, output)
    net._meaning = "own"
    net._output_shape = tuple(net.predict_nonlinearity(output).shape[1:])


def _check_heads(output: Any) -> None:
    """Raise ValueError unless a module for a dict of targets returns several outputs."""
    parts = output.values() if isinstance(output, Mapping) else output
    if not isinstance(output, Mapping | tuple) or not all(
        isinstance(part, torch.Tensor) for part in parts
    ):
        raise ValueError(
            "for a dict of targets the module must return a dict or a tuple of tensors, but "
            f"returns a {type(output).__name__}"
        )


def _check_is_taken_apart(net: Any, output: Any) -> None:
    """Raise ValueError unless user code computes loss and predictions of such an output."""
    of_torch = type(net.criterion_).__module__.startswith("torch.")
    if callable(net.predict_nonlinearity) and (overridden(net, "get_loss") or not of_torch):
        return
    keys = f" with the keys {list(output)}" if isinstance(output, Mapping) else ""
    raise ValueError(
        "the module must return a tensor, or a tuple that begins with the one that predictions "
        f"are made of, but returns a {type(output).__name__}{keys}; wrap the module, or take "
        "it apart in a criterion (or get_loss) and a predict_nonlinearity of your own"
    )


def _test_module(net: Any, inputs: Any, fit_params: Mapping[str, Any]) -> Any:
    """Return the output for a few rows, and note the memory that a row needs."""
    net._set_training(False)
    net._row_bytes = None
    n_rows = row_count(inputs)
    made = None if net.compile or not n_rows else ResultBytes()
    if made is not None:
        made.add(inputs)
    # A separate stream, so that streams of training do not shift. The last operation is read from
    # the graph.
    drawing = drawing_from(net, Stream(net.seed_, "trial"))
    with torch.enable_grad(), drawing, made or contextlib.nullcontext():
        try:
            output = net.infer(inputs, **fit_params)
        except Exception as error:
            named = inputs.items() if isinstance(inputs, Mapping) else [("X", inputs)]
            shapes = ", ".join(f"{name} {_shape(value)}" for name, value in named)
            raise ValueError(
                f"the module must accept a batch of the data, but for inputs of shape {shapes} "
                f"it raised {type(error).__name__}: {error}{_converted(net, inputs)}"
            ) from error
    if made is not None:
        net._row_bytes = made.n_bytes // n_rows
    return output


def _converted(net: Any, inputs: Any) -> str:
    """Return a note for errors of the module if integers of the data became floats."""
    floats = {name for name, value in as_dict(inputs).items() if _is_floating(value)}
    if not any(was and name in floats for name, was in net._integer_inputs.items()):
        return ""
    return (
        "; integers become floats where the module has no Embedding, so if it needs integers, "
        "convert them in forward (x.long())"
    )


def _test_batch(net: Any, X: Any, few: Any) -> Any:
    """Return a first batch as the built module gets it, on its device."""
    if isinstance(X, Dataset) or reads_as_given(net, X):
        inputs = prepared_inputs(net, few)
    else:
        rows = rows_of(net, first_rows(X), training=False)
        if not slices_batches(net, training=False):
            return next(iter(batches_of(net, rows, training=False).inputs()))
        inputs = rows.take(torch.arange(len(rows)))[0]
    change = batch_transform(net, training=False) if net._transforms else None
    return inputs if change is None else change(inputs)


def store_input_format(net: Any, X: Any, few: Any) -> None:
    """Store shape and type that later inputs must have; `few` is the first batch of `X`."""
    collated = isinstance(X, Dataset) or reads_as_given(net, X)
    of = few if collated else X
    # Lengths of what is collated may differ from batch to batch.
    lengths_differ = collated and not slices_batches(net, training=False)
    net.input_shape_ = None if lengths_differ else sample_shape(of)
    arrays = of if isinstance(of, Mapping) else {None: of}
    net._integer_inputs = {
        name: not _is_floating(array)
        for name, array in arrays.items()
        if not isinstance(name, tuple)
    }


def _is_floating(array: Any) -> bool:
    if isinstance(array, torch.Tensor):
        return array.is_floating_point()
    return array.dtype.kind == "f" if hasattr(array, "dtype") else True


def _shape(value: Any) -> object:
    return tuple(value.shape) if hasattr(value, "shape") else f"({type(value).__name__})"
