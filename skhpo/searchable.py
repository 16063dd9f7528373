"""What a search asks of an estimator beyond scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EndOfTraining", "SearchTags", "search_tags"]


def _nothing(*args: Any) -> None:
    pass


@dataclass(frozen=True)
class EndOfTraining:
    """How an estimator finds the epoch with which its training should have ended, and uses it.

    Parameters
    ----------
    finds : bool
        Whether a fit under these parameters is checked on rows that it does not train on.
    found : callable
        ``found()`` of a fitted estimator: ``best_epoch``, and ``best_step``, the steps of the
        optimizer in as many epochs; empty where nothing was checked.
    parameters : callable
        ``parameters(n_epochs)`` are those to set for a fit that trains so many epochs on all rows,
        on the same schedule. ValueError where a parameter needs rows that are held out.
    steps_per_epoch : callable
        ``steps_per_epoch(n_samples)`` of such a fit.
    why_same : callable
        ``why_same()`` is why a refit had better hold rows out again, as a part of a sentence; None
        where fits hold rows out themselves, predict with what is best on them, and nothing else
        needs these rows.
    """

    finds: bool
    found: Callable[[], Mapping[str, int]]
    parameters: Callable[[int], dict[str, Any]]
    steps_per_epoch: Callable[[int], int]
    why_same: Callable[[], str | None]


@dataclass(frozen=True)
class SearchTags:
    """What a search needs to know of an estimator; what its ``__skhpo_tags__()`` returns.

    No estimator needs that method: without it these are the defaults.

    Parameters
    ----------
    counted : str, default="max_epochs"
        The parameter that ``partial_fit``, if there is one, takes for what it is to train beyond
        what is trained already. Fits whose resource it is are continued.
    reads_rows : bool, default=False
        Whether ``fit`` and ``predict`` may be passed a `skhpo.rows.RowSubset` for `X`.
    check_data : callable
        ``check_data(X, y, fit_params, varied)`` raises what every fit of a search would raise.
        `X` and `y` are None where something transforms them before; `varied` has the names of the
        parameters that the candidates set.
    check_resource : callable
        ``check_resource(resource)`` raises if a search over this parameter could not go on with
        what it trained.
    check_epochs : callable
        ``check_epochs(n_epochs)`` raises if a parameter has no value for the last of so many
        epochs.
    dataset_targets : callable or None, default=None
        ``dataset_targets(dataset, report)`` returns the targets of a torch `Dataset` as an array,
        as predictions have them, or None if its items have none; it calls ``report(n)`` when it has
        read n items. None for an estimator that no `Dataset` is known to fit.
    predicts_seen_classes : bool, default=False
        Whether it is a classifier that predicts the classes of its training rows and no others.
    model_space : callable or None, default=None
        ``model_space(shapes)`` is the space that the estimator's builder asks for, a dict or a list
        of dicts; `shapes` has the numbers of features and outputs, as far as they are known.
    new_parameters : callable or None, default=None
        ``new_parameters(params, shapes)`` has those that the builder asked for under `params`, and
        `model_space` lacked, with their defaults.
    output_size : callable or None, default=None
        Of an estimator with ``predict_outputs(X)``, from which it predicts: ``output_size()`` is
        how many numbers that has for a sample, once it is fitted.
    n_parameters : callable or None, default=None
        ``n_parameters(X, y)`` is how many numbers a fit to such data would train, found without
        training; None where they cannot be counted.
    averages : tuple of str, default=()
        The parameter that says how weights are averaged for predictions, then those that make an
        average needless unless they are None: a schedule of the learning rate. Empty where weights
        cannot be averaged.
    end_of_training : EndOfTraining or None, default=None
        None where an estimator does not count epochs, or always needs rows that are held out.
    """

    counted: str = "max_epochs"
    reads_rows: bool = False
    check_data: Callable[[Any, Any, Mapping[str, Any], set[str]], None] = _nothing
    check_resource: Callable[[str], None] = _nothing
    check_epochs: Callable[[int], None] = _nothing
    dataset_targets: Callable[[Any, Callable[[int], None]], Any] | None = None
    predicts_seen_classes: bool = False
    model_space: Callable[[Mapping[str, Any]], Any] | None = None
    new_parameters: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] | None = None
    output_size: Callable[[], int] | None = None
    n_parameters: Callable[[Any, Any], int | None] | None = None
    averages: tuple[str, ...] = ()
    end_of_training: EndOfTraining | None = None


def search_tags(estimator: Any) -> SearchTags:
    """Return the tags of an estimator, the defaults where it has none."""
    if isinstance(estimator, type) or not hasattr(estimator, "__skhpo_tags__"):
        return SearchTags()
    tags: SearchTags = estimator.__skhpo_tags__()
    return tags
