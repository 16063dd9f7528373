"""Rules of layers against autograd."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skhpo.modules import TableInputs
from skhpo.training.direct import Place, Unknown
from skhpo.training.direct._layers import RULES, make_rule

N = st.integers(2, 6)
SMALL = st.integers(1, 5)
ACTIVATIONS = [
    *(
        nn.ReLU(),
        nn.ReLU6(),
        nn.LeakyReLU(),
        nn.LeakyReLU(0.3),
        nn.ELU(),
        nn.ELU(0.7),
        nn.CELU(1.3),
    ),
    *(nn.SELU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(), nn.Tanh()),
    *(nn.Sigmoid(), nn.LogSigmoid(), nn.Softplus(), nn.Softplus(2.0, 3.0), nn.Softsign()),
    *(nn.Hardtanh(), nn.Hardtanh(-0.5, 0.3), nn.Hardsigmoid(), nn.Hardswish(), nn.Softshrink()),
    *(nn.PReLU(), nn.Tanhshrink(), nn.Softmax(-1), nn.LogSoftmax(1), nn.Identity()),
]
few = settings(max_examples=15, deadline=None)


def place_of(module, x, n_networks=None, needs_gradient=True, **changes):
    """Return where the rule of a module stands, and gradients to be filled."""
    gradients = {
        name: torch.full_like(p, torch.nan, requires_grad=False)
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    values = {name: (p.detach(), gradients.get(name)) for name, p in module.named_parameters()}
    place = Place(
        tuple(x.shape if n_networks is None else x.shape[1:]),
        values,
        dict(module.named_buffers()),
        None,
        n_networks=n_networks,
        needs_gradient=needs_gradient,
        is_integer=not x.is_floating_point(),
        **changes,
    )
    return place, gradients


def check(module, *shape, x=None, n_steps=2):
    """Compare a rule with autograd, over several steps: buffers are used again."""
    module = module.double().train(module.training)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    other = copy.deepcopy(module)
    rule = None
    for _ in range(n_steps):
        x = torch.randn(shape, dtype=torch.float64) if shape else x
        needs_gradient = x.is_floating_point()
        if rule is None:
            place, gradients = place_of(module, x, needs_gradient=needs_gradient)
            rule = make_rule(module, place)
        leaf = x.clone().requires_grad_(needs_gradient)
        wanted = other(leaf)
        with torch.no_grad():
            found = rule.forward(x.clone())
            assert tuple(found.shape) == tuple(wanted.shape) == rule.shape
            close(found, wanted)
            upstream = torch.randn_like(found)
            of_x = rule.backward(upstream.clone())
        leaves = [p for p in other.parameters() if p.requires_grad]
        leaves += [leaf] if needs_gradient else []
        expected = torch.autograd.grad(wanted, leaves, upstream, allow_unused=True)
        if needs_gradient:
            *expected, expected_of_x = expected
            close(of_x, expected_of_x)
        expected = dict(zip(gradients, expected, strict=True))
        assert place.read == {name for name, value in expected.items() if value is not None}
        for name in place.read:
            close(gradients[name], expected[name])
        for own, theirs in zip(module.buffers(), other.buffers(), strict=True):
            close(own, theirs)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
@given(n=N, width=SMALL, more=st.lists(SMALL, max_size=2))
@few
def test_activations(layer, n, width, more):
    check(copy.deepcopy(layer), n, width, *more)


@given(n=N, n_in=SMALL, n_out=SMALL, more=st.lists(SMALL, max_size=2), bias=st.booleans())
@few
def test_linear(n, n_in, n_out, more, bias):
    check(nn.Linear(n_in, n_out, bias=bias), n, *more, n_in)


@given(data=st.data(), n_dims=st.integers(1, 3), bias=st.booleans(), groups=st.integers(1, 2))
@few
def test_convolutions(data, n_dims, bias, groups):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n_dims - 1]
    n_in, n_out = groups * data.draw(SMALL), groups * data.draw(SMALL)
    stride, padding = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 1))
    layer = kind(n_in, n_out, 3, stride, padding, groups=groups, bias=bias)
    check(layer, data.draw(N), n_in, *[data.draw(st.integers(3, 7)) for _ in range(n_dims)])


@given(
    n=N,
    width=SMALL,
    n_dims=st.integers(0, 2),
    affine=st.booleans(),
    tracks=st.booleans(),
    training=st.booleans(),
)
@few
def test_batch_norm(n, width, n_dims, affine, tracks, training):
    kind = nn.BatchNorm1d if n_dims < 2 else nn.BatchNorm2d
    layer = kind(width, affine=affine, track_running_stats=tracks).train(training)
    check(layer, n, width, *[3] * n_dims)


@given(n=N, width=SMALL, before=st.lists(SMALL, max_size=1), affine=st.booleans())
@few
def test_layer_norm(n, width, before, affine):
    check(nn.LayerNorm(width, elementwise_affine=affine), n, *before, width)
    check(nn.LayerNorm([4, width], elementwise_affine=affine), n, *before, 4, width)


@given(n=N, width=SMALL, after=st.lists(SMALL, max_size=2), affine=st.booleans())
@few
def test_group_norm(n, width, after, affine):
    check(nn.GroupNorm(2, 2 * width, affine=affine), n, 2 * width, *after)


@given(n=N, length=st.lists(SMALL, max_size=1), width=SMALL, padding=st.sampled_from([None, 0, 2]))
@few
def test_embedding(n, length, width, padding):
    layer = nn.Embedding(4, width, padding_idx=padding)
    check(layer, x=torch.randint(4, (n, *length)))


POOLS = [
    nn.MaxPool1d(2),
    nn.MaxPool1d(3, 2, 1, ceil_mode=True),
    nn.MaxPool2d(2),
    nn.MaxPool2d((3, 2), (2, 1), 1),
    nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True),
    nn.AvgPool1d(2),
    nn.AvgPool1d(3, 2, 1, count_include_pad=False),
    nn.AvgPool2d(2),
    nn.AvgPool2d((3, 2), 2, 1, ceil_mode=True),
    nn.AdaptiveAvgPool1d(1),
    nn.AdaptiveAvgPool1d(3),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((2, 3)),
    nn.AdaptiveMaxPool1d(2),
    nn.AdaptiveMaxPool2d(2),
]


@pytest.mark.parametrize("layer", POOLS, ids=str)
@given(n=N, width=st.sampled_from([1, 3, 4, 9]), length=st.integers(5, 9))
@few
def test_pools(layer, n, width, length):
    n_dims = int(type(layer).__name__[-2])
    check(copy.deepcopy(layer), n, width, *[length] * n_dims)


@given(n=N, width=SMALL)
@few
def test_views(n, width):
    check(nn.Flatten(), n, width, 3, 2)
    check(nn.Flatten(2), n, width, 3, 2)
    check(nn.Unflatten(1, (2, -1)), n, 2 * width, 3)


@given(n=N, width=SMALL)
@few
def test_rows_of_layers(n, width):
    """Buffers that are overwritten, and views of them, must not be needed any more."""
    check(nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3)), n, width)
    check(nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.ReLU()), n, width)
    check(nn.Sequential(nn.Tanh(), nn.Identity(), nn.Flatten(), nn.ReLU()), n, width, 2)
    check(nn.Sequential(nn.Linear(width, 6), nn.Unflatten(1, (2, 3)), nn.ReLU()), n, width)
    check(nn.Sequential(nn.Sequential(nn.Linear(width, 3), nn.Tanh()), nn.ReLU()), n, width)
    check(nn.Sequential(nn.Sequential(), nn.ReLU()), n, width)
    image = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * 3 * 2, width),
    )
    check(image, n, 1, 6, 5)


def test_layers_before_the_first_that_learns_get_no_gradient():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    module[2].bias.requires_grad_(False)
    x = torch.randn(4, 3)
    place, gradients = place_of(module, x, needs_gradient=False)
    rule = make_rule(module, place)
    assert gradients.keys() == {"2.weight", "3.weight", "3.bias"}
    module(x).square().sum().backward()
    out = rule.forward(x)
    assert rule.backward(2 * out) is None
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, module.get_parameter(name).grad)


MANY = [
    (nn.Linear(3, 2), (3,)),
    (nn.Linear(3, 2, bias=False), (4, 3)),
    (nn.Conv1d(2, 3, 3), (2, 6)),
    (nn.Conv2d(2, 4, 3, padding=1, groups=2), (2, 5, 4)),
    (nn.BatchNorm1d(3), (3,)),
    (nn.BatchNorm2d(3), (3, 2, 2)),
    (nn.LayerNorm(3), (3,)),
    (nn.LayerNorm([2, 3]), (4, 2, 3)),
    (nn.LayerNorm(3, elementwise_affine=False), (3,)),
    (nn.GroupNorm(2, 4), (4, 3)),
    (nn.MaxPool1d(2), (3, 6)),
    (nn.AvgPool2d(2), (3, 4, 4)),
    (nn.AdaptiveAvgPool2d(1), (3, 4, 4)),
    (nn.Flatten(), (3, 2)),
    (nn.Unflatten(1, (2, 2)), (4,)),
    (nn.Softmax(1), (3, 2)),
    (nn.GELU(), (3,)),
    (nn.PReLU(), (2,)),
    (nn.PReLU(3), (3, 2)),
    (nn.Embedding(4, 2), ()),
    (nn.Embedding(4, 2, padding_idx=1), (3,)),
    (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)), (3,)),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()), (1, 4, 5)),
]


@pytest.mark.parametrize(("layer", "row"), MANY, ids=lambda value: str(value).split("(\n")[0])
def test_many_networks_are_as_each_of_them(layer, row):
    n_networks, n = 3, 5
    modules = [copy.deepcopy(layer).double() for _ in range(n_networks)]
    for parameter in (p for module in modules for p in module.parameters()):
        nn.init.normal_(parameter)
    if any(isinstance(part, nn.Embedding) for part in layer.modules()):
        x = torch.randint(4, (n_networks, n, *row))
    else:
        x = torch.randn(n_networks, n, *row, dtype=torch.float64)
    place, _ = place_of(modules[0], x, n_networks, needs_gradient=x.is_floating_point())
    parameters = {
        name: tuple(torch.stack([m.get_parameter(name).detach() for m in modules]) for _ in "vg")
        for name in place.parameters
    }
    buffers = {name: torch.stack([m.get_buffer(name) for m in modules]) for name in place.buffers}
    rule = make_rule(modules[0], place.at(parameters=parameters, buffers=buffers))
    upstream = None
    found = rule.forward(x.clone())
    upstream = torch.randn_like(found)
    of_x = rule.backward(upstream.clone())
    for i, module in enumerate(modules):
        leaf = x[i].clone().requires_grad_(x.is_floating_point())
        out = module(leaf)
        close(found[i], out)
        if not out.requires_grad:
            continue
        out.backward(upstream[i])
        if leaf.requires_grad:
            close(of_x[i], leaf.grad)
        for name, parameter in module.named_parameters():
            close(parameters[name][1][i], parameter.grad)
        for name, buffer in module.named_buffers():
            close(buffers[name][i], buffer)


@pytest.mark.parametrize("n_categories", [(3, 4), (), (5, 2, 3)])
@pytest.mark.parametrize("n_networks", [None, 2])
def test_tables(n_categories, n_networks):
    modules = [TableInputs(3, n_categories, 2).double() for _ in range(n_networks or 1)]
    codes = [torch.randint(n, (len(modules), 6)) for n in n_categories]
    numbers = [torch.randn(len(modules), 6) for _ in range(3 - len(codes))]
    x = torch.stack([*codes, *numbers], 2).double()
    stacked = [dict(m.named_parameters()) | dict(m.named_buffers()) for m in modules]
    joined = {k: torch.stack([s[k].detach() for s in stacked]).clone() for k in stacked[0]}
    if n_networks is None:
        joined = {k: v[0] for k, v in joined.items()}
    place, _ = place_of(modules[0], x if n_networks else x[0], n_networks, needs_gradient=False)
    parameters = {k: (joined[k], torch.full_like(joined[k], torch.nan)) for k in place.parameters}
    rule = make_rule(modules[0], place.at(parameters=parameters, buffers=joined))
    found = rule.forward(x if n_networks else x[0])
    upstream = torch.randn_like(found)
    rule.backward(upstream.clone())
    for i, module in enumerate(modules):
        one = (lambda tensor, i=i: tensor[i]) if n_networks else (lambda tensor: tensor)
        out = module(x[i])
        close(one(found), out)
        if n_categories:
            out.backward(one(upstream))
            close(one(parameters["embedding.weight"][1]), module.embedding.weight.grad)
        if len(n_categories) < 3:
            close(one(joined["norm.running_mean"]), module.norm.running_mean)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.LSTM(3, 2), (4, 3)),
        (nn.Linear(3, 2), (3,)),
        (nn.Linear(3, 2), (4, 2)),
        (nn.Conv2d(1, 1, 3), (4, 5, 5)),
        (nn.Conv2d(1, 1, 3, padding_mode="reflect", padding=1), (4, 1, 5, 5)),
        (nn.BatchNorm1d(3), (1, 3)),
        (nn.BatchNorm1d(3), (4, 2)),
        (nn.BatchNorm1d(3, momentum=None), (4, 3)),
        (nn.BatchNorm2d(3), (4, 3)),
        (nn.LayerNorm(3), (4, 2)),
        (nn.GroupNorm(1, 3), (4, 2)),
        (nn.Embedding(3, 2), (4, 3)),
        (nn.Embedding(3, 2, max_norm=1), (4, 3)),
        (nn.MaxPool2d(2), (4, 4, 4)),
        (nn.MaxPool2d(2, return_indices=True), (4, 1, 4, 4)),
        (nn.Softmax(0), (4, 3)),
        (nn.PReLU(2), (4, 3)),
        (nn.Flatten(0), (4, 3)),
        (nn.Dropout(1.0), (4, 3)),
    ],
    ids=lambda value: str(value),
)
def test_what_has_no_rule(module, shape):
    with pytest.raises(Unknown):
        make_rule(module, place_of(module, torch.zeros(shape))[0])


def test_all_rules_are_tested():
    tested = [*ACTIVATIONS, *POOLS, *(layer for layer, _ in MANY)]
    kinds = {type(part) for layer in tested for part in layer.modules()}
    kinds |= {
        TableInputs,
        nn.Conv3d,
        nn.BatchNorm3d,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
    }
    assert set(RULES) <= kinds
