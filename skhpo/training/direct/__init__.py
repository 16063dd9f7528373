"""Training steps without autograd, for networks made of layers that are known.

A *rule* is the mathematics of one layer: ``forward`` maps its input to its output, ``backward``
the gradient of the output to that of the input, and leaves the gradients of the layer's
parameters behind. A *program* is compiled once per network and loss: rules in a row (or in the
order of a traced graph), a rule for the loss, and what steps the optimizer. A training step then
is a short sequence of torch calls, without the graph that autograd would build and walk.

* Results of cheap layers go to buffers that are made in the first step and kept (``out=``). There
  is a set of rules, and so of buffers, per size of a batch, as the last one of an epoch may be
  smaller. What large layers (convolutions, pooling, normalizations) return is let go of in the
  backward pass, as by autograd.
* A rule may write into a gradient that it is given. It may write into its input where
  `Place.may_overwrite` allows that.
* The program trains the tensors of the module and of the optimizer where they are, so that both
  look at any time as if autograd had trained them, but for the counts of steps, which
  ``Program.finish`` writes back. Nothing of a program needs to be saved.
* On a GPU the passes of a step are captured in a CUDA graph after a few steps, and replayed; the
  optimizer, whose settings a schedule changes, is not part of it.
* Random numbers are drawn by the same calls in the same order as by the layers.
* Other packages bring rules of their own layers, by ``Place.rules``; what linearises a network
  asks a rule for what it makes of a small change of its input (``Rule.tangent``).
* Rules are written for tensors of shape (n, ...), and for (n_networks, n, ...): the parameters
  then have the networks in front, too, and products become batched ones.

Whatever has no rule has a reason: `compile_program` then returns it in place of a program. Of many
networks (`Networks`) autograd differentiates that part alone, as a rule like the others.
"""

from ._autograd import Networks
from ._epoch import DirectRunner, DirectSteps
from ._functions import OPERATIONS
from ._layers import RULES, is_known, is_traced, make_rule, refuse_hooks
from ._losses import LOSSES, make_loss
from ._masks import Masks
from ._optimizers import FUSED, fused_call, make_stepper, slots
from ._place import Place, Rule, Unknown
from ._program import Program, check_parts, compile_program, make_pass, refuse_differences
from ._proof import find_differences
from ._shapes import Reshape
from ._signature import Signature

__all__ = [
    "FUSED",
    "LOSSES",
    "OPERATIONS",
    "RULES",
    "DirectRunner",
    "DirectSteps",
    "Masks",
    "Networks",
    "Place",
    "Program",
    "Reshape",
    "Rule",
    "Signature",
    "Unknown",
    "check_parts",
    "compile_program",
    "find_differences",
    "fused_call",
    "is_known",
    "is_traced",
    "make_loss",
    "make_pass",
    "make_rule",
    "make_stepper",
    "refuse_differences",
    "refuse_hooks",
    "slots",
]
