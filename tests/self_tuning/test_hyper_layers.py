"""Layers whose weights respond: identities that hold to rounding, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skhpo.self_tuning import Context, HyperConv1d, HyperConv2d, HyperDropout, HyperLinear
from skhpo.self_tuning._modulated import response_rows
from skhpo.self_tuning._penalties import Decay

LAYERS = {
    "linear": (HyperLinear(4, 3), nn.Linear(4, 3), (5, 4)),
    "linear, no bias": (HyperLinear(4, 3, bias=False), nn.Linear(4, 3, bias=False), (5, 4)),
    "linear on sequences": (HyperLinear(4, 3), nn.Linear(4, 3), (5, 7, 4)),
    "conv1d": (HyperConv1d(2, 6, 3, padding=1), nn.Conv1d(2, 6, 3, padding=1), (5, 2, 8)),
    "conv2d": (HyperConv2d(2, 3, 3, stride=2), nn.Conv2d(2, 3, 3, stride=2), (5, 2, 8, 8)),
    "groups": (HyperConv2d(4, 6, 3, groups=2), nn.Conv2d(4, 6, 3, groups=2), (5, 4, 6, 6)),
}


@pytest.fixture(params=LAYERS)
def layers(request):
    hyper, plain, shape = LAYERS[request.param]
    context = Context(["a", "b"])
    generator = torch.Generator().manual_seed(0)
    hyper.double().attach(context, generator, scale=1.0)
    return hyper, plain.double(), torch.randn(shape, generator=generator, dtype=torch.float64)


def test_each_example_has_its_own_weights(layers):
    hyper, plain, x = layers
    response = torch.randn(len(x), 2, dtype=torch.float64)
    hyper.context.response = response
    together = hyper(x)
    for i in range(len(x)):
        plain.load_state_dict(hyper.folded(response[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], plain(x[i : i + 1]), atol=1e-9, rtol=1e-9)


def test_without_a_response_it_is_the_plain_layer(layers):
    hyper, plain, x = layers
    hyper.context.response = None
    plain.load_state_dict({name: getattr(hyper, name) for name in plain.state_dict()})
    torch.testing.assert_close(hyper(x), plain(x))


def test_one_response_for_all(layers):
    hyper, _, x = layers
    response = torch.randn(1, 2, dtype=torch.float64)
    hyper.context.response = response
    of_one = hyper(x)
    hyper.context.response = response.expand(len(x), 2)
    torch.testing.assert_close(of_one, hyper(x))


def test_rows_of_all_layers_are_those_of_each():
    context = Context(["a", "b"])
    layers = [kind.attach(context, scale=1.0) for kind in (HyperLinear(4, 3), HyperConv1d(2, 6, 3))]
    layers.append(HyperLinear(2, 5, bias=False).attach(context, scale=1.0))
    response = torch.randn(7, 2)
    for centred in (False, True):
        together = response_rows(layers, response, centred=centred)
        for layer in layers:
            scales, bias = together[layer]
            alone = layer.response[: layer.n_rows]
            torch.testing.assert_close(scales, response @ alone.t())
            if layer.bias is None:
                assert bias is None
                continue
            expected = response @ layer.response[layer.n_rows :].t() * layer.hyper_bias
            torch.testing.assert_close(bias, expected if centred else layer.bias + expected)


def test_a_batch_that_is_not_first_is_refused():
    layer = HyperLinear(4, 3).attach(Context(["a"]))
    layer.context.response = torch.zeros(5, 1)
    with pytest.raises(ValueError, match="keep the batch first"):
        layer(torch.zeros(7, 4))


@pytest.mark.parametrize("response_only", [False, True])
def test_closed_form_penalty_against_a_loop_over_examples(layers, response_only):
    layer, _, _ = layers
    generator = torch.Generator().manual_seed(0)
    response = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    strengths = torch.rand(9, 1, generator=generator, dtype=torch.float64)
    looped = sum(
        0.5 * strengths[i, 0] * layer.folded(response[i : i + 1])["weight"].square().sum()
        for i in range(9)
    ).div(9)
    parameters = [layer.weight, layer.hyper_weight, layer.response]
    expected = torch.autograd.grad(looped, parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    decay = Decay([(layer, "decay")])
    decay.add_gradients(response, {"decay": strengths}, response_only=response_only)
    for i, (parameter, gradient) in enumerate(zip(parameters, expected, strict=True)):
        wanted = 0 if response_only and i == 0 else gradient
        torch.testing.assert_close(parameter.grad, 1 + wanted + 0 * gradient, atol=1e-9, rtol=1e-9)


def test_dropout_with_a_rate_per_example():
    context = Context(["p"])
    layer = HyperDropout(0.5).attach(context, "p")
    context.regularises = True
    context.generator = torch.Generator().manual_seed(0)
    rates = torch.tensor([[0.0], [0.25], [0.9]])
    context.values = {"p": rates}
    out = layer(torch.ones(3, 20000))
    kept = (out != 0).float().mean(1)
    torch.testing.assert_close(kept, 1 - rates[:, 0], atol=0.02, rtol=0)
    torch.testing.assert_close(out.mean(1), torch.ones(3), atol=0.1, rtol=0)
    assert torch.equal(layer.eval()(torch.ones(3, 4)), torch.ones(3, 4))


@pytest.mark.parametrize(("shared", "axes"), [("channel", (2, 3)), ("time", (1,))])
def test_dropout_that_shares_draws(shared, axes):
    layer = HyperDropout(0.5, shared=shared)
    torch.manual_seed(0)
    out = layer(torch.ones(8, 6, 5, 4))
    assert torch.equal(out.amin(axes), out.amax(axes))
    assert 0 < F.relu(out).count_nonzero() < out.numel()


@pytest.mark.parametrize("kwargs", [{"p": 1.0}, {"p": -0.1}, {"shared": "rows"}])
def test_bad_dropout(kwargs):
    with pytest.raises(ValueError, match="must be"):
        HyperDropout(**kwargs)
