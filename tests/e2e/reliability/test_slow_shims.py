"""A shim that does not read holds up nobody else, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest

from ccproxy_lib.wire.frames import Type
from tests.e2e.harness import wait_until
from tests.e2e.steps import MIB, accept_soon, assert_alive, flood, one_session, start

pytestmark = pytest.mark.lasting


def spools(daemon) -> list[str]:
    """The spool files that the daemon has open."""
    found = []
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            target = os.readlink(f"/proc/{daemon.pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.endswith("(deleted)"):
            found.append(f"/proc/{daemon.pid}/fd/{name}")
    return found


def test_output_beyond_the_buffer_goes_to_a_file_without_a_name(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K")
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sent = flood(vm, stdio, 8 * MIB)
        assert_alive(vm, runtime)
        wait_until(lambda: spools(daemon), "output is spooled")
        (spool,) = spools(daemon)
        assert os.stat(spool).st_mode & 0o777 == 0o600
        vm.exit(stdio, 1)
        assert shim.collect() == (sent, b"", 1)
        wait_until(lambda: not spools(daemon), "the spool is closed")


def test_the_order_of_both_streams_survives_the_spool(pair):
    daemon, vm, runtime = pair("-session-buffer", "4K")
    (token,) = runtime.attach("c1", 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        pieces = [(stdio + i % 2, b"%07d" % i * 500) for i in range(600)]
        for seq, data in pieces:
            vm.output(seq, data)
        assert_alive(vm, runtime)
        vm.exit(stdio, 0)
        assert stderr == stdio + 1
        got = b""
        while (frame := shim.frame()).type == Type.STREAM:
            got += frame.payload
        assert got == b"".join(data for _, data in pieces)


def test_when_the_spool_is_full_too_the_vm_waits_and_nothing_is_lost(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K", "-session-spool", "1M")
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sent = []
        sender = threading.Thread(target=lambda: sent.append(flood(vm, stdio, 16 * MIB)))
        sender.start()
        log = daemon.wait_for_log("session is full")
        assert f"stdio={stdio}" in log
        assert_alive(vm, runtime)  # the control channel does not wait
        assert sum(os.stat(spool).st_size for spool in spools(daemon)) <= MIB
        got = b""
        while len(got) < 16 * MIB:
            got += shim.frame().payload
        sender.join()
        assert got == sent[0]
        assert "session has room again" in daemon.log


def test_without_a_spool_the_vm_waits_when_the_buffer_is_full(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K", "-session-spool", "0")
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sender = threading.Thread(target=flood, args=(vm, stdio, 4 * MIB))
        sender.start()
        daemon.wait_for_log("session is full")
        assert not spools(daemon)
        assert len(shim.read_stdout_bytes(4 * MIB)) == 4 * MIB
        sender.join()


def test_a_vm_that_goes_while_it_waits_for_a_shim_leaves_no_greenlet(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K", "-session-spool", "0")
    before = daemon.greenlets()
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sender = threading.Thread(target=flood_while_it_is_there, args=(vm, stdio))
        sender.start()
        daemon.wait_for_log("session is full")
        for channel in (vm.ctl, vm.io):  # closing would not end the sender's call
            channel.shutdown(socket.SHUT_RDWR)
        sender.join()
        # Four of the VM have gone; the shim has come, and what waits to write to it.
        wait_until(lambda: daemon.greenlets() == before - 4 + 2, "the VM's greenlets are over")
    assert "session has room again" not in daemon.log


def flood_while_it_is_there(vm, stdio):
    with contextlib.suppress(OSError):
        flood(vm, stdio, 64 * MIB)


def test_a_spool_that_cannot_be_made_makes_the_vm_wait(start_daemon, scripted):
    daemon = start_daemon("-session-buffer", "64K", env={"TMPDIR": "/no/such/place"})
    vm = scripted()
    accepting = accept_soon(vm)
    with daemon.client() as runtime:
        runtime.register(vm)
        accepting.join()
        _, shim, stdio = one_session(daemon, runtime, vm, "c1")
        with shim:
            sender = threading.Thread(target=flood, args=(vm, stdio, 4 * MIB))
            sender.start()
            daemon.wait_for_log('reason="the spool cannot grow: No such file or directory"')
            assert len(shim.read_stdout_bytes(4 * MIB)) == 4 * MIB
            sender.join()


def test_a_process_that_does_not_read_its_stdin_stalls_only_its_own_shim(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K")
    _, shim, _ = one_session(daemon, runtime, vm, "c1")
    _, other, stdio = one_session(daemon, runtime, vm, "c1")
    with shim, other:
        data = os.urandom(4 * MIB)
        sender = threading.Thread(target=shim.stdin_in_frames, args=(data,))
        sender.start()
        vm.output(stdio, b"undisturbed")
        assert other.read_stdout(b"undisturbed") == b"undisturbed"
        assert_alive(vm, runtime)
        got = b""
        while len(got) < len(data):
            got += vm.input()[1]
        sender.join()
        assert got == data
