"""The numbers that Bayesian optimisation goes by, in one record."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SETTINGS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings that are no arguments of `BayesSampler`.

    They were chosen on the ``DEVELOPMENT`` tasks of ``benchmarks/bayes_tasks.py``; the table
    ``docs/benchmarks/bayes_regret.md`` has other tasks, with other seeds. Those that only bound
    work do not matter below their bounds.

    Parameters
    ----------
    n_initial : int
        Configurations before the model is asked.
    n_fantasies : int
        Joint draws of the scores of what runs.
    n_repeated : int
        The best configurations of another task, to be tried here too.
    max_repeats : int
        Draws in a row that are known already, after which next to nothing new is left to draw.
    edge_penalty : float
        What the logarithm of the acquisition loses at an end of a number's range: in noise the
        largest expected improvements otherwise are where least is known, at the ends.
    most_noise : float
        The largest logarithm of the noise variance, of a signal of 1, in the model that chooses. A
        model that explains few scores as noise only explores; 3% of the signal are left to it.
    length_at_1, length_per_log : float
        Prior mean of the logarithm of length scales: the first in one dimension, and so much more
        for each unit of the logarithm of the number of dimensions.
    noise_prior, scale_prior : (float, float)
        Mean and standard deviation of the logarithms of the noise and the signal variance, whose
        scores have variance 1.
    length_bounds, noise_bounds, scale_bounds : (float, float)
        Of the logarithms, in a fit.
    max_iterations : int
        Of L-BFGS, in a fit.
    most_fitted : int
        Scores to which hyperparameters are fitted: a fit costs their third power.
    refit_percent : int
        Above `most_fitted`, by how much the scores grow from one fit to the next.
    restart_below, restart_every : int
        Up to so many scores a fit also starts from the prior's mean, above it every so many fits;
        the last optimum alone may be a local one.
    most_rows : int
        Observations of all levels that a model has: more make a fit slow, and the lowest levels add
        little to many others.
    most_modelled, n_modelled : int
        Up to so many scores the posterior has all, beyond that so many of them (`subset`), so that
        asking takes as long however many there are.
    most_running : int
        Points that run in the posterior, where these and the scores are more than `most_modelled`.
    enough_per_coordinate : int
        So many scores per coordinate at the top level say more alone than with those below.
    winsor : float
        Scores further from the median than so many times the distance from the median to the
        quartile on their side are moved there.
    gap : float
        Scores above the median by so many times the usual deviation, or the median itself, say only
        that nothing is better.
    noise_power : float
        Of the relative noise that the spread over splits says: folds that are hard for all
        candidates inflate it, and few of them tell it badly.
    noise_limit : float
        By how much relative noise may differ from 1, either way.
    most_listed : int
        Configurations of a finite space up to which the acquisition is computed for all.
    n_global : int
        Points over all of the space where the search for its maximum starts; a power of 2.
    n_observed_centres : int
        The best observed configurations, around which it starts too.
    n_found_centres : int
        The best points found so far, around which each further round looks.
    n_around : int
        Points around each centre.
    n_around_running : int
        The same where something runs, because with fantasies each point takes longer.
    start_radii, radii : tuple of float
        How far from centres, as a share of a range: at the start, and in the rounds after it.
    """

    n_initial: int = 6
    n_fantasies: int = 8
    n_repeated: int = 3
    max_repeats: int = 1000
    edge_penalty: float = 0.3
    most_noise: float = -3.5
    length_at_1: float = -0.3
    length_per_log: float = 0.5
    noise_prior: tuple[float, float] = (-5.0, 1.5)
    scale_prior: tuple[float, float] = (0.0, 0.7)
    length_bounds: tuple[float, float] = (-5.0, 6.0)
    noise_bounds: tuple[float, float] = (-14.0, 2.0)
    scale_bounds: tuple[float, float] = (-5.0, 5.0)
    max_iterations: int = 60
    most_fitted: int = 200
    refit_percent: int = 5
    restart_below: int = 20
    restart_every: int = 5
    most_rows: int = 250
    most_modelled: int = 500
    n_modelled: int = 400
    most_running: int = 200
    enough_per_coordinate: int = 4
    winsor: float = 30.0
    gap: float = 1e9
    noise_power: float = 0.5
    noise_limit: float = 10.0
    most_listed: int = 1024
    n_global: int = 1024
    n_observed_centres: int = 5
    n_found_centres: int = 5
    n_around: int = 160
    n_around_running: int = 120
    start_radii: tuple[float, ...] = (0.1, 0.01)
    radii: tuple[float, ...] = (0.2, 0.1, 0.05, 0.02, 0.01, 0.004)


SETTINGS = Settings()
