"""Bad input is refused before any training, with the rule, the value and the fix."""

import datetime
import io

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from skhpo import BayesSearchCV
from skhpo.estimators import MLP, TorchClassifier, TorchRegressor, validation
from skhpo.lockstep import predict_together

X = np.random.RandomState(0).rand(12, 3)
Y = np.arange(12) % 3


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("trained")

    monkeypatch.setattr(torch.Tensor, "backward", fail)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimizer": "adamm"}, "optimizer must be .* got 'adamm'; known: 'adam', 'adamw'"),
        ({"optimizer": 3}, "optimizer must be a class or a known name, but got 3"),
        ({"criterion": "crossentropi"}, "criterion must be .* known: 'cross_entropy'"),
        ({"device": "cuda:97"}, "device must be 'auto' or .* 'cuda:97'; there are: 'cpu'"),
        ({"device": "gpu"}, "device must be 'auto' or .* got 'gpu'"),
        ({"max_epochs": 0}, r"'max_epochs' .* an int in the range \[1, inf\). Got 0 "),
        ({"max_epochs": 2.5}, r"'max_epochs' .* an int in the range \[1, inf\). Got 2.5 "),
        ({"batch_size": 0}, r"'batch_size' .* an int in the range \[1, inf\) or .*-1.* Got 0 "),
        ({"random_state": "seven"}, "random_state must be None, an integer .* 'seven'"),
        ({"random_state": -1}, "random_state must be None, an integer >= 0"),
        ({"module": "MLP"}, "module must be a torch.nn.Module class .* got 'MLP'"),
        ({"module__activation": "rele"}, "activation must be .* known: 'relu'"),
        ({"module__in_features": 5}, r"accept a batch .* X \(8, 3\) it raised RuntimeError"),
        ({"class_weight": {9: 1.0}}, r"class_weight has the labels \[9\]"),
        ({"class_weight": "balancd"}, "class_weight must be None, 'balanced' or a dict"),
        ({"module__out_features": 5}, "3 outputs for 3 classes, .* shape \\(n, 5\\)"),
        ({"criterion": "bce_with_logits"}, "1 output for exactly 2 classes, but y has 3 classes"),
        (
            {"criterion": "nll"},
            "NLLLoss needs a module that returns probabilities or .* use criterion='cross_entropy'",
        ),
        ({"classes": [0, 1]}, r"only the labels array\(\[0, 1\]\)"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        TorchClassifier(**params).fit(X, Y)


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.where(X > 0.9, np.nan, X), Y, "X contains NaN"),
        (np.where(X > 0.9, np.inf, X), Y, "X contains infinity"),
        (X * 1e300, Y, "X must fit into float32 .* has the value 9"),
        (X, Y[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
        (X, None, "requires y to be passed, but the target y is None"),
        (X[:0], Y[:0], "0 sample"),
        ([["a"], ["b"]], [0, 1], "could not convert|numeric"),
        (["a b", "c"] * 6, Y, r"one is the text 'a b'; .*TfidfVectorizer .*reads the file"),
        (np.array(["a b", "c"] * 6, dtype=object), Y, "one is the text 'a b'"),
        (torch.full((12, 3), torch.nan), Y, "X contains NaN"),
    ],
)
def test_bad_data(cls, method, inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        getattr(cls(), method)(inputs, targets)


def test_a_loader_is_refused_with_what_to_pass():
    loader = DataLoader(TensorDataset(torch.zeros(12, 3), torch.zeros(12)))
    for fit in (TorchRegressor().fit, BayesSearchCV(TorchRegressor(), {"lr": [0.1, 0.2]}).fit):
        for y in (None, Y):
            with pytest.raises(TypeError, match=r"has batches; pass its dataset, X\.dataset"):
                fit(loader, y)


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_frames_with_strings_are_refused_with_the_name_of_the_encoder(cls, dtype):
    pd = pytest.importorskip("pandas")
    texts = pd.Series(["x", "y"] * 6, dtype=dtype)
    for frame in (pd.DataFrame({"a": X[:, 0], "s": texts}), pd.DataFrame({"s": texts})):
        with pytest.raises(ValueError, match=r"(?s)of numbers, .*'x'.*make_pipeline\(TableEncoder"):
            cls().fit(frame, Y)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("learning_rate", "lr"), ("n_epochs", "max_epochs"), ("seed", "random_state")],
)
def test_usual_names_of_other_packages(name, meant):
    with pytest.raises(ValueError, match=f"the nearest first: {meant}, "):
        TorchClassifier().set_params(**{name: 1})
    pipeline = make_pipeline(StandardScaler(), TorchClassifier())
    space = {f"torchclassifier__{name}": [1, 2]}
    with pytest.raises(ValueError, match=f"did you mean 'torchclassifier__{meant}'"):
        BayesSearchCV(pipeline, space, n_iter=2).fit(X, Y)


@pytest.mark.parametrize("days", [1, 3])
@pytest.mark.parametrize("make", ["array", "pandas", "polars"])
def test_dates_are_no_numbers(make, days):
    dates = np.array(["2020-01-01"], "M8[ns]") + np.arange(12).astype("m8[D]")
    data = np.stack([dates] * days, 1)
    given = [data, {"when": data}, data - data.min()]
    message = r"must be of numbers, .* convert it, as by \(dates - "
    if make != "array":
        library = pytest.importorskip(make, reason=f"{make} is not installed")
        columns = {f"day {i}": column for i, column in enumerate(data.T)}
        frame = library.DataFrame({"number": np.arange(12.0), **columns})
        given = [frame, {"when": frame}]
        for wrong in (frame, frame["day 0"]):
            with pytest.raises(ValueError, match=f"^y {message}"):
                TorchRegressor().fit(X, wrong)
    for wrong in given:
        with pytest.raises(ValueError, match=message):
            TorchRegressor().fit(wrong, Y)


@pytest.mark.parametrize("as_given", [list, np.array])
def test_objects_in_lists_are_those_of_arrays(as_given):
    dates = [[datetime.date(2020, 1, day + 1), 1.0] for day in range(12)]
    with pytest.raises(ValueError, match=r"X must be of numbers, .*'datetime.date'; convert it"):
        TorchRegressor().fit(as_given(dates), Y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        TorchRegressor().fit(as_given([[None, 1.0]] * 12), Y)


def test_errors_about_names_are_not_those_of_strings_or_dates():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["string", "date", 1])
    with pytest.raises(TypeError, match=r"^Feature names are only supported"):
        TorchRegressor().fit(frame, Y)
    frame.columns = ["string", "date", "other"]
    net = TorchRegressor()
    net.feature_names_in_ = np.array(["a", "b", "c"], dtype=object)
    with pytest.raises(ValueError, match=r"^The feature names should match") as raised:
        validation.check_inputs(net, frame, Y, reset=False, needs_y=True)
    assert "encode" not in str(raised.value)


def test_columns_of_arrays_have_different_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": list(X), "b": list(X)}).set_axis(["a", "a"], axis=1)
    with pytest.raises(ValueError, match="different names, but 'a' occurs twice"):
        TorchRegressor().fit(frame, Y)


@pytest.mark.parametrize("given", [range(12), {"a": X}])
def test_what_has_no_width_to_infer(given):
    with pytest.raises(ValueError, match="module__in_features must be set"):
        TorchRegressor().fit(given, Y)


def test_an_empty_dict_has_no_rows():
    with pytest.raises(ValueError, match="a dict with at least one, but is an empty dict"):
        TorchClassifier().fit({}, Y)


@pytest.mark.parametrize("cls", [TorchClassifier, TorchRegressor])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(5), r"sample_weight must have shape \(12,\).* got \(5,\)"),
        (-np.ones(12), "sample_weight must be >= 0, but has the value -1"),
        (np.zeros(12), "sample_weight must not be zero everywhere"),
        (np.full(12, np.nan), "sample_weight contains NaN"),
    ],
)
def test_bad_weights(cls, weight, message):
    with pytest.raises(ValueError, match=message):
        cls().fit(X, Y, sample_weight=weight)


def test_bad_labels():
    with pytest.raises(ValueError, match="Unknown label type"):
        TorchClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="y contains NaN"):
        TorchClassifier().fit(X, np.where(Y > 1, np.nan, Y))
    with pytest.raises(ValueError, match="1d array"):
        TorchClassifier().fit(X, np.arange(36).reshape(12, 3) % 5)


def test_bad_targets():
    with pytest.raises(ValueError, match="y must fit into float32"):
        TorchRegressor().fit(X, Y * 1e300)
    with pytest.raises(ValueError, match=r"2 values per sample .* shape \(n, 5\)"):
        TorchRegressor(module__out_features=5).fit(X, X[:, :2])
    with pytest.raises(
        ValueError, match=r"4 values per sample .* \(n_samples, 2, 2\), .* \(n, 5\)"
    ):
        TorchRegressor(module__out_features=5).fit(X, np.zeros((12, 2, 2)))


def test_module_must_make_a_module():
    with pytest.raises(TypeError, match=r"must make a torch.nn.Module, but .* returned 3"):
        TorchClassifier(module=lambda: 3).fit(X, Y)


def test_weights_need_rows_that_are_read_by_number():
    dataset = torch.utils.data.TensorDataset(torch.zeros(4, 2), torch.zeros(4))
    net = TorchRegressor(iterator_train__sampler=[0, 1, 2, 3])
    for data in ((dataset,), (np.zeros((4, 2)), np.zeros(4))):
        with pytest.raises(ValueError, match=r"read by number, but iterator_train=.*'sampler'"):
            net.fit(*data, sample_weight=np.ones(4))
    with pytest.raises(ValueError, match=r"shape \(4,\), one weight per sample, but got \(3,\)"):
        TorchRegressor().fit(dataset, sample_weight=np.ones(3))

    def first(items):
        return default_collate(items[:1])

    with pytest.raises(ValueError, match="a row for each, but of 4 items it made 1 rows"):
        TorchRegressor(iterator_train__collate_fn=first).fit(dataset, sample_weight=np.ones(4))


def test_trying_the_module_leaves_it_as_it_was(monkeypatch):
    """The forward pass before training counts neither in statistics nor in random streams."""

    class Stop(Exception):
        pass

    def stop(net, *args, **kwargs):
        seen.append(
            (net.module_.state_dict(), net._state.streams["forward"].generator().get_state())
        )
        raise Stop

    seen = []
    monkeypatch.setattr("skhpo.estimators._torch.run_epochs", stop)

    def make(in_features, out_features):
        return nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), MLP(in_features, out_features))

    with pytest.raises(Stop):
        TorchClassifier(make, random_state=0).fit(X, Y)
    state, generator = seen[0]
    assert not state["0.running_mean"].any()
    assert state["0.num_batches_tracked"] == 0
    from skhpo.training.randomness import Stream

    assert torch.equal(generator, Stream(0, "forward").generator().get_state())


def test_weights_need_a_criterion_that_can_be_weighted():
    def absolute(y_pred, y_true):
        return (y_pred - y_true).abs().mean()

    net = TorchRegressor(criterion=lambda: absolute)
    with pytest.raises(ValueError, match="need a criterion with a `reduction`"):
        net.fit(X, Y, sample_weight=np.ones(12))


@pytest.mark.parametrize("lost", ["states", "module"])
def test_a_checkpoint_without_weights_is_refused(lost, monkeypatch):
    monkeypatch.undo()
    file = io.BytesIO()
    TorchClassifier(max_epochs=1).fit(X, Y).save_checkpoint(file)
    file.seek(0)
    checkpoint = torch.load(file)
    del (checkpoint if lost == "states" else checkpoint["states"])[lost]
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    with pytest.raises(ValueError, match=f"must be complete, but lacks the .* '{lost}'"):
        TorchClassifier().load_checkpoint(file)
    file = io.BytesIO()
    torch.save([1], file)
    file.seek(0)
    with pytest.raises(ValueError, match="must be one of TorchClassifier"):
        TorchClassifier().load_checkpoint(file)


def test_as_many_inputs_as_nets(monkeypatch):
    monkeypatch.undo()
    nets = [TorchClassifier(max_epochs=1).fit(X, Y)] * 2
    with pytest.raises(ValueError, match="inputs for each net, but got 2 nets and 1 inputs"):
        predict_together(nets, [X])


@pytest.mark.parametrize("unit", ["datetime64[D]", "timedelta64[s]"])
def test_dates_are_no_targets_of_a_regressor(unit):
    y = np.arange(len(X)).astype(unit)
    with pytest.raises(
        ValueError, match=r"^y must be of numbers, but has the type .*64\[.*convert"
    ):
        TorchRegressor().fit(X, y)
