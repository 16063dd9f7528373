"""Passes of a self-tuning network by rules, without autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..estimators.fitting import describe_training
from ..training.direct import (
    Place,
    Rule,
    Signature,
    Unknown,
    check_parts,
    is_traced,
    make_loss,
    make_rule,
    make_stepper,
    refuse_differences,
)
from ..training.randomness import Masks
from ..training.runners import DirectSteps
from ._passes import Passes
from ._response import Response, ResponseRows
from ._rules import OWN_RULES, RESPONSE_RULES, TANGENT_RULES, SmoothedCrossEntropy

__all__ = ["RulePasses", "direct_passes"]


def direct_passes(net, batches, tuning_batches):
    """Return the `DirectSteps` of a self-tuning estimator; their program is a `RulePasses`.

    `tuning_batches` is None where nothing is tuned.
    """
    masks = Masks(lambda: net._state.streams["forward"].generator())

    def describe():
        found = describe_training(net, batches, masks)
        if isinstance(found, str):
            return found
        if net.device_.type != "cpu":
            return "self-tuning networks have rules for the CPU alone"
        sizes = [] if tuning_batches is None else tuning_batches.sizes()
        return {**found, "module": net.tuning_.module, "tuning_sizes": sizes, "kind": make}

    def make(**settings):
        return RulePasses(net, **settings)

    return DirectSteps(describe)


@dataclass
class _Pass:
    """Rules of the whole network and its loss, for batches of one size."""

    rule: Rule
    loss: object
    rows: ResponseRows | None
    scale: torch.Tensor

    def losses(self, x, y, weight):
        """Run forward and backward, and return the weighted losses of the rows."""
        output = self.rule.forward(x)
        if isinstance(output, tuple):
            output = output[0] + output[1]
        scale = self.scale if weight is None else weight * self.scale
        losses = self.loss.forward(output, y, scale)
        self.rule.backward(self.loss.backward())
        return losses if weight is None else losses * weight


class RulePasses(Passes):
    """`Passes` by rules of layers; see `Program` for the parameters.

    `tuning_sizes` are the sizes of the batches to tune on. Raises `Unknown` if there is no rule.
    """

    keeps_gradients = True

    def __init__(
        self,
        net,
        module,
        criterion,
        optimizer,
        inputs,
        targets,
        sizes,
        tuning_sizes,
        draw_mask,
        max_grad_norm=None,  # always, as a self-tuning estimator refuses others
        accumulate=1,  # always, for the same reason
        **loss_settings,
    ):
        super().__init__(net)
        tuning = self.tuning
        if self.effects.activity:
            raise Unknown("a penalty on activations has no rule")
        optimizers = [o for o in (optimizer, tuning.response_optimizer) if o is not None]
        named = check_parts(module, criterion, *optimizers)
        if not all(p.requires_grad for _, p in named):
            raise Unknown("a parameter is frozen")
        (row, dtype), (self._target_row, _) = inputs, targets
        self._criterion, self._loss_settings = criterion, loss_settings
        # Other criteria get smoothed targets.
        self._smooths_logits = self.effects.smoothing and type(criterion) is nn.CrossEntropyLoss
        if self.effects.smoothing and isinstance(criterion, nn.NLLLoss | nn.MultiMarginLoss):
            raise Unknown("smoothed labels of the criterion have no rule")
        self._named = named
        place = Place.of(module, row, draw_mask, is_integer=not dtype.is_floating_point)
        traced = is_traced(module, OWN_RULES)
        if traced:
            at_rest = place.at(shape=(min(*sizes, 8), *row), rules=OWN_RULES)
            refuse_differences(module, at_rest, dtype)
        self._gradients = {}
        self._own, self._perturbed, self._unperturbed, self._tuned = {}, {}, {}, {}
        self.context.regularises = True
        try:
            self._compile(module, place, row, set(sizes), set(tuning_sizes))
        finally:
            self.context.rest()
        self._steppers = {o: make_stepper(o, self._gradients) for o in optimizers}
        if tuning.to_follow is None:
            position = tuning.position
            self._steppers[tuning.hyper_optimizer] = make_stepper(
                tuning.hyper_optimizer, {position: position.grad}
            )
        self._signature = Signature((module, criterion), traced)

    def _compile(self, module, place, row, sizes, tuning_sizes):
        tuning = self.tuning
        own = {name: g for name, (_, g) in place.parameters.items()}
        if tuning.centred or tuning.to_follow is not None:
            alone = place.at(read=set(), rules=OWN_RULES)
            for n in sizes:
                self._own[n] = self._pass(module, alone.at(shape=(n, *row)), smooths=True)
            self._gradients |= {p: own[k] for k, p in self._named if k in alone.read}
        if tuning.to_follow is not None:
            return
        response = Response(tuning.responding, tuning.centred)
        rules = TANGENT_RULES if tuning.centred else RESPONSE_RULES
        place = place.at(read=set(), rules=rules)
        with_response = tuning.response_parameters()
        trained = {p: response.gradients.get(p, own[name]) for name, p in self._named}
        if tuning.centred:
            trained = {p: trained[p] for p in with_response}
        with tuning.keeping_statistics():
            for n in sizes:
                rows = ResponseRows(response, n)
                at = self._with_gradients(place, trained).at(shape=(n, *row), extra=rows)
                self._perturbed[n] = self._pass(module, at, smooths=True)
        read = {p for name, p in self._named if name in place.read}
        if not read.issuperset(with_response):
            raise Unknown("a layer that responds is not called")
        self._gradients |= {p: g for p, g in trained.items() if p in read}
        if tuning.norms and not tuning.centred:
            self._center = ResponseRows(response, 1)
            still = self._with_gradients(place, {}).at(extra=self._center)
            for n in sizes:
                self._unperturbed[n] = make_rule(module, still.at(shape=(n, *row)))
        # Tuning needs only the gradient through V to the response inputs.
        through = {layer.response: layer.response.detach() for layer in tuning.responding}
        self.context.regularises = False
        with tuning.evaluating():
            place = self._with_gradients(place, through).at(graphs={})
            for n in tuning_sizes:
                at = place.at(shape=(n, *row), extra=ResponseRows(response, n))
                self._tuned[n] = self._pass(module, at, smooths=False)

    def _with_gradients(self, place, gradients):
        parameters = {name: (p.detach(), gradients.get(p)) for name, p in self._named}
        return place.at(parameters=parameters)

    def _pass(self, module, place, *, smooths):
        rule, n = make_rule(module, place), place.shape[0]
        make = SmoothedCrossEntropy if smooths and self._smooths_logits else make_loss
        target = (n, *self._target_row)
        loss = make(self._criterion, rule.shape, target, None, **self._loss_settings)
        return _Pass(rule, loss, place.extra, self.tuning.position.new_tensor(1 / n))

    def holds(self):
        """Whether the modules are unchanged since the rules were made."""
        return self._signature.holds()

    def begin(self):
        for stepper in self._steppers.values():
            stepper.begin()

    def finish(self):
        for stepper in self._steppers.values():
            stepper.finish()

    def step(self, optimizer):
        """Step an optimizer."""
        self._steppers[optimizer].step()

    def _train(self, one, X, y, weight, values):
        X = self._regularise(X, values)
        if self._smooths_logits:
            one.loss.strength = values["label_smoothing"]
        elif self.effects.smoothing:
            y = self.net._smooth(y, values["label_smoothing"])
        return one.losses(X, y, weight)

    def perturbed(self, X, y, weight, response, values):
        one = self._perturbed[y.size(0)]
        one.rows.forward(response)
        losses = self._train(one, X, y, weight, values)
        one.rows.backward(response)
        return None if self.tuning.centred else losses.mean()

    def own(self, X, y, weight, values):
        return self._train(self._own[y.size(0)], X, y, weight, values).mean()

    def unperturbed(self, X, response, values):
        self._center.forward(response)
        self._unperturbed[X.size(0)].forward(self._regularise(X, values))

    def tuned(self, X, y, weight, response, values):
        one = self._tuned[y.size(0)]
        one.rows.forward(response)
        one.losses(X, y, weight)
        return one.rows.of_inputs()
