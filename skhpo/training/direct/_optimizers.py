"""Steps of torch's optimizers with gradients from rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim import optimizer as torch_optimizer

from ._rules import Unknown

__all__ = ["FUSED", "fused_call", "make_stepper", "slots"]


class Stepper:
    """Steps torch's optimizer; `gradients` is a dict from trained parameters to gradients."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        gradients: dict[torch.nn.Parameter, torch.Tensor],
    ) -> None:
        self.optimizer = optimizer
        self.gradients = gradients

    def begin(self) -> None:
        """Set the gradients of the parameters."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = self.gradients.get(parameter)

    def step(self) -> None:
        """Step all trained parameters."""
        # The state that it allocates must be usable by autograd.
        with torch.inference_mode(False), torch.no_grad():
            self.optimizer.step()

    def finish(self) -> None:
        """Write the counts of steps to the optimizer's state."""


class _Fused(Stepper):
    """Calls torch's fused kernel without the overhead of its optimizer.

    Parameters of a group with the same count of steps are one call. The first step, which
    allocates the state, is torch's.
    """

    def begin(self) -> None:
        super().begin()
        self._calls: list[Callable[[], object]] | None = None
        self._counts: list[tuple[torch.Tensor, list[Any]]] = []
        # Torch's schedules check that the optimizer has stepped before them.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]

    def step(self) -> None:
        if self._calls is None:
            if not self._has_state():
                super().step()
                return
            self._calls = list(self._make_calls())
        for call in self._calls:
            call()

    def finish(self) -> None:
        for count, states in self._counts:
            for state in states:
                state["step"].copy_(count)

    def _trained(self, group: dict[str, Any]) -> list[torch.nn.Parameter]:
        return [p for p in group["params"] if p in self.gradients]

    def _has_state(self) -> bool:
        state = self.optimizer.state
        return all(
            state.get(parameter, {}).get(name) is not None
            for group in self.optimizer.param_groups
            for parameter in self._trained(group)
            for name in slots(self.optimizer, group)
        )

    def _make_calls(self) -> Iterator[Callable[[], object]]:
        for group in self.optimizer.param_groups:
            parts: dict[float | None, list[torch.nn.Parameter]] = {}
            for parameter in self._trained(group):
                count = self.optimizer.state.get(parameter, {}).get("step")
                count = None if count is None else count.item()
                parts.setdefault(count, []).append(parameter)
            for count, parameters in parts.items():
                lists = [
                    [parameter.detach() for parameter in parameters],
                    [self.gradients[parameter] for parameter in parameters],
                ]
                states: list[Any] = [self.optimizer.state.get(p) for p in parameters]
                names = slots(self.optimizer, group)
                lists += [[state[name] for state in states] for name in names]
                if count is not None:
                    # One shared tensor while they step together.
                    count = lists[0][0].new_tensor(count, dtype=torch.float32)
                    self._counts.append((count, states))
                    # Takes a third of the time of adding a number.
                    yield partial(count.add_, torch.ones_like(count))
                yield fused_call(self.optimizer, group, lists, [count] * len(parameters))


def slots(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of an optimizer's state per parameter."""
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if group["momentum"] else ()
    if isinstance(optimizer, torch.optim.RMSprop):
        optional = ("momentum_buffer",) * (group["momentum"] > 0)
        return ("square_avg", *optional, *("grad_avg",) * group["centered"])
    names = ("exp_avg", "exp_avg_sq")
    return (*names, "max_exp_avg_sq") if group["amsgrad"] else names


def fused_call(
    optimizer: torch.optim.Optimizer,
    group: dict[str, Any],
    lists: Sequence[list[torch.Tensor]],
    counts: Sequence[Any],
    *,
    is_first: bool = False,
    is_fixed: bool = False,
) -> Callable[[], object]:
    """Return the function that steps parameters of a group by torch's fused kernel.

    Parameters
    ----------
    optimizer : torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD or torch.optim.RMSprop
    group : dict
    lists : list of list of Tensor
        The parameters, their gradients, and their state in the order of `slots`.
    counts : list of Tensor of shape () and of dtype float32
        Steps of the parameters, including that of the call; not read by SGD.
    is_first : bool, default=False
        Whether there is no momentum yet.
    is_fixed : bool, default=False
        Whether the settings of the group are read now; else they are read in each call.
    """
    if isinstance(optimizer, torch.optim.RMSprop):
        return partial(_step_rmsprop, group, *lists)
    if isinstance(optimizer, torch.optim.SGD):
        names: tuple[str, ...] = (
            "weight_decay",
            "momentum",
            "lr",
            "dampening",
            "nesterov",
            "maximize",
        )
        lists = lists if group["momentum"] else [*lists, []]
        step = partial(torch._fused_sgd_, *lists, is_first_step=is_first)
    else:
        names = ("lr", "weight_decay", "eps", "amsgrad", "maximize")
        decoupled = isinstance(optimizer, torch.optim.AdamW)
        decoupled = group.get("decoupled_weight_decay", decoupled)
        kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        step = partial(kernel, *(lists if group["amsgrad"] else [*lists, []]), counts)

    def settings() -> dict[str, Any]:
        found = {name: group[name] for name in names}
        if "betas" in group:
            found["beta1"], found["beta2"] = group["betas"]
        return found

    return partial(step, **settings()) if is_fixed else lambda: step(**settings())


def _step_rmsprop(
    group: dict[str, Any], parameters: Any, gradients: Any, squares: Any, *others: Any
) -> None:
    """Step RMSprop as torch does, which has no fused kernel for it."""
    alpha, step = group["alpha"], -group["lr"]
    if group["maximize"]:
        gradients = torch._foreach_neg(gradients)
    if group["weight_decay"]:
        gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
    torch._foreach_mul_(squares, alpha)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - alpha)
    variances = squares
    if group["centered"]:
        means = others[-1]
        torch._foreach_lerp_(means, gradients, 1 - alpha)
        variances = torch._foreach_addcmul(squares, means, means, -1)
    roots = torch._foreach_sqrt(variances)
    torch._foreach_add_(roots, group["eps"])
    if group["momentum"]:
        torch._foreach_mul_(others[0], group["momentum"])
        torch._foreach_addcdiv_(others[0], gradients, roots)
        torch._foreach_add_(parameters, others[0], alpha=step)
    else:
        torch._foreach_addcdiv_(parameters, gradients, roots, step)


# Optimizers with a fused kernel.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def make_stepper(
    optimizer: torch.optim.Optimizer, gradients: dict[torch.nn.Parameter, torch.Tensor]
) -> Stepper:
    """Return the stepper of an optimizer; `Unknown` is raised if it needs more than gradients."""
    if isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam):
        raise Unknown(f"{type(optimizer).__name__} needs more than dense gradients")
    has_hooks = (
        *(optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks),
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    )
    step = vars(optimizer).get("step")
    # A schedule of torch wraps `step` only to count calls.
    is_noted = getattr(step, "_wrapped_by_lr_sched", False)
    is_own = step is None or (is_noted and step.__wrapped__ is type(optimizer).step)
    is_known = type(optimizer) in (*FUSED, torch.optim.RMSprop)
    is_plain = is_known and is_own and not any(has_hooks)
    is_plain = is_plain and all(map(_is_plain, optimizer.param_groups))
    return (_Fused if is_plain else Stepper)(optimizer, gradients)


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether the fused kernels support all settings of a group."""
    numbers = (group["lr"], *group.get("betas", ()))
    return not (
        any(isinstance(number, torch.Tensor) for number in numbers)
        or group.get("capturable")
        or group.get("differentiable")
    )
