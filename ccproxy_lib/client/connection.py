"""A client's connection to the proxy: commands out, answers and frames in."""

from __future__ import annotations

import socket
from collections import deque
from typing import TypeVar

from ccproxy_lib.errors import ProtocolError, ProxyError
from ccproxy_lib.wire import frames, json
from ccproxy_lib.wire.frames import Command, Frame, FrameParser, Type

READ_BYTES = 65536

ConnectionT = TypeVar("ConnectionT", bound="Connection")


class Connection:
    """One connection, for one thread.

    ``path`` is the proxy's socket, ``timeout_s`` how long a call may take.
    Raises ProxyError, one sentence, if nobody listens there.
    """

    def __init__(self, path: str, timeout_s: float | None = 60.0) -> None:
        self._parser = FrameParser()
        self._frames: deque[Frame] = deque()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise ProxyError(f"cannot connect to the proxy at {path}: {error.strerror}") from None

    def __enter__(self: ConnectionT) -> ConnectionT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, for select."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, type: Type, opcode: int, payload: bytes = b"") -> None:
        """Send one frame; ProxyError if the proxy is gone."""
        try:
            self.socket.sendall(frames.encode(type, opcode, payload))
        except OSError as error:
            raise ProxyError(f"the connection to the proxy is lost: {error.strerror}") from None

    def command(self, command: Command, **members: object) -> None:
        """Send a command; ``members`` are its payload's, those that are None are left out."""
        given = {name: value for name, value in members.items() if value is not None}
        self.send(Type.COMMAND, command, json.dumps(given) if given else b"")

    def call(self, command: Command, **members: object) -> bytes:
        """Send a command and return its answer's payload.

        Frames that arrive meanwhile are kept for :meth:`receive`.  Raises
        ProxyError with the proxy's text.
        """
        self.command(command, **members)
        kept: list[Frame] = []
        while (frame := self.receive()).type != Type.RESPONSE:
            kept.append(frame)
        self._frames.extendleft(reversed(kept))
        payload = bytes(frame.payload)
        if frame.error:
            raise ProxyError(str(json.parse_object(payload).get("msg", "")))
        return payload

    def receive(self) -> Frame:
        """Return the next frame, waiting for it; ProxyError if the proxy hangs up."""
        while not self._frames:
            self._fill()
        return self._frames.popleft()

    def pending(self) -> bool:
        """Whether :meth:`receive` has a frame at hand."""
        return bool(self._frames)

    def _fill(self) -> None:
        try:
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise ProxyError("the proxy has closed the connection")
            self._frames.extend(self._parser.feed(data))
        except ProtocolError as error:
            raise ProxyError(f"the proxy sent what is no frame: {error}") from None
        except TimeoutError:
            raise ProxyError("the proxy did not answer in time") from None
        except OSError as error:
            raise ProxyError(f"the connection to the proxy is lost: {error.strerror}") from None


class Runtime(Connection):
    """A runtime's calls; each raises ProxyError with the proxy's text."""

    def register_vm(self, vm_id: str, ctl_path: str, io_path: str, streams: int = 0) -> list[str]:
        """Register a VM by its agent's sockets; return ``streams`` tokens."""
        members = {"containerId": vm_id, "ctlSerial": ctl_path, "ioSerial": io_path}
        return _tokens(self.call(Command.REGISTER_VM, **members, numIOStreams=streams))

    def attach_vm(self, vm_id: str, streams: int = 0) -> list[str]:
        """Attach to a registered VM; return ``streams`` tokens."""
        return _tokens(self.call(Command.ATTACH_VM, containerId=vm_id, numIOStreams=streams))

    def unregister_vm(self, vm_id: str) -> None:
        """Unregister a VM."""
        self.call(Command.UNREGISTER_VM, containerId=vm_id)

    def hyper(self, name: str, data: object = None, token: str | None = None) -> bytes:
        """Send an agent command, with a token if it starts a process; return the agent's answer."""
        tokens = None if token is None else [token]
        return self.call(Command.HYPER, hyperName=name, tokens=tokens, data=data)


def _tokens(answer: bytes) -> list[str]:
    return json.parse_object(answer)["io"]["tokens"] or []
