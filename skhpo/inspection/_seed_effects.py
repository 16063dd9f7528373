"""How much of the variance of scores is due to configurations, and how much to chance."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student_t
from sklearn.utils import Bunch, check_random_state

from ..arguments import COUNT, check_arguments
from ._reading import read_search
from ._variance_components import VarianceComponents

__all__ = ["seed_effects"]

# Parameters that set seeds: of one stream of randomness ("net__seeds__init"), or of all.
_STREAM = "seeds__"
_ALL_STREAMS = "random_state"
_REPEATS = (1, 2, 3, 5, 10)


def seed_effects(source, *, metric=None, resource="largest", n_bootstrap=2000, random_state=None):
    """Return how much of the variance of scores configurations, splits and seeds have.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`. What seeds do is known of a search with ``n_repeats=2`` or more, or of
        one whose space has seeds: `random_state`, or `seeds__init`, `seeds__shuffle`,
        `seeds__forward` of a network, which pin single streams.
    metric : str or None, default=None
        Which score; None is the one that counts.
    resource : "largest", "all" or number, default="largest"
        Rows of which level of the resource.
    n_bootstrap : int, default=2000
        Draws for the intervals.
    random_state : int, RandomState or None, default=None
        Of the draws.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        table : dict of str to ndarray
            A line for each component, for pandas: ``"component"``, ``"variance"``, ``"share"`` of
            the sum, ``"low"`` and ``"high"`` (95% interval of the share), ``"variance_low"``,
            ``"variance_high"``. Components are

            * "configuration": what the search is after;
            * "split": some are harder for all configurations;
            * "init", "shuffle", "forward", "random_state", ...: seeds in the space;
            * "seed": all streams that are not pinned, from repeats on the same split; NaN without
              repeats;
            * "rest": configurations that suit some splits better than others; without repeats
              chance of seeds as well.

            Estimates below 0 are shown as 0. NaN where a search cannot tell.
        std_of_seed : float
            Standard deviation of the score of one configuration on one split over seeds; NaN
            without repeats.
        smallest_difference : float
            Differences between the mean scores of two configurations are below that in 95 of 100
            cases if the configurations are equally good. Of a single split it is that of seeds
            alone: what other splits would say is not known.
        differences : dict of str to ndarray
            ``"n_repeats"``, ``"smallest_difference"``: what it would be with other `n_repeats`.
            Without repeats only what it is.
        rows : ndarray of int
            Of ``cv_results_``, the best first; those without failed fits.
        scores : ndarray of shape (n_rows,)
            Mean test score of each row.
        n_splits, n_repeats : int
            Numbers of splits and repeats.
        metric : str
            Name of the metric.

    Raises
    ------
    ValueError
        If there are fewer than two finite scores on the same rows, or no such metric or level.
    TypeError, NotFittedError, JournalError
        As of `read_search`.

    Notes
    -----
    The layout is two-way, configurations by splits, with repeats; components are estimated by the
    method of moments, intervals by draws of the mean squares (generalized confidence intervals,
    Weerahandi, 1993). In `smallest_difference` the training parts of splits count as overlapping,
    as in the corrected resampled t test (Nadeau, Bengio, 2003).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skhpo.inspection import seed_effects
    >>> space = {"max_depth": [1, 2, 3], "random_state": [0, 1, 2, 3]}
    >>> search = GridSearchCV(RandomForestClassifier(3), space)
    >>> found = seed_effects(search.fit(*load_iris(return_X_y=True)), random_state=0)
    >>> found.table["component"].tolist()
    ['configuration', 'split', 'random_state', 'seed', 'rest']
    """
    check_arguments("seed_effects", {"n_bootstrap": [COUNT]}, n_bootstrap=n_bootstrap)
    record = read_search(source)
    rows = record.enough_rows(1, "seed_effects", metric, resource)
    scores = record.scores[record.checked_metric(metric)][rows]
    _, n_splits, n_repeats = scores.shape
    if scores.size < 2:
        raise ValueError(
            "seed_effects needs two scores at least, but there is one; search with several "
            "configurations, splits or repeats"
        )
    factors, streams = _factors(record, rows, scores.shape)
    residual = "seed" if n_repeats > 1 else "rest"
    found = VarianceComponents(scores.ravel(), factors, residual)
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    single = dict(zip(found.names, np.maximum(found.variances, 0), strict=True))
    draws = np.maximum(found.draw(n_bootstrap, rng), 0).T
    drawn = dict(zip(found.names, draws, strict=True))
    names = ["configuration", "split", *streams, "seed", "rest"]
    order = np.argsort(-record.means(metric)[rows], kind="stable")
    differences = _differences(single, found, scores.shape)
    return Bunch(
        table=_table(names, single, drawn),
        std_of_seed=float(np.sqrt(single["seed"])) if "seed" in single else np.nan,
        smallest_difference=differences.get(n_repeats, np.nan),
        differences={
            "n_repeats": np.array(list(differences), dtype=int),
            "smallest_difference": np.array(list(differences.values())),
        },
        rows=rows[order],
        scores=record.means(metric)[rows][order],
        n_splits=n_splits,
        n_repeats=n_repeats,
        metric=record.checked_metric(metric),
    )


def _factors(record, rows, shape):
    """Return the groups that each score is in, and which streams have seeds in the space."""
    seeds = {name: _stream_of(name) for name in record.space.names if _stream_of(name)}
    resources = record.resources
    own = []
    for row in rows:
        params = {k: repr(v) for k, v in record.params[row].items() if k not in seeds}
        # A configuration that is there twice counts as two: its seeds are others.
        number = None if seeds else record.candidates[row]
        own.append(
            (number, tuple(sorted(params.items())), resources is not None and resources[row])
        )
    configuration = _numbered(own)
    row, split, _ = np.indices(shape).reshape(3, -1)
    configuration = configuration[row]
    factors = {"configuration": configuration, "split": split}
    streams = list(dict.fromkeys(seeds.values()))
    for stream in streams:
        names = [name for name, one in seeds.items() if one == stream]
        values = _numbered([tuple(repr(record.params[i].get(n)) for n in names) for i in rows])
        both = _numbered(list(zip(configuration.tolist(), values[row].tolist(), strict=True)))
        factors[stream] = both
        factors[f"{stream} on a split"] = both * shape[1] + split
    factors["rest" if shape[2] > 1 else "interaction"] = configuration * shape[1] + split
    return factors, streams


def _stream_of(name):
    last = name.rpartition(_STREAM)
    if last[1] and (last[0] == "" or last[0].endswith("__")):
        return last[2]
    return _ALL_STREAMS if name.rpartition("__")[2] == _ALL_STREAMS else None


def _numbered(values):
    numbers = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=int)


def _parts(name):
    """Return the components of the layout that make one of the table."""
    return (name, "interaction") if name == "rest" else (name, f"{name} on a split")


def _table(names, single, drawn):
    """Return shares and intervals, NaN of what cannot be told."""
    variances = [_sum(single, name) for name in names]
    replicates = [_sum(drawn, name) for name in names]
    total = np.nansum(variances)
    known = [np.asarray(one) for one in replicates if one is not np.nan]
    total_drawn = np.sum(known, axis=0)

    def ends(values, scale):
        if values is np.nan:
            return np.nan, np.nan
        shares = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
        return tuple(np.percentile(shares, [2.5, 97.5]))

    of_share = np.array([ends(one, total_drawn) for one in replicates])
    of_variance = np.array([ends(one, np.ones_like(total_drawn)) for one in replicates])
    variances = np.array(variances, dtype=float)
    return {
        "component": np.array(names, dtype=object),
        "variance": variances,
        "share": variances / total if total > 0 else np.where(np.isnan(variances), np.nan, 0.0),
        "low": of_share[:, 0],
        "high": of_share[:, 1],
        "variance_low": of_variance[:, 0],
        "variance_high": of_variance[:, 1],
    }


def _sum(values, name):
    there = [values[part] for part in _parts(name) if part in values]
    return sum(there[1:], there[0]) if there else np.nan


def _differences(single, found, shape):
    """Return by number of repeats the smallest difference that means something."""
    n_rows, n_splits, n_repeats = shape
    if n_rows < 2 or not ({"rest", "interaction", "seed"} & set(found.names)):
        return {}
    overlap = 1 / (n_splits - 1) if n_splits > 1 else 0.0
    of_split = sum(v for k, v in single.items() if k in ("rest", "interaction"))
    of_split += sum(v for k, v in single.items() if k.endswith(" on a split"))
    fixed = of_split * (1 / n_splits + overlap)
    fixed += sum(v for k, v in single.items() if f"{k} on a split" in single)
    inner = [i for i, name in enumerate(found.names) if name in ("rest", "interaction")]
    degrees = found.degrees[inner[-1]] if inner else found.degrees[-1]
    quantile = student_t.ppf(0.975, degrees)
    repeats = sorted({*_REPEATS, n_repeats}) if "seed" in single else [n_repeats]
    return {
        r: float(quantile * np.sqrt(2 * (fixed + single.get("seed", 0.0) / (n_splits * r))))
        for r in repeats
    }
