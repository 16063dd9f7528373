"""Workers that die at any moment, between calls and beside them: no call is forgotten."""

from concurrent.futures import BrokenExecutor
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skhpo.evaluation import _pool
from skhpo.evaluation._pool import Pool
from skhpo.evaluation._workers import Engine


class Dying(Engine):
    """Calls end, and all workers die, when it is told so."""

    n_jobs = 3
    tells_deaths = True
    lost = (BrokenExecutor,)

    def __init__(self):
        self.calls, self.is_broken = [], False

    def submit(self, call, shared, done):
        if self.is_broken:
            raise BrokenExecutor("a worker died")
        self.calls.append((call, done))

    def end_one(self):
        if self.calls:
            call, done = self.calls.pop(0)
            done(partial(call))

    def die(self):
        self.is_broken = True
        for _, done in self.calls:
            done(partial(self._raise))
        self.calls.clear()

    def _raise(self):
        raise BrokenExecutor("a worker died")

    def restart(self):
        assert not self.calls
        self.is_broken = False


@given(st.lists(st.sampled_from(["submit", "submit", "end", "die", "wait"]), max_size=30))
def test_every_call_comes_back_once_whenever_workers_die(steps):
    engine, submitted, came = Dying(), 0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pool, "active_engine", lambda n_jobs: engine)
        with Pool(3) as pool:

            def take():
                done = pool.wait()
                came.extend(done.items)
                assert done.lost or done.results == [-done.items[0]]
                return done

            for step in [*steps, *["end", "wait"] * (len(steps) + 1)]:
                if step == "submit" and pool.free:
                    was_alone = not pool.running
                    pool.submit(int.__neg__, [submitted])
                    if was_alone:  # it is tried by workers that are there
                        assert len(engine.calls) == 1
                    submitted += 1
                elif step == "end":
                    engine.end_one()
                elif step == "die":
                    engine.die()
                elif step == "wait" and not pool._done.empty() and take().lost:
                    while pool.running:  # as the evaluator does
                        engine.end_one()
                        take()
                    pool.restart()
    assert sorted(came) == list(range(submitted))


@pytest.mark.parametrize(("local", "device"), [(True, None), (False, "cpu")])
def test_groups_for_a_cluster_do_not_depend_on_the_devices_here(local, device, monkeypatch):
    engine = Dying()
    engine.local = local
    monkeypatch.setattr(_pool, "active_engine", lambda n_jobs: engine)
    with Pool(3) as pool:
        assert set(pool.slots_) == {None}
        assert pool.devices_ == (device,) * pool.n_jobs_
