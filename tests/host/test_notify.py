"""What a service manager's environment says, also where it makes no sense."""

from __future__ import annotations

import os

import pytest

from ccproxy_lib.host.notify import Manager, take_manager


@pytest.mark.parametrize(
    ("microseconds", "watchdog_s"),
    [
        ("30000000", 30.0),
        ("18446744073709551615", 18446744073709.551615),
        ("0", None),
        ("", None),
        ("-1", None),
        ("9" * 400, None),
        ("9" * 5000, None),
    ],
)
def test_how_often_it_wants_a_ping(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, watchdog_s: float | None
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert take_manager() == Manager("/run/notify", watchdog_s, os.getpid())
    assert take_manager() is None
