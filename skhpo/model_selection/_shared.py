"""The loop of a search that several processes work on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..exceptions import JournalError
from ..fingerprint import describe
from ..journal import as_read
from ..samplers import Sampler, WrappingSampler, sample_at
from ._loop import TrialLoop, other_trials
from ._resume import taken

if TYPE_CHECKING:
    from ..journal import Recorded
    from ..space import SearchSpace
    from ..trial import FitResult, Trial
    from ._base import BaseTrialSearchCV

__all__ = ["SharedSampler", "SharedTrialLoop", "check_shared", "common_settings"]

# Arguments that a journal lets a search change, and that all processes must have in common: with
# them, others would ask for other trials.
_COMMON = ("max_cost", "n_iter", "refit")

# Trials of others that are planned while they wait: half a millisecond each.
_MANY = 10

# Seconds for which the next proposal is left to the process that made the last one. It waits for
# the same results, and looks for them every few milliseconds.
_PATIENCE = 2.0


# What to call, and the configurations that it proposes, at which level.
_Call = tuple[Callable[[], object], list[dict[str, Any]], int | None]


def check_shared(search: BaseTrialSearchCV) -> None:
    """Raise ValueError where a shared search cannot be shared between processes."""
    if search.journal is None:
        raise ValueError(
            "shared=True lets several processes work on one search through its journal, but "
            "journal is None; give the path of a file that all of them see, or leave shared out"
        )
    if search.confirm:
        raise ValueError(
            f"confirm={search.confirm} fits rows again when the search is over, in one process, so "
            "that it cannot be used with shared=True; when all processes are done, fit the same "
            "search with the same journal, confirm and shared=False"
        )
    if search.racing is not None:
        raise ValueError(
            f"racing={search.racing!r} holds results back until those of earlier splits are there, "
            "which may be in other processes, so that it cannot be used with shared=True; use "
            "racing=None"
        )


def common_settings(search: BaseTrialSearchCV) -> dict[str, Any]:
    """Return the arguments that all processes must have in common beside the fingerprint."""
    params = search.get_params(deep=False)
    return {name: describe(params[name]) for name in _COMMON if name in params}


class SharedSampler(WrappingSampler):
    """A sampler beside those of other processes: one of them proposes, the others take that.

    Where the sampler learns, the process that proposed last goes on, as long as it is alive and has
    nothing else to do. In the others the sampler is not asked, and hears nothing, until it is to
    propose; before that it catches up, by the same calls in the same order. So it proposes what it
    would in a process of its own, and each proposal is computed once.

    Parameters
    ----------
    sampler : ReplayedSampler
        Of the same records.
    journal : SharedJournal
    recorded : Recorded
    space : SearchSpace
        Of the search; that of the sampler may be a part of it.
    first : int, default=0
        Number of the first candidate that it samples.
    """

    def __init__(
        self,
        sampler: Sampler,
        journal: Any,
        recorded: Recorded,
        space: SearchSpace,
        first: int = 0,
    ) -> None:
        super().__init__(sampler)
        self._journal = journal
        self._records = recorded.configurations
        self._space = space
        self._n_sampled = first
        self._put_off: deque[_Call] = deque()

    def sample(self, n: int, *, resource: int | None = None) -> list[dict[str, Any]]:
        if not n:
            return []
        propose = partial(sample_at, self.sampler, n, resource)
        numbers = range(self._n_sampled, self._n_sampled + n)
        until = time.monotonic() + _PATIENCE
        while not self._are_taken(numbers):
            with self._journal.turn():  # which begins with reading
                if not (self._are_taken(numbers) or self._is_left_to_another(until)):
                    return self._proposed(propose)
            if not self._are_taken(numbers):
                self._journal.wait_for_lines(_PATIENCE / 10)
        out = []
        for number in numbers:
            params = taken(self._records[number], self._space)
            if params is None:
                with self._journal.turn():
                    return self._proposed(propose)
            out.append(params)
        self._put_off.append((propose, out, resource))
        self._n_sampled += n
        return out

    def observe(
        self, params: dict[str, Any], score: float, resource: int | None, **more: Any
    ) -> None:
        observe = partial(self.sampler.observe, params, score, resource, **more)
        if self.learns:
            self._put_off.append((observe, [], None))
        else:
            observe()

    def end(self) -> None:
        """Let the sampler hear all scores; what others proposed it need not compute any more."""
        while self._put_off:
            call, proposed, resource = self._put_off.popleft()
            for params in proposed:
                self.sampler.adopt(params, resource)
            if not proposed:
                call()

    def _are_taken(self, numbers: Iterable[int]) -> bool:
        """Whether configurations are taken from the journal, which has them."""
        return self.learns and all(number in self._records for number in numbers)

    def _is_left_to_another(self, until: float) -> bool:
        return self.learns and self._journal.other_proposes and time.monotonic() < until

    def _proposed(self, propose: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        while self._put_off:
            call, *_ = self._put_off.popleft()
            call()
        out = propose()
        proposed = enumerate(out, self._n_sampled)
        if new := {number: params for number, params in proposed if number not in self._records}:
            self._journal.propose(new)
        self._n_sampled += len(out)
        return out


class SharedTrialLoop(TrialLoop):
    """The loop in one of several processes, which all ask and tell alike.

    Each asks its own scheduler. Before a candidate is fitted, its configuration is written down for
    the others, whose samplers might differ from this one by rounding. Batches are told as in one
    process. An asynchronous search asks and tells in the order of the journal's lines.
    """

    journal: Any

    def run(self) -> None:
        super().run()
        if isinstance(self.scheduler.sampler, SharedSampler):
            self.scheduler.sampler.end()

    def _ask(self, *, replaying: bool = False) -> list[Trial]:
        batch = super()._ask(replaying=replaying)
        if self._compare(batch):
            with self.journal.turn():
                if new := self._compare(batch):  # which others did not write meanwhile
                    self.journal.propose(new)
        return batch

    def _compare(self, batch: Sequence[Trial]) -> dict[int, Mapping[str, Any]]:
        """Return configurations that the journal lacks; the others must be those that it has."""
        known, new = self._recorded.configurations, {}
        for trial in batch:
            if trial.candidate not in known:
                new[trial.candidate] = trial.params
            elif {n: as_read(v) for n, v in trial.params.items()} != known[trial.candidate]:
                raise _another_configuration(trial, known[trial.candidate])
        return new

    def _record(self, trial: Trial, result: FitResult) -> FitResult:
        known = self.evaluator.known
        if result.name in known:  # that of another process: there is nothing to write
            return super()._record(trial, known[result.name])
        with self.journal.turn():  # another process may have done the same fit
            return super()._record(trial, known.get(result.name, result))

    def _fit_again(self, names: Collection[tuple[int, int, int]]) -> None:
        self.evaluator.alone = True
        super()._fit_again(names)

    def _run_asynchronously(self) -> None:
        self._n_followed = 0
        finished: list[Trial] | None = []
        while finished is not None:
            self._replay_others()  # while they go on
            while self._ended_by is None and not self._take_turn():
                self._replay_others()
            finished = self._take_results()
            self._settle()
        self._note_end()

    def _take_turn(self) -> bool:
        """Follow, ask and lease; return False if others would wait long, because much is new."""
        with self.journal.turn():
            new = self._recorded.order[self._n_followed :]
            if sum(len(which) for kind, which in new if kind == "ask") > _MANY:
                return False
            self._follow()
            while self._ended_by is None and self._may_ask() and (batch := self._ask()):
                self._submit(batch)
            self.evaluator.lease()  # before another process takes what was asked for here
        return True

    def _follow(self) -> None:
        """Replay what other processes did, then tell the finished trials that were not told."""
        self._replay_others()
        self._take_what_is_there()
        for number in [n for n, rows in self._rows.items() if len(rows) == self.n_fits]:
            if self._ended_by is None:
                self._tell(self._open[number])

    def _replay_others(self) -> None:
        """Ask and tell in the order of the journal."""
        order = self._recorded.order
        while self._n_followed < len(order) and self._ended_by is None:
            kind, which = order[self._n_followed]
            self._n_followed += 1
            if kind == "ask":
                batch = self._ask(replaying=True)
                if [trial.number for trial in batch] != which:
                    raise other_trials(which, batch)
                self._submit(batch)
            else:
                self._take_what_is_there()
                self._tell(self._open[which], replaying=True)

    def _take_what_is_there(self) -> None:
        self._received.extend(self.evaluator.take_answered())
        self._take_received()


def _another_configuration(trial: Trial, there: Mapping[str, Any]) -> JournalError:
    return JournalError(
        f"processes that share a journal must propose the same configurations, but candidate "
        f"{trial.candidate} is {dict(trial.params)} here, and {dict(there)} in the process that "
        "proposed it; let machines of one kind share a journal, or use n_jobs"
    )
