"""Whole programs against the loop that one writes."""

import contextlib
import copy
import functools

import pytest
import torch
from torch import nn

from skhpo.training.direct import _program, compile_program
from skhpo.training.randomness import Masks, OwnGenerators, Stream


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def mlp(*layers):
    return nn.Sequential(nn.Linear(5, 6), *layers, nn.Linear(6, 3))


def twice(module):
    return module.double(), copy.deepcopy(module)


SIZES = [8, 8, 8, 3]


def batches(classes=True, weighted=False, n_epochs=1):
    generator = torch.Generator().manual_seed(1)
    for _ in range(n_epochs):
        for n in SIZES:
            x = torch.randn(n, 5, dtype=torch.float64, generator=generator)
            y = torch.randint(3, (n,), generator=generator) if classes else x[:, :3].sin()
            weight = torch.rand(n, dtype=torch.float64, generator=generator) if weighted else None
            yield x, y, weight


def by_hand(module, criterion, optimizer, data):
    losses = []
    for x, y, weight in data:
        optimizer.zero_grad()
        if weight is None:
            loss = criterion(module(x), y)
        else:
            rows = copy.copy(criterion)
            rows.reduction = "none"
            loss = (rows(module(x), y) * weight).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def compiled(module, criterion, optimizer, classes=True, generator=None, **settings):
    targets = ((), torch.int64) if classes else ((3,), torch.float64)
    settings = {"inputs": ((5,), torch.float64), "targets": targets, "sizes": SIZES, **settings}
    return compile_program(
        module, criterion, optimizer, draw_mask=generator and Masks(lambda: generator), **settings
    )


def directly(module, criterion, optimizer, data, **settings):
    program, reason = compiled(module, criterion, optimizer, **settings)
    assert program is not None, reason
    losses = []
    with torch.inference_mode():
        program.begin()
        for x, y, weight in data:
            rows = program.step(x, y, weight)
            losses.append((rows if weight is None else rows * weight).mean())
        program.finish()
    return losses


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def same_state(found, wanted):
    """Compare state dicts, of which optimizers nest some."""
    assert type(found) is type(wanted)
    if isinstance(found, dict):
        assert found.keys() == wanted.keys()
        for key in found:
            same_state(found[key], wanted[key])
    elif isinstance(found, torch.Tensor):
        assert not found.is_inference()
        same(found, wanted)
    elif not isinstance(found, list):
        assert found == wanted


OPTIMIZERS = [
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.Adam, {"fused": True, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    (torch.optim.Adam, {"betas": (0.5, 0.8)}),
    (torch.optim.AdamW, {"fused": True, "weight_decay": 0.3}),
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"weight_decay": 0.1}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "fused": True}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (torch.optim.RMSprop, {}),
    (torch.optim.RMSprop, {"momentum": 0.5}),
    (torch.optim.RMSprop, {"centered": True, "weight_decay": 0.1, "maximize": True}),
    (torch.optim.NAdam, {}),
    (torch.optim.Adadelta, {}),
    (torch.optim.Adam, {"capturable": False, "lr": torch.tensor(0.01)}),
]


@pytest.mark.parametrize(
    ("kind", "settings"), OPTIMIZERS, ids=lambda v: str(getattr(v, "__name__", v))
)
def test_steps_are_those_of_the_loop(kind, settings):
    module = mlp(nn.ReLU(), nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU()).double()
    settings = {"lr": 0.01, **settings}
    runners = [by_hand, directly, by_hand], [by_hand, by_hand, directly], [by_hand] * 3
    states = []
    for order in runners:
        own = copy.deepcopy(module)
        optimizer = kind(own.parameters(), **copy.deepcopy(settings))
        data = list(batches(n_epochs=3))
        losses = []
        for i, runner in enumerate(order):
            part = data[4 * i : 4 * i + 4]
            losses += runner(own, nn.CrossEntropyLoss(), optimizer, part)
        states.append((own.state_dict(), optimizer.state_dict(), torch.stack(losses)))
    for found in states[:2]:
        for one, other in zip(found, states[-1], strict=True):
            same_state(one, other)


def test_from_the_first_step_on():
    for kind, settings in OPTIMIZERS:
        modules = twice(mlp(nn.Tanh()))
        optimizers = [kind(m.parameters(), **{"lr": 0.01, **settings}) for m in modules]
        for module, optimizer, run in zip(modules, optimizers, [by_hand, directly], strict=True):
            run(module, nn.CrossEntropyLoss(), optimizer, batches(n_epochs=2))
        same_state(*[m.state_dict() for m in modules])
        same_state(*[o.state_dict() for o in optimizers])


@pytest.mark.parametrize(("classes", "weighted"), [(True, False), (True, True), (False, False)])
def test_losses_are_those_of_the_loop(classes, weighted):
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1) if classes else nn.MSELoss()
    found = []
    for run, module in zip((by_hand, directly), twice(mlp(nn.SiLU())), strict=True):
        optimizer = torch.optim.Adam(module.parameters(), fused=True)
        extra = {"classes": classes} if run is directly else {}
        data = batches(classes, weighted, n_epochs=2)
        losses = run(module, criterion, optimizer, data, **extra)
        found.append((torch.stack(losses), *module.parameters()))
    for one, other in zip(*found, strict=True):
        same(one, other)


DROPPING = [
    mlp(nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 6), nn.Dropout(0.5)),
    mlp(nn.Unflatten(1, (3, 2)), nn.Dropout1d(0.4), nn.BatchNorm1d(3), nn.Flatten()),
    mlp(nn.Unflatten(1, (3, 2, 1)), nn.Dropout2d(0.4), nn.BatchNorm2d(3), nn.Flatten()),
    mlp(nn.Dropout(0.3), nn.Dropout(0.0), nn.Dropout(0.9).eval(), nn.BatchNorm1d(6).eval()),
]


@pytest.mark.parametrize("module", DROPPING, ids=lambda m: str(m[-2]))
def test_dropout_and_running_statistics(module):
    modules = twice(module)
    # Not Adam: gradients of biases before the normalization are noise, which it would scale up.
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in modules]
    criterion = nn.CrossEntropyLoss()
    own = Stream(5, "forward")
    with OwnGenerators(own):
        by_hand(modules[0], criterion, optimizers[0], batches(n_epochs=3))
    generator = Stream(5, "forward").generator()
    directly(modules[1], criterion, optimizers[1], batches(n_epochs=3), generator=generator)
    same_state(*[m.state_dict() for m in modules])
    assert torch.equal(own.generator().get_state(), generator.get_state())


def test_groups_and_frozen_parameters():
    found = []
    modules = twice(mlp(nn.ReLU(), nn.Linear(6, 6), nn.ReLU()))
    for run, module in zip((by_hand, directly), modules, strict=True):
        groups = [{"params": module[0].parameters(), "lr": 0.1}, {"params": module[2].parameters()}]
        groups.append({"params": module[4].parameters(), "weight_decay": 0.5})
        optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)
        module[0].requires_grad_(False)
        run(module, nn.CrossEntropyLoss(), optimizer, batches())
        module[0].requires_grad_(True)
        module[4].bias.requires_grad_(False)
        run(module, nn.CrossEntropyLoss(), optimizer, batches())
        found.append((module.state_dict(), optimizer.state_dict()))
    for one, other in zip(*found, strict=True):
        same_state(one, other)


def test_parameters_that_the_forward_pass_does_not_read_stay():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return self.one(x)

    module = Partly().double()
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.5)
    directly(module, nn.CrossEntropyLoss(), optimizer, batches())
    assert torch.equal(module.other.weight, before["other.weight"])
    assert not torch.equal(module.one.weight, before["one.weight"])


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.Adam])
def test_the_gradients_of_the_last_step_are_left_as_by_autograd(kind):
    found, fresh = [], mlp(nn.ReLU()).double()
    for train in (directly, by_hand):
        module = copy.deepcopy(fresh)
        train(module, nn.CrossEntropyLoss(), kind(module.parameters()), batches())
        found.append([parameter.grad for parameter in module.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
        assert not one.is_inference()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m[1], "p", 0.0),
        lambda m: m[1].eval(),
        lambda m: m[0].weight.requires_grad_(False),
        lambda m: setattr(m[0], "weight", nn.Parameter(m[0].weight.clone())),
        lambda m: m.append(nn.ReLU()),
        lambda m: m.to(torch.float32),
        lambda m: m[0].register_forward_hook(lambda *args: None),
        lambda m: m[0].weight.register_hook(lambda gradient: 2 * gradient),
        lambda m: m[0].weight.register_post_accumulate_grad_hook(lambda parameter: None),
        lambda m: [setattr(m[1], "p", rate / 200) for rate in range(201)],
    ],
)
def test_a_program_knows_when_it_does_not_hold_any_more(change):
    module = mlp(nn.Dropout(0.5)).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    program, _ = compiled(module, nn.CrossEntropyLoss(), optimizer, generator=torch.Generator())
    assert program.holds()
    with torch.no_grad():
        module[0].weight.mul_(2)
    module.load_state_dict(copy.deepcopy(module.state_dict()))
    assert program.holds()
    change(module)
    assert not program.holds()


def test_rates_and_smoothing_may_change_between_steps():
    fresh, found = mlp(nn.Dropout(0.5)).double(), []
    generator = Stream(0, "forward").generator()
    for train in (functools.partial(directly, generator=generator), by_hand):
        module, criterion = copy.deepcopy(fresh), nn.CrossEntropyLoss(label_smoothing=0.5)

        def changing(module=module, criterion=criterion):
            for number, batch in enumerate(batches(), start=1):
                module[1].p = criterion.label_smoothing = 0.05 * number
                yield batch

        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        with OwnGenerators(Stream(0, "forward")):
            losses = train(module, criterion, optimizer, changing())
        found.append([*losses, *module.parameters()])
    same(*found)


def hooked():
    module = mlp(nn.ReLU())
    module[1].register_forward_hook(lambda *args: None)
    return module


def parametrized():
    module = mlp(nn.ReLU())
    nn.utils.parametrizations.weight_norm(module[0])
    return module


def shared():
    module = mlp(nn.Linear(6, 6), nn.Linear(6, 6))
    module[2].weight = module[1].weight
    return module


def frozen():
    return mlp(nn.ReLU()).requires_grad_(False)


def weight_of_another():
    module = mlp(nn.ReLU())
    del module[0].weight
    module[0].weight = torch.ones(6, 5)
    return module


def bias_as_buffer():
    module = mlp(nn.ReLU())
    del module[0].bias
    module[0].register_buffer("bias", torch.ones(6))
    return module


class Callable:
    def __call__(self, x):
        return x


class WithoutFunction(nn.Linear):
    forward = Callable()


def without_function():
    return mlp(WithoutFunction(6, 6))


def complex_numbers():
    return nn.Sequential(nn.Linear(5, 3, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (hooked, "1 has hooks"),
        (parametrized, "0 has parametrizations"),
        (shared, "layers share a parameter"),
        (weight_of_another, "0 has a weight that is no parameter"),
        (bias_as_buffer, "0 has a weight that is no parameter"),
        (without_function, "WithoutFunction"),
        (frozen, "no parameter is trained"),
        (complex_numbers, "parameters that are not all float32 or all float64"),
        (lambda: mlp(nn.ReLU()).bfloat16(), "parameters that are not all float32"),
        (lambda: mlp(nn.ReLU(), nn.Linear(6, 6).double()), "parameters that are not all float32"),
        (lambda: nn.LSTM(5, 3), "LSTM has no rule"),
        (lambda: mlp(nn.Dropout(0.5)), "Dropout(p=0.5)"),
    ],
)
def test_what_is_unknown_has_a_reason(make, reason):
    module = make()
    program, why = compiled(module, nn.CrossEntropyLoss(), torch.optim.Adam(module.parameters()))
    assert program is None
    assert reason in why


class TableAndValues(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.table, self.layer, self.function = nn.Embedding(9, 3), nn.Linear(5, 15), function

    def forward(self, x):
        return self.layer(self.function(x)) + self.table(x).flatten(1)


FUNCTIONS = {"tanh": torch.tanh, "sigmoid": nn.Sigmoid(), "softmax": lambda x: x.softmax(1)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_integers_are_unknown(name):
    module = TableAndValues(FUNCTIONS[name])
    adam = torch.optim.Adam(module.parameters())
    integers = (5,), torch.int64
    program, why = compiled(module, nn.CrossEntropyLoss(), adam, inputs=integers)
    assert program is None
    assert "integers" in why or "Softmax" in why


def test_unknown_losses_and_optimizers_have_a_reason():
    module = mlp(nn.ReLU())
    adam = torch.optim.Adam(module.parameters())
    program, why = compiled(module, nn.KLDivLoss(), adam)
    assert (program, why) == (None, "KLDivLoss has no rule")
    program, why = compiled(module, nn.CrossEntropyLoss(), torch.optim.LBFGS(module.parameters()))
    assert (program, why) == (None, "LBFGS needs more than dense gradients")
    other = torch.optim.Adam(mlp().parameters())
    program, why = compiled(module, nn.CrossEntropyLoss(), other)
    assert (program, why) == (None, "the optimizer has parameters that are not the module's")


def test_criteria_may_not_change():
    module, criterion = mlp(nn.ReLU()).double(), nn.CrossEntropyLoss()
    program, _ = compiled(module, criterion, torch.optim.SGD(module.parameters(), lr=0.1))
    assert program.holds()
    criterion.label_smoothing = 0.3
    assert not program.holds()


class Replayed:
    """What a CUDA graph is, without a GPU: runs a function again on the tensors of its capture."""

    def __init__(self, function):
        self.function, self.out = function, None

    def replay(self):
        self.out = self.function()


class Refused:
    def __init__(self, function):
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("capture", [Replayed, Refused])
@pytest.mark.parametrize("weighted", [False, True])
def test_captured_steps_are_those_of_the_loop(capture, weighted, monkeypatch):
    made = []

    def make(function):
        made.append(_program.Captured(function, capture))
        return made[-1]

    passes = _program.make_pass
    monkeypatch.setattr(_program, "make_pass", lambda *args, **rest: make(passes(*args, **rest)))
    found = []
    layers = nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh()
    for run, module in zip((by_hand, directly), twice(mlp(*layers)), strict=True):
        optimizer = torch.optim.Adam(module.parameters(), fused=True)
        data = batches(weighted=weighted, n_epochs=6)
        losses = run(module, nn.CrossEntropyLoss(), optimizer, data)
        found.append((torch.stack(losses), *module.parameters()))
    for one, other in zip(*found, strict=True):
        same(one, other)
    assert len(made) == len(set(SIZES))
    assert all(isinstance(one._graph, Replayed) is (capture is Replayed) for one in made)


def test_a_capture_is_on_the_device_of_its_tensors(monkeypatch):
    current, seen = ["another GPU"], []

    @contextlib.contextmanager
    def device_of(tensor):
        current.append(tensor.device)
        yield
        current.pop()

    def capture(function):
        seen.append(current[-1])
        return Replayed(function)

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    captured, x = _program.Captured(lambda x, weight: -x, capture), torch.ones(2)
    for _ in range(_program._WARM_UP + 2):
        assert torch.equal(captured(x, None), -x)
    assert seen == [x.device]
    assert current == ["another GPU"]
