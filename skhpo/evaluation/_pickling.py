"""Serialization of objects that go to other processes and come back."""

from __future__ import annotations

import io
import logging
import pickle
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._joblib import dumps
from ..faults import warn_of_mistake

if TYPE_CHECKING:
    from ._tasks import Setting

__all__ = ["Packed", "check_picklable", "holds_all_in_checkpoint", "pack", "packed_checkpoint"]

_log = logging.getLogger(__name__)


def check_picklable(setting: Setting) -> None:
    """Raise TypeError, naming the culprit, if what all fits share cannot go to other processes."""
    named = {"estimator": setting.estimator, "scoring": setting.scorer}
    named |= {f"register_layer of {k.__name__}": v for k, v in setting.layer_rules.items()}
    params = setting.estimator.get_params(deep=True) if _pickle_error(setting.estimator) else {}
    # The innermost parameter that cannot be pickled is the most informative one.
    for name in sorted(params, key=lambda name: -name.count("__")):
        named = {name: params[name], **named} if _pickle_error(params[name]) else named
    for name, value in named.items():
        error = _pickle_error(value)
        if error is not None:
            raise TypeError(
                f"with worker processes everything must be picklable, but {name}={value!r} is "
                f"not ({error}); define it at the top level of a module, or use threads: "
                "joblib.parallel_config('threading')"
            ) from error


def _pickle_error(value: Any) -> Exception | None:
    try:
        dumps(value)
    except Exception as error:
        return error
    return None


@dataclass(frozen=True)
class Packed:
    """A fitted estimator on its way between processes.

    Parameters
    ----------
    content : bytes
    is_checkpoint : bool
        Whether it is a checkpoint, or else a pickle.
    """

    content: bytes
    is_checkpoint: bool

    def unpacked(self, fresh: Any) -> Any:
        """Return the estimator; of a checkpoint, `fresh` as the fitted one that it holds.

        Parameters
        ----------
        fresh : estimator
            Unfitted, with the same parameters.
        """
        if self.is_checkpoint:
            return fresh.load_checkpoint(io.BytesIO(self.content))
        return pickle.loads(self.content)


def pack(state: Any) -> Packed | None:
    """Return a fitted estimator as `Packed`, or None if it can be neither pickled nor saved.

    A pickle holds the most. Modules that cannot be pickled, or that say themselves what of them is,
    travel as a checkpoint. What can be neither costs time: it is trained again.

    Parameters
    ----------
    state : estimator
    """
    ways = [_pickled]
    if holds_all_in_checkpoint(state):
        first = _pickles_in_its_own_way(getattr(state, "module_", None))
        ways = [packed_checkpoint, _pickled] if first else [_pickled, packed_checkpoint]
    for way in ways:
        try:
            return way(state)
        except Exception as error:
            warn_of_mistake(error, "a fitted network may be trained again")
            last = error
    _log.info(
        "a fitted %s cannot go to another process, so that its earlier rungs are trained again: %s",
        type(state).__name__,
        last,
    )
    return None


def _pickled(state: Any) -> Packed:
    return Packed(bytes(dumps(state)), is_checkpoint=False)


def packed_checkpoint(state: Any) -> Packed:
    """Return a fitted estimator as a checkpoint."""
    buffer = io.BytesIO()
    state.save_checkpoint(buffer)
    return Packed(buffer.getvalue(), is_checkpoint=True)


def holds_all_in_checkpoint(state: Any) -> bool:
    """Whether training continues from a checkpoint exactly as without it."""
    if not hasattr(state, "save_checkpoint"):
        return False
    # skorch callbacks have states of their own, which checkpoints do not hold.
    return not getattr(state, "callbacks", None) or state.callbacks == "disable"


def _pickles_in_its_own_way(module: Any) -> bool:
    """Whether a user-defined class among the layers customizes its pickling."""
    nn = getattr(sys.modules.get("torch"), "nn", None)
    if nn is None or not isinstance(module, nn.Module):
        return False
    plain = {name: getattr(nn.Module, name) for name in ("__getstate__", "__setstate__")}
    plain |= {name: getattr(object, name) for name in ("__reduce__", "__reduce_ex__")}
    classes = {type(layer) for layer in module.modules()}
    return any(
        getattr(cls, name) is not default
        for cls in classes
        if cls.__module__.partition(".")[0] != "torch"
        for name, default in plain.items()
    )
