"""A guest that breaks its protocol, or does not answer, harms only itself."""

from __future__ import annotations

import socket

import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import Refused, wait_until
from tests.e2e.steps import accept_soon, assert_alive, one_session

pytestmark = pytest.mark.lasting


@pytest.mark.parametrize(
    ("channel", "sent", "reason"),
    [
        ("ctl", b"\0\0\0\x09\0\0\0\x07", "control message of 7 bytes"),
        ("ctl", b"\0\0\0\x09\xff\xff\xff\xff", "control message of 4294967295 bytes"),
        ("ctl", b"\0\0\0\x2a\0\0\0\x08", "unexpected message code 42"),
        ("io", b"\0" * 12, "I/O message of 0 bytes"),
        ("io", b"\0" * 8 + b"\xff" * 4, "I/O message of 4294967295 bytes"),
    ],
)
def test_a_guest_that_breaks_its_protocol_loses_only_itself(
    daemon, registered, scripted, vm_id, channel, sent, reason
):
    vm, runtime = registered
    other = scripted()
    accepting = accept_soon(other)
    with daemon.client() as bystander:
        bystander.register(other, f"{vm_id}-other")
        accepting.join()
        getattr(vm, channel).sendall(sent)
        assert reason in daemon.wait_for_log(reason)
        with pytest.raises(Refused, match="is gone"):
            runtime.hyper("ping")
        assert_alive(other, bystander)


def test_an_answer_to_no_command_is_dropped(daemon, registered):
    vm, runtime = registered
    vm.send(Code.ACK, b"uncalled for")
    daemon.wait_for_log("answer of the agent to no command")
    assert_alive(vm, runtime)


def test_a_failed_registration_leaks_nothing(daemon, vm_id, tmp_path):
    before = daemon.descriptors()
    with socket.socket(socket.AF_UNIX) as listener, daemon.client() as runtime:
        ctl_path = str(tmp_path / "ctl")
        listener.bind(ctl_path)
        listener.listen(100)
        members = {"containerId": vm_id, "ctlSerial": ctl_path, "ioSerial": "/no/where"}
        for _ in range(20):
            with pytest.raises(Refused, match="cannot connect to the I/O channel"):
                runtime.call(Command.REGISTER_VM, members)
    wait_until(lambda: daemon.descriptors() <= before, "everything is closed")


def test_a_channel_that_nobody_accepts(start_daemon, tmp_path):
    daemon = start_daemon("-ready-timeout", "0.2")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        path = str(tmp_path / "ctl")
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with daemon.client() as runtime:
            members = {"containerId": "c1", "ctlSerial": path, "ioSerial": path}
            with pytest.raises(Refused, match="nobody accepts the connection$"):
                runtime.call(Command.REGISTER_VM, members)


def test_a_vm_that_goes_without_having_read_its_stdin_ends_as_any(pair):
    daemon, vm, runtime = pair()
    _, shim, _ = one_session(daemon, runtime, vm, "c1")
    with shim:
        for _ in range(2):
            shim.stdin(bytes(3000))
            daemon.wait_until_idle()
        vm.ctl.close()  # the other channel is still there, and not writable
        assert shim.collect() == (b"", b"", 255)
        daemon.wait_until_idle()
    assert "Traceback" not in daemon.log
