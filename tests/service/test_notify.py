"""What the service manager hears from this process, whose hub the test can stop."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import gevent
import pytest

from ccproxy_lib.host.notify import Manager
from ccproxy_lib.service.notify import ManagerReport

WATCHDOG_S = 0.002


@pytest.fixture
def heard(tmp_path: Path):
    """Return all that was heard since the last call."""
    address = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)

        def heard() -> list[str]:
            lines: list[str] = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    lines += manager.recv(1000).decode().split("\n")
            return lines

        report = ManagerReport(Manager(address, WATCHDOG_S, os.getpid()))
        report.serving(lambda: "well")
        yield heard
        report.stopping()


def test_no_pings_while_the_hub_does_not_turn(heard) -> None:
    gevent.sleep(10 * WATCHDOG_S)
    assert "WATCHDOG=1" in heard()
    time.sleep(10 * WATCHDOG_S)
    assert heard() == []
    gevent.sleep(10 * WATCHDOG_S)
    assert "WATCHDOG=1" in heard()
