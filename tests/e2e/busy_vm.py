"""A VM in threads that pretends to run a few programs, for load that needs many VMs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
from pathlib import Path

from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code, CtlMessage, CtlParser
from ccproxy_lib.wire.tty import TtyParser

MESSAGE_BYTES = 1024
READ_BYTES = 65536
KILLED = 128


def numbers(count: int) -> bytes:
    """What ``seq 1 COUNT`` prints."""
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


class BusyVm:
    """Takes one connection, then runs cat, sha256sum, seq, sleep, and two shell commands."""

    def __init__(self, directory: Path, name: str):
        self.ctl_path = str(directory / f"{name}.ctl")
        self.io_path = str(directory / f"{name}.io")
        self._listeners = [_listen(self.ctl_path), _listen(self.io_path)]
        self._channels: list[socket.socket] = []
        self._programs: dict[int, Program] = {}
        self._containers: dict[str, Program] = {}
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def registered(self) -> None:
        """Nothing is left to do."""

    def stop(self) -> None:
        """Die at once, whatever runs."""
        for each in (*self._listeners, *self._channels):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (*self._listeners, *self._channels):
            each.close()
        for path in (self.ctl_path, self.io_path):
            Path(path).unlink()

    def send(self, seq: int, data: bytes) -> None:
        """Send output in small messages, as agents do."""
        pieces = [data[at : at + MESSAGE_BYTES] for at in range(0, len(data), MESSAGE_BYTES)]
        with self._sending, contextlib.suppress(OSError):
            self._channels[1].sendall(b"".join(tty.encode(seq, piece) for piece in pieces))

    def exit(self, seq: int, status: int) -> None:
        """Send a process's end of file and its exit status."""
        self._programs.pop(seq, None)
        with self._sending, contextlib.suppress(OSError):
            self._channels[1].sendall(tty.encode(seq) + tty.encode(seq, bytes([status])))

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            for listener in self._listeners:
                self._channels.append(listener.accept()[0])
            reader = threading.Thread(target=self._read_input, daemon=True)
            reader.start()
            self._obey()
            for channel in self._channels:
                channel.shutdown(socket.SHUT_RDWR)
            reader.join()

    def _obey(self) -> None:
        channel = self._channels[0]
        channel.sendall(ctl.encode(Code.READY))
        parser = CtlParser()
        while data := channel.recv(READ_BYTES):
            for command in parser.feed(data):
                answer = self._answer(command)
                channel.sendall(ctl.encode(Code.NEXT, b"\0\0\0\x08") + ctl.encode(Code.ACK, answer))

    def _answer(self, command: CtlMessage) -> bytes:
        if command.code in (Code.NEW_CONTAINER, Code.EXEC_CMD):
            order = json.loads(command.payload)
            program = Program(self, order["process"])
            self._programs[program.stdio] = program
            if command.code == Code.NEW_CONTAINER:
                self._containers[order["id"]] = program
            # Its first output may well be ahead of the answer.
            threading.Thread(target=program.begin, daemon=True).start()
        elif command.code == Code.KILL_CONTAINER:
            order = json.loads(command.payload)
            self._containers[order["container"]].kill(order["signal"])
        return command.payload if command.code == Code.PING else b""

    def _read_input(self) -> None:
        parser = TtyParser()
        with contextlib.suppress(OSError):
            while data := self._channels[1].recv(READ_BYTES):
                for seq, piece, length in parser.feed(memoryview(data)):
                    program = self._programs.get(seq)
                    if program:
                        program.read(bytes(piece), not length)


class Program:
    """One pretended process."""

    def __init__(self, vm: BusyVm, process: dict):
        self._vm = vm
        self._name, *self._arguments = process["args"]
        self.stdio = process["stdio"]
        self._stderr = process.get("stderr", 0)
        self._digest = hashlib.sha256()

    def begin(self) -> None:
        """Do what needs no input."""
        if self._name == "seq":
            self._vm.send(self.stdio, numbers(int(self._arguments[-1])))
            self._vm.exit(self.stdio, 0)
        elif self._name == "sh":
            self._run_shell(self._arguments[-1])

    def _run_shell(self, command: str) -> None:
        ending = re.fullmatch(r"exit (\d+)", command)
        both = re.fullmatch(r"seq 1 (\d+) >&2; seq 1 \d+", command)
        if both:
            self._vm.send(self._stderr, numbers(int(both[1])))
            self._vm.send(self.stdio, numbers(int(both[1])))
        self._vm.exit(self.stdio, int(ending[1]) if ending else 0)

    def read(self, data: bytes, at_end: bool) -> None:
        """Take stdin."""
        if self._name == "cat":
            self._vm.send(self.stdio, data)
        elif self._name == "sha256sum":
            self._digest.update(data)
        if at_end and self._name in ("cat", "sha256sum"):
            if self._name == "sha256sum":
                self._vm.send(self.stdio, f"{self._digest.hexdigest()}  -\n".encode())
            self._vm.exit(self.stdio, 0)

    def kill(self, number: int) -> None:
        """End by a signal."""
        self._vm.exit(self.stdio, KILLED + number)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    return listener
