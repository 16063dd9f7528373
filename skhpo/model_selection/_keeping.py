"""What is kept of the fits of a search: which predictions, and of which rows."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils.multiclass import type_of_target

from .. import evaluation
from ..journal import worth_a_sync
from ..trial import RACED
from ..wrappers import owner_of
from ._base import PREDICTION_METHODS
from ._checks import Dicts
from ._kept import KeptModels, KeptPredictions, ModelStore, Name, PredictionStore, digest_of_targets
from ._observers import Observer

if TYPE_CHECKING:
    from ..results import TrialTable
    from ..trial import FitResult, Trial
    from ._running import Source

__all__ = ["Keeper", "prediction_kind"]

# Number of estimators, made with choices of the space, whose methods are compared. Further ones
# differ in numbers, hardly in methods.
_MOST_LOOKED_AT = 64

Splits = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]

# Score, resource, and the number of the trial, smaller ones first: `best_index_` is the largest.
_Rank = tuple[float, int, int]


def prediction_kind(
    estimator: Any, dicts: Dicts, y: Any, splits: Splits, asked: bool | str
) -> evaluation.PredictionKind:
    """Return what predictions a search keeps.

    Parameters
    ----------
    estimator : estimator
        That of the search.
    dicts : sequence of dict
        Of its space.
    y : array-like
    splits : list of (ndarray, ndarray)
    asked : True or str
        The method; True for the first one that the candidates have.

    Raises
    ------
    ValueError
        If no candidate has the method, or its outputs on some split could mean anything.
    """
    method = _method(estimator, dicts, asked)
    if not is_classifier(estimator):
        return evaluation.PredictionKind(method)
    if y is None:
        raise ValueError(
            "return_predictions needs the labels of a classifier, which say what columns there "
            "are, but y is None; pass y, or set return_predictions=False"
        )
    classes = _classes(estimator, y)
    if method == "decision_function" and isinstance(classes, np.ndarray):
        _refuse_lost_classes(np.asarray(y).ravel(), classes, splits)
    return evaluation.PredictionKind(method, classes)


def _method(estimator: Any, dicts: Dicts, asked: bool | str) -> str:
    """Return the method that is asked for, or the first one that all candidates have."""
    looked_at = list(islice(_candidates(estimator, dicts), _MOST_LOOKED_AT))
    had = {
        method: [hasattr(candidate, method) for candidate in looked_at]
        for method in PREDICTION_METHODS
    }
    if isinstance(asked, str):
        if not any(had[asked]):
            others = [method for method in PREDICTION_METHODS if any(had[method])]
            raise ValueError(
                f"return_predictions must name a method of the estimator, but "
                f"{type(estimator).__name__} has no {asked}; {_names(others)}"
            )
        return asked
    order = PREDICTION_METHODS if is_classifier(estimator) else ("predict",)
    for enough in (all, any):
        for method in order:
            if enough(had[method]):
                return method
    raise ValueError(
        f"return_predictions=True needs an estimator with one of {', '.join(order)}, but "
        f"{type(estimator).__name__} has none; set return_predictions=False"
    )


def _names(methods: Sequence[str]) -> str:
    return f"it has {' and '.join(methods)}" if methods else "set return_predictions=False"


def _candidates(estimator: Any, dicts: Dicts) -> Iterator[Any]:
    """Yield an estimator as the space makes it, with each choice that may change its methods."""
    for space in dicts:
        lists = {n: v for n, v in space.items() if not hasattr(v, "rvs") and len(v)}
        first = {name: next(iter(values)) for name, values in lists.items()}
        yield from _changed(estimator, first)
        for name, values in lists.items():
            for value in islice(values, 1, None):
                if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                    yield from _changed(estimator, {**first, name: value})


def _changed(estimator: Any, params: Mapping[str, Any]) -> Iterator[Any]:
    try:
        yield clone(estimator).set_params(**clone(dict(params), safe=False))
    except (ValueError, TypeError, AttributeError):
        yield estimator  # choices that do not belong together


def _classes(estimator: Any, y: Any) -> Any:
    """Return all labels, of each output where there are several; None where no labels are told."""
    kind = type_of_target(y)
    if kind in ("multilabel-indicator", "multiclass-multioutput"):
        columns = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        return tuple(np.unique(column) for column in columns.T)
    labels = np.unique(np.asarray(y).ravel())
    owner, _ = owner_of(estimator)
    named = owner.get_params(deep=False).get("classes")
    if named is not None and not isinstance(named, str):
        labels = np.union1d(labels, named)
    return labels


def _refuse_lost_classes(labels: NDArray[Any], classes: NDArray[Any], splits: Splits) -> None:
    for i, (train, _) in enumerate(splits):
        missing = np.setdiff1d(classes, labels[train])
        if len(missing):
            raise ValueError(
                "a decision function has no value for a class that was not there in training, "
                f"but the training part of split {i} lacks {missing.tolist()}; use stratified "
                "splits, merge rare classes, or set return_predictions='predict_proba', where it "
                "is 0, if the estimator has that"
            )


class Keeper(Observer):
    """Keeps predictions, and fitted estimators, of the rows that count.

    These are the rows with most of the resource, and the best row, whatever it has, or those that
    will be fitted again to find it. Of the others everything is dropped when their trial is told,
    or when a better one is; estimators are kept of the best of those that count.

    Parameters
    ----------
    source : Source
    n_repeats : int
    n_models : int
        Rows whose estimators are kept.
    least : int or None
        Resource from which on rows count; None for the largest of the search.
    n_leaders : int
        Candidates, the best ones, whose best row may become the best of the search.
    may_win : callable
        Whether a trial may be the best, whatever its score is.

    Attributes
    ----------
    model_files : ModelFiles or None
        Where workers leave networks; None where nothing is kept of them.
    n_unpredicted : int
        Fits that did not fail and have no predictions.
    first_unpredicted : str or None
        Why the first one has none.
    n_made_again : int
        Fits whose predictions were lost beside the journal.
    """

    def __init__(
        self,
        source: Source,
        n_repeats: int,
        n_models: int,
        least: int | None,
        n_leaders: int,
        may_win: Callable[[Trial], bool],
    ) -> None:
        plan, journal = source.plan, source.journal
        self.setting = plan.setting
        self.splits = plan.splits
        self.known = source.recorded.results
        self.n_repeats = n_repeats
        self.n_models = n_models
        self.least = plan.setting.max_resource if least is None else least
        self.n_leaders = n_leaders
        self.may_win = may_win
        self.n_unpredicted = 0
        self.first_unpredicted: str | None = None
        self.n_made_again = 0
        read_only = journal is not None and journal.read_only
        self._predictions = _Held(
            PredictionStore(None if journal is None else journal.predictions, read_only=read_only)
            if plan.setting.predictions is not None
            else None
        )
        self._models = _Held(
            ModelStore(None if journal is None else journal.models) if n_models else None
        )
        self.model_files = None
        if self._models.store is not None and not read_only:
            self.model_files = self._models.store.files
        self._fits = [(s, repeat) for s in range(len(plan.splits)) for repeat in range(n_repeats)]
        self._leaders: list[tuple[_Rank, Trial]] = []  # one of a candidate, the best one last
        self._ranked: list[tuple[_Rank, Trial]] = []  # whose models are kept, the best one last
        self._errors: dict[int, tuple[int, str]] = {}  # by trial: how many, and the first
        self._parts: set[int] = set()  # trials on some of the splits only
        self._lost: set[Name] = set()

    def take(self, trial: Trial, result: FitResult, model: Any = None) -> FitResult:
        """Store what is kept of a fit; return its result without predictions.

        Parameters
        ----------
        trial : Trial
        result : FitResult
        model : object, default=None
            What came back of its estimator, see `Outcome`.

        Raises
        ------
        StorageError
            If the system refuses.
        """
        name = result.name
        if model is not None:
            self._models.store.put(name, trial.resource, model)
            self._models.names.add(name)
        elif self.n_models and name in self.known and self._models.store.has_file(name):
            self._models.names.add(name)
        if result.predictions is not None:
            sync = worth_a_sync(result.fit_time + result.score_time)
            self._predictions.store.put(name, result.predictions, sync=sync)
            self._predictions.names.add(name)
            self._lost.discard(name)
            return replace(result, predictions=None)
        if result.unpredicted is not None:
            self.n_unpredicted += 1
            self.first_unpredicted = self.first_unpredicted or result.unpredicted
        why = result.error or result.unpredicted
        if result.skipped == RACED:
            why = "it was not made, because racing stopped its candidate after the splits before"
        elif result.is_left_out:
            why = "it was not made, because fold_schedule has fewer splits for its resource"
        elif result.skipped is not None:
            why = f"it was not made, because it breaks the constraint {result.skipped!r}"
        if why is not None:
            n, first = self._errors.get(result.trial, (0, why))
            self._errors[result.trial] = n + 1, first
        elif name in self.known and self._predictions.store is not None:
            is_there = self._predictions.store.has_file(name)
            (self._predictions.names if is_there else self._lost).add(name)
        return result

    def on_trial_end(self, trial: Trial, results: Sequence[FitResult], score: float) -> None:
        """Drop what does not count, now that the score is known."""
        if results[-1].is_left_out:
            self._parts.add(trial.number)
            self._drop(trial.number)
        ranked = (score, trial.resource or 0, -trial.number), trial
        may_win = not isnan(score) and self.may_win(trial)
        behind = self._left_behind(*ranked) if may_win else trial
        if behind is not None and not self._counts(behind):
            self._drop(behind.number)
        if behind is trial and not self._counts(trial):
            return
        if may_win:
            insort(self._ranked, ranked, key=_rank)
        if not may_win or len(self._ranked) > self.n_models:
            worst = self._ranked.pop(0)[1] if may_win else trial
            self._models.drop(self._names(worst.number))

    def _left_behind(self, rank: _Rank, trial: Trial) -> Trial | None:
        """Add a trial to the leaders; return the one that it replaces."""
        own = [leader for leader in self._leaders if leader[1].candidate == trial.candidate]
        if own and rank < own[0][0]:
            return trial
        self._leaders = [leader for leader in self._leaders if leader not in own]
        insort(self._leaders, (rank, trial), key=_rank)
        if own:
            return own[0][1]
        return self._leaders.pop(0)[1] if len(self._leaders) > self.n_leaders else None

    def _counts(self, trial: Trial) -> bool:
        return trial.resource is None or self.least is None or trial.resource >= self.least

    def _names(self, trial: int) -> list[Name]:
        return [(trial, split, repeat) for split, repeat in self._fits]

    def _drop(self, trial: int) -> None:
        self._ranked = [ranked for ranked in self._ranked if ranked[1].number != trial]
        names = self._names(trial)
        self._lost.difference_update(names)
        self._predictions.drop(names)
        self._models.drop(names)

    def to_make_again(self) -> set[Name]:
        """Return fits that the journal answers, and whose predictions are missing or damaged."""
        held = self._predictions
        arrived = {name for name in self._lost if held.store.has_file(name)}  # late, of others
        held.names |= arrived
        self._lost -= arrived
        answered = [name for name in held.names if name in self.known]
        damaged = {name for name in answered if held.store.get(name) is None}
        held.names -= damaged
        self._lost |= damaged
        self.n_made_again = len(self._lost)
        return set(self._lost)

    def predictions(self, table: TrialTable, n_samples: int, y: Any) -> KeptPredictions:
        """Return the predictions that are kept, once the last fit is done."""
        assert self.setting.predictions is not None
        self._predictions.sweep(self.known)
        trials = table.trials()
        return KeptPredictions(
            self._predictions.store,
            self.setting.predictions,
            [trial.number for trial in trials],
            self._missing(trials, self._predictions, self._why_unpredicted),
            [test for _, test in self.splits],
            n_samples,
            self.n_repeats,
            digest_of_targets(y),
        )

    def models(self, table: TrialTable, train_rows: Sequence[NDArray[Any]]) -> KeptModels:
        """Return the estimators that are kept, once the last fit is done."""
        if self.model_files is not None:
            self._models.sweep(self.known)
        trials = table.trials()
        # What is of no use any more might not be picklable, and holds data.
        nothing: dict[str, Any] = {"fit_params": {}, "score_params": {}, "layer_rules": {}}
        return KeptModels(
            self._models.store,
            replace(self.setting, scorer=None, predictions=None, **nothing),
            trials,
            self._missing(trials, self._models, self._why_no_model),
            train_rows,
            self.n_repeats,
        )

    def _missing(
        self, trials: Sequence[Trial], held: _Held, why: Callable[[Trial, Name], str]
    ) -> Mapping[int, str]:
        missing = {}
        for row, trial in enumerate(trials):
            absent = [name for name in self._names(trial.number) if name not in held.names]
            if absent:
                missing[row] = why(trial, absent[0])
        return missing

    def _why_unpredicted(self, trial: Trial, name: Name) -> str:
        if trial.number in self._errors:
            n, first = self._errors[trial.number]
            return f"{n} of its {len(self._fits)} fits have none; the first one because:\n{first}"
        if not self._counts(trial):
            return self._too_little(trial)
        return f"those of split {name[1]} were missing beside the journal, and not made again"

    def _why_no_model(self, trial: Trial, name: Name) -> str:
        if trial.number in {ranked.number for _, ranked in self._ranked}:
            if name in self.known:
                return (
                    "the journal answers its fits, and only networks are kept beside one (by a "
                    "search with keep_models)"
                )
            return f"that of split {name[1]} failed, or can neither be saved nor pickled"
        if not self._counts(trial):
            return self._too_little(trial)
        if trial.number in self._parts:
            return self._why_unpredicted(trial, name)
        return (
            f"it is not among the {self.n_models} best; set keep_models to a larger number than "
            f"{self.n_models}"
        )

    def _too_little(self, trial: Trial) -> str:
        return (
            f"it has {trial.resource} of the resource, and besides the best row those with "
            f"{self.least} are kept; set keep_from={trial.resource}"
        )


def _rank(ranked: tuple[_Rank, Trial]) -> _Rank:
    return ranked[0]


class _Held:
    """A store, and the fits of which it has something; empty without a store."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.names: set[Name] = set()

    def drop(self, names: Sequence[Name]) -> None:
        for name in names:
            if name in self.names:
                self.names.remove(name)
                self.store.drop(name)

    def sweep(self, known: Collection[Name]) -> None:
        """Remove what belongs to no fit; of those that were not replayed yet nothing is known."""
        self.store.sweep({*self.names, *known})
