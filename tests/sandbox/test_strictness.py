"""What the sandbox agent powers off for, refuses or lets pass."""

from __future__ import annotations

import json

import pytest

from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code
from tests.sandbox.agent import POWERED_OFF, SLEEPER, Sandbox, Start, container

pytestmark = pytest.mark.heavy


def assert_powers_off(sandbox: Sandbox, *texts: str) -> None:
    status, stderr = sandbox.end()
    assert status == POWERED_OFF
    assert stderr.count("\n") == 1
    for text in texts:
        assert text in stderr


def test_torn_header_on_the_control_channel(sandbox: Sandbox) -> None:
    # The second message's header has 3 bytes in the first piece of 4096.
    first = ctl.encode(Code.PING, bytes(4093 - ctl.HEADER_BYTES))
    sandbox.control.socket.sendall(first + ctl.encode(Code.PING))
    assert_powers_off(sandbox, "control channel", "3 of 8 bytes")


def test_torn_header_on_the_io_channel(sandbox: Sandbox) -> None:
    sandbox.run(*SLEEPER)
    sandbox.io.socket.sendall(tty.encode(1, bytes(4085 - tty.HEADER_BYTES)) + tty.encode(1))
    assert_powers_off(sandbox, "I/O channel", "11 of 12 bytes")


def test_header_in_two_writes(sandbox: Sandbox) -> None:
    sandbox.io.socket.sendall(tty.encode(1)[:5])
    assert_powers_off(sandbox, "I/O channel", "5 of 12 bytes")


def test_small_messages_may_share_a_piece_and_payloads_may_span_pieces(shared: Sandbox) -> None:
    shared.control.socket.sendall(ctl.encode(Code.PING) * 512)
    for _ in range(512):
        assert shared.control.read() == (Code.ACK, b"")
    largest = json.dumps({"pad": ""}).encode()[:-2].ljust(ctl.MAX_COMMAND_BYTES - 10, b"x") + b'"}'
    assert shared.control.call(Code.START_POD, largest) == b""
    cat = shared.run("cat")
    shared.io.send(cat.stdio, b"y" * tty.MAX_STDIN_BYTES)
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0
    assert shared.io.output(cat.stdio) == b"y" * tty.MAX_STDIN_BYTES


def test_control_message_over_the_limit(sandbox: Sandbox) -> None:
    sandbox.control.socket.sendall(
        ctl.encode(Code.PING, bytes(ctl.MAX_COMMAND_BYTES - ctl.HEADER_BYTES + 1))
    )
    assert_powers_off(sandbox, "control channel", "10241 bytes")


def test_io_message_over_the_limit(sandbox: Sandbox) -> None:
    sandbox.io.socket.sendall(tty.encode(1, bytes(tty.MAX_STDIN_BYTES + 1)))
    assert_powers_off(sandbox, "I/O channel", "4097 bytes")


def test_message_shorter_than_its_header(sandbox: Sandbox) -> None:
    sandbox.io.socket.sendall(tty.HEADER.pack(1, tty.HEADER_BYTES - 1))
    assert_powers_off(sandbox, "I/O channel", "11 bytes")


@pytest.mark.parametrize(("stdio", "stderr"), [(1, 3), (3, 2), (3, 3)])
def test_stream_number_that_was_used_before(sandbox: Sandbox, stdio: int, stderr: int) -> None:
    sandbox.run("true")
    assert sandbox.io.status(1) == 0
    order = container("c2", ["true"], stdio, stderr)
    sandbox.control.socket.sendall(ctl.encode(Code.NEW_CONTAINER, json.dumps(order).encode()))
    reused = stdio if stdio < 3 else stderr
    assert_powers_off(sandbox, f"stream number {reused} was used before")


KNOWN = {
    **{"id": "c1", "rootfs": "r", "image": "i", "fstype": "", "initialize": True, "fsmap": []},
    **{"restartPolicy": "never", "sysctl": {}, "volumes": [], "ports": []},
}


KNOWN_OF_PROCESS = {
    **{"args": ["cat"], "stdio": 1, "stderr": 2, "terminal": False, "envs": [], "workdir": "/"},
    **{"user": "0", "group": "0", "additionalGroups": [], "id": "init"},
}


def test_strict_json_takes_known_members_only(start: Start) -> None:
    sandbox = start("--strict-json")
    order = {**KNOWN, "process": KNOWN_OF_PROCESS}
    for code, bad in [
        (Code.NEW_CONTAINER, {**order, "bundle": "/"}),
        (Code.NEW_CONTAINER, {**KNOWN, "process": {**KNOWN_OF_PROCESS, "Stdio": 1}}),
        (Code.EXEC_CMD, {"container": "c1", "process": KNOWN_OF_PROCESS, "id": "c1"}),
        (Code.EXEC_CMD, {"container": "c1", "process": {**KNOWN_OF_PROCESS, "detach": True}}),
    ]:
        assert "unknown member" in sandbox.control.refused(code, bad)
    sandbox.control.call(Code.NEW_CONTAINER, order)
    process = {**KNOWN_OF_PROCESS, "stdio": 3, "stderr": 4}
    sandbox.control.call(Code.EXEC_CMD, {"container": "c1", "process": process})


def test_unknown_members_are_ignored_unless_strict(shared: Sandbox) -> None:
    process = {**KNOWN_OF_PROCESS, "stdio": 1009, "stderr": 1010, "detach": True}
    shared.control.call(
        Code.NEW_CONTAINER, {**KNOWN, "id": "extra", "bundle": "/", "process": process}
    )


def test_next_comes_before_the_answer_for_each_read(start: Start) -> None:
    sandbox = start("--next")
    assert sandbox.control.ask(Code.PING) == (Code.NEXT, (8).to_bytes(4, "big"))
    assert sandbox.control.read() == (Code.ACK, b"")
    sandbox.control.socket.sendall(ctl.encode(Code.PING, bytes(5000)))
    answers = [sandbox.control.read() for _ in range(4)]
    assert [code for code, _ in answers] == [Code.NEXT] * 3 + [Code.ACK]
    sizes = [int.from_bytes(payload, "big") for _, payload in answers[:3]]
    assert sizes == [8, 4096 - 8, 5008 - 4096]


def test_size_of_output_messages(shared: Sandbox, start: Start) -> None:
    for sandbox, most in ((shared, 1024), (start("--output-bytes", "100"), 100)):
        head = sandbox.run("head", "-c", "10000", "/dev/zero")
        assert sandbox.io.status(head.stdio) == 0
        output = [data for number, data in sandbox.io.messages if number == head.stdio]
        assert max(map(len, output)) == most
        assert b"".join(output) == bytes(10000)
