"""The shim of the client library, against a proxy that is scripted."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

from ccproxy_lib.client.shim import Shim
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Notification, Stream, Type

MIB = 1 << 20
# More than all buffers of a socket take.
OUTPUT = bytes(range(256)) * (4 * MIB // 256)


def serve(listener: socket.socket, status: int) -> None:
    """Send all output before anything of stdin is read, as a proxy with full buffers does."""
    client, _ = listener.accept()
    with client:
        client.settimeout(30)
        client.recv(65536)
        client.sendall(frames.encode(Type.RESPONSE, Command.CONNECT_SHIM, b""))
        for start in range(0, len(OUTPUT), 65536):
            piece = OUTPUT[start : start + 65536]
            client.sendall(frames.encode(Type.STREAM, Stream.STDOUT, piece))
        exited = frames.encode(Type.NOTIFICATION, Notification.PROCESS_EXITED, bytes([status]))
        client.sendall(exited)
        while client.recv(65536):
            pass


def test_output_is_read_while_the_proxy_takes_no_stdin(tmp_path: Path) -> None:
    path = str(tmp_path / "proxy.sock")
    with socket.socket(socket.AF_UNIX) as listener, open(tmp_path / "stdin", "w+b") as stdin:
        stdin.write(OUTPUT)
        stdin.seek(0)
        listener.bind(path)
        listener.listen()
        proxy = threading.Thread(target=serve, args=(listener, 3))
        proxy.start()
        stdout = io.BytesIO()
        with Shim(path, "token") as shim:
            assert shim.run(stdin.fileno(), stdout, io.BytesIO()) == 3
        proxy.join()
    assert stdout.getvalue() == OUTPUT
