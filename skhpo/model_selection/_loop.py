"""The loop of a search: ask, evaluate, tell; in batches, or as slots free up."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from ..evaluation import raised_by
from ..exceptions import JournalError, StorageError
from ..journal import Recorded, fit_event
from ..limits import noticing
from ..results import TrialTable
from ._cost import COST_IS_USED
from ._goals import Told, n_splits_done
from ._observers import Observer
from ._race import Race

if TYPE_CHECKING:
    from ..journal import Journal
    from ..schedulers import Scheduler
    from ..trial import FitResult, Trial
    from ._cost import Budget
    from ._keeping import Keeper

__all__ = ["OUT_OF_TIME", "STOPPED_BY_CALLBACK", "TrialLoop", "other_trials"]

OUT_OF_TIME = "max_time was over"
STOPPED_BY_CALLBACK = "a callback stopped it"


# Where all fits of so many trials failed, those to come are not expected to do better. Fewer may be
# bad luck: a sampler that learns asks for one at a time.
_MANY = 10


class TrialLoop:
    """Runs a scheduler's trials to the end, or until time is up or Ctrl-C is pressed.

    Parameters
    ----------
    scheduler : Scheduler
    evaluator : Evaluator
        Entered.
    n_fits : int
        Fits per trial.
    score : callable
        From the results of a trial, in order of split and repeat, to what the scheduler hears:
        the fields of a `Told`, the first three at least.
    asynchronous : bool, default=False
        Ask for one more as soon as there is room for it, and tell in finishing order; else tell
        whole batches, in trial order, so that nothing depends on timing. Where the scheduler
        looks ahead it is asked for further batches while there is room.
    journal : Journal or None, default=None
        Where finished fits are written before the scheduler is told.
    recorded : Recorded or None, default=None
        What it said when it was opened.
    deadline : float or None, default=None
        Value of ``time.monotonic()`` after which no new fit starts.
    observers : sequence of Observer, default=()
    budget : Budget or None, default=None
        What the search may use.
    racing : bool, default=False
        Whether candidates are stopped that are hopeless after some of the splits, see `Race`.
    keeper : Keeper or None, default=None
        Where predictions are kept; it hears of trials before the observers do.

    Attributes
    ----------
    table : TrialTable
        The trials that were told; in the end all that are finished.
    n_answered : int
        How many of its fits the journal answered.
    stopped : str or None
        Why the loop ended before the scheduler did.
    error : StorageError or None
        What stopped it, where that is to be raised.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        evaluator: Any,
        n_fits: int,
        score: Callable[[Sequence[FitResult]], tuple[Any, ...]],
        *,
        asynchronous: bool = False,
        journal: Journal | None = None,
        recorded: Recorded | None = None,
        deadline: float | None = None,
        observers: Sequence[Observer] = (),
        keeper: Keeper | None = None,
        budget: Budget | None = None,
        racing: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.evaluator = evaluator
        self.n_fits = n_fits
        self.score = score
        self.asynchronous = asynchronous
        self.journal = journal
        self.deadline = deadline
        self.keeper = keeper
        self.budget = budget
        self.race: Race | None = None
        if racing:
            n_repeats = evaluator.n_repeats
            n_splits = n_fits // n_repeats
            early = () if recorded is None else recorded.early
            self.race = Race(
                evaluator, score, n_splits, n_repeats, asynchronous=asynchronous, early=early
            )
        self._best: Told | None = None  # of the trials on all splits
        self.observers = observers
        self.stopped: str | None = None
        self.error: StorageError | None = None
        self.table = TrialTable(n_fits)
        self.n_answered = 0
        self._n_finished = 0
        self._open: dict[int, Trial] = {}  # trials that are not told
        self._rows: dict[int, list[FitResult]] = {}  # theirs
        self._children: Counter[int] = Counter()  # open ones, of the trials that they continue
        self._held: set[int] = set()  # trials that are released but for these
        self._dropped: list[int] = []
        self._received: deque[FitResult] = deque()
        self._early: deque[FitResult] = deque()  # what racing may hold back
        self._noted_early: set[tuple[int, int, int]] = set()  # of those with a line
        self._recorded = Recorded() if recorded is None else recorded
        self._ended_by: str | None = None  # why no new fit starts
        self._is_cut = False  # whether trials were asked for that do not start
        self._any_fit = False
        self._first_error: tuple[int, str | None] | None = None

    def run(self) -> None:
        """Run to the end; Ctrl-C, or a file that cannot be written, ends it early.

        What is finished then stays.

        Raises
        ------
        ValueError
            If all fits failed: at the end, or earlier where there are many.
        """
        try:
            with noticing() as self._check_interrupt:
                if self.asynchronous:
                    self._run_asynchronously()
                else:
                    self._run_in_batches()
                if self.keeper is not None and self.stopped is None:
                    self._fit_again(self.keeper.to_make_again())
                if self.journal is not None:
                    self.journal.sync()
        except KeyboardInterrupt:
            self.evaluator.abort()
            self._take_received()
            self._note_early()
            self.stopped = "it was interrupted"
            if not self._any_finished():
                raise
        except StorageError as error:
            self.evaluator.abort()
            self.error = error
            self.stopped = "a file could not be written"
            if not self._any_finished():
                raise
        finally:
            if self.journal is not None:
                with suppress(StorageError):  # there is one already
                    self.journal.sync()
        self._raise_if_all_failed()
        for number, row in self._rows.items():
            if len(row) == self.n_fits:
                self._store(self._open[number], _in_order(row))
        if self.stopped is None:
            self.evaluator.drop()

    def _run_in_batches(self) -> None:
        batches: dict[int, _Batch] = {}  # of open trials
        n_asked = 0
        n_due = 1  # a batch that is told may be the only thing that another one waits for
        finished: list[Trial] | None = []
        while finished is not None:
            while self._ended_by is None and (n_due or self._may_look_ahead()):
                trials = self._ask()
                if not trials:
                    break
                self._submit(trials)
                batch = _Batch(n_asked, trials)
                batches.update({trial.number: batch for trial in trials})
                n_asked += 1
                n_due = max(0, n_due - 1)
            finished = self._take_results()
            done = []
            for trial in finished or ():
                batch = batches.pop(trial.number)
                batch.n_left -= 1
                if not batch.n_left:
                    done.append(batch)
            n_due = len(done)
            for batch in sorted(done, key=lambda batch: batch.order):
                for trial in batch.trials:
                    self._tell(trial)
            self._settle()
            if done and self._n_finished >= _MANY:
                self._raise_if_all_failed()
        self._note_end()

    def _end(self, reason: str) -> None:
        """Start no new fit."""
        self._ended_by = self._ended_by or reason
        self.evaluator.cancel()

    def _note_end(self) -> None:
        if self._ended_by is not None and (self._is_cut or self._open or self.scheduler.ask()):
            self.stopped = self._ended_by

    def _may_look_ahead(self) -> bool:
        if self.budget is not None and self.budget.is_in_order:
            return False
        return self.scheduler.looks_ahead and self.evaluator.has_room

    def _run_asynchronously(self) -> None:
        running = self._replay()
        if self._ended_by is None:
            self._submit(running)
        finished: list[Trial] | None = []
        while finished is not None:
            while self._ended_by is None and self._may_ask() and (batch := self._ask()):
                self._submit(batch)
            finished = self._take_results()
            for trial in finished or ():
                self._tell(trial)
            self._settle()
        self._note_end()

    def _may_ask(self) -> bool:
        """Whether a worker is free; or will be, where what it is to do takes long to find."""
        ahead = self.scheduler.sampler.learns and self.evaluator.has_room_ahead
        return bool(self.evaluator.has_room or ahead)

    def _submit(self, trials: Sequence[Trial]) -> None:
        fits = (fit for trial in trials for fit in self.evaluator.fits(trial))
        if self.journal is not None and any(fit not in self.evaluator.known for fit in fits):
            self.journal.check_writable()
        self.evaluator.submit(trials)

    def _settle(self) -> None:
        """Drop what no trial can continue any more, once the journal is safe without it."""
        for number in self.scheduler.released():
            if number in self._children:
                self._held.add(number)
            else:
                self._dropped.append(number)
        if self.journal is None or self.journal.sync(only_if_due=True):
            self.evaluator.drop(self._dropped)
            self._dropped = []

    def _replay(self) -> list[Trial]:
        """Ask and tell as the journal says; return the trials that were left running."""
        running = {}
        for kind, which in self._recorded.order:
            if kind == "ask":
                batch = self._ask(replaying=True)
                if [trial.number for trial in batch] != which:
                    raise other_trials(which, batch)
                running.update({trial.number: trial for trial in batch})
            else:
                trial = running.pop(which)
                self.evaluator.recall(trial)
                for key in self.evaluator.fits(trial):
                    self._take(self.evaluator.known[key])
                if self.race is not None:
                    self.race.recall(trial, _in_order(self._rows[trial.number]))
                self._tell(trial, replaying=True)
        return list(running.values())

    def _ask(self, *, replaying: bool = False) -> list[Trial]:
        batch = self.scheduler.ask()
        if self.budget is not None:
            n_admitted = self.budget.admit(batch)
            if n_admitted < len(batch) and not replaying:
                self._ended_by, self._is_cut = self._ended_by or COST_IS_USED, True
                batch = batch[:n_admitted]
        for trial in batch:
            recorded = self._recorded.trials.get(trial.number, (trial.candidate, trial.resource))
            if recorded != (trial.candidate, trial.resource):
                raise _another_trial(trial, *recorded)
            self._open[trial.number] = trial
            self._rows[trial.number] = []
            if trial.parent is not None:
                self._children[trial.parent] += 1
        if batch:
            if self.race is not None:
                self.race.start(batch)
            self._observe("on_ask", batch)
            if self.asynchronous and self.journal is not None and not replaying:
                numbers = [trial.number for trial in batch]
                self.journal.append({"event": "ask", "trials": numbers})
        return batch

    def _take_results(self) -> list[Trial] | None:
        """Wait for results; return the trials that they finish, None if nothing is pending."""
        results = self.evaluator.next()
        self._check_interrupt()
        if self.race is None:
            self._received.extend(results)
        else:
            self._early.extend(results)
            self._received.extend(self.race.take(results))
        finished = self._take_received()
        self._note_early()
        if self.deadline is not None and time.monotonic() > self.deadline:
            self._end(OUT_OF_TIME)
        if self.budget is not None:
            self.budget.seconds += self.evaluator.take_unused_seconds()
            if self.budget.is_used:
                self._end(COST_IS_USED)
        return finished if results else None

    def _take_received(self) -> list[Trial]:
        finished = []
        while self._received:
            result = self._received.popleft()
            self._take(result)
            if len(self._rows[result.trial]) == self.n_fits:
                self._n_finished += 1
                finished.append(self._open[result.trial])
        return finished

    def _note_early(self) -> None:
        """Write down what racing holds back, so that no end of the search loses it."""
        while self._early:
            result = self._early.popleft()
            if self.journal is None or self.race is None or not self.race.is_held(result):
                continue
            name, trial = result.name, self._open[result.trial]
            has_failed = raised_by(result) is not None
            if name in self.evaluator.known or (has_failed and self.evaluator.setting.keep_errors):
                continue  # an error ends the search, but in its turn
            if self.keeper is not None and not has_failed:
                result = self.keeper.take(trial, result, self.evaluator.models.pop(name, None))
                self.race.hold(result)
            self.journal.append(fit_event(trial, result, early=True))
            self._noted_early.add(name)

    def _take(self, result: FitResult) -> None:
        trial = self._open[result.trial]
        if self.evaluator.setting.keep_errors and (error := raised_by(result)) is not None:
            raise error
        result = self._record(trial, result)
        self._rows[result.trial].append(result)
        if self.budget is not None:
            self.budget.spend(result)
        if result.error is None:
            self._any_fit |= not result.is_left_out
        elif self._first_error is None or result.trial < self._first_error[0]:
            self._first_error = result.trial, result.error
        self._observe("on_fit_end", trial, result)

    def _record(self, trial: Trial, result: FitResult) -> FitResult:
        """Put away what is kept of a fit, and write its line unless it is there; return it."""
        name = result.name
        known = self.evaluator.known.get(name)
        is_there = known is not None or name in self._noted_early
        if result.is_left_out:  # also in the place of what was written early
            is_there = known is not None and known.is_left_out
        if self.keeper is not None:
            result = self.keeper.take(trial, result, self.evaluator.models.pop(name, None))
        if self.journal is not None and not is_there:
            self.journal.append(fit_event(trial, result))
        return result

    def _tell(self, trial: Trial, *, replaying: bool = False) -> None:
        results = _in_order(self._rows[trial.number])
        if self.race is not None:
            told = self.race.told(results)
        else:
            told = Told(*self.score(results))
            if results[-1].is_left_out:
                told = told.on_part(n_splits_done(results), results[-1].split + 1, self._best)
            elif not isnan(told.score) and (self._best is None or told.score > self._best.score):
                self._best = told
        if self.asynchronous and self.journal is not None and not replaying:
            self.journal.append({"event": "tell", "trial": trial.number})
        del self._open[trial.number], self._rows[trial.number]
        self._store(trial, results)
        if trial.parent is not None:
            self._children[trial.parent] -= 1
            if not self._children[trial.parent]:
                del self._children[trial.parent]
                if trial.parent in self._held:
                    self._held.remove(trial.parent)
                    self._dropped.append(trial.parent)
        self.scheduler.tell(trial, told.score, **told.more)
        if self.keeper is not None:
            may_win = told.is_feasible and not results[-1].is_left_out
            self.keeper.on_trial_end(trial, results, told.score if may_win else nan)
        if self._observe("on_trial_end", trial, results, told.score):
            self._end(STOPPED_BY_CALLBACK)

    def _fit_again(self, names: Collection[tuple[int, int, int]]) -> None:
        """Fit again what the journal answered and whose predictions are lost; its scores stay."""
        if not names:
            return
        keeper: Any = self.keeper
        trials = {trial.number: trial for trial in self.table.trials()}
        wanted = [trials[number] for number in sorted({number for number, _, _ in names})]
        for trial in wanted:
            line = [trial]
            while line[-1].parent is not None:
                line.append(trials[line[-1].parent])
            for ancestor in reversed(line):
                self.evaluator.recall(ancestor)
        known = self.evaluator.known
        self.evaluator.known = {name: known[name] for name in known if name not in names}
        self.evaluator.model_files = self.evaluator.contexts = None  # these are no new fits
        self.evaluator.submit(wanted)
        left = set(names)
        while results := self.evaluator.next():
            self._check_interrupt()
            for result in results:
                if result.name in left:
                    left.remove(result.name)
                    keeper.take(trials[result.trial], result)
        self.evaluator.known = known
        if left:
            self.stopped = OUT_OF_TIME

    def _store(self, trial: Trial, results: Sequence[FitResult]) -> None:
        self.table.add(trial, results)
        self.n_answered += sum(result.name in self.evaluator.known for result in results)

    def _any_finished(self) -> bool:
        full = (len(row) == self.n_fits for row in self._rows.values())
        return len(self.table) > 0 or any(full)

    def _observe(self, event: str, *args: Any) -> bool:
        """Tell the observers; return whether one of them wants the loop to end."""
        wants_end = False
        for observer in self.observers:
            wants_end = getattr(observer, event)(*args) is True or wants_end
        return wants_end

    def _raise_if_all_failed(self) -> None:
        if self._any_fit or self._first_error is None:
            return
        rows = [result for row in self._rows.values() for result in row]
        n_fits = self.table.n_made + sum(not result.is_left_out for result in rows)
        raise ValueError(
            f"All the {n_fits} fits failed; the first one like this:\n{self._first_error[1]}"
        )


class _Batch:
    """Trials that are told together, and how many of them are not finished."""

    def __init__(self, order: int, trials: Sequence[Trial]) -> None:
        self.order = order
        self.trials = trials
        self.n_left = len(trials)


def _in_order(results: Iterable[FitResult]) -> list[FitResult]:
    return sorted(results, key=lambda result: result.name)


def _another_trial(trial: Trial, candidate: int, resource: int | None) -> JournalError:
    return JournalError(
        f"a journal is replayed by asking again, but trial {trial.number} is now candidate "
        f"{trial.candidate} with resource {trial.resource}, and in the journal candidate "
        f"{candidate} with {resource}; let the same metric guide the search (see refit), or start "
        "over with a new path"
    )


def other_trials(numbers: Sequence[int], batch: Sequence[Trial]) -> JournalError:
    return JournalError(
        f"a journal is replayed by asking again, but the scheduler asked for trials "
        f"{[trial.number for trial in batch]} where the journal has {numbers}; start over with a "
        "new path"
    )
