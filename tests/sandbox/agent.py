"""A sandbox agent in a process of its own, and the host's side of its channels."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ccproxy_lib
from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code

ROOT = Path(ccproxy_lib.__file__).parents[1]
DEADLINE_S = 30
POWERED_OFF = 70
SLEEPER = ["sleep", "1000"]


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

    def __init__(self, directory: Path, *options: str, starter: Sequence[str] = ()) -> None:
        self._numbers = itertools.count(1)
        self.ctl_path = directory / "ctl"
        self.io_path = directory / "io"
        self.process = subprocess.Popen(
            [
                *[*starter, sys.executable, "-m", "ccproxy_lib.front.sandbox", *options],
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
