"""Scikit-learn estimators around PyTorch networks, and searches for their hyperparameters."""

from typing import TYPE_CHECKING

from ._late import late

__version__ = "0.1.0"

# Loaded at first use: a search over scikit-learn estimators never pays for importing torch.
_HOME = {
    "BayesSearchCV": "skhpo.model_selection",
    "EnsembleClassifier": "skhpo.ensembles",
    "EnsembleRegressor": "skhpo.ensembles",
    "HalvingHyperbandSearchCV": "skhpo.model_selection",
    "HarmonicaSearchCV": "skhpo.model_selection",
    "HyperParameters": "skhpo.define_by_run",
    "KerasClassifier": "skhpo.estimators.keras",
    "KerasRegressor": "skhpo.estimators.keras",
    "MLflowLogger": "skhpo.callbacks",
    "SearchCV": "skhpo.model_selection",
    "SearchSpace": "skhpo.space",
    "SelfTuningClassifier": "skhpo.self_tuning",
    "SelfTuningRegressor": "skhpo.self_tuning",
    "SelfTuningSearchCV": "skhpo.model_selection",
    "TensorBoardLogger": "skhpo.callbacks",
    "TorchClassifier": "skhpo.estimators",
    "TorchRegressor": "skhpo.estimators",
    "WandbLogger": "skhpo.callbacks",
    "log_randint": "skhpo.space",
    "distributions_of": "skhpo.define_by_run",
    "hypergradient": "skhpo.self_tuning",
    "ordered": "skhpo.space",
    "read_journal": "skhpo.results",
}

if TYPE_CHECKING:
    from .callbacks import MLflowLogger, TensorBoardLogger, WandbLogger
    from .define_by_run import HyperParameters, distributions_of
    from .ensembles import EnsembleClassifier, EnsembleRegressor
    from .estimators import TorchClassifier, TorchRegressor
    from .estimators.keras import KerasClassifier, KerasRegressor
    from .model_selection import (
        BayesSearchCV,
        HalvingHyperbandSearchCV,
        HarmonicaSearchCV,
        SearchCV,
        SelfTuningSearchCV,
    )
    from .results import read_journal
    from .self_tuning import SelfTuningClassifier, SelfTuningRegressor, hypergradient
    from .space import SearchSpace, log_randint, ordered

__all__ = [
    "BayesSearchCV",
    "EnsembleClassifier",
    "EnsembleRegressor",
    "HalvingHyperbandSearchCV",
    "HarmonicaSearchCV",
    "HyperParameters",
    "KerasClassifier",
    "KerasRegressor",
    "MLflowLogger",
    "SearchCV",
    "SearchSpace",
    "SelfTuningClassifier",
    "SelfTuningRegressor",
    "SelfTuningSearchCV",
    "TensorBoardLogger",
    "TorchClassifier",
    "TorchRegressor",
    "WandbLogger",
    "distributions_of",
    "hypergradient",
    "log_randint",
    "ordered",
    "read_journal",
]


__getattr__, __dir__ = late(__name__, _HOME)
