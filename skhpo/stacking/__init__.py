"""Networks that share a graph, trained and asked as one."""

from ._members import Member, obstacle, stack_key
from ._prediction import predict_together
from ._probe import built_for
from ._rule import pays
from ._together import train_together

__all__ = [
    "Member",
    "built_for",
    "obstacle",
    "pays",
    "predict_together",
    "stack_key",
    "train_together",
]
