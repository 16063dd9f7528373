"""Joint training and prediction of networks that share a graph.

``_members`` decides which networks go together, ``_together`` builds and trains them, by the
``_runner`` of the engine; ``_prediction`` asks them. The parts of a joint step are ``_feed``
(batches), ``_passes`` (parameters, losses, gradients) and ``_optimizers``; ``_registry`` has the
rules of user-defined layers.
"""

from ._members import Member, built_for, group_key, obstacle, pays
from ._prediction import predict_together
from ._registry import LAYER_RULES, LockstepError, register_layer
from ._together import train_together

__all__ = [
    "LAYER_RULES",
    "LockstepError",
    "Member",
    "built_for",
    "group_key",
    "obstacle",
    "pays",
    "predict_together",
    "register_layer",
    "train_together",
]
