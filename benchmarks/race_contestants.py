"""The contestants of `race.py`, each a function of a task, a seed and a clock.

They report to the clock what they found, when they found it, and go on until it stops them.
"""

import itertools
import logging
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import get_scorer
from sklearn.model_selection import RandomizedSearchCV
from torch.optim.swa_utils import AveragedModel

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier, TorchRegressor
from skhpo.modules import MLP

__all__ = [
    "BASELINES",
    "CONTESTANTS",
    "EPOCHS",
    "NEEDS",
    "Clock",
    "Task",
    "TimeIsOver",
    "refitted",
]

MANY = 100_000  # candidates, more than there is time for
EPOCHS = 81  # the default of `max_resources`
# The space of the networks, once for all: ranges (the smallest, the largest, "log" or
# "linear"), and lists.
NUMBERS = {
    "lr": (1e-4, 1e-1, "log"),
    "optimizer__weight_decay": (1e-6, 1e-1, "log"),
    "module__dropout": (0.0, 0.6, "linear"),
}
CHOICES = {
    "batch_size": [32, 64, 128, 256],
    "module__n_units": [16, 32, 64, 128],
    "module__n_layers": [1, 2, 3],
}
SPACE = {
    **{
        name: loguniform(low, high) if scale == "log" else uniform(low, high - low)
        for name, (low, high, scale) in NUMBERS.items()
    },
    **CHOICES,
}
# The estimators' own parameters, which searches of this package try first, and Optuna's here, too.
DEFAULTS = {name: TorchClassifier().get_params()[name] for name in SPACE}
TREES = {
    "max_iter": randint(20, 300),
    "learning_rate": loguniform(0.01, 0.5),
    "max_leaf_nodes": randint(4, 64),
    "min_samples_leaf": randint(2, 60),
    "l2_regularization": loguniform(1e-6, 1e2),
    "max_features": uniform(0.2, 0.8),
}
BASELINES = {"boosting", "default"}


@dataclass
class Task:
    """A table: what is searched, what is tested, and the folds."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    folds: list
    is_classes: bool

    @property
    def scoring(self):
        return "neg_log_loss" if self.is_classes else "neg_root_mean_squared_error"

    @property
    def n_outputs(self):
        return len(np.unique(self.y)) if self.is_classes else 1


class TimeIsOver(BaseException):
    """Raised where a contestant is to stop, past whatever takes it for an error of a trial."""


class Clock:
    """Notes what is found when, in seconds of the processor, and stops a contestant."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.start = time.process_time()
        self.points = []  # seconds, loss, parameters

    @property
    def is_over(self):
        return time.process_time() - self.start > self.seconds

    def check(self):
        if self.is_over:
            raise TimeIsOver

    def report(self, loss, params):
        seconds = time.process_time() - self.start
        if seconds <= self.seconds:
            self.points.append((seconds, float(loss), dict(params)))
        self.check()

    def improvements(self):
        """Return when the smallest loss so far was found, as pairs of seconds and loss."""
        found, least = [], float("inf")
        for at, loss, _ in self.points:
            if loss < least:
                least = loss
                found.append((round(at, 2), loss))
        return found

    def best(self, moment):
        """Return the parameters of the smallest loss until then, None where there is none."""
        known = [(loss, at, params) for at, loss, params in self.points if at <= moment]
        known = [point for point in known if np.isfinite(point[0])]
        return min(known, key=lambda point: point[:2])[2] if known else None


def network(task, **params):
    kind = TorchClassifier if task.is_classes else TorchRegressor
    return kind(**{"max_epochs": EPOCHS, **params})


def refitted(name, task, params, seed):
    """Return what a contestant would return, trained on all that is searched."""
    params = params or {}
    if name == "boosting":
        return boosting(task, seed).set_params(**params).fit(task.X, task.y)
    return network(task, random_state=seed, **params).fit(task.X, task.y)


# Ours.


class Report:
    """Reports rows to the clock as soon as all folds are scored, and stops the search in time."""

    def __init__(self, clock):
        self.clock = clock
        self.losses = {}

    def on_fit_end(self, search, trial, result):
        losses = self.losses.setdefault(trial.number, [])
        losses.append(-result.test_scores.get("score", np.nan))
        if len(losses) == search.n_splits_:
            params = {"average": getattr(search, "average", None), **trial.params}
            if trial.resource is not None:
                params["max_epochs"] = trial.resource
            self.clock.report(np.mean(losses), params)  # NaN if it was stopped
        self.clock.check()


def ours(kind, task, seed, clock, **arguments):
    search = kind(
        network(task),
        SPACE,
        scoring=task.scoring,
        cv=task.folds,
        refit=False,
        random_state=seed,
        callbacks=[Report(clock)],
        **arguments,
    )
    search.fit(task.X, task.y)


# A loop by hand, under Optuna.


def suggested(trial):
    """Return parameters as a trial of Optuna suggests them."""
    numbers = {
        name: trial.suggest_float(name, low, high, log=scale == "log")
        for name, (low, high, scale) in NUMBERS.items()
    }
    return numbers | {name: trial.suggest_categorical(name, CHOICES[name]) for name in CHOICES}


class Training:
    """A network on one fold, an epoch at a time."""

    def __init__(self, task, fold, params, clock, average=None):
        train, test = task.folds[fold]
        self.task, self.clock, self.params = task, clock, params
        self.X, self.X_test = torch.from_numpy(task.X[train]), torch.from_numpy(task.X[test])
        y = torch.from_numpy(task.y)
        self.y, self.y_test = (y[torch.from_numpy(rows)] for rows in (train, test))
        sizes = {name[len("module__") :]: v for name, v in params.items() if "module" in name}
        self.module = MLP(task.X.shape[1], task.n_outputs, **sizes)
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=params["lr"],
            weight_decay=params["optimizer__weight_decay"],
        )
        self.criterion = torch.nn.CrossEntropyLoss() if task.is_classes else torch.nn.MSELoss()
        self.average = AveragedModel(self.module, multi_avg_fn=moved) if average else None

    def _output(self, X, module):
        out = module(X)
        return out if self.task.is_classes else out[:, 0]

    def epoch(self):
        self.module.train()
        order = torch.randperm(len(self.X))
        for rows in order.split(self.params["batch_size"]):
            self.optimizer.zero_grad()
            self.criterion(self._output(self.X[rows], self.module), self.y[rows]).backward()
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.module)
        self.clock.check()

    def loss(self):
        module = self.average or self.module
        module.eval()
        with torch.no_grad():
            loss = float(self.criterion(self._output(self.X_test, module), self.y_test))
        return loss if self.task.is_classes else loss**0.5


def moved(means, values, n):
    """Move exponential means, with the decay of ``average="ema"``."""
    torch._foreach_lerp_(means, values, 1 - min(0.999, (1 + float(n)) / (10 + float(n))))


class Trainings:
    """A network on each of the folds, and how many epochs they were trained."""

    def __init__(self, task, params, clock, average=None):
        folds = range(len(task.folds))
        self.folds = [Training(task, fold, params, clock, average) for fold in folds]
        self.epochs = 0

    def loss_after(self, epochs):
        """Train until there were so many epochs; return the mean loss, ValueError if not finite."""
        for _ in range(self.epochs, epochs):
            for fold in self.folds:
                fold.epoch()
        self.epochs = epochs
        return finite(np.mean([fold.loss() for fold in self.folds]))


def under_optuna(sampler, pruner, task, seed, clock, average=None):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.manual_seed(seed)
    pruners = {
        "hyperband": lambda: optuna.pruners.HyperbandPruner(1, EPOCHS, 3),
        "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.1),
        None: optuna.pruners.NopPruner,
    }
    samplers = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}

    def objective(trial):
        params = {"average": average, **suggested(trial)}
        try:
            mean = epoch_by_epoch(trial, params) if pruner == "hyperband" else folds(trial, params)
        except ValueError:  # a loss that is not finite
            raise optuna.TrialPruned from None
        clock.report(mean, params)
        return mean

    def epoch_by_epoch(trial, params):
        trainings = Trainings(task, params, clock, average)
        for epoch in range(1, EPOCHS + 1):
            mean = trainings.loss_after(epoch)
            trial.report(mean, epoch)
            if epoch < EPOCHS and trial.should_prune():
                clock.report(mean, {**params, "max_epochs": epoch})
                raise optuna.TrialPruned
        return mean

    def folds(trial, params):
        losses = []
        for fold in range(len(task.folds)):
            training = Training(task, fold, params, clock, average)
            for _ in range(EPOCHS):
                training.epoch()
            losses.append(finite(training.loss()))
            trial.report(losses[-1], fold)
            if fold + 1 < len(task.folds) and trial.should_prune():
                return float(np.mean(losses))  # as its documentation advises
        return float(np.mean(losses))

    study = optuna.create_study(sampler=samplers[sampler](seed=seed), pruner=pruners[pruner]())
    study.enqueue_trial(DEFAULTS)
    study.optimize(objective, n_trials=None)


def finite(loss):
    if not np.isfinite(loss):
        raise ValueError("the loss is not finite")
    return float(loss)


# The same loop, under Syne Tune and NePS.


def under_syne_tune(kind, task, seed, clock):
    """Drive a scheduler of Syne Tune, by the results after each epoch."""
    from syne_tune import config_space
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer import baselines

    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    seed_everything(seed)
    numbers = {
        name: (config_space.loguniform if scale == "log" else config_space.uniform)(low, high)
        for name, (low, high, scale) in NUMBERS.items()
    }
    scheduler = getattr(baselines, kind)(
        numbers | {name: config_space.choice(values) for name, values in CHOICES.items()},
        metric="loss",
        time_attr="epoch",
        max_t=EPOCHS,
        random_seed=seed,
        points_to_evaluate=[DEFAULTS],
    )
    rungs = {milestone for milestone, _ in scheduler.brackets[0].rungs} | {EPOCHS}
    for number in itertools.count():
        trial = Trial(number, scheduler.suggest().config, datetime.now())
        scheduler.on_trial_add(trial)
        trainings, decision, epoch = Trainings(task, trial.config, clock), "CONTINUE", 0
        while decision == "CONTINUE":
            epoch += 1
            try:
                loss = trainings.loss_after(epoch)
            except ValueError:
                scheduler.on_trial_error(trial)
                break
            if epoch in rungs:
                clock.report(loss, {**trial.config, "max_epochs": epoch})
            decision = scheduler.on_trial_result(trial, {"loss": loss, "epoch": epoch})


def under_neps(task, seed, clock):
    """Ask PriorBand of NePS, whose priors are the default parameters."""
    import neps
    from neps.optimizers.ask_and_tell import AskAndTell
    from neps.space import HPOCategorical, HPOFloat, HPOInteger, SearchSpace

    logging.getLogger("neps").setLevel(logging.ERROR)
    seed_everything(seed)
    numbers = {
        name: HPOFloat(low, high, log=scale == "log", prior=DEFAULTS[name])
        for name, (low, high, scale) in NUMBERS.items()
    }
    choices = {
        name: HPOCategorical(values, prior=DEFAULTS[name]) for name, values in CHOICES.items()
    }
    epochs = {"max_epochs": HPOInteger(1, EPOCHS, is_fidelity=True)}
    optimizer = AskAndTell(
        neps.algorithms.priorband(
            SearchSpace(numbers | choices | epochs), sample_prior_first="highest_fidelity"
        )
    )
    started = {}
    while True:
        trial = optimizer.ask()
        config = dict(trial.config)
        trainings = started.pop(trial.metadata.previous_trial_id, None)
        if trainings is None:
            params = {name: config[name] for name in SPACE}
            trainings = Trainings(task, params, clock)
        try:
            loss = trainings.loss_after(int(config["max_epochs"]))
        except ValueError as error:
            optimizer.tell(trial, error)
            continue
        clock.report(loss, config)
        optimizer.tell(trial, loss)
        started[trial.id] = trainings


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


# scikit-learn.


class Scores:
    """A scorer that reports the mean of every five fits, which are those of a candidate."""

    def __init__(self, task, clock, names):
        self.scorer = get_scorer(task.scoring)
        self.task, self.clock, self.names = task, clock, names
        self.losses = []

    def __call__(self, estimator, X, y):
        self.losses.append(-self.scorer(estimator, X, y))
        if len(self.losses) == len(self.task.folds):
            mean, self.losses = np.mean(self.losses), []
            params = estimator.get_params()
            self.clock.report(mean, {name: params[name] for name in self.names})
        self.clock.check()
        return -float(self.losses[-1] if self.losses else mean)


def skorch_net(task):
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    class Regressor(NeuralNetRegressor):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred[:, 0], y_true, *args, **kwargs)

    kind = NeuralNetClassifier if task.is_classes else Regressor
    return kind(
        MLP,
        criterion=torch.nn.CrossEntropyLoss if task.is_classes else torch.nn.MSELoss,
        optimizer=torch.optim.AdamW,
        max_epochs=EPOCHS,
        train_split=None,
        verbose=0,
        module__in_features=task.X.shape[1],
        module__out_features=task.n_outputs,
    )


def under_sklearn(kind, estimator, space, task, seed, clock, names=(), **arguments):
    """Run a search of scikit-learn, which reports its candidates by its scorer."""
    torch.manual_seed(seed)
    search = kind(
        estimator,
        space,
        scoring=Scores(task, clock, [*space, *names]),
        cv=task.folds,
        refit=False,
        error_score="raise",
        random_state=seed,
        **arguments,
    )
    search.fit(task.X, task.y)


def random_skorch(task, seed, clock):
    net = skorch_net(task)
    under_sklearn(RandomizedSearchCV, net, SPACE, task, seed, clock, n_iter=MANY)


def halving_skorch(task, seed, clock):
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingRandomSearchCV

    while True:
        under_sklearn(
            HalvingRandomSearchCV,
            skorch_net(task),
            SPACE,
            *(task, seed, clock, ["max_epochs"]),
            resource="max_epochs",
            min_resources=3,
            max_resources=EPOCHS,
            n_candidates=27,
        )
        seed += 1000


def boosting(task, seed):
    kind = HistGradientBoostingClassifier if task.is_classes else HistGradientBoostingRegressor
    return kind(random_state=seed)


def random_boosting(task, seed, clock):
    trees = boosting(task, seed)
    under_sklearn(RandomizedSearchCV, trees, TREES, task, seed, clock, n_iter=MANY)


# Keras.


def keras_tuner_hyperband(task, seed, clock):
    import keras
    import keras_tuner

    keras.utils.set_random_seed(seed)
    train, test = task.folds[0]

    class Stops(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            clock.check()

    def number(hp, name):
        low, high, scale = NUMBERS[name]
        return hp.Float(name, low, high, sampling=scale)

    class Model(keras_tuner.HyperModel):
        def build(self, hp):
            n_units, n_layers = (
                hp.Choice(name, CHOICES[name]) for name in ("module__n_units", "module__n_layers")
            )
            rate = number(hp, "module__dropout")
            layers = [keras.layers.Input((task.X.shape[1],))]
            for _ in range(n_layers):
                layers += [keras.layers.Dense(n_units, "relu"), keras.layers.Dropout(rate)]
            last = "softmax" if task.is_classes else None
            model = keras.Sequential([*layers, keras.layers.Dense(task.n_outputs, last)])
            decay = number(hp, "optimizer__weight_decay")
            optimizer = keras.optimizers.AdamW(number(hp, "lr"), weight_decay=decay)
            model.compile(
                optimizer, "sparse_categorical_crossentropy" if task.is_classes else "mse"
            )
            return model

        def fit(self, hp, model, *args, callbacks=(), **kwargs):
            batch_size = hp.Choice("batch_size", CHOICES["batch_size"])
            callbacks = [*callbacks, Stops()]
            return model.fit(*args, batch_size=batch_size, callbacks=callbacks, **kwargs)

    class Tuner(keras_tuner.Hyperband):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            values = trial.hyperparameters.values
            if trial.score is not None:
                params = {name: values[name] for name in SPACE}
                params["max_epochs"] = int(values["tuner/epochs"])
                clock.report(trial.score, params)

    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(
            Model(),
            objective="val_loss",
            max_epochs=EPOCHS,
            factor=3,
            hyperband_iterations=1000,
            seed=seed,
            directory=folder,
            max_consecutive_failed_trials=10_000,
        )
        tuner.search(
            task.X[train],
            task.y[train],
            validation_data=(task.X[test], task.y[test]),
            verbose=0,
        )


def bayes(**arguments):
    return partial(ours, BayesSearchCV, n_iter=MANY, **arguments)


def hyperband(**arguments):
    return partial(ours, HalvingHyperbandSearchCV, n_iterations=1000, **arguments)


CONTESTANTS = {
    "bayes": bayes(),
    "bayes-single": bayes(lockstep=False),
    "bayes-racing": bayes(lockstep=False, racing="auto"),
    "hyperband": hyperband(),
    "hyperband-bayes": hyperband(sampler="bayes"),
    "hyperband-last": hyperband(average=None),
    "hyperband-folds": hyperband(fold_schedule="auto"),
    "hyperband-priors": hyperband(priors="defaults"),
    "tpe-hyperband": partial(under_optuna, "tpe", "hyperband"),
    "tpe-hyperband-ema": partial(under_optuna, "tpe", "hyperband", average="ema"),
    "tpe-wilcoxon": partial(under_optuna, "tpe", "wilcoxon"),
    "gp": partial(under_optuna, "gp", None),
    "syne-tune-asha": partial(under_syne_tune, "ASHA"),
    "syne-tune-bohb": partial(under_syne_tune, "BOHB"),
    "neps-priorband": under_neps,
    "random-skorch": random_skorch,
    "halving-skorch": halving_skorch,
    "keras-tuner": keras_tuner_hyperband,
    "boosting": random_boosting,
}
# What they import beyond the `benchmarks` extra of this package.
NEEDS = {
    "syne-tune-asha": "syne_tune",
    "syne-tune-bohb": "syne_tune",
    "neps-priorband": "neps",
    "random-skorch": "skorch",
    "halving-skorch": "skorch",
}
