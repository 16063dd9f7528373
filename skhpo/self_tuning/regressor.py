"""The regressor that tunes itself."""

from __future__ import annotations

from ..estimators import TorchRegressor
from ._estimator import SelfTuningMixin

__all__ = ["SelfTuningRegressor"]


class SelfTuningRegressor(SelfTuningMixin, TorchRegressor):
    """Regressor that tunes its regularisation in the one run that trains it.

    Everything but the targets is as in `SelfTuningClassifier`; there is no label smoothing.

    Parameters
    ----------
    module : class, callable or torch.nn.Module, default=MLP
        As in `TorchRegressor`.
    hyperparameters : dict of str to frozen distribution, or to given values, default=None
        What is tuned, and its range. Numbers are fixed values; lists, or callables that get the
        number of epochs before, are schedules.
    initial : dict of str to float, default=None
        Initial values.
    variant : {"stn", "delta", "implicit", "unrolled", "global"}, default="stn"
        How hyperparameters follow the validation loss.
    train_steps : int or None, default=None
        Training steps between two updates of the hyperparameters. None: 2, for "implicit" 10, for
        "unrolled" `n_steps`, or eight times as many where only learning rates and other settings of
        the optimizer are tuned.
    val_steps : int, default=1
        Tuning steps that follow them, for "stn" and "delta".
    warmup_epochs : int, default=5
        Epochs before tuning starts.
    entropy_weight : float, default=1e-3
        Weight of the perturbations' entropy.
    init_scale : float, default=1.0
        Initial standard deviation of the perturbations, unconstrained.
    tune_scales : bool, default=True
        Whether the standard deviations are tuned, too.
    hyper_optimizer : str, class, callable or None, default=None
        Optimizer of the hyperparameters. None: "rmsprop", where there is no response "adam", whose
        first steps are not longer than the others.
    hyper_lr : float, default=0.1
        Its learning rate. With variant="unrolled" twice that of the logarithm of a learning rate.
    response_lr : float or None, default=None
        Learning rate of the response where variant="delta"; None is `lr`.
    solver : {"neumann", "cg", "identity"} or None, default=None
        How variant="implicit" solves its linear system; None is "neumann".
    n_terms : int or None, default=None
        Its terms in an update; None is 1 of "neumann", whose series goes on from update to update,
        and 20 of "cg".
    n_steps : int or None, default=None
        Training steps through which variant="unrolled" differentiates; None is 10. Its memory grows
        with them.
    mode : {"reverse", "forward"} or None, default=None
        How variant="unrolled" differentiates. "reverse": back through the last `n_steps` steps.
        "forward": derivatives for each hyperparameter are carried along from the first step
        (Franceschi et al. 2017), for at most 20 numbers; `n_steps` are the steps between two
        updates. None is "reverse".
    n_hidden : int or None, default=None
        Hidden units of the hypernetwork of variant="global", each with a number for every weight;
        None is 32.
    refit : {None, "schedule", "final"}, default=None
        Whether a new plain network is trained afterwards and used for predictions, for as many
        epochs, on the same rows and with the same checks: with the values of each epoch
        ("schedule"), or with the last ones ("final"). None: the tuned network predicts, without
        its response.
    convert : {"auto", False}, default="auto"
        Whether layers of torch are replaced by those of `skhpo.self_tuning`.
    validation_fraction : float or None, default=0.2
        Share of the samples that hyperparameters are tuned on.
    optimizer : str, class or callable, default="adam"
        Optimizer of the weights and of their response.
    **kwargs : dict
        All other parameters of `TorchRegressor`, but for ``amp``, ``compile``, ``max_norm`` and
        ``check_every``.

    Attributes
    ----------
    schedule_, scales_ : dict of str to list
        Values, and standard deviations of the perturbations, at the end of each epoch.
    best_epoch_ : int
        The epoch with the best check at the unperturbed values.
    best_hyperparameters_ : dict of str to object
        The values in that epoch.
    module_ : torch.nn.Module
        The plain module with the weights of the best epoch, which predicts.
    tuning_ : object
        The running network with its response.
    refit_history_ : skorch.history.History
        That of the retrained network, with `refit`.
    target_mean_, target_scale_, history_, criterion_, optimizer_, device_, seed_, lr_schedule_, \
n_iter_, n_parameters_, input_shape_, n_features_in_, feature_names_in_, callbacks_, \
initialized_, init_context_, prefixes_, virtual_params_, cuda_dependent_attributes_ : object
        As of `TorchRegressor`.

    See Also
    --------
    SelfTuningClassifier : The same for classes.
    SelfTuningSearchCV : A run per fold, and a plain network under the average.
    TorchRegressor : Trains under fixed hyperparameters.

    Examples
    --------
    >>> from scipy.stats import uniform
    >>> from sklearn.datasets import make_regression
    >>> from skhpo import SelfTuningRegressor
    >>> X, y = make_regression(n_features=5, random_state=0)
    >>> net = SelfTuningRegressor(
    ...     hyperparameters={"input_noise": uniform(0, 1)}, lr=0.02, random_state=0
    ... )
    >>> net.fit(X, y / y.std()).score(X, y / y.std()) > 0.9
    True
    """
