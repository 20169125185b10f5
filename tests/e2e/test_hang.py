"""The end that a daemon gets whose loop hangs: SIGABRT, from the watchdog of systemd."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.harness import PATIENCE_S

pytestmark = pytest.mark.lasting


def test_what_it_was_doing_is_on_stderr(start_daemon) -> None:
    daemon = start_daemon()
    daemon.wait_until_idle()
    daemon.process.send_signal(signal.SIGABRT)
    assert daemon.process.wait(PATIENCE_S) == -signal.SIGABRT
    fatal = daemon.log.partition("Fatal Python error: Aborted\n")[2]
    assert "gevent/hub.py" in fatal
