"""What scikit-learn sees: estimators around torch networks.

`TorchEstimator` (``_torch``) is what `TorchClassifier` and `TorchRegressor` (``classifier``,
``regressor``) have in common, in parts:

* ``parameters``, ``settings``: ``get_params`` and ``set_params``; settings that differ from
  defaults, or exclude each other.
* ``validation``, ``_inputs``: checks of data.
* ``_targets``, ``_numbers``: what targets mean, labels or numbers.
* ``building``, ``_outputs``: the module and what trains it, what a few rows tell of it, the
  meaning of its outputs.
* ``feeding``, ``_items``, ``transforms``: from checked data to batches.
* ``fitting``, ``held_out``, ``callbacks``: the epochs of a fit, rows to check on, who is notified;
  ``_batch_norm``, ``_ending``: what comes after them.
* ``predicting``, ``state``, ``exporting``: predictions, pickles and checkpoints, a plain module.

``keras`` has the same around Keras models.
"""

from ..modules import MLP, ConvNet, TabularMLP
from .classifier import TorchClassifier
from .regressor import TorchRegressor

__all__ = ["MLP", "ConvNet", "TabularMLP", "TorchClassifier", "TorchRegressor"]
