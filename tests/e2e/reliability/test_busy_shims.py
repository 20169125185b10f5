"""Shims that send more than their processes take harm neither memory nor others."""

from __future__ import annotations

import json
import socket

import pytest

from ccproxy_lib.service.waiting import LEFT_BEHIND_BYTES
from ccproxy_lib.wire.frames import Command, Stream, Type, encode
from tests.e2e.harness import Client, wait_until
from tests.e2e.steps import MIB, assert_alive, one_session

SO_SNDBUFFORCE = 32  # Linux; Python has no name for it
BUFFER_BYTES = 64 * 1024
# What one read of the daemon can bring.
READ_BYTES = 64 * 1024


def hold_much(sender: socket.socket) -> None:
    """Let the kernel keep some MiB of what this end sends."""
    try:
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 * MIB)
    except PermissionError:
        pytest.skip("only root can have sockets that hold much")


def waiting_bytes(client: Client) -> int:
    (vm,) = json.loads(client.call(Command.STATUS, {}))["vms"]
    return sum(session["inputWaitingBytes"] for session in vm["sessions"])


def test_what_shims_leave_behind_is_bounded(pair):
    daemon, vm, runtime = pair("-session-buffer", str(BUFFER_BYTES))
    token, shim, stdio = one_session(daemon, runtime, vm, "c1")
    sent = bytes(range(250)) * 40_000
    with shim:
        hold_much(shim.socket)
        shim.stdin_in_frames(sent)
    with daemon.client() as operator:
        wait_until(lambda: waiting_bytes(operator) >= LEFT_BEHIND_BYTES, "much is left behind")
        for _ in range(20):
            assert_alive(vm, runtime)  # and the daemon has time for more
        assert waiting_bytes(operator) <= BUFFER_BYTES + LEFT_BEHIND_BYTES + READ_BYTES
    got = bytearray()
    while len(got) < len(sent):
        got += vm.input()[1]
    assert got == sent
    with daemon.shim(token) as again:
        vm.exit(stdio, 3)
        assert again.collect() == (b"", b"", 3)


def test_a_flood_of_stdin_that_nobody_takes_leaves_turns_to_others(pair):
    daemon, vm, runtime = pair()
    _, shim, _ = one_session(daemon, runtime, vm, "c1")
    tokens = runtime.attach("c1", 2)
    with shim, daemon.client() as before, daemon.client() as behind, daemon.client() as watcher:
        watcher.call(Command.SUBSCRIBE)
        for other in (before, behind):
            other.call(Command.STATUS, {})  # it is being served
        shim.stdin(b"")
        assert vm.input()[1] == b""
        hold_much(shim.socket)
        with daemon.stopped():
            # Whichever of them the daemon looks at first.
            before.command(Command.CONNECT_SHIM, {"token": tokens[0]})
            flood = encode(Type.STREAM, Stream.STDIN, bytes(60_000)) * 200
            shim.socket.sendall(flood + encode(Type.COMMAND, Command.DISCONNECT_SHIM))
            behind.command(Command.CONNECT_SHIM, {"token": tokens[1]})
        seen = [json.loads(watcher.frame().payload)["event"] for _ in range(3)]
    assert seen == ["shim-connected", "shim-connected", "shim-disconnected"]
