"""A proxy that does what the test says, byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Frame, FrameParser, Notification, Stream, Type

PATIENCE_S = 30.0
MIB = 1 << 20
# More than all buffers of a socket take.
OUTPUT = bytes(range(256)) * (4 * MIB // 256)
TOKEN = "A" * 43 + "="


class Peer:
    """The proxy's end of one connection."""

    def __init__(self, accepted: socket.socket):
        accepted.settimeout(PATIENCE_S)
        self.socket = accepted
        self._parser = FrameParser()
        self._frames: deque[Frame] = deque()

    def frame(self) -> Frame | None:
        """The next frame, None at the end."""
        while not self._frames:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._frames.extend(
                frame._replace(payload=bytes(frame.payload)) for frame in self._parser.feed(data)
            )
        return self._frames.popleft()

    def expect(self, type: int, opcode: int) -> bytes:
        """The payload of the next frame, which must be this one."""
        frame = self.frame()
        assert frame is not None
        assert (frame.type, frame.opcode) == (type, opcode), frame
        return bytes(frame.payload)

    def command(self, opcode: int) -> dict:
        return json.loads(self.expect(Type.COMMAND, opcode) or b"{}")

    def answer(self, opcode: int, payload: bytes = b"") -> None:
        self.socket.sendall(frames.encode(Type.RESPONSE, opcode, payload))

    def refuse(self, opcode: int, text: str) -> None:
        payload = json.dumps({"msg": text}).encode()
        self.socket.sendall(frames.encode(Type.RESPONSE, opcode, payload, error=True))

    def output(self, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        self.socket.sendall(frames.encode(Type.STREAM, stream, data))

    def event(self, **members: object) -> None:
        payload = json.dumps(members).encode()
        self.socket.sendall(frames.encode(Type.NOTIFICATION, Notification.EVENT, payload))

    def exited(self, status: int) -> None:
        payload = bytes([status])
        self.socket.sendall(frames.encode(Type.NOTIFICATION, Notification.PROCESS_EXITED, payload))

    def accept_shim(self) -> str:
        """Answer ConnectShim; the token."""
        token = self.command(Command.CONNECT_SHIM)["token"]
        self.answer(Command.CONNECT_SHIM)
        return token


@contextlib.contextmanager
def proxy(directory: Path, *scripts: Callable[[Peer], None]) -> Iterator[str]:
    """Serve one connection after the other, each by its script; the value is the path.

    What a script raises fails the test.
    """
    path = str(directory / "proxy.sock")
    faults: list[BaseException] = []

    def serve() -> None:
        try:
            for script in scripts:
                accepted, _ = listener.accept()
                with accepted:
                    script(Peer(accepted))
        except BaseException as error:  # to be seen in the test's own thread
            faults.append(error)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(PATIENCE_S)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            thread.join()
    if faults:
        raise faults[0]


def gone(peer: Peer) -> None:
    """Wait for the shim's end."""
    while peer.frame() is not None:
        pass


def finish(peer: Peer, status: int = 0) -> None:
    """End the process and see that the shim lets its session go."""
    peer.exited(status)
    while (frame := peer.frame()) and frame.opcode != Command.DISCONNECT_SHIM:
        pass
    assert frame
