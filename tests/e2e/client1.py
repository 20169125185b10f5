"""A small client of protocol 1: a socket, and what comes with it."""

from __future__ import annotations

import json
import socket
import struct

from ccproxy_lib.wire import tty
from tests.e2e.harness import PATIENCE_S, Refused


def read_exactly(channel: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        # Never more than what is missing: a descriptor may follow.
        data = channel.recv(count - len(got))
        if not data:
            raise EOFError(bytes(got))
        got += data
    return bytes(got)


class Client1:
    """Speaks the 8-byte header messages, byte by byte where that matters."""

    def __init__(self, path: str):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, name: str, data: dict | None = None) -> None:
        request = {"id": name} if data is None else {"id": name, "data": data}
        self.send_raw(json.dumps(request).encode())

    def send_raw(self, payload: bytes) -> None:
        self.socket.sendall(struct.pack(">II", len(payload), 0) + payload)

    def read(self, count: int) -> bytes:
        return read_exactly(self.socket, count)

    def response(self) -> bytes:
        """The payload of the next response, as it came."""
        length, reserved = struct.unpack(">II", self.read(8))
        assert reserved == 0
        return self.read(length)

    def answer(self) -> dict | None:
        """The data of the next response; Refused if it is no success."""
        response = json.loads(self.response())
        if not response["success"]:
            assert set(response) == {"success", "error"}
            raise Refused(response["error"])
        return response.get("data")

    def call(self, name: str, data: dict | None = None) -> dict | None:
        self.send(name, data)
        return self.answer()

    def hello(self, vm, vm_id: str, **more) -> dict | None:
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        answer = self.call("hello", members | more)
        vm.registered()
        return answer

    def hyper(self, name: str, data=None) -> None:
        members = {"hyperName": name} if data is None else {"hyperName": name, "data": data}
        assert self.call("hyper", members) is None

    def allocate(self, streams: int = 2) -> Descriptor:
        """Ask for a session; returns its I/O descriptor."""
        answer = self.call("allocateIO", {"nStreams": streams})
        byte, descriptors, _, _ = socket.recv_fds(self.socket, 1, 4)
        assert byte == b"F"
        (descriptor,) = descriptors
        return Descriptor(socket.socket(fileno=descriptor), answer["ioBase"])

    def hung_up(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class Descriptor:
    """The client's end of an I/O descriptor."""

    def __init__(self, io: socket.socket, io_base: int):
        self.socket = io
        self.socket.settimeout(PATIENCE_S)
        self.io_base = io_base

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.socket.close()

    def stdin(self, data: bytes, message_bytes: int = 8000) -> None:
        for start in range(0, len(data), message_bytes):
            self.socket.sendall(tty.encode(self.io_base, data[start : start + message_bytes]))

    def end_stdin(self) -> None:
        self.socket.sendall(tty.encode(self.io_base))

    def packet(self) -> tuple[int, bytes]:
        """The next packet."""
        seq, length = tty.HEADER.unpack(read_exactly(self.socket, tty.HEADER_BYTES))
        return seq, read_exactly(self.socket, length - tty.HEADER_BYTES)

    def collect(self) -> tuple[bytes, bytes, int]:
        """All of stdout, all of stderr, and the exit status behind the end of file."""
        out = {self.io_base: bytearray(), self.io_base + 1: bytearray()}
        while True:
            seq, data = self.packet()
            if not data and seq == self.io_base:
                break
            out[seq] += data
        while True:
            seq, data = self.packet()
            if seq == self.io_base:
                assert len(data) == 1
                return bytes(out[self.io_base]), bytes(out[self.io_base + 1]), data[0]
            out[seq] += data
