"""What a self-tuning network did with its hyperparameters, drawn."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..wrappers import fitted_inside
from ._drawing import Drawing

__all__ = ["SelfTuningScheduleDisplay"]


class SelfTuningScheduleDisplay(Drawing):
    """The hyperparameters of a self-tuning network over epochs, and the losses below.

    Make it with `from_estimator`.

    Parameters
    ----------
    schedule : dict of str to array-like of shape (n_epochs,)
        Each hyperparameter's values; the medians of those with many numbers.
    bands : dict of str to tuple of two array-like of shape (n_epochs,)
        The values one standard deviation of the perturbations to either side; the 5% and 95%
        quantiles of those with many numbers.
    losses : dict of str to array-like of shape (n_epochs,)
        By label: the training loss, and what the checks on the validation data measured.
    best_epoch : int
        From 1.
    log_scaled : collection of str, default=()
        Hyperparameters whose axis is logarithmic.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes, of shape (n_hyperparameters + 1,)
        One per hyperparameter, and that of the losses.
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        By hyperparameter, and by label of the loss.
    bands_ : dict of str to matplotlib artist
        By hyperparameter.

    See Also
    --------
    skhpo.SelfTuningClassifier : The network that has a schedule.

    Examples
    --------
    >>> from scipy.stats import uniform
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import SelfTuningClassifier
    >>> from skhpo.inspection import SelfTuningScheduleDisplay
    >>> net = SelfTuningClassifier(hyperparameters={"input_noise": uniform(0, 1)}, max_epochs=10)
    >>> display = SelfTuningScheduleDisplay.from_estimator(net.fit(*load_iris(return_X_y=True)))
    >>> [ax.get_ylabel() for ax in display.ax_]
    ['input_noise', 'loss']
    """

    def __init__(self, *, schedule, bands, losses, best_epoch, log_scaled=()):
        self.schedule = schedule
        self.bands = bands
        self.losses = losses
        self.best_epoch = best_epoch
        self.log_scaled = log_scaled

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw a fitted estimator.

        Parameters
        ----------
        estimator : SelfTuningClassifier or SelfTuningRegressor
            Fitted; or a pipeline that ends in one.
        ax : sequence of matplotlib Axes, or None, default=None
            Where to draw, one for each hyperparameter and one for the losses; None makes a
            figure.

        Returns
        -------
        SelfTuningScheduleDisplay

        Raises
        ------
        TypeError
            If `estimator` is another one.
        NotFittedError
            If it is not fitted.
        """
        net = fitted_inside(estimator)
        if not hasattr(type(net), "schedule_"):
            raise TypeError(
                "SelfTuningScheduleDisplay draws a SelfTuningClassifier or SelfTuningRegressor, or "
                f"a pipeline that ends in one, but got {estimator!r}"
            )
        check_is_fitted(net)
        schedule, ranges, bands = dict(net.schedule_), net.tuning_.ranges, {}
        for name, values in schedule.items():
            if np.ndim(values[0]):
                low, schedule[name], high = np.quantile(values, (0.05, 0.5, 0.95), axis=1)
                bands[name] = low, high
            else:
                bands[name] = ranges.band(name, values, net.scales_[name])
        monitored = net.monitor if net.monitor == "valid_loss" else f"valid_{net.monitor}"
        losses = {"train_loss": net.history[:, "train_loss"]}
        if monitored in net.history[-1]:
            losses[monitored] = net.history[:, monitored]
        display = cls(
            schedule=schedule,
            bands=bands,
            losses=losses,
            best_epoch=net.best_epoch_,
            log_scaled=[name for name in schedule if ranges.is_log(name)],
        )
        return display.plot(ax=ax)

    def _draw(self, ax):
        n_axes = len(self.schedule) + 1
        heights = [1] * (n_axes - 1) + [2]
        self._grid(ax, n_axes, 1, (7, 1.4 + 1.6 / n_axes), height_ratios=heights, sharex=True)
        self.lines_, self.bands_ = {}, {}
        epochs = np.arange(1, len(next(iter(self.losses.values()))) + 1)
        for own, (name, values) in zip(self.ax_, self.schedule.items(), strict=False):
            (self.lines_[name],) = own.plot(epochs, values, color="C0")
            self.bands_[name] = own.fill_between(epochs, *self.bands[name], alpha=0.25, color="C0")
            own.set(ylabel=name, yscale="log" if name in self.log_scaled else "linear")
        self._plot_losses(self.ax_[-1], epochs)
        for own in self.ax_:
            own.axvline(self.best_epoch, color="black", linewidth=0.8, linestyle=":")

    def _plot_losses(self, ax, epochs):
        lines = []
        for i, (label, values) in enumerate(self.losses.items(), start=1):
            # A score is no loss, and has a scale of its own.
            own = ax if label.endswith("loss") else ax.twinx()
            lines += own.plot(epochs, values, color=f"C{i}", label=label)
            own.set_ylabel("loss" if own is ax else label)
            self.lines_[label] = lines[-1]
        ax.set_xlabel("epoch (dotted: the best)")
        ax.legend(handles=lines)
