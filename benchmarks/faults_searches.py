"""What the parts of ``faults.py`` share: a search that is disturbed, and processes that are cheap.

A process that has imported everything forks a child for each try. Workers are forked from that
child, unless a try has *new* ones, which import all they need, as those of users do. Moments are
seconds of processors, which do not depend on who else uses them.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import random
import select
import signal
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import parallel_config
from joblib.externals.loky.backend.context import set_start_method
from scipy.stats import loguniform
from sklearn.datasets import load_iris

from skhpo import HalvingHyperbandSearchCV, TorchClassifier
from skhpo.journal import PredictionFiles
from skhpo.process import remove_at_last, remove_now

# By name: the number of jobs, the backend, and arguments of the search.
MODES = {
    "serial": (1, "loky", {}),
    "lockstep": (1, "loky", {"lockstep": True}),
    "processes": (2, "loky", {}),
    "threads": (2, "threading", {}),
    "asynchronous": (2, "loky", {"asynchronous": True}),
}
# Promotions one after the other, brackets side by side, or both.
SHAPES = {
    "deep": {"max_resources": 4, "factor": 2, "n_brackets": 1},
    "wide": {"max_resources": 3, "factor": 3},
    "both": {"max_resources": 4, "factor": 2},
}
# Seconds after which a search counts as one that does not end, less those that it waited for a
# processor; nothing else takes a tenth of it.
PATIENCE = 200
X, Y = load_iris(return_X_y=True)
X, Y = X[::3].astype("float32"), Y[::3]


@dataclass(frozen=True)
class Setting:
    """Which search a try disturbs.

    Parameters
    ----------
    mode : str
    shape : str
    new_workers : bool
        Whether workers import what they need; else they are forked.
    keeps : bool, default=False
        Whether predictions are kept, and the networks of the two best rows.
    """

    mode: str
    shape: str
    new_workers: bool
    keeps: bool = False

    @property
    def has_workers(self):
        """Whether it has worker processes."""
        n_jobs, backend, _ = MODES[self.mode]
        return n_jobs > 1 and backend == "loky"

    def moment(self):
        """Draw a moment of the search, in seconds of processors."""
        return random.uniform(0, undisturbed(self)[1])


def setting_of(number, keeps=False):
    """Return the setting of a try: all modes in turn, in shapes in turn."""
    mode, turn = list(MODES)[number % len(MODES)], number // len(MODES)
    if is_slow(number):
        return Setting(mode, "both", True, keeps)
    return Setting(mode, "deep" if turn % 2 else "wide", False, keeps)


def is_slow(number):
    """Whether a try has new workers, if any: they need seconds. These come last."""
    return number // len(MODES) % 20 == 0


def fit(journal, setting, *, serially=False, **settings):
    """Fit the search that all parts disturb; return what it found, times apart.

    Parameters
    ----------
    journal : Path
    setting : Setting
    serially : bool, default=False
        Whether in one process, whatever the mode.
    **settings
        Of joblib's backend.
    """
    n_jobs, backend, arguments = MODES[setting.mode]
    search = HalvingHyperbandSearchCV(
        TorchClassifier(module__n_units=4, module__dropout=0.2, batch_size=16),
        {"lr": loguniform(1e-3, 1e-1)},
        resource="max_epochs",
        cv=2,
        random_state=0,
        refit=False,
        journal=journal,
        n_jobs=1 if serially else n_jobs,
        return_predictions=setting.keeps,
        keep_models=2 * setting.keeps,
        **{"lockstep": False, **arguments, **SHAPES[setting.shape]},
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(parallel_config(backend, **settings))
        return table(search.fit(X, Y))


def table(search):
    """Return what a search found, times apart, and what it keeps of its fits."""
    results = search.cv_results_
    found = {name: results[name] for name in results if not name.endswith("_time")}
    if hasattr(search, "predictions_"):
        for row in search.predictions_.rows:
            found[f"predictions of row {row}"] = search.out_of_fold_predictions(row)
    if hasattr(search, "models_"):
        for row in search.models_.rows:
            kept = search.kept_models(row)
            found[f"models of row {row}"] = np.array([net.predict_proba(X) for net in kept])
    return found


def without_predictions(journal, setting):
    """Return how many fits of a journal must have predictions, and have none."""
    if not Path(journal).exists():
        return 0
    with open(journal, "rb") as file:
        identity = json.loads(file.readline())["journal"]
    kept = PredictionFiles(Path(f"{journal}.files"), identity)
    largest = SHAPES[setting.shape]["max_resources"]
    return sum(
        kept.get((event["trial"], event["split"], event["repeat"])) is None
        for event in events(journal)
        if event["event"] == "fit" and event["resource"] == largest and not event["error"]
    )


def same(a, b):
    """Whether two searches found the same."""
    return bool(a and b) and list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


@contextlib.contextmanager
def own_folder():
    """Make a folder that is removed at last, by a process that also removes what children leave."""
    folder = tempfile.mkdtemp(prefix="faults-")
    remove_at_last(folder)
    try:
        yield Path(folder)
    finally:
        remove_now(folder)


def warm(folder):
    """Import what searches need before the first fork."""
    # Shells have what they start in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    for mode in ("serial", "lockstep"):
        fit(folder / f"warm-{mode}", Setting(mode, "deep", False))


class DidNotEnd(Exception):
    """A process is there that should have ended long ago."""


class OutOfTime(Exception):
    """The time for a part is over in the middle of a try."""


class Child:
    """A process forked from this one that calls a function, in a process group of its own.

    Parameters
    ----------
    call : callable
    expected : tuple of type, default=()
        Exceptions that count as no error.
    new_workers : bool, default=True
        Whether its workers import what they need; else they are forked.

    Attributes
    ----------
    pid : int
    seconds : float
        Of processors, that it and its workers had used when that was last looked at.
    value : object
        What the call returned, or None.
    error : str or None
        Why it raised something that was not expected.
    raised : bool
        Whether it raised something that was.
    """

    ends_by = np.inf  # when the time for all of them is over, as ``time.monotonic()``

    def __init__(self, call, *, expected=(), new_workers=True):
        self._receive, send = multiprocessing.Pipe(duplex=False)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _call(call, send, expected, new_workers)
            finally:
                os._exit(0)  # without waiting for workers
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        send.close()
        self._handle = os.pidfd_open(self.pid)
        self.seconds, self.value, self.error, self.raised = 0.0, None, None, False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(self.pid, 0)
        os.close(self._handle)
        self._receive.close()

    @property
    def runs(self):
        """Whether it has not ended."""
        return not select.select([self._handle], [], [], 0)[0]

    def run(self, seconds=np.inf):
        """Wait until it ends or has used so many seconds of processors; return whether it runs."""
        begin = time.monotonic()
        while self.runs:
            pids = [self.pid, *workers_of(self.pid)]
            self.seconds = max(self.seconds, sum(map(used, pids)))
            left = seconds - self.seconds
            if left <= 0:
                return True
            now = time.monotonic()
            if now > self.ends_by:
                raise OutOfTime
            if now - begin > PATIENCE + sum(map(waited, pids)):
                raise DidNotEnd
            select.select([self._handle], [], [], min(max(left, 0.0005), 0.02))
        with contextlib.suppress(EOFError, OSError):
            if self._receive.poll():
                self.value, self.error, self.raised = self._receive.recv()
        return False


def _call(call, send, expected, new_workers):
    outcome = None, "it was ended", False
    try:
        os.setpgid(0, 0)
        set_start_method("loky" if new_workers else "fork", force=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        outcome = call(), None, False
    except expected:
        outcome = None, None, True
    except BaseException:
        outcome = None, traceback.format_exc(), False
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        send.send(outcome)


def in_child(call, *, new_workers=True):
    """Return what a function returns in a child, None where it raises; and the child, ended."""
    with Child(call, new_workers=new_workers) as child:
        child.run()
    if child.error:
        print(child.error, flush=True)
    return child


@functools.cache
def undisturbed(setting, serially=False):
    """Return what a search finds that nothing disturbs, and the seconds of processors it needs."""
    with tempfile.TemporaryDirectory() as folder:
        call = functools.partial(fit, Path(folder) / "run", setting, serially=serially)
        child = in_child(call, new_workers=setting.new_workers)
    assert child.value, "a search that nothing disturbs must end"
    return child.value, child.seconds


def ends_the_same(journal, setting):
    """Fit a search again that was disturbed; whether it ends as if it had not been.

    In one process, unless it has new workers.
    """
    again = functools.partial(fit, journal, setting, serially=not setting.new_workers)
    return as_undisturbed(in_child(again).value, setting)


def as_undisturbed(found, setting):
    """Whether a search found what it finds undisturbed, in one process.

    Which trials an asynchronous search has depends on what is faster: it has to end, without
    failed fits.
    """
    if setting.mode == "asynchronous":
        return bool(found) and not np.isnan(found["mean_test_score"]).any()
    return same(found, undisturbed(setting, serially=True)[0])


def events(journal):
    """Return the complete lines of a journal, less the first."""
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_bytes().split(b"\n")[1:-1]]


def n_failed(journal):
    """Return how many fits a journal has as failed."""
    return sum(bool(event.get("error")) for event in events(journal))


def fits(journal):
    """Return the names of the fits in a journal."""
    found = [event for event in events(journal) if event["event"] == "fit"]
    return [(event["trial"], event["split"], event["repeat"]) for event in found]


def leftovers(journal):
    """Return what a finished search leaves beside its journal that it should not."""
    folder = Path(f"{journal}.files")
    return [path.name for path in folder.iterdir() if path.name not in ("owner", "splits.npz")]


def used(pid):
    """Return the seconds of processors that a process has used; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid of Linux
    return 0.0


def waited(pid):
    """Return the seconds that a process has waited for a processor; 0 if it is gone."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
        return max((int(task.read_text().split()[1]) for task in tasks), default=0) / 1e9
    return 0.0


def workers_of(pid):
    """Return the worker processes below a process."""
    with contextlib.suppress(OSError):
        lists = Path(f"/proc/{pid}/task").glob("*/children")
        pids = [int(child) for text in lists for child in text.read_text().split()]
        return [pid for pid in pids if is_worker(pid)]
    return []


def is_worker(pid):
    """Whether a process is there, and a worker."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"popen_loky" in command or command == _command()
    return False


@functools.cache
def _command():
    return Path("/proc/self/cmdline").read_bytes()


def left_after(pids, seconds):
    """Return how many workers are there after so many seconds, less what they wait to run."""
    begin, before = time.monotonic(), sum(map(waited, pids))
    while left := sum(map(is_worker, pids)):
        if time.monotonic() - begin > seconds + max(0, sum(map(waited, pids)) - before):
            break
        time.sleep(0.05)
    return left
