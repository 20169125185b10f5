"""The shim's side of a session: streams and signals in, streams and the exit status out."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import BinaryIO

from ccproxy_lib.client.connection import Connection
from ccproxy_lib.wire.frames import Command, Frame, Notification, Stream, Type

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

# Small enough to fit wherever the kernel calls a socket writable.
STDIN_BYTES = 32 * 1024


class Shim:
    """The shim of one session, from ConnectShim on.

    Raises ProxyError if the proxy is not there or does not know the token.
    """

    def __init__(self, path: str, token: str) -> None:
        self._connection = Connection(path)
        self._connection.call(Command.CONNECT_SHIM, token=token)
        self._connection.socket.settimeout(None)
        self.exit_status: int | None = None

    def __enter__(self) -> Shim:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def stdin(self, data: bytes) -> None:
        """Send stdin; empty data closes it."""
        self._connection.send(Type.STREAM, Stream.STDIN, data)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the process the terminal's size."""
        self.signal(signal.SIGWINCH, columns, rows)

    def signal(self, number: int, columns: int | None = None, rows: int | None = None) -> None:
        """Send a signal, without waiting for the answer."""
        members = {"signalNumber": int(number)}
        if columns and rows:
            members |= {"columns": columns, "rows": rows}
        self._connection.command(Command.SIGNAL, **members)

    def run(
        self,
        source: int | None,
        stdout: BinaryIO,
        stderr: BinaryIO,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> int:
        """Carry streams until the process has ended; return its exit status.

        ``source`` is the descriptor that stdin is read from, if any.  With
        ``size``, which returns columns and rows, each SIGWINCH becomes a resize.
        """
        # poll, unlike epoll, takes regular files: stdin may be one.
        with selectors.PollSelector() as selector, _Resizes(size is not None) as resizes:
            selector.register(self._connection, READ)
            selector.register(resizes, READ)
            if source is not None:
                selector.register(source, READ)
            while self.exit_status is None:
                for key, events in selector.select():
                    if key.fileobj is resizes:
                        resizes.take()
                        if size:
                            self.resize(*size())
                    elif key.fileobj is not self._connection:
                        # Sending may have to wait until output is read, so it must not be
                        # waited for here: the source's turn is when the proxy takes more.
                        selector.unregister(key.fd)
                        selector.modify(self._connection, READ | WRITE)
                    elif events & READ:
                        self._take(self._connection.receive(), stdout, stderr)
                    elif events & WRITE:
                        selector.modify(self._connection, READ)
                        if source is not None and self._forward(source):
                            selector.register(source, READ)
                while self._connection.pending():
                    self._take(self._connection.receive(), stdout, stderr)
        self._connection.send(Type.COMMAND, Command.DISCONNECT_SHIM)
        return self.exit_status

    def _forward(self, source: int) -> bool:
        """Send what ``source`` has; False at its end."""
        try:
            data = os.read(source, STDIN_BYTES)
        except OSError:
            data = b""  # a terminal that is gone
        self.stdin(data)
        return bool(data)

    def _take(self, frame: Frame, stdout: BinaryIO, stderr: BinaryIO) -> None:
        if frame.type == Type.STREAM:
            target = stderr if frame.opcode == Stream.STDERR else stdout
            target.write(frame.payload)
            target.flush()
        elif frame.type == Type.NOTIFICATION and frame.opcode == Notification.PROCESS_EXITED:
            self.exit_status = frame.payload[0]


class _Resizes:
    """A descriptor that becomes readable when the terminal's size has changed."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> _Resizes:
        if self._wanted:
            self._previous = signal.signal(signal.SIGWINCH, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            signal.signal(signal.SIGWINCH, self._previous)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        return self._reader.fileno()

    def take(self) -> None:
        self._reader.recv(STDIN_BYTES)

    def _note(self, number: int, frame: FrameType | None) -> None:
        try:
            self._writer.send(b"!")
        except BlockingIOError:
            pass  # it is readable already
