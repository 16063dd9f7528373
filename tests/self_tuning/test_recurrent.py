"""Layers for sequences: identities, and what they drop."""

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, uniform
from torch import nn

from skhpo import SelfTuningClassifier
from skhpo.self_tuning import Context, HyperEmbedding, HyperLSTM
from skhpo.self_tuning._module_conversion import convert, fold_into
from skhpo.self_tuning._penalties import Decay, activity_penalty

KINDS = {
    "one layer": {"batch_first": True},
    "time first": {},
    "two layers": {"batch_first": True, "num_layers": 2},
    "both directions": {"batch_first": True, "bidirectional": True, "num_layers": 2},
    "no bias": {"batch_first": True, "bias": False},
}


class Reader(nn.Module):
    """Tells the class of a sequence of characters."""

    def __init__(self, out_features, n_hidden=6, **kwargs):
        super().__init__()
        self.embedding = nn.Embedding(12, 5)
        self.lstm = nn.LSTM(5, n_hidden, batch_first=True, **kwargs)
        self.drop = nn.Dropout(0.1)
        self.output = nn.Linear(n_hidden, out_features)

    def forward(self, x):
        outputs, _ = self.lstm(self.embedding(x))
        return self.output(self.drop(outputs[:, -1]))


@pytest.mark.parametrize("kind", KINDS)
def test_lstm_has_weights_per_sequence(kind):
    kwargs = KINDS[kind]
    torch.manual_seed(0)
    hyper = HyperLSTM(3, 4, **kwargs).double()
    plain = nn.LSTM(3, 4, **kwargs).double()
    plain.load_state_dict(hyper.state_dict())
    hyper.attach(context := Context(["a", "b"]), scale=1.0)
    x = torch.randn(5, 7, 3, dtype=torch.float64)
    first = kwargs.get("batch_first", False)
    batch = x if first else x.transpose(0, 1)
    torch.testing.assert_close(hyper(batch), plain(batch))
    context.response = response = torch.randn(5, 2, dtype=torch.float64)
    outputs, (h, c) = hyper(batch)
    for i in range(5):
        plain.load_state_dict(hyper.folded(response[i : i + 1]))
        alone = batch[i : i + 1] if first else batch[:, i : i + 1]
        of_one, (h_one, c_one) = plain(alone)
        ours = outputs[i : i + 1] if first else outputs[:, i : i + 1]
        torch.testing.assert_close(ours, of_one, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(h[:, i : i + 1], h_one, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(c[:, i : i + 1], c_one, atol=1e-9, rtol=1e-9)


def test_embedding_has_weights_per_example():
    layer = HyperEmbedding(6, 3, padding_idx=0).double().attach(Context(["a"]), scale=1.0)
    x = torch.randint(0, 6, (5, 4))
    layer.context.response = response = torch.randn(5, 1, dtype=torch.float64)
    together = layer(x)
    for i in range(5):
        weight = layer.folded(response[i : i + 1])["weight"]
        torch.testing.assert_close(together[i], weight[x[i]], atol=1e-9, rtol=1e-9)


def test_penalty_of_an_embedding_and_of_an_lstm():
    for layer in (HyperEmbedding(6, 3), HyperLSTM(3, 4)):
        layer.double().attach(Context(["a", "b"]), scale=1.0)
        response = torch.randn(9, 2, dtype=torch.float64)
        strengths = torch.rand(9, 1, dtype=torch.float64)
        for part in layer.penalised():
            looped = sum(
                0.5 * strengths[i, 0] * part.folded(response[i : i + 1])["weight"].square().sum()
                for i in range(9)
            ).div(9)
            parameters = [part.weight, part.hyper_weight, part.response]
            expected = torch.autograd.grad(looped, parameters)
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            Decay([(part, "decay")]).add_gradients(response, {"decay": strengths})
            ours = [parameter.grad for parameter in parameters]
            torch.testing.assert_close(ours, list(expected), atol=1e-9, rtol=1e-9)


def test_linearised_reader_against_jvp():
    torch.manual_seed(0)
    context = Context(["a", "b"])
    module = convert(Reader(3, num_layers=2).double().eval(), context, 0, scale=1.0)
    x = torch.randint(0, 12, (5, 6))
    context.response, context.tangent = torch.randn(5, 2, dtype=torch.float64), True
    response, dual = context.response, module(x)
    context.tangent = False

    def network(response):
        context.response = response
        return module(x)

    network(response)
    eps = 1e-6
    forward, backward = network(eps * response), network(-eps * response)
    torch.testing.assert_close(dual.tangent, (forward - backward) / (2 * eps), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(dual.value, network(0 * response), atol=1e-9, rtol=1e-9)


def test_activity_penalties():
    output = torch.tensor([[[1.0, 2.0], [3.0, 2.0]], [[0.0, 0.0], [1.0, 1.0]]])
    values = {"ar": torch.tensor([[2.0], [1.0]]), "tar": torch.tensor([[4.0], [2.0]])}
    of_ar, of_tar = (activity_penalty([output], [name], values) for name in ("ar", "tar"))
    assert of_ar == pytest.approx((2 * 18 / 4 + 1 * 2 / 4) / 2)
    assert of_tar == pytest.approx((4 * 4 / 2 + 2 * 2 / 2) / 2)


@pytest.mark.filterwarnings("ignore:.*step by step:UserWarning")
@pytest.mark.parametrize("variant", ["stn", "delta"])
def test_text_regularisers_in_one_run(variant):
    ranges = {
        "embedding.dropout": uniform(0, 0.8),
        "lstm.dropout": uniform(0, 0.8),
        "lstm.weight_dropout": uniform(0, 0.8),
        "drop.p": uniform(0, 0.8),
        "ar": uniform(0, 2),
        "tar": uniform(0, 2),
        "weight_decay": loguniform(1e-6, 1e-2),
    }
    rng = np.random.default_rng(0)
    X = rng.integers(0, 12, (120, 6))
    y = X[:, -1] % 3
    net = SelfTuningClassifier(
        Reader,
        ranges,
        module__num_layers=2,
        variant=variant,
        lr=0.02,
        warmup_epochs=1,
        max_epochs=12,
        random_state=0,
    ).fit(X, y)
    assert net.score(X, y) > 0.6
    assert all(len(set(values)) > 5 for values in net.schedule_.values())
    assert net.tuning_.effects.per_batch == {
        *("ar", "tar", "embedding.dropout", "lstm.weight_dropout")
    }
    plain = net.collapse()
    assert {type(layer) for layer in plain.children()} == {
        *(nn.Embedding, nn.LSTM, nn.Dropout, nn.Linear)
    }
    assert plain.lstm.dropout == net.best_hyperparameters_["lstm.dropout"]


def test_folding_a_reader():
    context = Context(["a"])
    plain = Reader(3, bidirectional=False, num_layers=2).double().eval()
    module = convert(plain, context, 0, scale=1.0)
    context.response = torch.ones(1, 1, dtype=torch.float64)
    x = torch.randint(0, 12, (5, 6))
    fold_into(plain, module, context.response)
    torch.testing.assert_close(plain(x), module(x), atol=1e-9, rtol=1e-9)


def test_words_are_dropped_in_all_examples():
    layer = HyperEmbedding(50, 3).attach(context := Context(["p"]))
    layer.rates["dropout"] = "p"
    context.regularises, context.values = True, {"p": torch.full((4, 1), 0.5)}
    out = layer(torch.arange(50).expand(4, 50))
    gone = (out == 0).all(2)
    assert (gone == gone[0]).all()
    assert 10 < gone[0].sum() < 40


def test_packed_sequences_are_refused():
    layer = HyperLSTM(3, 4).attach(context := Context(["a"]))
    context.response = torch.zeros(2, 1)
    packed = nn.utils.rnn.pack_sequence([torch.zeros(3, 3), torch.zeros(2, 3)])
    with pytest.raises(TypeError, match="pad sequences"):
        layer(packed)
