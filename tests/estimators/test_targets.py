"""Several labels, smoothed labels, balanced batches."""

import numpy as np
import pytest
import torch
from scipy.stats import loguniform
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import f1_score
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from skhpo import HalvingHyperbandSearchCV, SelfTuningClassifier, SelfTuningRegressor
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor
from skhpo.training.batches import balanced_order


@pytest.fixture(scope="module")
def labels():
    X, Y = make_multilabel_classification(n_samples=200, n_classes=4, random_state=0)
    return (X / 10).astype(np.float32), Y


@pytest.mark.parametrize(
    "criterion", ["cross_entropy", "bce_with_logits", nn.MultiLabelSoftMarginLoss]
)
def test_several_labels(labels, criterion, tmp_path):
    X, Y = labels
    net = TorchClassifier(criterion=criterion, lr=0.02, random_state=0, max_epochs=30).fit(X, Y)
    proba, predicted = net.predict_proba(X), net.predict(X)
    assert proba.shape == predicted.shape == Y.shape
    assert (proba.sum(1) != 1).any()
    np.testing.assert_array_equal(predicted, proba > 0.5)
    assert f1_score(Y, predicted, average="micro") > 0.8
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = TorchClassifier(criterion=criterion).load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict(X), predicted)


def test_several_labels_of_a_dataset_and_with_checks(labels):
    X, Y = labels
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    assert TorchClassifier(max_epochs=1).fit(dataset).predict(X).shape == Y.shape
    net = TorchClassifier(max_epochs=3, validation_fraction=0.2, monitor="f1_micro").fit(X, Y)
    assert len(net.history[:, "valid_f1_micro"]) == 3


def test_several_labels_in_a_search(labels):
    search = HalvingHyperbandSearchCV(
        TorchClassifier(), {"lr": loguniform(1e-3, 1e-1)}, max_resources=3, cv=2, random_state=0
    ).fit(*labels)
    assert search.predict(labels[0]).shape == labels[1].shape


def test_several_labels_exclude(labels):
    X, Y = labels
    for params in ({"class_weight": "balanced"}, {"batch_sampler": "balanced"}):
        with pytest.raises(ValueError, match=f"{next(iter(params))}=.* needs one label per sample"):
            TorchClassifier(**params).fit(X, Y)
    with pytest.raises(ValueError, match="takes one class per sample, but y has several"):
        TorchClassifier(criterion="nll").fit(X, Y)
    with pytest.raises(ValueError, match="must return 4 outputs for 4 labels"):
        TorchClassifier(module__out_features=3).fit(X, Y)
    net = TorchClassifier(max_epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="one label per sample, or several, as in the first call"):
        net.partial_fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="must have 4 labels as in the first call, but got 3"):
        net.partial_fit(X, Y[:, :3])


def test_label_smoothing_of_classes(blobs):
    net = TorchClassifier(max_epochs=1, batch_size=-1, label_smoothing=0.3, random_state=0)
    loss = net.fit(*blobs).history[0]["train_loss"]
    start = TorchClassifier(module__in_features=8, module__out_features=3, random_state=0)
    output = start.initialize().module_(torch.from_numpy(blobs[0]))
    expected = F.cross_entropy(output, torch.from_numpy(blobs[1]), label_smoothing=0.3)
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_label_smoothing_of_binary_targets(blobs, labels):
    for X, y in ((blobs[0], (blobs[1] > 0).astype(int)), labels):
        params = {"criterion": "bce_with_logits", "max_epochs": 1, "batch_size": -1}
        net = TorchClassifier(**params, label_smoothing=0.2, random_state=0).fit(X, y)
        width = 1 if y.ndim == 1 else y.shape[1]
        start = TorchClassifier(
            module__in_features=X.shape[1], module__out_features=width, random_state=0
        ).initialize()
        target = torch.tensor(y.reshape(len(y), -1), dtype=torch.float32) * 0.8 + 0.1
        loss = F.binary_cross_entropy_with_logits(start.module_(torch.from_numpy(X)), target)
        assert net.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_balanced_order_takes_turns():
    classes = np.repeat([0, 1, 2], [30, 5, 10])
    order = balanced_order(classes, torch.Generator().manual_seed(0))
    assert len(order) == 45
    for start in range(0, 45, 9):
        assert np.bincount(classes[order[start : start + 9]]).tolist() == [3, 3, 3]
    assert len(set(order.tolist())) == 15 + 5 + 10


@pytest.mark.parametrize(
    "extra", [{}, {"validation_fraction": 0.2}, {"criterion": "bce_with_logits"}]
)
def test_balanced_batches(extra):
    class Counts(Callback):
        counts = []

        def on_batch_begin(self, net, batch, **kwargs):
            self.counts.append(batch[1].float().mean().item())

    X = np.random.RandomState(0).rand(200, 3)
    y = np.repeat([0, 1], [180, 20])
    params = {"batch_sampler": "balanced", "batch_size": 20, "random_state": 0, "max_epochs": 4}
    net = TorchClassifier(**params, **extra, callbacks=[Counts]).fit(X, y)
    assert Counts.counts == [0.5] * len(Counts.counts)
    parts = TorchClassifier(**params, **extra).set_params(max_epochs=2).fit(X, y).partial_fit(X, y)
    # Callbacks take another loop than the plain one: float32 may round differently.
    np.testing.assert_allclose(parts.predict_proba(X), net.predict_proba(X), rtol=1e-4, atol=1e-6)


def test_class_weight_of_a_dataset_whose_targets_are_not_read(blobs):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(blobs[0])

        def __getitem__(self, i):
            return blobs[0][i], blobs[1][i]

    net = TorchClassifier(MLP, classes=[0, 1, 2], class_weight="balanced", max_epochs=1)
    with pytest.raises(
        ValueError, match="class_weight='balanced' needs the targets of the Dataset"
    ):
        net.fit(Rows())
    assert net.fit(Rows(), blobs[1]).n_iter_ == 1
    assert net.set_params(class_weight=None).fit(Rows()).n_iter_ == 1


class OnlyChecked(MLP):
    """Is passed through before training, and never in it."""

    def forward(self, x):
        assert not self.training
        return super().forward(x)


OF_NUMBERS = np.linspace(-2, 2, 24)
OF_CLASSES = np.arange(24) % 8
UNFIT = [
    (TorchClassifier, OF_CLASSES, nn.MSELoss, r"must take .* \(n, 8\) .* targets of shape \(n,\)"),
    (SelfTuningClassifier, OF_CLASSES, nn.HuberLoss, r"must take .*criterion='cross_entropy'"),
    (TorchClassifier, OF_CLASSES, nn.TripletMarginLoss, "must take .*missing 1 required"),
    (TorchClassifier, np.eye(3, dtype=int).repeat(8, 0) ^ 1, nn.SoftMarginLoss, "-1 and 1, .* 0;"),
    (TorchRegressor, OF_NUMBERS, nn.CrossEntropyLoss, "probabilities of several classes"),
    (TorchRegressor, OF_NUMBERS, nn.BCEWithLogitsLoss, "numbers from 0 to 1, but y has -2;"),
    (SelfTuningRegressor, OF_NUMBERS, nn.PoissonNLLLoss, "numbers >= 0, .*criterion='mse'"),
    (TorchRegressor, OF_NUMBERS, nn.NLLLoss, "must take .*multi-target not supported"),
    (TorchRegressor, OF_NUMBERS, "gaussian_nll", "must take .*needs a module that returns a pair"),
]


@pytest.mark.parametrize(("estimator", "y", "criterion", "message"), UNFIT)
def test_a_criterion_that_does_not_fit_is_known_before_training(estimator, y, criterion, message):
    X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    net = estimator(OnlyChecked, criterion=criterion, random_state=0)
    with pytest.raises(ValueError, match=f"^criterion .*{message}"):
        net.fit(X, y)


@pytest.mark.parametrize("step", ["train_step", "train_step_single"])
def test_a_step_of_ones_own_calls_the_criterion_as_it_wants(blobs, step):
    def of_pairs(net, batch, **fit_params):
        output = net.infer(batch[0])
        loss = net.criterion_(output, output.roll(1, 0), torch.ones(len(output)))
        loss.backward()
        return {"loss": loss, "y_pred": output}

    cls = type("OfPairs", (TorchClassifier,), {step: of_pairs})
    params = {"criterion": nn.CosineEmbeddingLoss, "predict_nonlinearity": None}
    assert cls(**params, max_epochs=1, random_state=0).fit(*blobs).n_iter_ == 1


@pytest.mark.parametrize("monitor", ["valid_loss", "neg_log_loss"])
def test_the_loss_that_is_monitored_is_that_of_the_criterion_as_given(monitor):
    X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    y = np.arange(24) % 3
    settings = {"label_smoothing": 0.3, "max_epochs": 1, "monitor": monitor}
    net = TorchClassifier(**settings, random_state=0).fit(X, y, validation_data=(X, y))
    logs = torch.from_numpy(net.predict_proba(X)).log()
    smoothing = 0.3 if monitor == "valid_loss" else 0.0
    loss = F.cross_entropy(logs, torch.from_numpy(y), label_smoothing=smoothing).item()
    column = next(v for k, v in net.history_[-1].items() if monitor in k and np.ndim(v) == 0)
    assert abs(column) == pytest.approx(loss, rel=1e-4)
