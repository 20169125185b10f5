"""Real parties for end-to-end tests: the daemon, the sandbox agent, a scripted VM, clients."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from ccproxy_lib.wire import ctl, frames, tty
from ccproxy_lib.wire.ctl import Code, CtlMessage
from ccproxy_lib.wire.frames import Command, Frame, Notification, Stream, Type

TOP = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "ccproxy_lib")
# How long anything may take before a test is taken to hang; nothing waits this long.
PATIENCE_S = 30.0


def wait_until(done, what: str):
    """Poll until ``done()`` is true, and return what it returned."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (result := done()):
        assert time.monotonic() < deadline_s, f"timeout waiting until {what}"
        time.sleep(0.005)  # polling another process, which has no other way to tell us
    return result


@contextlib.contextmanager
def exclusive(directory: Path):
    """Keep other test runs away from what is in a directory of the machine's."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Program:
    """A process of ours, with its error output in a file; ``before`` is a program that runs it."""

    def __init__(self, directory: Path, name: str, *arguments: str, before=(), env=None, **options):
        self.log_path = directory / f"{name}.log"
        self._log_begin = 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*before, *PROGRAM, *arguments],
                cwd=TOP,
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **options,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What the program has said since :meth:`forget_log`, or all of it."""
        with open(self.log_path, "rb") as log:
            log.seek(self._log_begin)
            return log.read().decode("utf-8", "replace")

    def forget_log(self, begin: int | None = None) -> None:
        """Let :attr:`log` begin here, or where ``begin`` says."""
        self._log_begin = self.log_path.stat().st_size if begin is None else begin

    def wait_for_log(self, text: str, times: int = 1) -> str:
        """Wait until whole lines say it so often, and return all of those."""

        def lines() -> str:
            said = self.log
            said = said[: said.rfind("\n") + 1]
            return said if said.count(text) >= times else ""

        return wait_until(lines, f"the log says '{text}'")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE_S)

    @contextlib.contextmanager
    def stopped(self):
        """Stop the program for a while; what comes meanwhile it finds all at once."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: self._state() == "T", "the program has stopped")
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def wait_until_idle(self) -> None:
        """Wait until the program waits, and so has done, and said, all that it could."""
        wait_until(lambda: self._state() == "S", "the program has nothing to do")

    def _state(self) -> str:
        """The letter that ps shows."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def children(self) -> str:
        """The process ids of its child processes."""
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()


class Daemon(Program):
    """The real daemon on a socket of its own."""

    def __init__(self, directory: Path, *flags: str, path: str | None = None, **options):
        self.path = path or str(directory / "proxy.sock")
        where = () if "-uri" in flags else ("-socket-path", self.path)
        # A test must not change the machine that it runs on.
        ksm = () if {"-ksm", "-uri"} & set(flags) else ("-ksm", "initial")
        super().__init__(directory, "daemon", *where, *ksm, "-log", "debug", *flags, **options)
        wait_until(self._answers, "the daemon answers")
        self.wait_for_log("client gone")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(self.path)
            return True
        return False

    def client(self) -> Client:
        return Client(self.path)

    def greenlets(self) -> int:
        """How many greenlets are alive, as the daemon tells in its log when asked."""
        begin = self.log_path.stat().st_size
        self.process.send_signal(signal.SIGUSR1)

        def told() -> re.Match[bytes] | None:
            with open(self.log_path, "rb") as log:
                log.seek(begin)
                return re.search(rb"msg=greenlets count=(\d+)\n", log.read())

        return int(wait_until(told, "the daemon counts its greenlets")[1])

    def shim(self, token: str) -> Client:
        shim = self.client()
        try:
            shim.call(Command.CONNECT_SHIM, {"token": token})
        except BaseException:
            shim.close()
            raise
        return shim


class Refused(Exception):
    """The proxy's answer has the error flag; the text is its message."""


class Client:
    """A raw client of protocol 2, so that tests see every byte."""

    def __init__(self, path: str):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.parser = frames.FrameParser(16 << 20)
        self.frames: deque[Frame] = deque()
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, type: int, opcode: int, payload: bytes = b"") -> None:
        self.socket.sendall(frames.encode(type, opcode, payload))

    def command(self, command: int, members: dict | bytes | None = None) -> None:
        payload = members if isinstance(members, bytes) else json.dumps(members or {}).encode()
        self.send(Type.COMMAND, command, payload)

    def frame(self) -> Frame | None:
        """The next frame, or None at the end of the connection."""
        while not self.frames:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.frames.extend(
                frame._replace(payload=bytes(frame.payload)) for frame in self.parser.feed(data)
            )
        return self.frames.popleft()

    def answer(self) -> bytes:
        """The next frame, which must be a response; Refused if it is an error."""
        frame = self.frame()
        assert frame is not None, "the proxy hung up instead of answering"
        assert frame.type == Type.RESPONSE, frame
        if frame.error:
            raise Refused(json.loads(frame.payload)["msg"])
        return bytes(frame.payload)

    def call(self, command: int, members: dict | bytes | None = None) -> bytes:
        self.command(command, members)
        return self.answer()

    def register(self, vm, vm_id: str = "c1", streams: int = 0, **more) -> list[str]:
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        answer = self.call(Command.REGISTER_VM, members | {"numIOStreams": streams} | more)
        vm.registered()
        return json.loads(answer)["io"]["tokens"] or []

    def attach(self, vm_id: str = "c1", streams: int = 0) -> list[str]:
        members = {"containerId": vm_id, "numIOStreams": streams}
        return json.loads(self.call(Command.ATTACH_VM, members))["io"]["tokens"] or []

    def unregister(self, vm_id: str = "c1") -> None:
        self.call(Command.UNREGISTER_VM, {"containerId": vm_id})

    def hyper_command(self, name: str, data=None, *tokens: str) -> None:
        members = {"hyperName": name}
        if tokens:
            members["tokens"] = list(tokens)
        if data is not None:
            members["data"] = data
        self.command(Command.HYPER, members)

    def hyper(self, name: str, data=None, *tokens: str) -> bytes:
        self.hyper_command(name, data, *tokens)
        return self.answer()

    def stdin(self, data: bytes) -> None:
        self.send(Type.STREAM, Stream.STDIN, data)

    def stdin_in_frames(self, data: bytes, frame_bytes: int = 50_000) -> None:
        """Send ``data`` as frames of a size that is no multiple of anything."""
        for start in range(0, len(data), frame_bytes):
            self.stdin(data[start : start + frame_bytes])

    def collect(self) -> tuple[bytes, bytes, int]:
        """All of stdout, all of stderr and the exit status, which must come last."""
        out = {Stream.STDOUT: bytearray(), Stream.STDERR: bytearray()}
        while (frame := self.frame()) is not None:
            if frame.type == Type.STREAM:
                out[Stream(frame.opcode)] += frame.payload
            elif frame.type == Type.NOTIFICATION:
                assert frame.opcode == Notification.PROCESS_EXITED
                assert len(frame.payload) == 1
                return bytes(out[Stream.STDOUT]), bytes(out[Stream.STDERR]), frame.payload[0]
            else:
                assert frame.type == Type.RESPONSE
                assert not frame.error, frame
        raise AssertionError("the proxy hung up before the exit status")

    def read_stdout_bytes(self, count: int) -> bytes:
        """Read that much output."""
        got = b""
        while len(got) < count:
            frame = self.frame()
            assert frame is not None, len(got)
            got += frame.payload
        return got

    def read_stdout(self, end: bytes) -> bytes:
        """Read output until it ends with ``end``."""
        got = b""
        while not got.endswith(end):
            frame = self.frame()
            assert frame is not None, got
            if frame.type == Type.STREAM:
                got += frame.payload
        return got


def as_somebody(path: str, frame: bytes, uid: int, groups: list[int]) -> bytes:
    """Connect as another user and send a frame; return the beginning of what comes back."""
    script = (
        "import os, socket, sys\n"
        f"os.setgroups({groups}); os.setgid({uid}); os.setuid({uid})\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(bytes.fromhex(sys.argv[2])); sys.stdout.buffer.write(s.recv(100))\n"
        "except ConnectionError:\n"
        "    pass\n"
    )
    command = [sys.executable, "-c", script, path, frame.hex()]
    return subprocess.run(command, cwd=TOP, capture_output=True, check=True).stdout


def process(*args: str, **more) -> dict:
    """The process member of newcontainer and execcmd."""
    return {"args": list(args), "workdir": "/", "terminal": False} | more


def container(container_id: str, *args: str, **more) -> dict:
    """The data of a newcontainer."""
    return {"id": container_id, "rootfs": "/", "image": "", "process": process(*args, **more)}


class SandboxVm(Program):
    """The sandbox agent, as strict as real agents are."""

    def __init__(self, directory: Path, *flags: str):
        directory.mkdir(exist_ok=True)
        self.ctl_path = str(directory / "ctl.sock")
        self.io_path = str(directory / "io.sock")
        super().__init__(directory, "agent", "agent", *flags, self.ctl_path, self.io_path)
        self.wait_for_log("ready:")

    def registered(self) -> None:
        """Nothing is left to do."""


class ScriptedVm:
    """A VM that does what the test says, byte by byte."""

    def __init__(self, directory: Path, name: str = "vm"):
        self.ctl_path = str(directory / f"{name}.ctl")
        self.io_path = str(directory / f"{name}.io")
        self._listeners = [self._listen(self.ctl_path), self._listen(self.io_path)]
        self.ctl: socket.socket | None = None
        self.io: socket.socket | None = None
        self._parser = ctl.CtlParser()
        self._messages: deque[CtlMessage] = deque()
        self._input = b""

    def _listen(self, path: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(PATIENCE_S)
        return listener

    def accept(self, ready: bool = True) -> None:
        """Take the proxy's connections and say READY."""
        self.hang_up()
        self.ctl, self.io = (listener.accept()[0] for listener in self._listeners)
        for channel in (self.ctl, self.io):
            channel.settimeout(PATIENCE_S)
        if ready:
            self.send(Code.READY)

    def registered(self) -> None:
        """Answer what the proxy may have asked while our READY was late."""
        while self._messages or select.select([self.ctl], [], [], 0)[0]:
            assert self.ack().code == Code.PING

    def send(self, code: int, payload: bytes = b"") -> None:
        self.ctl.sendall(ctl.encode(code, payload))

    def command(self) -> CtlMessage:
        """The next command, which stays unanswered."""
        while not self._messages:
            data = self.ctl.recv(1 << 16)
            assert data, "the proxy closed the control channel"
            self._messages.extend(self._parser.feed(data))
        return self._messages.popleft()

    def ack(self, payload: bytes = b"") -> CtlMessage:
        """Answer the next command with success."""
        command = self.command()
        self.send(Code.ACK, payload)
        return command

    def refuse(self, text: bytes) -> CtlMessage:
        """Answer the next command with an error."""
        command = self.command()
        self.send(Code.ERROR, text)
        return command

    def output(self, seq: int, data: bytes) -> None:
        self.io.sendall(tty.encode(seq, data))

    def exit(self, seq: int, status: int) -> None:
        self.output(seq, b"")
        self.output(seq, bytes([status]))

    def input(self) -> tuple[int, bytes]:
        """The next message on the I/O channel."""
        while len(self._input) < tty.HEADER_BYTES or len(self._input) < self._input_length():
            data = self.io.recv(1 << 16)
            assert data, "the proxy closed the I/O channel"
            self._input += data
        length = self._input_length()
        message, self._input = self._input[:length], self._input[length:]
        return struct.unpack_from(">Q", message)[0], message[tty.HEADER_BYTES :]

    def _input_length(self) -> int:
        return tty.HEADER.unpack_from(self._input)[1]

    def hang_up(self) -> None:
        for channel in (self.ctl, self.io):
            if channel is not None:
                channel.close()

    def close(self) -> None:
        self.hang_up()
        for listener in self._listeners:
            listener.close()
