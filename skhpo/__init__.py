"""Scikit-learn estimators around PyTorch networks, and searches for their hyperparameters."""

from typing import TYPE_CHECKING

from ._late import late

__version__ = "0.1.0"


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


# Loaded at first use: a search over scikit-learn estimators never pays for importing torch.
__getattr__, __dir__ = late(
    __name__,
    {
        "skhpo.callbacks": "MLflowLogger TensorBoardLogger WandbLogger",
        "skhpo.define_by_run": "HyperParameters distributions_of",
        "skhpo.ensembles": "EnsembleClassifier EnsembleRegressor",
        "skhpo.estimators": "TorchClassifier TorchRegressor",
        "skhpo.estimators.keras": "KerasClassifier KerasRegressor",
        "skhpo.model_selection": "BayesSearchCV HalvingHyperbandSearchCV HarmonicaSearchCV "
        "SearchCV SelfTuningSearchCV",
        "skhpo.results": "read_journal",
        "skhpo.self_tuning": "SelfTuningClassifier SelfTuningRegressor hypergradient",
        "skhpo.space": "SearchSpace log_randint ordered",
    },
)
