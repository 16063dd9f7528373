"""The one place that counts, checks, records and asks whether to go on."""

import math

import pytest
import torch

from skhpo.exceptions import NonFiniteLossError
from skhpo.training.engine import ActiveNetwork, Checks, EpochReport, train
from skhpo.training.state import TrainingState


class History(list):
    def record(self, name, value):
        self[-1][name] = value


class Watcher:
    """Opens rows, and says stop where it was told to."""

    reads_weights = True

    def __init__(self, state, **stops):
        self.state = state
        self.stops = stops
        self.seen = []

    def epoch_begins(self):
        self.state.history.append({})
        return self._tell("begins")

    def epoch_ends(self):
        return self._tell("ends")

    def epoch_counted(self):
        return self._tell("counted")

    def _tell(self, event):
        self.seen.append((event, self.state.counters.n_epochs, dict(self.state.history[-1])))
        return self.stops.get(event) != self.state.counters.n_epochs


class Runner:
    """Adds one to the weight of each network; reports the losses that it was given."""

    def __init__(self, losses=()):
        self.losses = iter(losses)
        self.released = []
        self.sizes = []

    def run(self, networks):
        self.sizes.append(len(networks))
        for network in networks:
            network.state.module.weight.data.add_(1)
            network.after_batch()
        return [EpochReport([next(self.losses, 1.0)], [4]) for _ in networks]

    def release(self, network):
        self.released.append(network)


def network_of(n_epochs=3, *, measured=None, patience=None, **stops):
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.zero_()
    state = TrainingState({"module": module}, history=History())
    checks = None
    if measured is not None:
        settings = {"lower_is_better": True, "every": None, "min_epochs": 1}
        values = iter(measured)
        checks = Checks(state, lambda: next(values), "valid", patience=patience, **settings)
    return ActiveNetwork(state, [], n_epochs, Watcher(state, **stops), checks)


def test_epochs_are_recorded_before_they_are_shown_and_counted_after():
    network = network_of(2)
    train([network], Runner([3.0, 2.0]))
    state = network.state
    assert [row["train_loss"] for row in state.history] == [3, 2]
    assert [event for event, _, _ in network.watcher.seen] == ["begins", "ends", "counted"] * 2
    assert [n for _, n, _ in network.watcher.seen] == [0, 0, 1, 1, 1, 2]
    assert all("dur" in row for event, _, row in network.watcher.seen if event != "begins")
    assert state.counters.n_epochs == 2
    assert network.is_done


@pytest.mark.parametrize(
    ("event", "epoch", "n_rows"), [("begins", 1, 1), ("ends", 1, 2), ("counted", 1, 1)]
)
def test_a_watcher_stops_it(event, epoch, n_rows):
    network = network_of(9, **{event: epoch})
    train([network], Runner())
    assert sum("train_loss" in row for row in network.state.history) == n_rows
    assert network.state.counters.n_epochs == len(network.state.history)


def test_the_best_weights_predict_and_the_running_ones_go_on():
    network = network_of(9, measured=[3, 1, 2, 4, 5], patience=2)
    train([network], Runner())
    state = network.state
    assert state.counters.n_epochs == 4
    assert (state.counters.best, state.counters.best_epoch, state.counters.stopped) == (1, 2, True)
    assert state.module.weight.item() == 2
    assert state.running_weights["module"]["weight"].item() == 4
    state.resume(checked=True)
    assert state.module.weight.item() == 4
    assert state.best_weights["module"]["weight"].item() == 2


def test_an_epoch_that_is_not_finished_leaves_no_row():
    network = network_of(9, measured=[1, 2, 3])

    def interrupted(networks):
        if networks[0].state.counters.n_epochs == 2:
            raise KeyboardInterrupt
        return Runner.run(runner, networks)

    runner = Runner()
    runner.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        train([network], runner)
    assert len(network.state.history) == network.state.counters.n_epochs == 2
    assert runner.released == [network]
    assert network.state.module.weight.item() == 1  # that of the best check


def test_the_error_of_one_network_is_its_own():
    good, bad, short = network_of(3), network_of(3), network_of(1)
    errors, runner = {}, Runner([1.0, math.nan, 1.0])
    train([good, bad, short], runner, errors)
    assert list(errors) == [bad]
    assert isinstance(errors[bad], NonFiniteLossError)
    assert runner.sizes == [3, 1, 1]
    assert runner.released == [bad, short, good]
    assert [n.state.counters.n_epochs for n in (good, bad, short)] == [3, 1, 1]
    with pytest.raises(NonFiniteLossError, match="is nan in epoch 1"):
        train([network_of()], Runner([math.nan]))


def test_frozen_parameters_thaw_and_norms_are_kept():
    network = network_of(3)
    weight = network.state.module.weight
    network.parameters = [("weight", weight)]
    network.state.frozen_until = {"weight": 2}
    seen = []
    network.watcher.epoch_begins = lambda: (
        network.state.history.append({}) or (seen.append(weight.requires_grad) or True)
    )
    train([network], Runner())
    assert seen == [False, False, True]
    limited = ActiveNetwork(
        *(network.state, [], 1, network.watcher),
        parameters=[("weight", weight)],
        max_norm=0.5,
    )
    train([limited], Runner())
    assert weight.item() == 0.5


def test_a_copy_of_a_state_is_counted_by_itself():
    state = TrainingState({"module": 1}, history=[])
    twin = state.__copy__()
    twin.counters.n_epochs, twin.parts["module"] = 7, 2
    assert (state.counters.n_epochs, state.module) == (0, 1)
    assert twin.history is state.history
