"""Networks that share a graph, trained and asked as one."""

from ._members import Member, group_key, obstacle
from ._prediction import predict_together
from ._probe import built_for
from ._rule import pays
from ._together import train_together

__all__ = [
    "Member",
    "built_for",
    "group_key",
    "obstacle",
    "pays",
    "predict_together",
    "train_together",
]
