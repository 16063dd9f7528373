"""What workers write down, and what becomes of it when nobody is left to read it."""

import os
import subprocess
import sys
import threading
import time

import pytest

from skhpo.evaluation._board import Board, Row
from skhpo.process import end_with


def test_a_row_says_who_is_at_what():
    board = Board(2)
    Row(board.path, 1).write(3, 4.5)
    assert board.read(0) == (0, 0, 0.0)
    assert board.read(1) == (os.getpid(), 3, 4.5)
    board.clear(1)
    assert board.read(1) == (0, 0, 0.0)
    board.close()
    assert not os.path.exists(board.path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers cannot see that elsewhere")
def test_a_worker_whose_driver_is_gone_ends():
    ready, is_ready = os.pipe()
    alive, is_alive = os.pipe()
    if (driver := os.fork()) == 0:
        if os.fork() == 0:
            end_with(os.getppid())
            os.write(is_ready, b".")
            threading.Event().wait()
        os.read(ready, 1)
        os._exit(0)
    os.close(is_alive)
    os.waitpid(driver, 0)
    assert os.read(alive, 1) == b""  # the worker has ended
    for descriptor in (ready, is_ready, alive):
        os.close(descriptor)


def test_what_a_driver_leaves_that_is_killed_is_removed():
    code = """if True:
        import os, signal
        from skhpo.evaluation._board import Board
        from skhpo.evaluation._pool import Pool
        print(Board(1).path, Pool(2).__enter__().parts, flush=True)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    """
    driver = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    paths = driver.stdout.split()
    assert [os.path.basename(path).partition("-")[0] for path in paths] == ["skhpo", "skhpo"]
    end = time.monotonic() + 60
    while any(map(os.path.exists, paths)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(os.path.exists, paths))
