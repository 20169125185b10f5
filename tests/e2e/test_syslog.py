"""Pod mode logs to syslog as well, where there is one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ccproxy_lib.host.syslog import DEFAULT_PATH, SyslogHandler
from tests.e2e.harness import PATIENCE_S, exclusive

pytestmark = pytest.mark.lasting


@pytest.fixture
def devlog():
    """The path of syslog's socket, for this test alone."""
    with exclusive(Path(DEFAULT_PATH).parent):
        yield DEFAULT_PATH


@pytest.fixture
def start_pod(start_daemon, tmp_path):
    path = str(tmp_path / "pod.sock")
    return lambda: start_daemon("-uri", f"unix://{path}", path=path)


def test_pod_mode_starts_without_syslog(devlog, start_pod):
    probe = SyslogHandler(devlog)
    problem = probe.problem()
    probe.close()
    if problem is None:
        pytest.skip("this machine has a syslog")
    daemon = start_pod()
    assert daemon.stop() == 0
    assert daemon.log.count(f'msg="no syslog" path={devlog}') == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a socket in /dev")
def test_pod_mode_logs_to_syslog_until_it_goes_away(devlog, start_pod):
    if os.path.lexists(devlog):
        pytest.skip("this machine has a syslog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslogd:
        syslogd.bind(devlog)
        try:
            syslogd.settimeout(PATIENCE_S)
            daemon = start_pod()
            line = b""
            while f"cc-proxy[{daemon.pid}]: level=info msg=listening".encode() not in line:
                line = syslogd.recv(1 << 16)
        finally:
            os.unlink(devlog)
    daemon.client().close()
    assert daemon.stop() == 0
    assert "msg=stopped" in daemon.log
    assert "no syslog" not in daemon.log


def test_system_mode_logs_to_stderr_alone(start_daemon):
    daemon = start_daemon()
    assert daemon.stop() == 0
    assert "syslog" not in daemon.log
