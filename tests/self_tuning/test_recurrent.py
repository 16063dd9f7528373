"""Layers for sequences: identities, and what they drop."""

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, uniform
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

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
def test_packed_sequences_give_what_each_gives_alone(kind):
    kwargs = KINDS[kind]
    torch.manual_seed(0)
    hyper = HyperLSTM(3, 4, **kwargs).double()
    plain = nn.LSTM(3, 4, **kwargs).double()
    hyper.attach(context := Context(["a", "b"]), scale=1.0)
    rows = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 7, 1)]
    context.response = response = torch.randn(3, 2, dtype=torch.float64)
    outputs, (h, c) = hyper(pack_sequence(rows, enforce_sorted=False))
    outputs, lengths = pad_packed_sequence(outputs, batch_first=True)
    assert lengths.tolist() == [4, 7, 1]
    for i, row in enumerate(rows):
        plain.load_state_dict(hyper.folded(response[i : i + 1]))
        of_one, (h_one, c_one) = plain(row)
        torch.testing.assert_close(outputs[i, : len(row)], of_one, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(h[:, i], h_one, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(c[:, i], c_one, atol=1e-9, rtol=1e-9)


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


def test_other_than_sequences_are_refused():
    layer = HyperLSTM(3, 4).attach(context := Context(["a"]))
    context.response = torch.zeros(2, 1)
    with pytest.raises(TypeError, match="three dimensions, or packed"):
        layer(torch.zeros(5, 3))


class PackedReader(Reader):
    """The same for sequences of different lengths."""

    def forward(self, x, lengths):
        x = pack_padded_sequence(self.embedding(x), lengths, True, enforce_sorted=False)
        return self.output(self.drop(self.lstm(x)[1][0][-1]))


@pytest.mark.filterwarnings("ignore:an LSTM that responds", "ignore:these layers")
@pytest.mark.parametrize("variant", ["stn", "implicit"])
def test_sequences_of_different_lengths(variant):
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 12, n).tolist() for n in rng.integers(2, 9, 60)]
    y = np.array([text[-1] % 2 for text in texts])
    name = "weight_decay" if variant == "implicit" else "drop.p"
    net = SelfTuningClassifier(
        PackedReader,
        {name: uniform(1e-4, 0.5)},
        variant=variant,
        collate="pad",
        max_epochs=3,
        warmup_epochs=1,
        train_steps=1,
        random_state=0,
    ).fit(texts, y)
    assert len(set(net.schedule_[name])) > 1
    # What a sequence gets does not depend on what it is padded to.
    together = net.predict_proba(texts)
    alone = np.concatenate([net.predict_proba([text]) for text in texts[:5]])
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)


def test_padding_changes_nothing_where_all_have_one_length():
    rng = np.random.default_rng(0)
    X = rng.integers(1, 12, (40, 4))
    params = {"max_epochs": 2, "warmup_epochs": 1, "random_state": 0, "group_by_length": False}
    fits = [
        SelfTuningClassifier(Pooled, {"drop.p": uniform(0, 0.5)}, collate=collate, **params)
        for collate in (None, "pad")
    ]
    # Rows to tune on are held out by their content in one case, by number in the other.
    given = {"validation_data": np.arange(40) < 10}
    of_array, padded = (net.fit(X, X[:, 0] % 2, **given).predict_proba(X) for net in fits)
    np.testing.assert_allclose(padded, of_array, rtol=1e-4)
    with pytest.raises(ValueError, match="collate must be None or 'pad' in a self-tuning"):
        fits[0].set_params(collate=torch.utils.data.default_collate).fit(X, X[:, 0] % 2)


class Pooled(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.embedding = nn.Embedding(12, 5)
        self.drop = nn.Dropout(0.1)
        self.output = nn.Linear(5, out_features)

    def forward(self, x, mask=None):
        weight = torch.ones(x.shape) if mask is None else mask.float()
        return self.output(self.drop((self.embedding(x) * weight[..., None]).sum(1)))
