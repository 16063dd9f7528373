"""The regressor that tunes itself."""

from __future__ import annotations

from ..estimators import MLP, TorchRegressor
from ._estimator import SelfTuningMixin

__all__ = ["SelfTuningRegressor"]


class SelfTuningRegressor(SelfTuningMixin, TorchRegressor):
    """Regressor that tunes its regularisation in the one run that trains it.

    Everything but the targets is as in `SelfTuningClassifier`; there is no label smoothing.

    Parameters
    ----------
    module : class, callable or torch.nn.Module, default=MLP
        As in `TorchRegressor`.
    hyperparameters : dict of str to frozen distribution, or of str to float, default=None
        What is tuned, and its range. Numbers are values that stay.
    initial : dict of str to float, default=None
        Values at the start.
    variant : {"stn", "delta"}, default="stn"
        How the response is trained.
    train_steps, val_steps : int, default=2, 1
        Training steps, and tuning steps that follow them.
    warmup_epochs : int, default=5
        Epochs before anything is tuned.
    entropy_weight : float, default=1e-3
        Weight of the perturbations' entropy.
    init_scale : float, default=1.0
        Standard deviation of the perturbations at the start, unconstrained.
    tune_scales : bool, default=True
        Whether the standard deviations are tuned, too.
    hyper_optimizer : str, class or callable, default="rmsprop"
        Optimizer of the hyperparameters.
    hyper_lr : float, default=0.1
        Its learning rate.
    response_lr : float or None, default=None
        Learning rate of the response where variant="delta"; None is `lr`.
    refit : {None, "schedule", "final"}, default=None
        Whether a fresh plain network is trained afterwards, for as many epochs, on the same rows
        and with the same checks, and then predicts: under the values of each epoch, or under the
        last ones. None: the network that was tuned predicts, without its response.
    convert : {"auto", False}, default="auto"
        Whether layers of torch are swapped for those of `skhpo.self_tuning`.
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
        The values then.
    module_ : torch.nn.Module
        The plain module with the weights of the best epoch, which predicts.
    tuning_ : object
        The running network with its response.
    refit_history_ : skorch.history.History
        That of the retrained network, with `refit`.
    history_, criterion_, optimizer_, device_, seed_, lr_schedule_, n_iter_, n_parameters_, \
input_shape_, n_features_in_, feature_names_in_, callbacks_, initialized_, init_context_, \
prefixes_, virtual_params_, cuda_dependent_attributes_ : object
        As of `TorchRegressor`.

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

    def __init__(
        self,
        module=MLP,
        hyperparameters=None,
        *,
        initial=None,
        variant="stn",
        train_steps=2,
        val_steps=1,
        warmup_epochs=5,
        entropy_weight=1e-3,
        init_scale=1.0,
        tune_scales=True,
        hyper_optimizer="rmsprop",
        hyper_lr=0.1,
        response_lr=None,
        refit=None,
        convert="auto",
        validation_fraction=0.2,
        optimizer="adam",
        **kwargs,
    ):
        super().__init__(
            module, validation_fraction=validation_fraction, optimizer=optimizer, **kwargs
        )
        self.hyperparameters = hyperparameters
        self.initial = initial
        self.variant = variant
        self.train_steps = train_steps
        self.val_steps = val_steps
        self.warmup_epochs = warmup_epochs
        self.entropy_weight = entropy_weight
        self.init_scale = init_scale
        self.tune_scales = tune_scales
        self.hyper_optimizer = hyper_optimizer
        self.hyper_lr = hyper_lr
        self.response_lr = response_lr
        self.refit = refit
        self.convert = convert
