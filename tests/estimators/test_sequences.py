"""Sequences of different lengths, and several inputs, in whatever form they are given."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import Dataset, Subset

from skhpo import BayesSearchCV, TorchClassifier, TorchRegressor
from skhpo.training.batches import RowBatches, batch_sizes, order_by_length
from skhpo.training.data import Rows
from skhpo.training.sequences import RaggedRows, Sequences

RNG = np.random.default_rng(0)
N = 80
Y = np.arange(N) % 2
# Token 10 or 11 tells the class; the others are noise.
TEXTS = [
    np.where(RNG.random(n) < 0.5, 10 + k, RNG.integers(1, 10, n))
    for n, k in zip(RNG.integers(2, 12, N), Y, strict=True)
]
WAVES = [RNG.normal(k, 0.5, (len(text), 3)) for text, k in zip(TEXTS, Y, strict=True)]
FAST = {"max_epochs": 2, "lr": 0.05, "random_state": 0, "batch_size": 16}


class Mean(nn.Module):
    """The mean of the vectors of tokens, which padding would shift."""

    def __init__(self, out_features, width=6):
        super().__init__()
        self.table, self.out = nn.Embedding(20, width), nn.Linear(width, out_features)

    def forward(self, x, mask):
        mask = mask[..., None].float()
        return self.out((self.table(x) * mask).sum(1) / mask.sum(1))


class Packed(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.rnn, self.out = nn.GRU(in_features, 6, batch_first=True), nn.Linear(6, out_features)

    def forward(self, x, lengths):
        x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.rnn(x)[1][-1])


class Attention(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.table, self.out = nn.Embedding(20, 6), nn.Linear(6, out_features)
        self.attention = nn.MultiheadAttention(6, 1, batch_first=True)

    def forward(self, x, key_padding_mask):
        x = self.table(x)
        seen = self.attention(x, x, x, key_padding_mask=key_padding_mask, need_weights=False)[0]
        return self.out(seen[:, 0])


class Items(Dataset):
    def __init__(self, rows, lengths=None):
        self.rows = rows
        if lengths is not None:
            self.lengths = lengths

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return torch.as_tensor(self.rows[i], dtype=None), int(Y[i])


def as_objects(rows):
    made = np.empty(len(rows), dtype=object)
    made[:] = rows
    return made


@pytest.fixture(scope="module")
def by_list():
    net = TorchClassifier(Mean, collate="pad", **FAST).fit(TEXTS, Y)
    return net.predict_proba(TEXTS)


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: [row.tolist() for row in rows],
        lambda rows: tuple(map(torch.from_numpy, rows)),
        as_objects,
        pd.Series,
        lambda rows: Items(rows, [len(row) for row in rows]),
        lambda rows: Subset(Items([*rows] * 2, [len(row) for row in rows] * 2), range(len(rows))),
        lambda rows: pd.DataFrame({"x": rows}),
        lambda rows: {"x": rows},
    ],
    ids=["lists", "tensors", "objects", "series", "dataset", "subset", "frame", "dict"],
)
def test_all_forms_of_sequences_are_one(by_list, form):
    net = TorchClassifier(Mean, collate="pad", **FAST)
    y = None if isinstance(form(TEXTS), Dataset) else Y
    rows = form(TEXTS)
    net.fit(rows, y)
    np.testing.assert_allclose(net.predict_proba(rows), by_list, rtol=1e-5, atol=1e-6)
    # Alone, where there is nothing to pad.
    alone = net.predict_proba(form(TEXTS[:1]))
    np.testing.assert_allclose(alone, by_list[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("params", [{}, {"group_by_length": False}])
def test_padding_changes_no_prediction(params):
    for module, rows in ((Packed, WAVES), (Attention, TEXTS)):
        net = TorchClassifier(module, collate="pad", **{**FAST, "max_epochs": 6}, **params)
        together = net.fit(rows, Y).predict_proba(rows)
        alone = np.concatenate([net.predict_proba([row]) for row in rows[:8]])
        np.testing.assert_allclose(together[:8], alone, rtol=1e-4, atol=1e-5)
        assert net.score(rows, Y) > 0.7
    assert net.set_params(module=Packed).fit(WAVES, Y).module_.rnn.input_size == 3


def test_batches_of_similar_length_need_less_padding():
    padded = []

    class Counts(Mean):
        def forward(self, x, mask):
            if self.training:
                padded[-1] += int((~mask).sum())
            return super().forward(x, mask)

    lengths = [len(text) for text in TEXTS]
    for rows in (TEXTS, Items(TEXTS, lengths)):
        for grouped in (False, "auto"):
            padded.append(0)
            net = TorchClassifier(Counts, collate="pad", group_by_length=grouped, **FAST)
            net.fit(rows, Y)
        proba = net.predict_proba(rows)
        plain = net.set_params(group_by_length=False).predict_proba(rows)
        np.testing.assert_allclose(proba, plain, rtol=1e-5, atol=1e-6)
    assert padded[1] < padded[0] / 2
    assert padded[1] == padded[3]


def test_rows_without_lengths_or_of_one_length_stay_in_their_random_order():
    short = [text[:2] for text in TEXTS]
    for rows, y in ((Items(TEXTS), None), (short, Y)):
        fits = [
            TorchClassifier(Mean, collate="pad", group_by_length=grouped, **FAST).fit(rows, y)
            for grouped in (False, "auto")
        ]
        assert fits[0].history_[:, "train_loss"] == fits[1].history_[:, "train_loss"]


class Twice(Dataset):
    """Has each item of a dataset twice."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return 2 * len(self.dataset)

    def __getitem__(self, i):
        return self.dataset[i // 2]


def test_lengths_are_those_of_the_rows_that_are_predicted():
    items = Items(TEXTS, [len(text) for text in TEXTS])
    net = TorchClassifier(Mean, collate="pad", validation_fraction=0.3, monitor="accuracy", **FAST)
    proba = net.fit(items).predict_proba(items)
    assert "valid_accuracy" in net.history_[-1]
    found = net.predict_proba(Twice(items))
    np.testing.assert_allclose(found, proba.repeat(2, axis=0), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="`lengths`, a number for each item, but X"):
        net.set_params(group_by_length=True).fit(Twice(items))


class TextAndNumbers(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.mean, self.of_numbers = Mean(4), nn.Linear(3, 4)
        self.out = nn.Linear(5, out_features)

    def forward(self, text, numbers, age, text_mask):
        both = torch.relu(self.mean(text, text_mask) + self.of_numbers(numbers))
        return self.out(torch.cat([both, age[:, None].float()], 1))


def test_sequences_among_several_inputs():
    numbers, age = RNG.normal(size=(N, 3)).astype("float32"), RNG.integers(0, 5, N)
    columns = {"text": TEXTS, "numbers": numbers, "age": age}

    class Dicts(Items):
        def __getitem__(self, i):
            return {name: torch.as_tensor(column[i]) for name, column in columns.items()}, Y[i]

    net = TorchClassifier(TextAndNumbers, collate="pad", **FAST)
    expected = net.fit(columns, Y).predict_proba(columns)
    dataset = Dicts(TEXTS, [len(text) for text in TEXTS])
    np.testing.assert_allclose(net.fit(dataset).predict_proba(dataset), expected, rtol=1e-4)
    scores = []
    for data in ((columns, Y), (dataset,)):
        search = BayesSearchCV(net, {"lr": [0.05]}, n_iter=1, cv=2, refit=False).fit(*data)
        scores.append(search.best_score_)
    assert scores[0] == scores[1]


class Two(nn.Module):
    def __init__(self, out_features):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)
        self.out = nn.Linear(4, out_features)

    def forward(self, image, table):
        return self.out(torch.relu(self.a(image) + self.b(table)))


@pytest.mark.parametrize(
    "form",
    [
        lambda parts: [*parts.values()],
        lambda parts: tuple(map(torch.from_numpy, parts.values())),
        lambda parts: pd.DataFrame({name: list(part) for name, part in parts.items()}),
    ],
    ids=["list", "tuple", "frame"],
)
def test_several_inputs_by_position_and_by_column(form, tmp_path):
    parts = {"image": RNG.normal(size=(N, 3)), "table": RNG.normal(size=(N, 2))}
    parts = {name: part.astype("float32") for name, part in parts.items()}
    expected = TorchRegressor(Two, **FAST).fit(parts, parts["image"][:, 0]).predict(parts)
    net = TorchRegressor(Two, **FAST).fit(form(parts), parts["image"][:, 0])
    np.testing.assert_allclose(net.predict(form(parts)), expected, rtol=1e-5, atol=1e-6)
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = TorchRegressor(Two, **FAST).load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict(form(parts)), net.predict(form(parts)))

    def search(data):
        found = BayesSearchCV(TorchRegressor(Two, **FAST), {"lr": [0.01, 0.1]}, n_iter=2, cv=2)
        return found.fit(data, parts["image"][:, 0])

    np.testing.assert_allclose(search(form(parts)).best_score_, search(parts).best_score_)


def test_a_dataset_may_yield_several_inputs():
    class Lists(Items):
        def __getitem__(self, i):
            return (torch.ones(3) * Y[i], torch.ones(2)), int(Y[i])

    net = TorchClassifier(Two, **{**FAST, "max_epochs": 8}).fit(Lists(TEXTS))
    assert net.score(Lists(TEXTS)) == 1


def test_a_collate_function_is_used_everywhere():
    def first_three(items):
        xs, ys = zip(*items, strict=True)
        return torch.stack([(x.repeat(3))[:3] for x in xs]), torch.tensor(ys)

    net = TorchClassifier(nn.Sequential(Mean3()), collate=first_three, **FAST)
    net.fit(Items(TEXTS))
    assert net.predict_proba(Items(TEXTS)).shape == (N, 2)
    assert net.score(Items(TEXTS)) == net.score(Items(TEXTS), Y)


class Mean3(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(20, 4), nn.Linear(12, 2)

    def forward(self, x):
        assert x.shape[1] == 3
        return self.out(self.table(x).flatten(1))


@pytest.mark.parametrize(
    ("params", "X", "message"),
    [
        ({}, TEXTS, "or collate, such as collate='pad'"),
        ({}, [row.tolist() for row in TEXTS], "or collate, such as collate='pad'"),
        ({"collate": "pad"}, [*WAVES[:-1], WAVES[0][:, :2]], "first dimension only"),
        ({"collate": "pad"}, [["a", "b"], *TEXTS[1:]], "must be of numbers, but are of the type"),
        ({"collate": "pad"}, [[np.nan, 1.0], *TEXTS[1:]], "must be finite, but X contains NaN"),
        ({"collate": "pad", "iterator_valid__collate_fn": len}, TEXTS, "both make batches"),
        ({"collate": "pad", "group_by_length": True}, Items(TEXTS), "an attribute `lengths`"),
        ({"group_by_length": True, "batch_sampler": "balanced"}, TEXTS, "both choose the rows"),
        ({"collate": "zip"}, TEXTS, "'collate' parameter"),
    ],
)
def test_what_cannot_be_padded_is_told(params, X, message):
    y = None if isinstance(X, Dataset) else Y
    with pytest.raises(ValueError, match=message):
        TorchClassifier(Mean, **FAST, **params).fit(X, y)


def test_an_argument_that_sequences_do_not_tell_is_named():
    with pytest.raises(ValueError, match="module__in_features must be set, because rows of such"):
        TorchClassifier(collate="pad").fit(TEXTS, Y)


sequences = st.lists(st.lists(st.integers(-9, 9), max_size=7), min_size=1, max_size=9)


@settings(deadline=None, max_examples=60)
@given(sequences, st.data())
def test_padded_rows_are_those_of_torch(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    ragged = RaggedRows(Sequences.of(rows)[np.array(chosen[::-1])])
    index = torch.arange(len(chosen)).flip(0)
    padded = ragged.index_select(0, index)
    assert ragged.lengths[index].tolist() == [len(rows[i]) for i in chosen]
    right = pad_sequence([torch.tensor(rows[i], dtype=torch.int64) for i in chosen], True)
    assert padded[:, : right.shape[1]].tolist() == right.tolist()
    assert padded.shape[1] == max(1, right.shape[1])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.integers(1, 9))
def test_an_order_by_length_has_each_row_once(lengths, batch_size):
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(lengths), generator=generator)
    found = order_by_length(order, torch.tensor(lengths), batch_size, generator)
    assert sorted(found.tolist()) == list(range(len(lengths)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.integers(3, 20), st.integers(0, 9))
def test_lengths_of_batches_do_not_overlap(n, batch_size, seed):
    # Also those of a batch to which rows that are left over are joined: nothing is padded more
    # than to the lengths between its own and those of the next longer batch.
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(30, (n,), generator=generator)
    order = torch.randperm(n, generator=generator)
    found = lengths[order_by_length(order, lengths, batch_size, generator)]
    batches = [batch.sort().values for batch in found.split(batch_sizes(len(found), batch_size))]
    batches.sort(key=lambda batch: (int(batch[0]), int(batch[-1])))
    assert torch.equal(torch.cat(batches), lengths.sort().values)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 9))
def test_each_row_is_trained_on_in_some_epoch(n, batch_size, drop_last, seed):
    rows = Rows(np.zeros((n, 1), np.float32), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    batches = RowBatches(rows, min(batch_size, n), generator, drop_last, lengths=range(n))
    orders = [batches.order() for _ in range(60)]
    assert all(len(order) == sum(batches.sizes()) for order in orders)
    assert set(torch.cat(orders).tolist()) == set(range(n))


def test_rows_that_are_left_over_have_any_length():
    lengths, generator = torch.arange(40), torch.Generator().manual_seed(0)
    orders = [
        order_by_length(torch.randperm(40, generator=generator), lengths, 16, generator)
        for _ in range(30)
    ]
    assert {int(order[-1]) for order in orders} == {7, 23, 39}
