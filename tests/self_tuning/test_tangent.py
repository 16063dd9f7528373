"""The linearised network against forward-mode differentiation of the network itself."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skhpo.self_tuning import Context
from skhpo.self_tuning._module_conversion import convert
from skhpo.self_tuning._tangent import Dual

# Torch itself scripts something when forward-mode differentiation is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


class Branches(nn.Module):
    """Everyday functions and methods, in no useful order."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 4)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        a, b = self.a(x), F.gelu(self.b(x))
        gate = torch.sigmoid(a) * b - 0.5 * a / 2 + 1
        gate = self.norm(gate) + a.tanh().mean(1, keepdim=True)
        joined = torch.cat((F.leaky_relu(gate, 0.1), a[:, :8].clamp(-0.5, 0.5)), dim=1)
        assert joined.shape == (len(x), 16)
        assert joined.size(1) == 16
        return -(self.c(joined) ** 2)


MODULES = {
    "mlp": (
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)),
        (7, 6),
    ),
    "cnn": (
        nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 4, 3, bias=False), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)),
        ),
        (5, 2, 8, 8),
    ),
    "conv1d": (
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 2)),
        (5, 2, 8),
    ),
    "batch norm": (nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), (7, 6)),
    "branches": (Branches(), (7, 6)),
}


@pytest.mark.parametrize("name", MODULES)
def test_against_jvp(name):
    module, shape = MODULES[name]
    torch.manual_seed(0)
    context = Context(["a", "b"])
    converted = convert(module.double().eval(), context, 0, scale=1.0)
    x = torch.randn(shape, dtype=torch.float64)
    response = torch.randn(len(x), 2, dtype=torch.float64)
    context.response, context.tangent = response, True
    dual = converted(x)
    assert isinstance(dual, Dual)
    assert not dual.value.requires_grad
    context.tangent = False

    def network(response):
        context.response = response
        return converted(x)

    zero = torch.zeros_like(response)
    value, tangent = torch.func.jvp(network, (zero,), (response,))
    torch.testing.assert_close(dual.value, value.detach(), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(dual.tangent, tangent, atol=1e-9, rtol=1e-9)
    assert dual.tangent.abs().max() > 1e-3


def test_only_the_response_has_a_gradient():
    context = Context(["a"])
    module = convert(MODULES["mlp"][0].float(), context, 0, scale=1.0)
    context.response, context.tangent = torch.ones(4, 1), True
    module(torch.randn(4, 6)).linearised().sum().backward()
    for name, parameter in module.named_parameters():
        if "response" in name or "hyper" in name:
            assert parameter.grad is not None
        else:
            assert parameter.grad is None


def test_what_cannot_be_linearised_is_refused():
    dual = Dual(torch.ones(3), torch.ones(3))
    with pytest.raises(NotImplementedError, match="use variant='stn'"):
        torch.linalg.multi_dot([dual, dual])
    with pytest.raises(NotImplementedError, match="use variant='stn'"):
        nn.utils.rnn.pack_padded_sequence(Dual(torch.ones(2, 3), torch.ones(2, 3)), [2, 1, 1])
