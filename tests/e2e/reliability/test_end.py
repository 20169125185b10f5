"""The daemon's end, and what it does with signals and its socket."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from ccproxy_lib.wire.ctl import Code
from tests.e2e.harness import PATIENCE_S, Refused
from tests.e2e.steps import MIB, assert_alive, flood, one_session

pytestmark = pytest.mark.lasting


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_orderly_end_with_stuck_peers(pair, number):
    daemon, vm, runtime = pair()
    _, stuck, stdio = one_session(daemon, runtime, vm, "c1")
    with stuck, daemon.client() as other:
        flood(vm, stdio, 2 * MIB)
        other.attach("c1")
        other.hyper_command("ping")
        assert vm.command().code == Code.PING  # and never answered
        daemon.process.send_signal(number)
        with pytest.raises(Refused, match="the proxy is stopping"):
            other.answer()
        assert daemon.process.wait(PATIENCE_S) == 0
        assert not os.path.exists(daemon.path)
        assert vm.ctl.recv(1) == b""


def test_a_socket_that_is_no_longer_ours_stays(start_daemon):
    daemon = start_daemon()
    os.unlink(daemon.path)
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(daemon.path)
        assert daemon.stop() == 0
        assert os.path.exists(daemon.path)


def test_sigusr1_logs_greenlets_and_goes_on(pair):
    daemon, vm, runtime = pair()
    daemon.process.send_signal(signal.SIGUSR1)
    log = daemon.wait_for_log("_collect_garbage")
    assert "greenlets count=" in log
    assert "ctl_channel.py" in daemon.wait_for_log("ctl_channel.py")
    assert_alive(vm, runtime)
