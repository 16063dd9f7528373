"""The last operations of a module, read from the graph of autograd."""

from __future__ import annotations

import re

__all__ = ["REAL", "SIGMOID", "SOFTMAX", "UNIT", "last_operations", "only"]

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


def last_operations(output):
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


def only(operations, kinds):
    """Whether operations are known and all among `kinds`."""
    return bool(operations) and operations <= kinds
