"""Rules of losses against autograd."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skhpo.training.direct import LOSSES, Unknown
from skhpo.training.direct._losses import make_loss

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1])
OF_CLASSES = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(label_smoothing=0.2),
    nn.CrossEntropyLoss(weight=WEIGHTS),
    nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
    nn.NLLLoss(),
    nn.NLLLoss(weight=WEIGHTS),
    nn.MultiMarginLoss(margin=0.7),
    nn.MultiMarginLoss(p=2),
]
OF_NUMBERS = [
    nn.MSELoss(),
    nn.L1Loss(),
    nn.SmoothL1Loss(),
    nn.SmoothL1Loss(beta=0.3),
    nn.HuberLoss(),
    nn.HuberLoss(delta=0.4),
    nn.PoissonNLLLoss(),
    nn.PoissonNLLLoss(full=True),
    nn.PoissonNLLLoss(log_input=False),
    nn.BCEWithLogitsLoss(),
    nn.BCELoss(),
]
few = settings(max_examples=15, deadline=None)


def weighted_loss(criterion, output, y, weight):
    """Return the loss of a batch as estimators define it."""
    if weight is None:
        return criterion(output, y)
    criterion = copy.copy(criterion)
    criterion.reduction = "none"
    losses = criterion(output, y)
    return ((losses.flatten(1).mean(1) if losses.ndim > 1 else losses) * weight).mean()


def check(criterion, output, y, weight, prepare=lambda output, y: (output, y), **settings):
    leaf = output.clone().requires_grad_()
    wanted = weighted_loss(criterion, *prepare(leaf, y), weight)
    wanted.backward()
    rule = make_loss(criterion, output.shape, y.shape, **settings)
    scale = output.new_tensor(1 / len(output))
    for _ in range(2):
        losses = rule.forward(output.clone(), y, scale if weight is None else scale * weight)
        assert losses.shape == (len(output),)
        found = losses.mean() if weight is None else (losses * weight).mean()
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(rule.backward(), leaf.grad, rtol=1e-6, atol=1e-9)


def weights(n, weighted):
    return torch.rand(n, dtype=torch.float64) + 0.1 if weighted else None


@pytest.mark.parametrize("criterion", OF_CLASSES, ids=lambda c: f"{c}{bool(c.weight is None)}")
@given(n=st.integers(1, 7), weighted=st.booleans())
@few
def test_losses_of_classes(criterion, n, weighted):
    output = torch.randn(n, 4, dtype=torch.float64)
    if isinstance(criterion, nn.NLLLoss):
        output = output.log_softmax(1)
    y = torch.randint(4, (n,))
    check(criterion.double(), output, y, weights(n, weighted))


@pytest.mark.parametrize("criterion", OF_NUMBERS, ids=str)
@given(n=st.integers(1, 7), width=st.lists(st.integers(1, 4), max_size=2), weighted=st.booleans())
@few
def test_losses_of_numbers(criterion, n, width, weighted):
    output, y = torch.randn(2, n, *width, dtype=torch.float64)
    if isinstance(criterion, nn.BCELoss):
        output = output.sigmoid()
    elif not getattr(criterion, "log_input", True):
        output = output.exp()
    if isinstance(criterion, nn.BCELoss | nn.BCEWithLogitsLoss):
        y = (y > 0).double()
    elif isinstance(criterion, nn.PoissonNLLLoss):
        y = y.exp().round()
    check(criterion, output, y, weights(n, weighted))


@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_class_that_the_network_rules_out(weight, weighted):
    output = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    output[:, 3] = -torch.inf
    weights = torch.linspace(0, 1, 6) if weighted else None
    check(nn.CrossEntropyLoss(weight=weight), output, torch.tensor([0, 1, 2, 0, 1, 2]), weights)


def test_targets_of_two_classes_are_smoothed():
    output, y = torch.randn(5, 1, dtype=torch.float64), torch.ones(5, 1, dtype=torch.float64)
    smoothed = lambda output, y: (output, y * 0.9 + 0.05)  # noqa: E731
    check(nn.BCEWithLogitsLoss(), output, y, None, smoothed, smoothing=0.1)


def test_probabilities_become_logarithms():
    output, y = torch.rand(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    eps = torch.finfo(output.dtype).eps
    as_logs = lambda output, y: (torch.log(output + eps), y)  # noqa: E731
    check(nn.NLLLoss(), output, y, weights(5, True), as_logs, of_probabilities=True)


@pytest.mark.parametrize(
    "criterion", [*OF_CLASSES[:2], OF_CLASSES[4], *OF_CLASSES[6:], *OF_NUMBERS], ids=str
)
def test_many_networks_are_as_each_of_them(criterion):
    criterion = criterion.double()
    many = torch.rand(3, 5, 4, dtype=torch.float64)
    if criterion in OF_CLASSES:
        y = torch.randint(4, (3, 5))
    else:
        y = torch.rand(3, 5, 4, dtype=torch.float64).round()
    scale = torch.rand(3, 5, dtype=torch.float64)
    rule = make_loss(criterion, (5, 4), y.shape[1:], 3)
    losses, gradient = rule.forward(many, y, scale), rule.backward()
    for i in range(3):
        alone = make_loss(criterion, (5, 4), y.shape[1:])
        torch.testing.assert_close(losses[i], alone.forward(many[i], y[i], scale[i]))
        torch.testing.assert_close(gradient[i], alone.backward())


@pytest.mark.parametrize(
    ("criterion", "shape", "target_shape"),
    [
        (nn.CrossEntropyLoss(), (5, 4, 2), (5, 2)),
        (nn.CrossEntropyLoss(), (5, 4), (5, 4)),
        (nn.CrossEntropyLoss(ignore_index=1), (5, 4), (5,)),
        (nn.MSELoss(), (5, 1), (5,)),
        (nn.MSELoss(reduction="sum"), (5,), (5,)),
        (nn.SmoothL1Loss(beta=0.0), (5,), (5,)),
        (nn.BCEWithLogitsLoss(weight=torch.ones(1)), (5,), (5,)),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)), (5,), (5,)),
        (nn.KLDivLoss(), (5, 4), (5, 4)),
    ],
    ids=lambda value: str(value),
)
def test_what_has_no_rule(criterion, shape, target_shape):
    with pytest.raises(Unknown):
        make_loss(criterion, shape, target_shape)


def test_all_rules_are_tested():
    assert set(LOSSES) == {type(criterion) for criterion in [*OF_CLASSES, *OF_NUMBERS]}
