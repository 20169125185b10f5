"""Signals as something to wait for."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ccproxy_lib.client import Signals

PATIENCE_S = 60.0


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """What has come of SIGUSR2, which the program handles in its own way."""
    come: list[int] = []
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: come.append(number))
    yield come
    signal.signal(signal.SIGUSR2, previous)


def test_what_has_come_is_taken_in_its_order() -> None:
    with Signals({signal.SIGUSR1, signal.SIGWINCH}) as signals:
        assert not signals.wait(0)
        for number in (signal.SIGWINCH, signal.SIGUSR1, signal.SIGWINCH):
            signal.raise_signal(number)
        assert signals.wait(PATIENCE_S)
        assert signals.take() == [signal.SIGWINCH, signal.SIGUSR1, signal.SIGWINCH]
        assert signals.take() == []


def test_what_others_handle_ends_the_wait_and_is_not_taken(handled: list[int]) -> None:
    """It may come just before the wait, and its handler raise behind it."""
    with Signals({signal.SIGUSR1}) as signals:
        signal.raise_signal(signal.SIGUSR2)
        assert signals.wait(PATIENCE_S)
        assert signals.take() == []
        assert not signals.wait(0)
    assert handled == [signal.SIGUSR2]


def test_all_is_as_before_in_the_end(handled: list[int]) -> None:
    def is_its_own() -> bool:
        return signal.getsignal(signal.SIGUSR2) is before

    before = signal.getsignal(signal.SIGUSR2)
    with Signals({signal.SIGUSR2}):
        assert not is_its_own()
    assert is_its_own()
    assert signal.set_wakeup_fd(-1) == -1


def test_thousands_that_wait_do_no_harm() -> None:
    with Signals({signal.SIGUSR1}) as signals:
        for _ in range(10_000):
            signal.raise_signal(signal.SIGUSR1)
        assert signals.take()[:3] == [signal.SIGUSR1] * 3
