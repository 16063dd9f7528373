"""Initial weights by name."""

import copy

import pytest
import torch
from torch import nn

from skhpo.estimators import MLP
from skhpo.training.initialization import NamedInitialization
from skhpo.training.structure import structure


def build(make, seed=0):
    with NamedInitialization(seed) as initialization:
        module = make()
    initialization.settle(module)
    return module.state_dict()


def test_widening_one_layer_leaves_the_others():
    narrow = build(lambda: nn.Sequential(nn.Linear(3, 4), nn.Conv1d(2, 2, 3), nn.LSTM(2, 2)))
    wide = build(lambda: nn.Sequential(nn.Linear(9, 8), nn.Conv1d(2, 2, 3), nn.LSTM(2, 2)))
    for name in narrow:
        if not name.startswith("0"):
            assert torch.equal(narrow[name], wide[name]), name


def test_adding_a_layer_leaves_the_others():
    one = build(lambda: MLP(4, 4, n_units=4, n_layers=1))
    two = build(lambda: MLP(4, 4, n_units=4, n_layers=2, normalization="layer", dropout=0.1))
    for name in one:
        assert torch.equal(one[name], two[name]), name
    assert not torch.equal(two["linear_0.weight"], two["linear_1.weight"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(50, 40),
        lambda: nn.Embedding(50, 40),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten()),
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2), 2, enable_nested_tensor=False
        ),
        lambda: nn.Bilinear(3, 4, 5),
    ],
)
def test_the_distribution_is_that_of_torch(make):
    torch.manual_seed(0)
    of_torch = make().state_dict()
    ours = build(make)
    assert list(ours) == list(of_torch)
    for name, value in ours.items():
        assert value.shape == of_torch[name].shape
        if value.numel() > 100:
            torch.testing.assert_close(value.std(), of_torch[name].std(), rtol=0.2, atol=1e-3)


class Custom(nn.Module):
    """What people do in `__init__` after the layers have filled themselves."""

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Linear(width, 4)
        self.zeroed = nn.Linear(4, 4)
        nn.init.zeros_(self.zeroed.weight)
        self.zeroed.bias.data.fill_(0.5)
        self.scaled = nn.Linear(4, 4)
        self.scaled.weight.data.normal_(0, 1).mul_(0.001)
        self.cut = nn.Linear(4, 4)
        with torch.no_grad():
            self.cut.weight[0] = 7.0
        self.transposed = nn.Linear(4, 4)
        self.transposed.weight.data.copy_(self.cut.weight.t())
        self.twin = copy.deepcopy(self.scaled)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.scaled.weight
        self.free = nn.Parameter(torch.randn(3))


def test_custom_initialization_is_kept():
    state = build(Custom)
    assert not state["zeroed.weight"].any()
    assert (state["zeroed.bias"] == 0.5).all()
    assert state["scaled.weight"].abs().max() < 0.01
    assert state["scaled.weight"].any()
    assert (state["cut.weight"][0] == 7).all()
    assert torch.equal(state["transposed.weight"], state["cut.weight"].t())
    assert torch.equal(state["twin.weight"], state["scaled.weight"])
    assert torch.equal(state["tied.weight"], state["scaled.weight"])


def test_custom_initialization_does_not_shift_either():
    narrow, wide = build(Custom), build(lambda: Custom(9))
    for name in narrow:
        if name != "first.weight" and not name.startswith("first.bias"):
            assert torch.equal(narrow[name], wide[name]), name


def test_seed_decides():
    assert torch.equal(build(Custom)["free"], build(Custom)["free"])
    assert not torch.equal(build(Custom)["free"], build(Custom, seed=1)["free"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(3, 2, n_layers=2, normalization="batch", dropout=0.1, activation="gelu"),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten()),
        lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2, bias=False)),
    ],
)
def test_a_template_makes_what_the_code_makes_with_another_seed(make):
    with NamedInitialization(0) as initialization:
        module = make()
    initialization.settle(module)
    template = initialization.template(module)
    for tensor in module.state_dict().values():
        tensor.zero_()  # what is trained is not what is made
    made = template.make(NamedInitialization(1))
    assert repr(made) == repr(module)
    assert structure(made) == structure(module)
    expected = build(make, 1)
    assert list(made.state_dict()) == list(expected)
    for name, value in made.state_dict().items():
        assert torch.equal(value, expected[name]), name
    other = template.make(NamedInitialization(1))
    assert not {id(m) for m in made.modules()} & {id(m) for m in other.modules()}
    addresses = [{p.data_ptr() for p in module.parameters()} for module in (made, other)]
    assert not addresses[0] & addresses[1]
    made.eval()
    assert other.training


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(2, 2),  # has lists of its weights
        lambda: nn.Embedding(5, 4, padding_idx=1),  # writes into a part of the weights
        lambda: nn.Sequential(Custom()),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
    ],
)
def test_of_other_modules_there_is_no_template(make):
    with NamedInitialization(0) as initialization:
        module = make()
    initialization.settle(module)
    assert initialization.template(module) is None


def test_what_draws_in_another_way_has_no_template():
    with NamedInitialization(0) as initialization:
        module = nn.Linear(2, 2)
        with torch.no_grad():
            module.weight.copy_(torch.rand(2, 2))
    initialization.settle(module)
    assert initialization.template(module) is None
