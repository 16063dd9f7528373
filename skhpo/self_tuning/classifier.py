"""The classifier that tunes itself."""

from __future__ import annotations

from ..estimators import TorchClassifier
from ._estimator import SelfTuningMixin
from .gradients import smoothed

__all__ = ["SelfTuningClassifier"]


class SelfTuningClassifier(SelfTuningMixin, TorchClassifier):
    """Classifier that tunes its regularisation in the one run that trains it.

    A self-tuning network (MacKay et al. 2019): the weights of its layers respond to the
    hyperparameters. Training minimises the loss under hyperparameters perturbed for each example;
    every few steps the hyperparameters follow the gradient of the validation loss through the
    response. The result is a schedule of hyperparameters and a plain network.

    Parameters
    ----------
    module : class, callable or torch.nn.Module, default=MLP
        As in `TorchClassifier`. Its ``forward`` is left alone.
    hyperparameters : dict of str to frozen distribution, or to given values, default=None
        What is tuned, and its range: the support of a distribution of `scipy.stats` (`uniform`,
        `loguniform` on a log scale, `randint`, `skhpo.log_randint`, or one on [0, inf)). Names:
        "<layer>.p" of a dropout layer, "weight_decay" or "<layer>.weight_decay" (half the squared
        norm of the weights is added to the loss), "input_noise" (standard deviation),
        "input_dropout", "label_smoothing", names of images' augmentations, "<layer>.dropout" and
        others in docs/self_tuning.md, and that of a `HyperValue`. A layer may be a pattern
        (``"dropout_*.p"`` is one value for several layers), or several with "|" in between. None
        tunes "weight_decay" in [1e-6, 0.1] and, by "stn" and "delta", the rate of each dropout
        layer in [0, 0.9].
        Numbers are fixed values: a plain network is trained with them, also without validation
        data, and the settings of tuning and `refit` are ignored. A list has a value for each epoch
        (such as `schedule_` of another network), a callable gets the number of epochs before.
    initial : dict of str to float, default=None
        Initial values. Missing ones are the rate of the dropout layer, otherwise 5% of the way
        from the low end; the learning rates of variant="unrolled" that are not in it start at a
        multiple of `lr` that is found before training.
    variant : {"stn", "delta", "implicit", "unrolled", "global"}, default="stn"
        How hyperparameters follow the validation loss. "stn": by a response of the weights.
        "delta": the weights are trained at unperturbed values and the response on the network
        linearised around them, with an optimizer of its own; `train_steps` of 5 suit it.
        "implicit": a plain network, and the implicit function theorem (Lorraine et al. 2020).
        "unrolled": through the last training steps (Shaban et al. 2019), also for "lr", "momentum",
        "beta1", "beta2", and "<layer>.lr" and so on; the network must have one of the optimizers
        "sgd", "adam", "adamw" and "rmsprop". "global": a hypernetwork gives the weights for all
        values (Lorraine and Duvenaud 2018), for small networks; see `response_curve`.
        docs/hypergradients.md compares what each can tune. Arguments that a variant does not read
        must keep their defaults.
    train_steps : int or None, default=None
        Training steps between two updates of the hyperparameters. None: 2, for "implicit" 10, for
        "unrolled" `n_steps`, or eight times as many where only learning rates and other settings of
        the optimizer are tuned.
    val_steps : int, default=1
        Tuning steps that follow them, for "stn" and "delta".
    warmup_epochs : int, default=5
        Epochs before tuning starts.
    entropy_weight : float, default=1e-3
        Weight of the perturbations' entropy, which keeps their scales from vanishing.
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
        How variant="implicit" solves its linear system, as in `hypergradient`; None is "neumann".
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
        Whether layers of torch are replaced by those of `skhpo.self_tuning`. With False only
        layers that are already of `skhpo.self_tuning` respond.
    validation_fraction : float or None, default=0.2
        Share of the samples that hyperparameters are tuned on, stratified. ``fit`` may be given
        validation data instead.
    optimizer : str, class or callable, default="adam"
        Optimizer of the weights and of their response.
    **kwargs : dict
        All other parameters of `TorchClassifier`, but for ``amp``, ``compile``, ``max_norm`` and
        ``check_every``.

    Attributes
    ----------
    schedule_ : dict of str to list
        Each hyperparameter's value at the end of each epoch.
    scales_ : dict of str to list of float
        Standard deviations of the perturbations, unconstrained, at the end of each epoch.
    best_epoch_ : int
        The epoch with the best check (validation loss) at the unperturbed values.
    best_hyperparameters_ : dict of str to object
        The values in that epoch.
    history_ : skorch.history.History
        As that of `TorchClassifier`, with further columns "hyperparameters" and "scales".
    module_ : torch.nn.Module
        The plain module with the weights of the best epoch, which predicts.
    tuning_ : object
        The running network with its response.
    refit_history_ : skorch.history.History
        That of the retrained network, with `refit`.
    classes_, criterion_, optimizer_, device_, seed_, lr_schedule_, n_iter_, n_parameters_, \
input_shape_, n_features_in_, feature_names_in_, callbacks_, initialized_, init_context_, \
prefixes_, virtual_params_, cuda_dependent_attributes_ : object
        As of `TorchClassifier`.

    See Also
    --------
    SelfTuningSearchCV : A run per fold, and a plain network under the average.
    TorchClassifier : Trains under fixed hyperparameters.
    hypergradient : The same gradient at the end of training.

    Notes
    -----
    Perturbations, tuning batches and dropout masks have separate streams of random numbers.

    With other variants than "stn" and "delta" the names are those of `hypergradient`; of
    "class_weight", "sample_weight" and penalties that end with "[:]" a value is an array. Those are
    float32 in the history, 4 bytes for each number and epoch.

    References
    ----------
    MacKay, Vicol, Lorraine, Duvenaud, Grosse, "Self-Tuning Networks: Bilevel Optimization of
    Hyperparameters using Structured Best-Response Functions", ICLR 2019.

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn.datasets import load_iris
    >>> from skhpo import SelfTuningClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> ranges = {"input_noise": uniform(0, 1), "weight_decay": loguniform(1e-6, 0.1)}
    >>> net = SelfTuningClassifier(hyperparameters=ranges, lr=0.01, random_state=0).fit(X, y)
    >>> net.score(X, y) > 0.9
    True
    >>> len(net.schedule_["input_noise"]), sorted(net.best_hyperparameters_)
    (50, ['input_noise', 'weight_decay'])
    """

    def _smooth(self, y, strength):
        return smoothed(self, y, strength)
