import pytest
import torch
from torch import nn

from skhpo.estimators import MLP


def names(module):
    return [name for name, _ in module.named_children()]


def test_layers_and_shapes():
    net = MLP(6, 3, n_units=5, n_layers=2, dropout=0.1, input_dropout=0.2, normalization="batch")
    assert names(net) == [
        "input_dropout",
        *("linear_0", "norm_0", "activation_0", "dropout_0"),
        *("linear_1", "norm_1", "activation_1", "dropout_1"),
        "output",
    ]
    assert net.linear_1.in_features == net.linear_1.out_features == 5
    assert net.input_dropout.p == 0.2
    assert net.dropout_1.p == 0.1
    assert net(torch.zeros(4, 6)).shape == (4, 3)


def test_no_hidden_layer_is_linear():
    assert names(MLP(6, 3, n_layers=0)) == ["output"]


def test_images_are_flattened():
    assert MLP(2 * 3 * 4, 5)(torch.zeros(7, 2, 3, 4)).shape == (7, 5)


@pytest.mark.parametrize(
    ("activation", "cls"),
    [("tanh", nn.Tanh), ("LeakyReLU", nn.LeakyReLU), (nn.GELU, nn.GELU)],
)
def test_activation_by_name_or_class(activation, cls):
    assert type(MLP(2, 2, activation=activation).activation_0) is cls


def test_layer_normalization():
    assert type(MLP(2, 2, normalization="layer").norm_0) is nn.LayerNorm


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("activation", "rele", "known: 'relu'"),
        ("normalization", "bach", "one of 'batch', 'layer', but got 'bach'"),
        ("n_units", 0, r"'n_units' .* an int in the range \[1, inf\). Got 0 "),
        ("n_layers", 1.5, r"'n_layers' .* an int in the range \[0, inf\). Got 1.5 "),
        ("dropout", 1.0, r"'dropout' .* a float in the range \[0.0, 1.0\). Got 1.0 "),
        ("input_dropout", -0.1, "'input_dropout' parameter of MLP must be"),
    ],
)
def test_bad_arguments(argument, value, message):
    with pytest.raises(ValueError, match=message):
        MLP(2, 2, **{argument: value})
