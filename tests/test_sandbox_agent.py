"""The sandbox agent over real sockets, with real processes."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import pytest

import ccproxy_lib
from ccproxy_lib.front.sandbox import stdin_queue
from ccproxy_lib.front.sandbox.main import main
from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code

pytestmark = pytest.mark.heavy

ROOT = Path(ccproxy_lib.__file__).parents[1]
DEADLINE_S = 20
POWERED_OFF = 70
SLEEPER = ["sleep", "1000"]
# Says what its terminal's size is, once at first and then on each change.
SIZE_TELLER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
open("/dev/tty").close()
while True:
    print("size", *os.get_terminal_size(0), flush=True)
    signal.sigwait([signal.SIGWINCH])
"""


def connect(path: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(DEADLINE_S)
    channel.connect(str(path))
    return channel


def read_exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = channel.recv(size - len(data))
        if not chunk:
            raise EOFError(f"the agent hung up after {len(data)} of {size} bytes")
        data += chunk
    return data


class Control:
    """The host's side of the control channel."""

    def __init__(self, path: Path) -> None:
        self.socket = connect(path)

    def read(self) -> tuple[int, bytes]:
        header = read_exactly(self.socket, ctl.HEADER_BYTES)
        code, length = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")
        return code, read_exactly(self.socket, length - ctl.HEADER_BYTES)

    def ask(self, code: int, order: object = b"") -> tuple[int, bytes]:
        payload = order if isinstance(order, bytes) else json.dumps(order).encode()
        self.socket.sendall(ctl.encode(code, payload))
        return self.read()

    def call(self, code: int, order: object = b"") -> bytes:
        answer, payload = self.ask(code, order)
        assert answer == Code.ACK, payload
        return payload

    def refused(self, code: int, order: object = b"") -> str:
        answer, payload = self.ask(code, order)
        assert answer == Code.ERROR
        return payload.decode()


class Io:
    """The host's side of the I/O channel; keeps what comes for each number."""

    def __init__(self, path: Path) -> None:
        self.socket = connect(path)
        self.messages: list[tuple[int, bytes]] = []

    def send(self, number: int, data: bytes = b"") -> None:
        self.socket.sendall(tty.encode(number, data))

    def read(self) -> tuple[int, bytes]:
        number, length = tty.HEADER.unpack(read_exactly(self.socket, tty.HEADER_BYTES))
        message = number, read_exactly(self.socket, length - tty.HEADER_BYTES)
        self.messages.append(message)
        return message

    def output(self, number: int) -> bytes:
        return b"".join(data for owner, data in self.messages if owner == number)

    def read_until(self, number: int, expected: bytes) -> None:
        while expected not in self.output(number):
            self.read()

    def status(self, stdio: int) -> int:
        """Read on to the exit of a process; what was its output stays in ``messages``."""
        while (stdio, b"") not in self.messages:
            self.read()
        end = self.messages.index((stdio, b""))
        while not (after := [data for number, data in self.messages[end + 1 :] if number == stdio]):
            self.read()
        assert len(after) == 1 and len(after[0]) == 1
        behind = [message for message in self.messages[end + 1 :] if message[0] != stdio]
        self.messages[end:] = behind
        return after[0][0]


class Running(NamedTuple):
    """A process and its numbers; ``stderr`` is 0 with a terminal."""

    container: str
    stdio: int
    stderr: int


class Sandbox:
    """An agent that runs in a process of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._numbers = itertools.count(1)
        self.ctl_path = directory / "ctl"
        self.io_path = directory / "io"
        self.process = subprocess.Popen(
            [
                *[sys.executable, "-m", "ccproxy_lib.front.sandbox", *options],
                *[str(self.ctl_path), str(self.io_path)],
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "isolates nothing" in self.line()
        assert self.line() == f"ready: {self.ctl_path} {self.io_path}\n"
        self.control = Control(self.ctl_path)
        self.io = Io(self.io_path)
        assert self.control.read() == (Code.READY, b"")

    def line(self) -> str:
        assert self.process.stderr
        return self.process.stderr.readline()

    def run(self, *args: str, **process: object) -> Running:
        """Run a container under numbers of its own."""
        stdio = next(self._numbers)
        stderr = 0 if process.get("terminal") else next(self._numbers)
        running = Running(f"c{stdio}", stdio, stderr)
        order = container(running.container, [*args], stdio, stderr, **process)
        self.control.call(Code.NEW_CONTAINER, order)
        return running

    def exec(self, beside: Running, *args: str) -> Running:
        """Run one more process in a container."""
        running = Running(beside.container, next(self._numbers), next(self._numbers))
        order = container(*running[:1], [*args], *running[1:])
        self.control.call(
            Code.EXEC_CMD, {"container": beside.container, "process": order["process"]}
        )
        return running

    def kill(self, running: Running, number: int, all: bool = False) -> None:
        order = {"container": running.container, "signal": number, "allProcesses": all}
        self.control.call(Code.KILL_CONTAINER, order)

    def processes(self, running: Running) -> list[dict[str, Any]]:
        order = {"container": running.container, "format": "json"}
        entries: list[dict[str, Any]] = json.loads(self.control.call(Code.PS_CONTAINER, order))
        return entries

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and what is left of stderr."""
        _, stderr = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, stderr

    def close(self) -> None:
        self.control.socket.close()
        self.io.socket.close()
        self.process.terminate()
        self.end()


def container(
    id: str, args: list[str], stdio: int, stderr: int = 0, **process: object
) -> dict[str, Any]:
    return {
        "id": id,
        "rootfs": "rootfs",
        "process": {"args": args, "stdio": stdio, "stderr": stderr, **process},
    }


Start = Callable[..., Sandbox]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Sandbox] = []

    def start_sandbox(*options: str) -> Sandbox:
        started.append(Sandbox(tmp_path, *options))
        return started[-1]

    yield start_sandbox
    for sandbox in started:
        sandbox.close()


@pytest.fixture
def sandbox(start: Start) -> Sandbox:
    return start()


@pytest.fixture(scope="module")
def shared_by_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("shared"))
    yield sandbox
    sandbox.close()


@pytest.fixture
def shared(shared_by_all: Sandbox) -> Sandbox:
    """For tests that leave the agent and the connections as they are."""
    shared_by_all.io.messages.clear()
    return shared_by_all


# --- commands ---------------------------------------------------------------


def test_ready_comes_first_then_commands_are_answered(sandbox: Sandbox) -> None:
    # That READY came first is what each Sandbox starts with.
    assert sandbox.control.call(Code.PING) == b""
    assert sandbox.control.call(Code.VERSION) == (4242).to_bytes(4, "big")
    assert sandbox.control.call(Code.START_POD, {"hostname": "pod"}) == b""


@pytest.mark.parametrize("code", [2, 3, 5, 7, 13, 24, 99])
def test_unknown_and_deprecated_codes_are_refused(shared: Sandbox, code: int) -> None:
    assert str(code) in shared.control.refused(code)


def test_what_a_sandbox_cannot_do_is_acknowledged_or_refused(shared: Sandbox) -> None:
    for code in (Code.ONLINE_CPU_MEM, Code.SETUP_INTERFACE, Code.SETUP_ROUTE):
        assert shared.control.call(code, {}) == b""
    for code in (Code.WRITE_FILE, Code.READ_FILE):
        assert "files" in shared.control.refused(code, b"anything")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_status(shared: Sandbox, code: int) -> None:
    shell = shared.run("sh", "-c", f"exit {code}")
    assert shared.io.status(shell.stdio) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exit_status_of_a_signal(shared: Sandbox, number: int) -> None:
    sleeper = shared.run(*SLEEPER)
    shared.kill(sleeper, number)
    assert shared.io.status(sleeper.stdio) == 128 + number


def test_exit_status_follows_all_output_of_both_streams(shared: Sandbox) -> None:
    script = "head -c 400000 /dev/zero; head -c 300000 /dev/zero >&2; exit 1"
    shell = shared.run("sh", "-c", script)
    assert shared.io.status(shell.stdio) == 1
    assert len(shared.io.output(shell.stdio)) == 400_000
    assert len(shared.io.output(shell.stderr)) == 300_000


def test_stderr_is_apart(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "echo out; echo err >&2")
    assert shared.io.status(shell.stdio) == 0
    assert shared.io.output(shell.stdio) == b"out\n"
    assert shared.io.output(shell.stderr) == b"err\n"


def test_stderr_without_a_number_goes_where_stdout_goes(shared: Sandbox) -> None:
    order = container("merged", ["sh", "-c", "echo out; echo err >&2"], 1001)
    shared.control.call(Code.NEW_CONTAINER, order)
    assert shared.io.status(1001) == 0
    assert shared.io.output(1001) == b"out\nerr\n"


def test_stdin_and_its_end(shared: Sandbox) -> None:
    cat = shared.run("cat")
    shared.io.send(cat.stdio, b"hello ")
    shared.io.read_until(cat.stdio, b"hello ")
    shared.io.send(cat.stdio, b"world")
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0
    assert shared.io.output(cat.stdio) == b"hello world"


def test_end_of_stdin_alone(shared: Sandbox) -> None:
    cat = shared.run("cat")
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0


def test_environment_and_workdir(shared: Sandbox, tmp_path: Path) -> None:
    envs = [{"env": "GREETING", "value": "a=b"}, {"env": "EMPTY", "value": ""}]
    script = 'echo "$GREETING,${EMPTY-unset},${HOME-unset}"; pwd'
    shell = shared.run("sh", "-c", script, envs=envs, workdir=str(tmp_path))
    assert shared.io.status(shell.stdio) == 0
    assert shared.io.output(shell.stdio).decode() == f"a=b,,unset\n{tmp_path}\n"


def test_exec_runs_beside_the_first_process(shared: Sandbox) -> None:
    cat = shared.run("cat")
    shell = shared.exec(cat, "sh", "-c", "echo exec; exit 3")
    assert shared.io.status(shell.stdio) == 3
    assert shared.io.output(shell.stdio) == b"exec\n"
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0


PROCESS = {"args": ["true"], "stdio": 7, "stderr": 8}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Runs container ``c1`` with stdio 1; numbers from 7 on are free."""
    sandbox = Sandbox(tmp_path_factory.mktemp("victim"))
    sandbox.run(*SLEEPER)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("code", "order", "text"),
    [
        (Code.NEW_CONTAINER, b"{", "bad JSON"),
        (Code.NEW_CONTAINER, b"[]", "bad JSON"),
        (Code.NEW_CONTAINER, b"", "bad JSON"),
        (Code.NEW_CONTAINER, b'{"id": NaN}', "bad JSON"),
        (Code.NEW_CONTAINER, b"\xff", "bad JSON"),
        (Code.NEW_CONTAINER, {"process": PROCESS}, "'id'"),
        (Code.NEW_CONTAINER, {"id": "new"}, "'process'"),
        (Code.NEW_CONTAINER, container("c1", ["true"], 9), "exists"),
        (Code.NEW_CONTAINER, container("new", ["true"], 0), "'stdio'"),
        (Code.NEW_CONTAINER, container("new", ["true"], 2**64), "'stdio'"),
        (Code.NEW_CONTAINER, {"id": "new", "process": {"args": ["true"]}}, "'stdio'"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, -1), "'stderr'"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, 8, terminal=True), "terminal"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, terminal=1), "'terminal'"),
        (Code.NEW_CONTAINER, container("new", [], 7), "'args'"),
        (Code.NEW_CONTAINER, container("new", ["no-such-program"], 10), "No such file"),
        (Code.NEW_CONTAINER, container("new", ["a\0b"], 11), "null"),
        (Code.NEW_CONTAINER, container("new", ["true"], 12, workdir="/no/dir"), "No such file"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, envs=[{"env": "A"}]), "'envs'"),
        (Code.EXEC_CMD, {"container": "none", "process": PROCESS}, "unknown container: none"),
        (Code.EXEC_CMD, {"container": "c1"}, "'process'"),
        (Code.KILL_CONTAINER, {"container": "none", "signal": 9}, "unknown container: none"),
        (Code.KILL_CONTAINER, {"container": "c1", "signal": 0}, "'signal'"),
        (Code.KILL_CONTAINER, {"container": "c1"}, "'signal'"),
        (Code.REMOVE_CONTAINER, {"container": "none"}, "unknown container: none"),
        (Code.REMOVE_CONTAINER, {"container": "c1"}, "running"),
        (Code.PS_CONTAINER, {"container": "none"}, "unknown container: none"),
        (Code.WIN_SIZE, {"seq": 99, "row": 1, "column": 1}, "99"),
        (Code.WIN_SIZE, {"seq": 1, "row": 1, "column": 1}, "no terminal"),
        (Code.WIN_SIZE, {"seq": 1, "row": 70000, "column": 1}, "'row'"),
        (Code.WIN_SIZE, {"container": "c1", "process": "x", "row": 1, "column": 1}, "process: x"),
        (Code.START_POD, b"not JSON", "bad JSON"),
    ],
)
def test_refused_with_a_reason(victim: Sandbox, code: int, order: object, text: str) -> None:
    assert text in victim.control.refused(code, order)


def test_nothing_is_executed_in_a_container_that_has_ended(shared: Sandbox) -> None:
    ended = shared.run("true")
    assert shared.io.status(ended.stdio) == 0
    process = {**PROCESS, "stdio": 1003, "stderr": 1004}
    order = {"container": ended.container, "process": process}
    assert "not running" in shared.control.refused(Code.EXEC_CMD, order)
    kill = {"container": ended.container, "signal": 9}
    assert "not running" in shared.control.refused(Code.KILL_CONTAINER, kill)


def test_a_removed_container_can_be_made_again(shared: Sandbox) -> None:
    for stdio in (1005, 1007):
        order = container("again", ["true"], stdio, stdio + 1)
        shared.control.call(Code.NEW_CONTAINER, order)
        assert shared.io.status(stdio) == 0
        shared.control.call(Code.REMOVE_CONTAINER, {"container": "again"})


def test_kill_reaches_the_first_process_alone(shared: Sandbox) -> None:
    script = "trap 'echo got it' USR1; echo up; while :; do read x; done"
    shell = shared.run("sh", "-c", script)
    shared.exec(shell, *SLEEPER)
    shared.io.read_until(shell.stdio, b"up")
    shared.kill(shell, signal.SIGUSR1)
    shared.io.send(shell.stdio, b"\n")
    shared.io.read_until(shell.stdio, b"got it")
    assert "sleep" in [entry["name"] for entry in shared.processes(shell)]


def test_kill_reaches_all_processes(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "trap '' USR1; echo up; read x")
    shared.io.read_until(shell.stdio, b"up")
    sleeper = shared.exec(shell, *SLEEPER)
    parent = shared.exec(shell, "sh", "-c", "sleep 1000 & echo forked; wait; exit 5")
    shared.io.read_until(parent.stdio, b"forked")
    shared.kill(shell, signal.SIGUSR1, all=True)
    assert shared.io.status(sleeper.stdio) == 128 + signal.SIGUSR1
    assert shared.io.status(parent.stdio) == 128 + signal.SIGUSR1
    shared.io.send(shell.stdio)
    assert shared.io.status(shell.stdio) == 1


def test_ps_lists_what_runs_in_the_container_only(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "sleep 1000 & echo $$ $!; wait")
    shared.run("cat")
    shared.io.read_until(shell.stdio, b"\n")
    first, forked = map(int, shared.io.output(shell.stdio).split())
    entries = {entry["pid"]: entry for entry in shared.processes(shell)}
    assert entries.keys() == {first, forked}
    assert entries[forked]["parent"] == first


def test_a_container_ends_with_its_first_process(shared: Sandbox) -> None:
    cat = shared.run("cat")
    sleeper = shared.exec(cat, *SLEEPER)
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0
    assert shared.io.status(sleeper.stdio) == 137


# --- terminals --------------------------------------------------------------


def test_terminal_and_its_size(shared: Sandbox) -> None:
    teller = shared.run(sys.executable, "-c", SIZE_TELLER, terminal=True)
    shared.io.read_until(teller.stdio, b"size 0 0\r\n")
    shared.control.call(Code.WIN_SIZE, {"seq": teller.stdio, "row": 24, "column": 80})
    shared.io.read_until(teller.stdio, b"size 80 24\r\n")
    newer_form = {"container": teller.container, "process": "init", "row": 50, "column": 132}
    shared.control.call(Code.WIN_SIZE, newer_form)
    shared.io.read_until(teller.stdio, b"size 132 50\r\n")


def test_end_of_stdin_on_a_terminal_is_its_eof_character(shared: Sandbox) -> None:
    cat = shared.run("cat", terminal=True)
    shared.io.send(cat.stdio, b"hello\n")
    shared.io.read_until(cat.stdio, b"hello\r\nhello\r\n")
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0


def test_interrupt_character_reaches_the_foreground(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "echo up; exec sleep 1000", terminal=True)
    shared.io.read_until(shell.stdio, b"up")
    shared.io.send(shell.stdio, b"\x03")
    assert shared.io.status(shell.stdio) == 128 + signal.SIGINT


# --- strictness -------------------------------------------------------------


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


# --- flow -------------------------------------------------------------------


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


# --- connections ------------------------------------------------------------


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


# --- the end ----------------------------------------------------------------


def destroy(sandbox: Sandbox) -> None:
    sandbox.control.call(Code.DESTROY_POD)


def tear(sandbox: Sandbox) -> None:
    sandbox.io.socket.sendall(b"?")


def terminate(sandbox: Sandbox) -> None:
    sandbox.process.send_signal(signal.SIGTERM)


def interrupt(sandbox: Sandbox) -> None:
    sandbox.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "status"),
    [(destroy, 0), (tear, POWERED_OFF), (terminate, 143), (interrupt, 130)],
)
def test_nothing_is_left_behind(
    sandbox: Sandbox, end: Callable[[Sandbox], None], status: int
) -> None:
    # A child, one that ignores signals, and one that left its session and its parent.
    script = """
        trap '' TERM INT HUP
        sleep 1000 & echo $!
        (setsid sh -c 'echo $$; exec sleep 1000' &)
        echo $$; wait"""
    sandbox.run("sh", "-c", script)
    sandbox.run("sh", "-c", "echo $$; exec sleep 1000", terminal=True)
    while len((sandbox.io.output(1) + sandbox.io.output(3)).split()) < 4:
        sandbox.io.read()
    pids = [int(pid) for pid in (sandbox.io.output(1) + sandbox.io.output(3)).split()]
    assert all(is_running(pid) for pid in pids)
    end(sandbox)
    assert sandbox.end()[0] == status
    assert not any(is_running(pid) for pid in pids)
    assert not sandbox.ctl_path.exists()
    assert not sandbox.io_path.exists()


def test_processes_die_with_an_agent_that_has_no_chance(sandbox: Sandbox) -> None:
    sandbox.run("sh", "-c", "echo $$; exec sleep 1000")
    sandbox.io.read_until(1, b"\n")
    handle = os.pidfd_open(int(sandbox.io.output(1)))
    try:
        sandbox.process.kill()
        assert select.select([handle], [], [], DEADLINE_S)[0]
    finally:
        os.close(handle)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


# --- the start --------------------------------------------------------------


def run_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccproxy_lib.front.sandbox", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_help_says_that_it_isolates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["agent", "--help"])
    assert not end.value.code
    assert "isolates nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["one"], ["--what", "ctl", "io"], *[["--output-bytes", n, "c", "i"] for n in ("0", "x")]],
)
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", *arguments]) == 2
    assert capsys.readouterr().err


def test_a_live_socket_is_left_alone_and_quiet_prints_errors_only(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    result = run_agent("--quiet", str(tmp_path / "other"), str(sandbox.io_path))
    assert result.returncode == 1
    assert result.stderr == f"{sandbox.io_path} is in use\n"
    sandbox.control.call(Code.PING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ctl", "io"]


def test_a_plain_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ctl").write_text("precious")
    result = run_agent(str(tmp_path / "ctl"), str(tmp_path / "io"))
    assert result.returncode == 1
    assert "not a socket" in result.stderr
    assert (tmp_path / "ctl").read_text() == "precious"


def test_dead_sockets_are_replaced(start: Start) -> None:
    first = start()
    first.process.kill()
    first.end()
    assert first.ctl_path.exists()
    start().control.call(Code.PING)
