"""The sandbox agent's channels have one host at a time, and may have another later."""

from __future__ import annotations

import select

import pytest

from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code
from tests.sandbox.agent import Control, Io, Sandbox, Start, read_exactly

pytestmark = pytest.mark.heavy


def test_ready_is_not_said_again(sandbox: Sandbox) -> None:
    sandbox.control.socket.close()
    sandbox.control = Control(sandbox.ctl_path)
    assert sandbox.control.ask(Code.PING) == (Code.ACK, b"")


def test_one_connection_at_a_time(sandbox: Sandbox) -> None:
    first, second = sandbox.control, Control(sandbox.ctl_path)
    second.socket.sendall(ctl.encode(Code.PING))
    for _ in range(10):
        first.call(Code.PING)
    assert not select.select([second.socket], [], [], 0)[0]
    first.socket.close()
    sandbox.control = second
    assert second.read() == (Code.ACK, b"")


def test_half_a_message_is_dropped_with_its_connection(sandbox: Sandbox) -> None:
    sandbox.run("cat")
    sandbox.io.socket.sendall(tty.encode(1, b"never whole")[:-1])
    sandbox.io.socket.close()
    sandbox.io = Io(sandbox.io_path)
    sandbox.io.send(1, b"whole")
    sandbox.io.send(1)
    assert sandbox.io.status(1) == 0
    assert sandbox.io.output(1) == b"whole"
    assert "within" in sandbox.line()


def test_output_starts_again_on_a_message_boundary(start: Start) -> None:
    # With so small messages a batch of them is far more than the kernel takes at once.
    sandbox = start("--output-bytes", "1")
    sandbox.run("head", "-c", "400000", "/dev/zero")
    for _ in range(2):
        read_exactly(sandbox.io.socket, 50_001)
        sandbox.io.socket.close()
        sandbox.io = Io(sandbox.io_path)
    parser = tty.TtyParser(max_message_bytes=tty.HEADER_BYTES + 1)
    messages: list[tuple[int, bytes]] = []
    while messages[-2:] != [(1, b""), (1, b"\0")]:
        chunk = memoryview(sandbox.io.socket.recv(1 << 20))
        messages += [(number, bytes(data)) for number, data, _ in parser.feed(chunk)]
    *output, _, _ = messages
    assert set(output) == {(1, b"\0")}
    # What was under way is lost, what came later is not.
    assert 100_000 < len(output) < 400_000


def test_processes_wait_for_a_host(sandbox: Sandbox) -> None:
    sandbox.io.socket.close()
    sandbox.run("echo", "hello")
    sandbox.io = Io(sandbox.io_path)
    assert sandbox.io.status(1) == 0
    assert sandbox.io.output(1) == b"hello\n"
