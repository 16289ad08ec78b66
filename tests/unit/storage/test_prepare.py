from __future__ import annotations

import fcntl
import os
import threading

import pytest

from atoll.core.errors import Unsupported
from atoll.storage import prepare


def test_it_needs_root_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unsupported, match="sudo"):
        prepare.prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_preparation_says_that_it_waits_and_then_goes_on(tmp_path):
    lock = tmp_path / "lock"
    waiting = threading.Event()
    done = threading.Event()

    def second() -> None:
        with prepare._alone(lock, lambda step, fraction: waiting.set()):
            done.set()

    thread = threading.Thread(target=second)
    with prepare._alone(lock, lambda step, fraction: None):
        thread.start()
        assert waiting.wait(10)
        assert not done.is_set()
    thread.join(10)
    assert done.is_set()


def test_the_lock_is_free_afterwards(tmp_path):
    lock = tmp_path / "lock"
    with prepare._alone(lock, lambda step, fraction: None):
        pass
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
