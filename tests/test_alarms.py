"""Limits of time leave nothing behind, wherever they are cut off, and blame the right fit."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from skhpo import limits
from skhpo.limits import Cut, FitTimeoutError, limited

needs_signals = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="Windows has no timers that send signals"
)


class CutsOff:
    """Calls a function at the n-th moment in a file at which Python handles signals."""

    def __init__(self, n, function):
        self.n, self.function = n, function

    def __call__(self, frame, event, arg):
        if event in ("call", "c_return") and frame.f_code.co_filename == limits.__file__:
            self.n -= 1
            if self.n < 0:
                sys.setprofile(None)
                self.function()


def press():
    raise KeyboardInterrupt


def ring():
    if callable(handler := signal.getsignal(signal.SIGALRM)):
        handler(signal.SIGALRM, None)


def theirs(number, frame):
    pass


@pytest.fixture
def their_timer():
    before = signal.signal(signal.SIGALRM, theirs)
    signal.setitimer(signal.ITIMER_REAL, 100, 7)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@needs_signals
@pytest.mark.parametrize("cut_off", [press, ring])
def test_nothing_stays_wherever_limits_are_cut_off(their_timer, cut_off):
    for n in range(200):
        profile = CutsOff(n, cut_off)
        with suppress(KeyboardInterrupt, Cut):
            if cut_off is press:
                sys.setprofile(profile)
            with limited(seconds=1e-9):
                sys.setprofile(profile)
        sys.setprofile(None)
        assert signal.getsignal(signal.SIGALRM) is theirs, n
        seconds, interval = signal.getitimer(signal.ITIMER_REAL)
        assert (50 < seconds <= 100, interval) == (True, 7)
        limits.check_time()  # nothing is over its time any more
        if profile.n >= 0:
            break
    assert 10 < n < 199


def test_a_part_of_a_fit_is_not_blamed_for_the_time_of_the_fit():
    raised = []

    def fit():
        with suppress(Cut), limited(seconds=0.01):
            try:
                with limited(seconds=60):
                    while True:
                        time.sleep(0.001)
            except Cut as cut:
                raised.append(type(cut))
                raise

    threads = [threading.Thread(target=fit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(raised) == 8
    assert FitTimeoutError not in raised


@pytest.mark.parametrize("where", ["here", "in a thread"])
def test_a_limit_may_be_as_long_as_one_likes(where):
    ended = []

    def fit():
        with limited(seconds=1e30, until=1e30):
            limits.check_time()
            ended.append(where)

    if where == "here":
        fit()
    else:
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
    assert ended == [where]


PROFILED = """
import sys, threading, time
from skhpo.limits import interrupt, limited

def fit():
    with limited(seconds=60):
        pass

def wait():
    time.sleep(30)

for function in (fit, wait):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(0.1)
    interrupt(thread)
sys.setprofile(lambda *event: None)
fit()
"""


def test_profilers_work_after_threads_had_limits():
    subprocess.run([sys.executable, "-c", PROFILED], check=True, timeout=100)
