"""Constants of Bayesian optimisation in one record."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SETTINGS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings that are not arguments of `BayesSampler`.

    They were chosen on the ``DEVELOPMENT`` tasks of ``benchmarks/bayes_tasks.py``; the table
    ``docs/benchmarks/bayes_regret.md`` has other tasks, with other seeds. Limits of work have no
    effect below them.

    Parameters
    ----------
    n_initial : int
        Configurations before the model is used, for each of up to three objectives: a front takes
        more to know than a maximum.
    n_fantasies : int
        Joint draws of the scores of pending points.
    draw_width : float
        Hyperparameters for candidates that run together are drawn so many times as far from their
        maximum as their posterior (Laplace's approximation) is wide.
    choices_every : int
        Of so many configurations that the model chooses, one is the best so far with another
        choice: how good a choice can be is seen only where its numbers are good.
    same_numbers : float
        Numbers that differ by a smaller share of their range are about the same for that.
    unequal : float
        Durations whose 10% and 90% quantiles differ by a larger factor are worth a model.
    n_repeated : int
        Number of the best configurations of another task that are proposed first.
    max_repeats : int
        Repeated draws in a row after which nearly nothing new can be drawn.
    edge_penalty : float
        Penalty on the logarithm of the acquisition at the ends of a range, where uncertainty, and
        so with noise the expected improvement, is largest.
    sure : float
        Standard deviations between a limit and the predicted violation from which on a constraint
        counts as kept: a probability of 69%.
    unsure_penalty : float
        Penalty on the logarithm of the acquisition for each standard deviation below that.
    most_noise : float
        Upper bound of the logarithm of the noise variance, for a signal variance of 1, in the model
        that chooses: 3% of the signal. A model that explains few scores as noise only explores.
    offset : float
        Variance of what choices add to a score whatever its numbers are, for a signal variance of 1
        and all choices together. Without it, what is learnt of a valley with one choice does not
        say how deep the same valley is with another one, of which few places are known.
    length_at_1, length_per_log : float
        Prior mean of the logarithm of length scales: in one dimension, and its increase per unit of
        the logarithm of the number of dimensions.
    noise_prior, scale_prior : (float, float)
        Prior mean and standard deviation of the logarithms of noise and signal variance, for scores
        with variance 1.
    length_bounds, noise_bounds, scale_bounds : (float, float)
        Bounds of the logarithms in a fit.
    max_iterations : int
        Of L-BFGS in a fit.
    most_fitted : int
        Most scores to which hyperparameters are fitted; a fit costs their third power.
    refit_percent : int
        Above `most_fitted`, the growth of the number of scores between fits.
    restart_below, restart_every : int
        Up to the first number of scores each fit also starts from the prior's mean, above it every
        second number of fits, because the previous optimum may be a local one.
    most_rows : int
        Most observations of several levels in a model; more make a fit slow, and low levels add
        little.
    most_modelled, n_modelled : int
        Up to the first number of scores the posterior has all of them, above it the second number
        (`subset`), so that the time of a proposal stays constant.
    most_running : int
        Pending points in the posterior, if these and the scores exceed `most_modelled`.
    most_front : int
        Most observations whose means are compared for the front, the best by observed values.
    enough_per_coordinate : int
        With so many scores per coordinate at the top level, lower levels are not used.
    winsor : float
        Winsorised scores: further from the median than so many times the distance from the median
        to the quartile on their side.
    tail : float
        One of several objectives: values further below the median than so many times the distance
        from the median to the upper quartile are bad, and grow by their logarithm.
    slack_tail : float
        Violations of constraints beyond so many times their median size grow by their logarithm.
    gap : float
        Absurd scores: above the median by so many times the median deviation, or the median.
    noise_power : float
        Exponent of relative noise estimated from the spread over splits, which few splits estimate
        badly and hard splits inflate.
    noise_limit : float
        Largest factor between relative noise and 1.
    most_listed : int
        Largest finite space for which the acquisition is computed at all configurations.
    n_global : int
        Points in the whole space where the maximisation starts; a power of 2.
    n_observed_centres : int
        Number of the best observed configurations around which it starts, too.
    n_found_centres : int
        Number of the best points around which each further round searches.
    n_around : int
        Points around each centre.
    n_around_running : int
        The same with pending points, as fantasies make each point slower.
    start_radii, radii : tuple of float
        Distances from centres as shares of a range: at the start, and in later rounds.
    """

    n_initial: int = 6
    n_fantasies: int = 8
    draw_width: float = 1.5
    choices_every: int = 5
    same_numbers: float = 0.05
    unequal: float = 3.0
    n_repeated: int = 3
    max_repeats: int = 1000
    edge_penalty: float = 0.3
    sure: float = 0.5
    unsure_penalty: float = 10.0
    most_noise: float = -3.5
    offset: float = 1.0
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
    most_front: int = 100
    enough_per_coordinate: int = 4
    winsor: float = 30.0
    tail: float = 5.0
    slack_tail: float = 3.0
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
