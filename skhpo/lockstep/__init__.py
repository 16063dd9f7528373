"""Joint training and prediction of networks that share a graph."""

from ._errors import LockstepError
from ._group_size import built_for, pays
from ._members import Member, group_key, obstacle
from ._prediction import predict_together
from ._registry import LAYER_RULES, register_layer
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
