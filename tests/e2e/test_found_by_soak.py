"""What fuzzing and the soak have found, each as small as it gets."""

from __future__ import annotations

import socket

from tests.e2e.client1 import Client1
from tests.e2e.harness import wait_until
from tests.e2e.steps import assert_alive, one_session, start


def read_input(vm, count: int) -> bytes:
    got = b""
    while len(got) < count:
        got += vm.input()[1]
    return got


def test_a_shim_that_half_closes_and_then_goes_can_come_back(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    shim.socket.shutdown(socket.SHUT_WR)
    assert_alive(vm, runtime)  # the daemon has seen it
    shim.close()
    with daemon.shim(token) as again:
        vm.exit(stdio, 3)
        assert again.collect() == (b"", b"", 3)


def test_a_descriptor_that_is_half_closed_and_then_closed_leaves_nothing(daemon, registered, vm_id):
    before = daemon.descriptors()
    with Client1(daemon.path) as client:
        client.call("attach", {"containerId": vm_id})
        with client.allocate() as descriptor:
            descriptor.socket.shutdown(socket.SHUT_WR)
            assert_alive(*registered)  # the daemon has seen it
    wait_until(lambda: daemon.descriptors() == before, "the daemon has closed its end")
    assert_alive(*registered)


def test_a_shim_that_goes_while_its_process_reads_no_stdin_can_come_back(pair):  # noqa: F811
    daemon, vm, runtime = pair("-session-buffer", "64K")
    token, shim, stdio = one_session(daemon, runtime, vm, "c1")
    sent = bytes(range(250)) * 600
    with shim:
        shim.stdin_in_frames(sent)
    with daemon.shim(token) as again:
        again.stdin(b"more")
        assert read_input(vm, len(sent) + 4) == sent + b"more"
        vm.exit(stdio, 3)
        assert again.collect() == (b"", b"", 3)


def test_a_shim_that_goes_with_much_stdin_before_its_process_runs_can_come_back(pair):  # noqa: F811
    daemon, vm, runtime = pair("-session-buffer", "64K")
    (token,) = runtime.attach("c1", 1)
    sent = bytes(range(250)) * 600
    with daemon.shim(token) as shim:
        shim.stdin_in_frames(sent)
    with daemon.shim(token) as again:
        start(vm, runtime, "c", token)
        again.stdin(b"more")
        assert read_input(vm, len(sent) + 4) == sent + b"more"
