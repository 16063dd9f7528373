"""Training steps without autograd, for networks of known layers.

A *rule* is the mathematics of one layer: ``forward`` maps its input to its output; ``backward``
maps the gradient of the output to that of the input, and writes the gradients of the layer's
parameters. A *program* is compiled once per network and loss: a sequence of rules (or a traced
graph of them), a rule for the loss, and a stepper of the optimizer. A training step is then a
short sequence of torch calls, without autograd's graph.

* Results of cheap layers are written to buffers that are allocated in the first step (``out=``).
  There is a set of rules, and so of buffers, per batch size, as the last batch of an epoch may be
  smaller. Results of large layers (convolutions, pooling, normalizations) are freed in the
  backward pass, as by autograd.
* A rule may overwrite the gradient that it gets, and its input if `Place.may_overwrite`.
* The program trains the tensors of the module and of the optimizer in place, so that both are at
  any time as autograd would have left them, except for counts of steps, which ``Program.finish``
  writes back. A program has no state to be saved.
* On a GPU the passes of a step are captured in a CUDA graph after a few steps, and replayed; the
  optimizer, whose settings a schedule changes, is not part of it.
* Random numbers are drawn by the same calls in the same order as by the layers.
* Other packages pass rules of their layers by ``Place.rules``; linearised networks use
  ``Rule.tangent``, the change of the output to first order.
* Rules accept tensors of shape (n, ...), and of shape (n_networks, n, ...): parameters then have
  a leading dimension of networks, too, and products are batched.

Where a rule is missing, `compile_program` returns the reason instead of a program. For several
networks (`Networks`) autograd differentiates only that part, as a rule like the others.
"""

from ._autograd import Networks
from ._blas import keep_one_thread
from ._equivalence import find_differences
from ._functions import OPERATIONS
from ._graph import Tracer, Untraceable, global_states
from ._layers import RULES, is_known, is_traced, make_rule, refuse_hooks
from ._losses import LOSSES, make_loss
from ._optimizers import FUSED, fused_call, make_stepper, slots
from ._program import (
    Program,
    Signature,
    check_parts,
    compile_program,
    make_pass,
    refuse_differences,
)
from ._rules import Place, Rule, Unknown
from ._shapes import Reshape

__all__ = [
    "FUSED",
    "LOSSES",
    "OPERATIONS",
    "RULES",
    "Networks",
    "Place",
    "Program",
    "Reshape",
    "Rule",
    "Signature",
    "Tracer",
    "Unknown",
    "Untraceable",
    "check_parts",
    "compile_program",
    "find_differences",
    "fused_call",
    "global_states",
    "is_known",
    "is_traced",
    "keep_one_thread",
    "make_loss",
    "make_pass",
    "make_rule",
    "make_stepper",
    "refuse_differences",
    "refuse_hooks",
    "slots",
]
