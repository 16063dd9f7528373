"""The loop of a search that several processes work on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..exceptions import JournalError
from ..fingerprint import describe
from ..journal import as_read, proposal_event
from ._loop import TrialLoop, other_trials

if TYPE_CHECKING:
    from ..trial import FitResult, Trial
    from ._base import BaseTrialSearchCV

__all__ = ["SharedTrialLoop", "check_shared", "common_settings"]

# Arguments that a journal lets a search change, and that all processes must have in common: with
# them, others would ask for other trials.
_COMMON = ("max_cost", "n_iter", "refit")

# Trials of others that are planned while they wait: half a millisecond each.
_MANY = 10


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


class SharedTrialLoop(TrialLoop):
    """The loop in one of several processes, which all ask and tell alike.

    Each asks its own scheduler. Before a candidate is fitted, its configuration is written down for
    the others, whose samplers might differ from this one by rounding. Batches are told as in one
    process. An asynchronous search asks and tells in the order of the journal's lines.
    """

    journal: Any

    def _ask(self, *, replaying: bool = False) -> list[Trial]:
        with self.journal.turn():
            batch = super()._ask(replaying=replaying)
            known, new = self._recorded.configurations, {}
            for trial in batch:
                if trial.candidate not in known:
                    new[trial.candidate] = trial.params
                elif {n: as_read(v) for n, v in trial.params.items()} != known[trial.candidate]:
                    raise _another_configuration(trial, known[trial.candidate])
            if new:
                event = proposal_event(new)
                self.journal.append(event)
                self._recorded.take(event)
        return batch

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
            while self._ended_by is None and not self._take_turn():
                self._replay_others()  # while they go on
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
