"""The late import of Keras, and every use of its private parts, in this one file."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import torch

from ...process import ignoring
from .._outputs import last_operations

__all__ = [
    "choose_backend",
    "compile_arguments",
    "config_of",
    "for_model",
    "import_keras",
    "is_model",
    "lend_seed_generator",
    "operations_of",
    "outputs_of",
    "require_torch",
]


def choose_backend():
    """Select torch unless Keras is imported or another backend was chosen."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")


def import_keras():
    """Import Keras, on the torch backend unless ``KERAS_BACKEND`` is set."""
    choose_backend()
    try:
        return importlib.import_module("keras")
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise ImportError(
            "KerasClassifier and KerasRegressor need Keras, which is not installed; "
            "install it with: pip install skhpo[keras]"
        ) from error


def require_torch(what):
    """Raise RuntimeError unless Keras computes with torch.

    On other backends the state of shuffling cannot be restored.
    """
    choose_backend()
    keras = sys.modules.get("keras")
    found = os.environ["KERAS_BACKEND"] if keras is None else keras.config.backend()
    if found != "torch":
        raise RuntimeError(
            f"{what} needs Keras on the torch backend, but Keras runs on {found!r}; set the "
            "environment variable KERAS_BACKEND=torch before Keras is first imported, or train "
            "from scratch with fit"
        )


def is_model(value):
    """Whether something is a Keras model, without importing Keras."""
    return any(
        cls.__module__.partition(".")[0] == "keras" and cls.__name__ == "Model"
        for cls in type(value).__mro__
    )


def compile_arguments(model):
    """Return the arguments with which a model was compiled, the optimizer included."""
    return dict(model._compile_config.config)


def config_of(part):
    """Return ``part.get_config()`` without Keras' warnings about NumPy 2."""
    with ignoring(DeprecationWarning):
        return part.get_config()


def for_model(X):
    """Return checked inputs in the form for a model: a list if they are named by position."""
    by_position = isinstance(X, dict) and all(isinstance(name, int) for name in X)
    return list(X.values()) if by_position else X


def outputs_of(model, rows):
    """Return a model's output for a few rows (a tensor as an array), without random numbers."""
    rows = for_model(rows)
    if import_keras().config.backend() != "torch":
        return model.predict_on_batch(rows)
    model.eval()
    with torch.no_grad():
        output = model.predict_step((rows,))
    if not isinstance(output, torch.Tensor):
        return output
    return (output.float() if output.dtype is torch.bfloat16 else output).cpu().numpy()


def operations_of(model, rows):
    """Return the `last_operations` of a model; without torch by the last layer's activation."""
    if import_keras().config.backend() == "torch":
        model.eval()
        with torch.enable_grad():
            return last_operations(model.predict_step((for_model(rows),)))
    last = (getattr(model, "layers", None) or [None])[-1]
    name = getattr(getattr(last, "activation", None), "__name__", None)
    name = "softmax" if type(last).__name__ == "Softmax" else name
    if name is None:
        return frozenset()
    return frozenset({{"linear": "mm", "exponential": "exp"}.get(name, name.replace("_", ""))})


@contextlib.contextmanager
def lend_seed_generator(state):
    """Set Keras' global seed generator within this context, and yield a getter of its state.

    With `state` None there is none yet; Keras makes it when it is needed.
    """
    keras = import_keras()
    common = importlib.import_module("keras.src.backend.common.global_state")
    name = importlib.import_module("keras.src.random.seed_generator").GLOBAL_SEED_GENERATOR
    before = common.get_global_attribute(name)
    own = None
    if state is not None:
        own = keras.random.SeedGenerator(0)
        own.state.assign(state)
    common.set_global_attribute(name, own)

    def now():
        generator = common.get_global_attribute(name)
        if generator is None:
            return None
        return [int(word) for word in keras.ops.convert_to_numpy(generator.state)]

    try:
        yield now
    finally:
        common.set_global_attribute(name, before)
