"""What workers write down, and what becomes of it when nobody is left to read it."""

import os
import threading

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
def test_a_worker_whose_driver_is_gone_ends_and_removes_the_board():
    board = Board(1)
    ready, is_ready = os.pipe()
    alive, is_alive = os.pipe()
    if (driver := os.fork()) == 0:
        if os.fork() == 0:
            Row(board.path, 0).write(0, None)
            end_with(os.getppid())
            os.write(is_ready, b".")
            threading.Event().wait()
        os.read(ready, 1)
        os._exit(0)
    os.close(is_alive)
    os.waitpid(driver, 0)
    assert os.read(alive, 1) == b""  # the worker has ended
    assert not os.path.exists(board.path)
    for descriptor in (ready, is_ready, alive):
        os.close(descriptor)
