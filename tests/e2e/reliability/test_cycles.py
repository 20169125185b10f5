"""Sessions that come and go leave nothing."""

from __future__ import annotations

import os

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import wait_until
from tests.e2e.steps import MIB, accept_soon, start

pytestmark = pytest.mark.lasting


def resident_bytes(daemon) -> int:
    with open(f"/proc/{daemon.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.heavy
def test_1000_cycles_leave_nothing(start_daemon, scripted):
    daemon = start_daemon()
    vm = scripted()
    grown = {}

    def cycle():
        accepting = accept_soon(vm)
        with daemon.client() as runtime:
            (token,) = runtime.register(vm, "c1", 1)
            accepting.join()
            with daemon.shim(token) as shim:
                stdio, _ = start(vm, runtime, token=token)
                vm.output(stdio, b"output")
                vm.exit(stdio, 0)
                assert shim.collect() == (b"output", b"", 0)
                shim.command(Command.DISCONNECT_SHIM)
            runtime.unregister()

    for number in range(1000):
        if number in (10, 500):
            grown[number] = resident_bytes(daemon), daemon.descriptors()
        cycle()
    wait_until(lambda: daemon.descriptors() <= grown[10][1], "descriptors are flat")
    assert resident_bytes(daemon) - grown[500][0] < 2 * MIB
