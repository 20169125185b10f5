"""A process that does not read or take part holds up no other one."""

from __future__ import annotations

import itertools
import os
import signal
import threading

import gevent
import pytest

from ccproxy_lib.front.sandbox import stdin_queue
from ccproxy_lib.wire import tty
from ccproxy_lib.wire.ctl import Code
from tests.sandbox.agent import DEADLINE_S, SLEEPER, Sandbox, container

pytestmark = pytest.mark.heavy


def test_data_for_unknown_numbers_is_ignored_with_a_line(sandbox: Sandbox) -> None:
    sandbox.run("cat")
    sandbox.io.send(99, b"?")
    assert "99" in sandbox.line()
    sandbox.io.send(2, b"stderr takes no data")
    assert " 2 " in sandbox.line()
    sandbox.io.send(1)
    assert sandbox.io.status(1) == 0
    sandbox.io.send(1, b"too late is nothing to speak of")
    sandbox.io.send(98, b"?")
    assert "98" in sandbox.line()


def send_stdin(sandbox: Sandbox, number: int, size: int) -> None:
    # Messages of exactly one piece: whatever the backlog, no header is torn.
    message = tty.encode(number, bytes(tty.MAX_STDIN_BYTES))
    for _ in range(size // len(message)):
        sandbox.io.socket.sendall(message)


def test_a_process_that_does_not_read_stops_no_one_else(shared: Sandbox) -> None:
    sleeper, cat = shared.run(*SLEEPER), shared.run("cat")
    send_stdin(shared, sleeper.stdio, stdin_queue.LIMIT_BYTES // 2)
    shared.io.send(cat.stdio, b"still here")
    shared.io.read_until(cat.stdio, b"still here")


def test_the_channel_goes_on_when_a_process_ends_that_did_not_read(shared: Sandbox) -> None:
    sleeper, cat = shared.run(*SLEEPER), shared.run("cat")
    much = 4 * stdin_queue.LIMIT_BYTES
    flood = threading.Thread(target=send_stdin, args=(shared, sleeper.stdio, much))
    flood.start()
    shared.kill(sleeper, signal.SIGKILL)
    assert shared.io.status(sleeper.stdio) == 137
    flood.join()
    shared.io.send(cat.stdio, b"still here")
    shared.io.read_until(cat.stdio, b"still here")


def test_stdin_queue_is_bounded() -> None:
    queue = stdin_queue.StdinQueue()
    queue.put(bytes(stdin_queue.LIMIT_BYTES))
    waiting = gevent.spawn(queue.put, b"one more")
    gevent.idle()
    assert not waiting.ready()
    taken = len(queue.take())
    waiting.join(DEADLINE_S)
    assert waiting.ready()
    queue.put(b"")
    while data := queue.take():
        taken += len(data)
    assert taken == stdin_queue.LIMIT_BYTES + len(b"one more")


def test_abandoned_stdin_queue_takes_all_and_keeps_nothing() -> None:
    queue = stdin_queue.StdinQueue()
    queue.put(bytes(stdin_queue.LIMIT_BYTES))
    waiting = gevent.spawn(queue.put, b"one more")
    gevent.idle()
    queue.abandon()
    waiting.join(DEADLINE_S)
    assert waiting.ready()
    assert queue.take() == b""


def test_a_process_that_closes_its_stdin_lives_on(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "exec <&-; echo closed; sleep 1000")
    shared.io.read_until(shell.stdio, b"closed")
    send_stdin(shared, shell.stdio, 4 * stdin_queue.LIMIT_BYTES)
    shared.kill(shell, signal.SIGTERM)
    assert shared.io.status(shell.stdio) == 143


def test_twenty_processes_at_once(shared: Sandbox) -> None:
    numbers = [shared.run("cat").stdio for _ in range(20)]
    rounds = 64

    def send_all() -> None:
        for _ in range(rounds):
            for number in numbers:
                shared.io.send(number, number.to_bytes(4, "big") * (tty.MAX_STDIN_BYTES // 4))
        for number in numbers:
            shared.io.send(number)

    sender = threading.Thread(target=send_all)
    sender.start()
    output = dict.fromkeys(numbers, b"")
    ends = dict.fromkeys(numbers, 0)
    while min(ends.values()) < 2:
        number, data = shared.io.read()
        if number not in ends:
            continue
        if data and not ends[number]:
            output[number] += data
        else:
            # The end of output, and behind it the status.
            assert data in (b"", b"\0")
            ends[number] += 1
    sender.join()
    for number in numbers:
        assert output[number] == number.to_bytes(4, "big") * (tty.MAX_STDIN_BYTES // 4) * rounds


def test_no_descriptor_is_left_open(sandbox: Sandbox) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir(f"/proc/{sandbox.process.pid}/fd"))

    def run_to_its_end(args: list[str], terminal: bool, stdio: int) -> None:
        order = container(f"c{stdio}", args, stdio, 0 if terminal else stdio + 1, terminal=terminal)
        if sandbox.control.ask(Code.NEW_CONTAINER, order)[0] == Code.ACK:
            sandbox.io.send(stdio)
            assert sandbox.io.status(stdio) == 0

    numbers = itertools.count(1, 2)
    run_to_its_end(["true"], False, next(numbers))
    before = descriptors()
    for program, terminal in itertools.product(("true", "cat", "no-such-program"), (False, True)):
        run_to_its_end([program], terminal, next(numbers))
    assert descriptors() == before
