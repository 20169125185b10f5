"""What debug shows, and of which VM."""

from __future__ import annotations

import contextlib
import socket

import pytest

from ccproxy_lib.wire import tty
from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S
from tests.e2e.log.entries import lines_about
from tests.e2e.steps import accept_soon, start


def test_debug_shows_messages_of_the_io_channel(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, "box", token, terminal=True)
        vm.output(stdio, b"hello \x00\xff")
        vm.output(stdio, b"x" * 5000)
        assert len(shim.read_stdout_bytes(5008)) == 5008
        shim.stdin(b"to the process")
        assert vm.input() == (stdio, b"to the process")
        vm.exit(stdio, 3)
        assert shim.collect()[2] == 3
    where = {"vm": vm_id, "container": "box", "seq": str(stdio)}
    out = [each for each in lines_about(daemon, "from the VM") if each.items() >= where.items()]
    assert out[0]["bytes"] == "8"
    assert out[0]["hex"] == b"hello \x00\xff".hex()
    assert {each["hex"] for each in out if each["bytes"] == "5000"} == {(b"x" * 64).hex()}
    assert [each["hex"] for each in out[-2:]] == ["", "03"]
    (sent,) = (each for each in lines_about(daemon, "to the VM") if each.items() >= where.items())
    assert (sent["bytes"], sent["hex"]) == ("14", b"to the process".hex())


def test_many_messages_are_shown_within_bounds(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, "box", token, terminal=True)
        for _ in range(30):
            vm.io.sendall(tty.encode(stdio, b"y") * 100)
        vm.output(stdio, b"end")
        shim.read_stdout(b"end")
        vm.exit(stdio, 0)
        shim.collect()
    shown = len(lines_about(daemon, "from the VM"))
    assert 500 <= shown < 3000


def test_one_vm_can_be_debugged_alone_and_its_console_too(start_daemon, scripted, tmp_path):
    daemon = start_daemon()
    consoles, vms = {}, {}
    with daemon.client() as runtime, contextlib.ExitStack() as stack:
        runtime.call(Command.LOG_CONTROL, {"level": "warn"})
        for vm_id in ("quiet", "loud"):
            vm = vms[vm_id] = scripted()
            consoles[vm_id] = stack.enter_context(socket.socket(socket.AF_UNIX))
            consoles[vm_id].bind(str(tmp_path / vm_id))
            consoles[vm_id].listen()
            consoles[vm_id].settimeout(PATIENCE_S)
            accept_soon(vm)
            runtime.register(vm, vm_id, console=str(tmp_path / vm_id))
        with daemon.client() as operator:
            for _ in range(2):  # the second time it is followed already
                members = {"level": "debug", "containerId": "loud"}
                operator.call(Command.LOG_CONTROL, members)
            console = stack.enter_context(consoles["loud"].accept()[0])
            console.sendall(b"the kernel says\n")
            daemon.wait_for_log("the kernel says")
            for vm in vms.values():
                vm.output(7, b"x")
            daemon.wait_for_log("from the VM")
            members = {"level": "default", "containerId": "loud"}
            operator.call(Command.LOG_CONTROL, members)
            console.sendall(b"unheard\n")
        consoles["quiet"].setblocking(False)
        with pytest.raises(BlockingIOError):
            consoles["quiet"].accept()
    assert daemon.stop() == 0
    assert "unheard" not in daemon.log
    assert {each["vm"] for each in lines_about(daemon, "from the VM")} == {"loud"}
