"""Setup of a fit: an estimator with parameters and seeds, and its part of the data."""

from __future__ import annotations

import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.multiclass import type_of_target

from .._compat import check_method_params
from ..rows import Inputs, RowSubset, as_given, split_by_rows, take_rows
from ..scorers import looks_at_predictions_only
from ..searchable import search_tags
from ..wrappers import Inside, Prepared, arguments_inside, fit_wrappers, inside
from ._callbacks import separate_files
from ._continuation import set_horizon
from ._tasks import FAILURES, Setting, failure, raise_unless_candidates
from ._travel import loaded, stored

if TYPE_CHECKING:
    from ._tasks import FitTask, TransformTask

__all__ = [
    "GroupData",
    "Work",
    "configured",
    "derive_seed",
    "inner_rows",
    "inside_of",
    "key_of_wrappers",
    "n_together",
    "nested_subsamples",
    "network_inside",
    "own_files",
    "part_of",
    "prepare",
    "reads_rows",
    "run_transform",
    "train_part",
    "transform_and_store",
]

# Bytes from which on rows are not copied out of an array.
_LARGE = 2**26


def derive_seed(seed: int, *key: int | str) -> int:
    """Return a seed for the fit that `key` names.

    Parameters
    ----------
    seed : int
        Seed of the search.
    *key : int or str
        What is fitted: a purpose, then numbers such as candidate and split.

    Returns
    -------
    int
        In [0, 2**31), which is what every scikit-learn estimator accepts.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    sequence = np.random.SeedSequence(seed, spawn_key=words)
    return int(sequence.generate_state(1)[0] >> 1)


class Work(NamedTuple):
    """Estimator of a task; its wrappers and the data inside, and the estimator there."""

    whole: Any
    prepared: Prepared
    fresh: Any
    resource: str | None
    levels: tuple[int | None, ...]

    def without_rows(self) -> Work:
        """Return the same without the data that it was trained on."""
        return self._replace(prepared=replace(self.prepared, X=None, y=None, fit_params={}))


def configured(
    setting: Setting, params: Mapping[str, Any], *, split: int, candidate: int, repeat: int = 0
) -> Any:
    """Return an unfitted estimator with a candidate's parameters and its seeds.

    Inside of wrappers a seed depends on candidate, split and repeat; a transformer's on the split
    alone, because candidates share transformers. `split` is -1 for the refit on all data. An
    integer given by the user is kept, but for further repeats, which need other seeds.
    """
    return _configured(setting, params, split=split, candidate=candidate, repeat=repeat)[0]


def _configured(
    setting: Setting, params: Mapping[str, Any], *, split: int, candidate: int, repeat: int
) -> tuple[Any, Mapping[str, Any]]:
    """Return what `configured` does, and all parameters of it but for the seeds."""
    if setting.starts is not None:
        params = setting.starts.placed(params)
    repeat += setting.first_repeat
    estimator = clone(setting.estimator).set_params(**clone(dict(params), safe=False))
    prefix = inside(estimator, setting.resource).prefix
    seeds = {}
    found: Mapping[str, Any] = estimator.get_params(deep=True)
    for name, given in found.items():
        if name.rpartition("__")[2] != "random_state" or not isinstance(given, Integral | None):
            continue
        if given is not None:
            if repeat and name.startswith(prefix):
                seeds[name] = derive_seed(int(given), name, repeat)
        elif name.startswith(prefix):
            seeds[name] = derive_seed(setting.seed, name, candidate, split + 1, repeat)
        else:
            seeds[name] = derive_seed(setting.seed, name, split + 1)
    if seeds:
        estimator.set_params(**seeds)
    set_horizon(estimator, setting.resource, setting.max_resource)
    return estimator, found


def inside_of(setting: Setting, params: Mapping[str, Any]) -> Inside:
    """Return what is inside of the wrappers of an estimator with a candidate's parameters."""
    found = inside(setting.estimator, setting.resource)
    if not found.may_be_moved_by(params):
        return found
    changed = clone(setting.estimator).set_params(**clone(dict(params), safe=False))
    return inside(changed, setting.resource)


def key_of_wrappers(setting: Setting, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return a key that is equal for candidates that share transformers; None if there are none."""
    found = inside_of(setting, params)
    return found.key_of_wrappers(params) if found.transforms_X else None


def network_inside(
    whole: Any, X: Any, fit_params: Mapping[str, Any], resource: str | None = None
) -> tuple[Inside, str | None]:
    """Return what is inside of wrappers, and why it cannot be trained in lockstep, if so."""
    found = inside(whole, resource)
    # Where nothing has imported torch there are no networks.
    estimators = sys.modules.get("skhpo.estimators")
    kinds = () if estimators is None else (estimators.TorchClassifier, estimators.TorchRegressor)
    if not isinstance(found.estimator, kinds):
        return found, f"a {type(found.estimator).__name__} is no torch estimator of this package"
    if isinstance(X, Mapping | Inputs) and not found.transforms_X:
        return found, "X is a dict"
    from ..lockstep import obstacle

    return found, obstacle(found.estimator, arguments_inside(whole, fit_params))


def n_together(net: Any, X: Any, y: Any, n_nets: int) -> int:
    """Return how many of so many networks it pays to train together on such data."""
    from ..lockstep import built_for, pays

    built = None if y is None else built_for(net, X, y)
    return int(pays(net if built is None else built, n_nets))


def run_transform(
    task: TransformTask, setting: Setting, X: Any, y: Any, rows: Any
) -> Prepared | str:
    """Fit the wrappers of an estimator; return a `Prepared`, or the traceback of a failure."""
    try:
        train = rows[0][: task.n_train]
        estimator = configured(setting, task.params, split=task.split, candidate=0)
        part = train_part(setting, estimator, X, y, train)
        return fit_wrappers(estimator, *part, setting.resource)
    except FAILURES as error:
        raise_unless_candidates(error, setting)
        return failure(error, traceback.format_exc(), setting)


def transform_and_store(folder: str | None, task: TransformTask, *args: Any) -> Any:
    """Fit transformers; what they return goes to a file where workers share a disk."""
    transformed = run_transform(task, *map(loaded, args))
    if folder is None or isinstance(transformed, str):
        return transformed
    return stored(transformed, folder)


def prepare(
    setting: Setting,
    task: FitTask,
    part_for: Callable[[Any], tuple[Any, Any, Mapping[str, Any]]],
    prepared: Prepared | None = None,
) -> Work:
    """Build the estimator of a task, and decide how it is trained.

    Parameters
    ----------
    setting : Setting
    task : FitTask
    part_for : callable
        From an unfitted estimator to what `train_part` returns.
    prepared : Prepared or None, default=None
        Fitted wrappers that the task shares with others.

    Returns
    -------
    Work
    """
    whole, params = _configured(
        setting, task.params, split=task.split, candidate=task.candidate, repeat=task.repeat
    )
    if _lists_callbacks(params):
        repeat = f"-repeat-{task.repeat}" if task.repeat else ""
        name = f"{setting.name}/candidate-{task.candidate}-split-{task.split}{repeat}"
        separate_files(whole, name)
    found = inside(whole, setting.resource)
    if prepared is None:
        prepared = fit_wrappers(whole, *part_for(whole), setting.resource)
    return Work(
        whole,
        prepared,
        found.fresh,
        found.resource,
        (None,) if setting.resource == "n_samples" else task.levels,
    )


def own_files(estimator: Any, folder: str) -> None:
    """Give skorch's callbacks, where there are some, a folder: see `separate_files`."""
    if _lists_callbacks(estimator.get_params(deep=True)):
        separate_files(estimator, folder)


def _lists_callbacks(params: Mapping[str, Any]) -> bool:
    return any(isinstance(params[k], list) for k in params if k.rpartition("__")[2] == "callbacks")


def train_part(
    setting: Setting, estimator: Any, X: Any, y: Any, train: Any
) -> tuple[Any, Any, Mapping[str, Any]]:
    """Return the rows, targets and metadata that an estimator is fitted on."""
    return *part_of(estimator, X, y, train), check_method_params(X, setting.fit_params, train)


def reads_rows(estimator: Any) -> bool:
    """Return whether an estimator can read rows of a large array where they are."""
    found = inside(estimator)
    return not found.transforms_X and search_tags(found.estimator).reads_rows


def part_of(
    estimator: Any, X: Any, y: Any, rows: Any, other_rows: Any = None, *, lazily: bool = True
) -> tuple[Any, Any]:
    """Return some rows of the data; not copied where they are large and can be read in place."""
    if lazily and _is_large(X) and reads_rows(estimator):
        return RowSubset(X, rows), None if y is None else as_given(take_rows(y, rows))
    X, y = split_by_rows(estimator, X, y, rows, other_rows)
    return as_given(X), as_given(y)


def inner_rows(estimator: Any, prepared: Prepared, X: Any, rows: Any) -> Any:
    """Return some rows of the data as the estimator inside reads them; None where it cannot."""
    if not (_is_large(X) and search_tags(inside(estimator).estimator).reads_rows):
        return None
    return prepared.inner_rows(X, rows)


def _is_large(X: Any) -> bool:
    return type(X) in (np.ndarray, np.memmap) and X.nbytes >= _LARGE


class GroupData:
    """Parts of the data for the fits of a group. Each is made once: many of them share it.

    Parameters
    ----------
    setting : Setting
    X, y : array-like
        All data.
    shared : dict
        Rows of splits by their numbers, fitted wrappers by their keys.
    keep : bool
        Whether there are several fits, so that parts are worth being kept.
    """

    def __init__(
        self, setting: Setting, X: Any, y: Any, shared: Mapping[Any, Any], *, keep: bool
    ) -> None:
        self.setting = setting
        self.X = X
        self.y = y
        self.shared = shared
        # Of small data no rows are read in place.
        self.lazily = _is_large(X) and looks_at_predictions_only(setting.scorer)
        self.keep = keep
        self._made: dict[Any, Any] = {}

    def rows(self, task: FitTask, part: str) -> Any:
        train, test = self.shared[task.split]
        return test if part == "test" else train[: task.n_train]

    def _reads_in_place(self, estimator: Any) -> bool:
        return _is_large(self.X) and reads_rows(estimator)

    def to_train(self, task: FitTask, estimator: Any) -> tuple[Any, Any, Mapping[str, Any]]:
        made: tuple[Any, Any, Mapping[str, Any]] = self._once(
            (task.split, task.n_train, self._reads_in_place(estimator)),
            lambda: train_part(self.setting, estimator, self.X, self.y, self.rows(task, "train")),
        )
        return made

    def to_score(self, task: FitTask, estimator: Any, part: str) -> tuple[Any, Any]:
        """Return the rows as given by the user."""
        made: tuple[Any, Any] = self._once(
            (part, task.split, task.n_train, self._reads_in_place(estimator)),
            lambda: self._given(task, estimator, part),
        )
        return made

    def _given(self, task: FitTask, estimator: Any, part: str) -> tuple[Any, Any]:
        others = (self.rows(task, "train"),) if part == "test" else ()
        rows = self.rows(task, part)
        return part_of(estimator, self.X, self.y, rows, *others, lazily=self.lazily)

    def to_score_inside(
        self, task: FitTask, whole: Any, prepared: Prepared, part: str
    ) -> tuple[Any, Any]:
        """Return the rows as the estimator inside gets them, and targets as given."""
        if task.key is None:
            return self.to_score(task, whole, part)

        def transformed() -> tuple[Any, Any]:
            if (X := self.inner_rows(task, whole, prepared, part)) is not None:
                return X, None if self.y is None else take_rows(self.y, self.rows(task, part))
            X, y = self._given(task, whole, part)
            return prepared.inner_data(X)[0], y

        made: tuple[Any, Any] = self._once((part, task.split, task.n_train, task.key), transformed)
        return made

    def inner_rows(self, task: FitTask, whole: Any, prepared: Prepared, part: str) -> Any:
        """Return the rows as the estimator inside reads them in place; None where it cannot."""
        if task.key is None or not self.lazily:
            return None
        return inner_rows(whole, prepared, self.X, self.rows(task, part))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if not self.keep:
            return make()
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def nested_subsamples(y: Any, train: Any, seed: int, split: int) -> NDArray[np.intp]:
    """Order training rows so that every leading part is a good subsample.

    Parameters
    ----------
    y : array-like or None
        Target of all rows.
    train : ndarray of int
        Training rows of the split.
    seed, split : int

    Returns
    -------
    ndarray of int
        `train` reordered. The first ``n`` rows are a subsample of size ``n`` and part of every
        larger one. For a classification target the first rows show every class once, and class
        frequencies in any leading part differ from those in `train` by about one row.
    """
    rng = np.random.default_rng(derive_seed(seed, "n_samples", split))
    rows = rng.permutation(train)
    if y is None or isinstance(y, Inputs) or type_of_target(y) not in {"binary", "multiclass"}:
        return rows
    labels = np.ravel(y)[rows]  # a column counts as a list
    when = np.empty(len(rows))
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        when[members] = (np.arange(len(members)) + rng.uniform()) / len(members)
        when[members[0]] -= 1.0
    return rows[np.argsort(when, kind="stable")]
