"""An estimator that does what it is told. It imports little, for workers that start often."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Scripted(ClassifierMixin, BaseEstimator):
    """Does what its parameter says when it is fitted, and notes in a file that it was."""

    def __init__(self, act="nothing", i=0, log=None, data=None):
        self.act = act
        self.i = i
        self.log = log
        self.data = data

    def fit(self, X, y):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{self.i} {self.act}\n")
        getattr(self, f"_{self.act}")()
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return float(self.i)

    def _nothing(self):
        pass

    def _die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _exit(self):
        sys.exit("enough")

    def _fail(self):
        raise ValueError("as told")

    def _swallow_interrupt(self):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            pass

    def _convert_interrupt(self):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos") from None

    def _sleep(self):
        time.sleep(20)

    def _nap(self):
        time.sleep(0.5)

    def _loop(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pass

    def _swallow(self):
        """Go on whatever is raised."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(BaseException):
                time.sleep(1)

    def _stop(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def _stop_together(self):
        """Stand still as soon as two of these run."""
        _wait_for(lambda: self._notes().count(self.act) >= 2, seconds=20)
        self._stop()

    def _wait(self):
        """Wait for a file that may never come, and leave another one."""
        _wait_for(Path(f"{self.data}.go").exists, seconds=60)
        Path(f"{self.data}.ended").touch()

    def _out_of_memory(self):
        raise _memory_error()

    def _out_of_memory_once(self):
        if self._notes().count(self.act) == 1:
            raise _memory_error()

    def _notes(self):
        return Path(self.log).read_text()


def _wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)


def _memory_error():
    import torch

    return torch.OutOfMemoryError("CUDA out of memory (as if)")
