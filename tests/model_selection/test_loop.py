"""The loop against a scheduler and an evaluator that only pretend."""

from types import SimpleNamespace

import pytest
from journals import HEADER

from skhpo import SearchSpace
from skhpo.journal import Journal
from skhpo.model_selection._loop import TrialLoop
from skhpo.samplers import GridSampler
from skhpo.schedulers import AsynchronousHyperband, FullScheduler, Hyperband
from skhpo.trial import FitResult

SPACE = SearchSpace({"x": list(range(9))})


class Instant:
    """Answers at once, `at_a_time` results together; notes what it was asked to drop."""

    n_splits = 2
    setting = SimpleNamespace(keep_errors=False)
    has_room_ahead = False

    def __init__(self, at_a_time=1, room=1):
        self.known = {}
        self.at_a_time = at_a_time
        self.room = room
        self.waiting = []
        self.log = []
        self.aborted = False

    @property
    def has_room(self):
        return len(self.waiting) < self.room * self.n_splits

    def submit(self, trials):
        for trial in trials:
            for key in self.fits(trial):
                score = {"score": float(trial.params["x"])}
                self.waiting.append(FitResult(key[0], key[1], key[2], score))

    def recall(self, trial):
        self.log.append(("recall", trial.number))

    def fits(self, trial):
        return [(trial.number, split, 0) for split in range(self.n_splits)]

    def next(self):
        results = self.waiting[: self.at_a_time]
        del self.waiting[: self.at_a_time]
        self.log.append(("next", [(result.trial, result.split) for result in results]))
        return results

    def drop(self, trials=None):
        self.log.append(("drop", None if trials is None else list(trials)))

    def abort(self):
        self.aborted = True

    def cancel(self):
        self.waiting.clear()


class Watch:
    """An observer that notes everything, and presses Ctrl-C at one fit."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.events = []

    def on_ask(self, trials):
        self.events += [("ask", trial.number) for trial in trials]

    def on_fit_end(self, trial, result):
        self.events.append(("fit", trial.number, result.split))
        if (trial.number, result.split) == self.stop_at:
            raise KeyboardInterrupt

    def on_trial_end(self, trial, results, score):
        self.events.append(("trial", trial.number))


def hyperband():
    return AsynchronousHyperband(GridSampler(SPACE), max_resources=9, n_brackets=1)


def score(results):
    return sum(result.test_scores["score"] for result in results), None, None


def loop_of(scheduler, evaluator, **kwargs):
    return TrialLoop(scheduler, evaluator, 2, score, **kwargs)


def test_told_before_the_next_is_asked():
    watch = Watch()
    loop_of(hyperband(), Instant(at_a_time=2), asynchronous=True, observers=[watch]).run()
    assert watch.events == [
        event
        for number in range(13)
        for event in [("ask", number), ("fit", number, 0), ("fit", number, 1), ("trial", number)]
    ]


@pytest.mark.parametrize("room", [1, 2, 5])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_trial_to_come_may_need_is_kept_and_nothing_else(room, asynchronous):
    """Compared, after each step, with what the scheduler says of all trials."""
    evaluator = Instant(room=room)
    scheduler = hyperband() if asynchronous else Hyperband(GridSampler(SPACE), max_resources=9)
    there, running = set(), {}

    def submit(trials):
        for trial in trials:
            assert trial.parent is None or trial.parent in there
            running[trial.number] = trial

    def drop(trials=None):
        for number in list(there) if trials is None else trials:
            there.remove(number)
        if trials is not None:
            parents = {trial.parent for trial in running.values()} - {None}
            assert there == scheduler.may_continue() | parents

    def told(trial):
        del running[trial.number]
        there.add(trial.number)

    class Told(Watch):
        def on_ask(self, trials):
            submit(trials)

        def on_trial_end(self, trial, results, score):
            told(trial)

    evaluator.drop = drop
    loop_of(scheduler, evaluator, asynchronous=asynchronous, observers=[Told()]).run()
    assert there == set()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_came_with_the_interrupted_result_is_kept(asynchronous, tmp_path):
    scheduler = FullScheduler(GridSampler(SPACE), 9)
    watch, evaluator = Watch(stop_at=(0, 1)), Instant(at_a_time=6)
    with Journal(tmp_path / "a") as journal:
        journal.start(HEADER | {"asynchronous": asynchronous})
        loop = loop_of(
            scheduler, evaluator, asynchronous=asynchronous, observers=[watch], journal=journal
        )
        loop.run()
    assert evaluator.aborted
    assert loop.stopped == "it was interrupted"
    assert [trial.number for trial in loop.table.trials()] == [0, 1, 2]
    content = (tmp_path / "a").read_text()
    assert content.count('"event": "fit"') == 6


def test_interrupted_before_anything_is_finished():
    loop = loop_of(hyperband(), Instant(), asynchronous=True, observers=[Watch(stop_at=(0, 0))])
    with pytest.raises(KeyboardInterrupt):
        loop.run()


def test_out_of_time_with_nothing_left_to_do_is_not_stopped():
    scheduler = FullScheduler(GridSampler(SPACE), 3)
    loop = loop_of(scheduler, Instant(at_a_time=6), asynchronous=True, deadline=0)
    loop.run()
    assert loop.stopped is None
    assert len(loop.table.trials()) == 3


def test_out_of_time_asks_nothing_more(tmp_path):
    watch = Watch()
    with Journal(tmp_path / "a") as journal:
        journal.start(HEADER | {"asynchronous": True})
        loop = loop_of(
            hyperband(),
            Instant(at_a_time=2),
            asynchronous=True,
            deadline=0,
            observers=[watch],
            journal=journal,
        )
        loop.run()
    assert loop.stopped == "max_time was over"
    assert watch.events == [("ask", 0), ("fit", 0, 0), ("fit", 0, 1), ("trial", 0)]
    assert (tmp_path / "a").read_text().count('"event": "ask"') == 1


class LearningSampler(GridSampler):
    learns = True


@pytest.mark.parametrize("sampler", [GridSampler, LearningSampler])
def test_a_sampler_that_learns_is_asked_ahead_where_workers_are_many(sampler):
    class Many(Instant):
        @property
        def has_room_ahead(self):
            return len(self.waiting) < (self.room + 1) * self.n_splits

    watch = Watch()
    scheduler = FullScheduler(sampler(SPACE), 9, asynchronous=True)
    evaluator = Many(at_a_time=2, room=3)
    loop_of(scheduler, evaluator, asynchronous=True, observers=[watch]).run()
    ahead = sampler is LearningSampler
    asked = watch.events.index(("fit", 0, 0))
    assert watch.events[:asked] == [("ask", number) for number in range(3 + ahead)]
