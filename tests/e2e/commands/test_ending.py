"""Signals to shim, exec and hyper while the proxy hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from ccproxy_lib.wire.frames import Command
from tests.client.scripted import Peer
from tests.e2e.commands.tools import pipes
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, wait_until
from tests.e2e.terminal import on_terminal

TOKENS = [json.dumps({"io": {"tokens": tokens}}).encode() for tokens in ([], ["a-token"])]
# What exec asks for, and the answers.
EXEC = (
    (Command.ATTACH_VM, TOKENS[0]),
    (Command.ATTACH_VM, TOKENS[1]),
    (Command.CONNECT_SHIM, b""),
    (Command.HYPER, b""),
)
SHIM = ("shim", "-c", "c", "-t", "a-token", "--socket-path")
AWAY = b"cc-proxy: shim: %s while the proxy was away\n"


class Hanging:
    """A proxy that accepts, and answers when the test says so."""

    def __init__(self, path: str, backlog: int = 5):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(backlog)
        self.listener.settimeout(PATIENCE_S)
        self.peers: list[Peer] = []

    def accept(self) -> Peer:
        self.peers.append(Peer(self.listener.accept()[0]))
        return self.peers[-1]

    def close(self) -> None:
        for peer in self.peers:
            peer.socket.close()
        self.listener.close()


@pytest.fixture
def hanging(tmp_path) -> Iterator[Callable[..., Hanging]]:
    made = []

    def make(**options) -> Hanging:
        made.append(Hanging(str(tmp_path / "hanging"), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*PROGRAM, *arguments], cwd=TOP, **pipes()) as running:
        try:
            yield running
        finally:
            running.kill()


def said_at_its_end(running: subprocess.Popen[bytes]) -> bytes:
    out, err = running.communicate(timeout=PATIENCE_S)
    assert out == b""
    return err


def stop(running: subprocess.Popen[bytes]) -> None:
    """Stop the program, so that whatever comes next finds it there at once."""
    running.send_signal(signal.SIGSTOP)
    wait_until(
        lambda: os.waitpid(running.pid, os.WNOHANG | os.WUNTRACED)[0], "the program has stopped"
    )


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.heavy),
        pytest.param(signal.SIGHUP, marks=pytest.mark.heavy),
        pytest.param(signal.SIGQUIT, marks=pytest.mark.heavy),
    ],
)
def test_a_signal_ends_a_shim_that_is_not_answered(hanging, number):
    proxy = hanging()
    with started(*SHIM, proxy.path) as running:
        peer = proxy.accept()
        peer.command(Command.CONNECT_SHIM)
        running.send_signal(number)
        assert said_at_its_end(running) == AWAY % number.name.encode()
        assert running.returncode == 128 + number
        assert peer.frame() is None


def test_a_signal_that_comes_with_the_answer_is_forwarded(hanging):
    proxy = hanging()
    with started(*SHIM, proxy.path) as running:
        peer = proxy.accept()
        peer.command(Command.CONNECT_SHIM)
        stop(running)
        running.send_signal(signal.SIGTERM)
        peer.answer(Command.CONNECT_SHIM)
        running.send_signal(signal.SIGCONT)
        forwarded = set()
        for _ in range(2):  # the kernel says which is first
            forwarded.add(peer.command(Command.SIGNAL)["signalNumber"])
            peer.answer(Command.SIGNAL)
        assert forwarded == {signal.SIGTERM, signal.SIGCONT}
        peer.exited(7)
        assert said_at_its_end(running) == b""
        assert running.returncode == 7


def test_signals_that_end_nothing_wait_for_the_answer(hanging):
    proxy = hanging()
    with started(*SHIM, proxy.path) as running:
        peer = proxy.accept()
        peer.command(Command.CONNECT_SHIM)
        for number in (signal.SIGUSR1, signal.SIGCHLD):
            running.send_signal(number)
        peer.answer(Command.CONNECT_SHIM)
        numbers = {peer.command(Command.SIGNAL)["signalNumber"] for _ in range(2)}
        assert numbers == {signal.SIGUSR1, signal.SIGCHLD}
        peer.exited(0)
        assert said_at_its_end(running) == b""


@pytest.mark.heavy
def test_a_shim_in_front_of_a_full_queue_ends(hanging):
    proxy = hanging(backlog=0)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(proxy.path)
        with started(*SHIM, proxy.path) as running:
            # It catches signals, and has started who looks after its end.
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            wait_until(children.read_text, "it is about to connect")
            running.terminate()
            assert said_at_its_end(running) == AWAY % b"SIGTERM"
            assert running.returncode == 128 + signal.SIGTERM


@pytest.mark.heavy
def test_a_shim_that_is_not_answered_again_ends(hanging):
    proxy = hanging()
    with started(*SHIM, proxy.path, "-r", "1000") as running:
        peer = proxy.accept()
        peer.accept_shim()
        peer.socket.close()
        proxy.accept().command(Command.CONNECT_SHIM)
        running.terminate()
        assert said_at_its_end(running) == AWAY % b"SIGTERM"


@pytest.mark.heavy
def test_ctrl_c_ends_a_shim_and_leaves_the_terminal_as_it_was(hanging):
    proxy = hanging()
    with on_terminal(*SHIM, proxy.path) as terminal:
        proxy.accept().command(Command.CONNECT_SHIM)
        terminal.send("\x03")
        status, shown = terminal.end()
    assert status == 128 + signal.SIGINT
    assert shown.removeprefix("^C").strip() == (AWAY % b"SIGINT").decode().strip()


@pytest.mark.parametrize(
    "answered", [0, *(pytest.param(count, marks=pytest.mark.heavy) for count in (1, 2, 3))]
)
def test_a_signal_ends_exec_whatever_is_not_answered(hanging, answered):
    proxy = hanging()
    arguments = ("exec", "--socket-path", proxy.path, "--container", "c", "vm", "ls")
    with started(*arguments) as running:
        runtime = proxy.accept()
        for index, (command, answer) in enumerate(EXEC[: answered + 1]):
            peer = proxy.accept() if command == Command.CONNECT_SHIM else runtime
            peer.command(command)
            if index < answered:
                peer.answer(command, answer)
        running.send_signal(signal.SIGINT)
        assert said_at_its_end(running) == b"cc-proxy: exec: interrupted; the command may go on\n"
        assert running.returncode == 128 + signal.SIGINT


@pytest.mark.heavy
def test_a_signal_ends_exec_when_the_proxy_takes_no_stdin(hanging):
    proxy = hanging()
    arguments = ("exec", "--socket-path", proxy.path, "--container", "c", "vm", "cat")
    with started(*arguments) as running:
        runtime = proxy.accept()
        for command, answer in EXEC:
            peer = proxy.accept() if command == Command.CONNECT_SHIM else runtime
            peer.command(command)
            peer.answer(command, answer)
        os.set_blocking(running.stdin.fileno(), False)
        stuck = deque([False], maxlen=10)
        wait_until(lambda: stuck.append(fill(running.stdin)) or all(stuck), "nothing goes on")
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 128 + signal.SIGINT


def fill(pipe: IO[bytes]) -> bool:
    """Write what goes; whether that was nothing."""
    try:
        return not os.write(pipe.fileno(), bytes(1 << 16))
    except BlockingIOError:
        return True


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "command", "status"),
    [
        (("hyper", "vm", "ping"), Command.ATTACH_VM, -signal.SIGINT),
        (("status",), Command.STATUS, -signal.SIGINT),
        (("log-level", "info"), Command.LOG_CONTROL, -signal.SIGINT),
        (("events",), Command.SUBSCRIBE, 0),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_a_signal_ends_those_who_ask(hanging, arguments, command, status):
    proxy = hanging()
    with started(*arguments, "--socket-path", proxy.path) as running:
        proxy.accept().command(command)
        running.send_signal(signal.SIGINT)
        assert said_at_its_end(running) == b""
        assert running.returncode == status
