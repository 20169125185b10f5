"""Here the daemon has the debug endpoint."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Daemon, wait_until
from tests.e2e.web import over_tcp


@pytest.fixture(scope="package")
def shared(tmp_path_factory):
    """One daemon for most tests here."""
    flags = ("-pprof", "-pprof-port", "0", "-session-buffer", "64K")
    daemon = Daemon(tmp_path_factory.mktemp("debug"), *flags)
    yield daemon
    assert daemon.stop() == 0, daemon.log
    assert "Traceback" not in daemon.log, daemon.log
    assert "level=error" not in daemon.log, daemon.log


@pytest.fixture
def daemon(shared):
    """Here ``daemon`` is the one that has the endpoint."""
    yield shared
    wait_until(lambda: not over_tcp(shared).json()["vms"], "the VMs are gone")


@pytest.fixture
def web(daemon):
    return over_tcp(daemon)
