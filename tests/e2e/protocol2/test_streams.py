"""The numbers of streams, and what is carried under them."""

from __future__ import annotations

from ccproxy_lib.wire.frames import Notification, Stream, Type
from tests.e2e.steps import start


def test_stream_numbers_are_fresh_with_each_process(daemon, registered):
    vm, runtime = registered
    seen = [start(vm, runtime), start(vm, runtime), start(vm, runtime, terminal=True)]
    assert seen == [(1, 2), (3, 4), (5, None)]


def test_output_is_framed_by_stream_and_the_exit_status_comes_last(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        vm.output(stdio, b"out")
        assert shim.frame() == (Type.STREAM, Stream.STDOUT, b"out", False)
        vm.output(stderr, b"err")
        assert shim.frame() == (Type.STREAM, Stream.STDERR, b"err", False)
        vm.exit(stdio, 42)
        assert shim.frame() == (Type.NOTIFICATION, Notification.PROCESS_EXITED, b"\x2a", False)


def test_one_byte_on_stderr_after_stdouts_end_is_output(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        vm.output(stdio, b"")
        vm.output(stderr, b"!")
        vm.output(stdio, b"\x07")
        assert shim.collect() == (b"", b"!", 7)


def test_one_byte_on_stdout_is_output(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        vm.output(stdio, b"!")
        vm.exit(stdio, 0)
        assert shim.collect() == (b"!", b"", 0)


def test_output_for_no_process_is_dropped(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        vm.output(4711, b"stray")
        vm.exit(stdio, 3)
        assert shim.collect() == (b"", b"", 3)


def test_stdin_arrives_in_messages_that_agents_can_take(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    data = bytes(range(256)) * 100
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        shim.stdin(data)
        shim.stdin(b"")
        got = b""
        while len(got) < len(data):
            seq, piece = vm.input()
            assert seq == stdio
            assert 0 < len(piece) <= 4096 - 12
            got += piece
        assert got == data
        assert vm.input() == (stdio, b"")
