"""However the sandbox agent ends, none of its processes is left."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ccproxy_lib.wire.ctl import Code
from tests.sandbox.agent import DEADLINE_S, POWERED_OFF, Sandbox

pytestmark = pytest.mark.heavy


def destroy(sandbox: Sandbox) -> None:
    sandbox.control.call(Code.DESTROY_POD)


def tear(sandbox: Sandbox) -> None:
    sandbox.io.socket.sendall(b"?")


def terminate(sandbox: Sandbox) -> None:
    sandbox.process.send_signal(signal.SIGTERM)


def interrupt(sandbox: Sandbox) -> None:
    sandbox.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "status"),
    [(destroy, 0), (tear, POWERED_OFF), (terminate, 143), (interrupt, 130)],
)
def test_nothing_is_left_behind(
    sandbox: Sandbox, end: Callable[[Sandbox], None], status: int
) -> None:
    # A child, one that ignores signals, and one that left its session and its parent.
    script = """
        trap '' TERM INT HUP
        sleep 1000 & echo $!
        (setsid sh -c 'echo $$; exec sleep 1000' &)
        echo $$; wait"""
    sandbox.run("sh", "-c", script)
    sandbox.run("sh", "-c", "echo $$; exec sleep 1000", terminal=True)
    while len((sandbox.io.output(1) + sandbox.io.output(3)).split()) < 4:
        sandbox.io.read()
    pids = [int(pid) for pid in (sandbox.io.output(1) + sandbox.io.output(3)).split()]
    assert all(is_running(pid) for pid in pids)
    end(sandbox)
    assert sandbox.end()[0] == status
    assert not any(is_running(pid) for pid in pids)
    assert not sandbox.ctl_path.exists()
    assert not sandbox.io_path.exists()


def test_processes_die_with_an_agent_that_has_no_chance(sandbox: Sandbox) -> None:
    sandbox.run("sh", "-c", "echo $$; exec sleep 1000")
    sandbox.io.read_until(1, b"\n")
    handle = os.pidfd_open(int(sandbox.io.output(1)))
    try:
        sandbox.process.kill()
        assert select.select([handle], [], [], DEADLINE_S)[0]
    finally:
        os.close(handle)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
