"""Groups of parameters: learning rates of their own, and frozen ones."""

from __future__ import annotations

from .weights import match_names

__all__ = ["GroupsMixin"]


class GroupsMixin:
    """The parameters `lr_multipliers` and `freeze` of an estimator."""

    _frozen_until = {}

    def _named_parameters(self):
        # A compiled module names what it wraps.
        pairs = self.get_all_learnable_params()
        return {name.replace("_orig_mod.", ""): parameter for name, parameter in pairs}

    def _grouped(self, groups, lr):
        """Return the optimizer's groups, split by their multipliers.

        A group with a multiplier keeps it as "lr_multiplier".
        """
        if not self.lr_multipliers:
            return groups
        parameters = self._named_parameters()
        factors = match_names("lr_multipliers", self.lr_multipliers, list(parameters))
        grouped = {}
        for name, parameter in parameters.items():
            grouped.setdefault(factors.get(name, 1), []).append(parameter)
        return [
            {"params": members, "lr": lr * factor, "lr_multiplier": factor}
            for factor, members in grouped.items()
        ]

    def _find_frozen(self):
        """Note until which epoch which parameters rest; True is for good."""
        self._frozen_until = {}
        if not self.freeze:
            return
        parameters = self._named_parameters()
        found = match_names("freeze", self.freeze, list(parameters))
        # What the module itself keeps from being trained is never thawed.
        self._frozen_until = {
            name: epochs if epochs is True else int(epochs)
            for name, epochs in found.items()
            if epochs and parameters[name].requires_grad
        }
        trained = [p for p in parameters.values() if p.requires_grad]
        if trained and len(self._frozen_until) == len(trained):
            raise ValueError(
                f"freeze={self.freeze!r} must leave parameters to train in the first epoch, but "
                f"it freezes all of them: {', '.join(parameters)}"
            )

    def _freeze_and_thaw(self):
        """Freeze what rests in the epoch to come; the optimizer leaves that as it is."""
        if self._frozen_until:
            parameters = self._named_parameters()
            for name, epochs in self._frozen_until.items():
                thawed = epochs is not True and self.n_iter_ >= epochs
                parameters[name].requires_grad_(thawed)
