"""Frames of the client protocol, version 2 (docs/PROTOCOL.md, "Frame").

     0               1               2               3
    +-------------------------------+---------------+---------------+
    |          version = 2          | header length |   reserved    |
    +-------------------------------+-------+-------+---------------+
    |           reserved            | flags |  type |    opcode     |
    +-------------------------------+-------+-------+---------------+
    |                        payload length                         |
    +---------------------------------------------------------------+
    |  payload ...

Integers are big endian.  The header length counts 32-bit words and is at least
3; what a longer header holds beyond 12 bytes is skipped.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from ccproxy_lib.errors import PayloadTooLarge, ProtocolError

VERSION = 2
HEADER_BYTES = 12
MIN_HEADER_WORDS = HEADER_BYTES // 4
TYPE_MASK = 0x0F
ERROR_FLAG = 0x10
DEFAULT_MAX_PAYLOAD_BYTES = 1 << 20

_HEADER = struct.Struct(">HB3xBBI")
_VERSION_BYTES = VERSION.to_bytes(2, "big")


class Type(IntEnum):
    """What a frame is."""

    COMMAND = 0
    RESPONSE = 1
    STREAM = 2
    NOTIFICATION = 3


class Command(IntEnum):
    """Opcodes of commands and of their responses."""

    REGISTER_VM = 0
    UNREGISTER_VM = 1
    ATTACH_VM = 2
    HYPER = 3
    CONNECT_SHIM = 4
    DISCONNECT_SHIM = 5
    SIGNAL = 6
    # Ours; older proxies do not know them.
    LOG_CONTROL = 7
    STATUS = 8
    SUBSCRIBE = 9


class Stream(IntEnum):
    """Opcodes of stream frames."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    LOG = 3


class Notification(IntEnum):
    """Opcodes of notifications."""

    PROCESS_EXITED = 0
    EVENT = 1  # for those who have subscribed


class Frame(NamedTuple):
    """One whole frame; ``type`` and ``opcode`` may be numbers that no enum knows."""

    type: int
    opcode: int
    payload: bytes | memoryview
    error: bool = False


# What comes before the length, as all shims write it.
_STDIN_HEADER = _HEADER.pack(VERSION, MIN_HEADER_WORDS, Type.STREAM, Stream.STDIN, 0)[:8]
# The same as one number: comparing it costs less than looking for the bytes.
_STDIN_KIND = int.from_bytes(_STDIN_HEADER, "big")
_KIND_AND_LENGTH = struct.Struct(">QI")
# What comes before the opcode.
_COMMAND_HEADER = _HEADER.pack(VERSION, MIN_HEADER_WORDS, Type.COMMAND, 0, 0)[:7]

# A NamedTuple's own constructor takes several times as long.
_new = tuple.__new__


def header(type: int, opcode: int, payload_bytes: int) -> bytes:
    """Return the 12 header bytes of a frame without the error flag."""
    return _HEADER.pack(VERSION, MIN_HEADER_WORDS, type, opcode, payload_bytes)


def encode(type: int, opcode: int, payload: bytes = b"", error: bool = False) -> bytes:
    """Return a whole frame, so that it can leave in one write."""
    flags = type | ERROR_FLAG if error else type
    return _HEADER.pack(VERSION, MIN_HEADER_WORDS, flags, opcode, len(payload)) + payload


class FrameParser:
    """Cuts a byte stream into frames, whatever the chunks it comes in.

    A payload that lies whole in one chunk is handed out as a view into that
    chunk; only a frame that spans chunks is copied, once.
    """

    __slots__ = ("_max_payload_bytes", "_need_bytes", "_partial", "completed")

    def __init__(self, max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._partial = bytearray()
        self._need_bytes = 0
        # How many frames have been begun in one chunk and completed in another.
        self.completed = 0

    @property
    def midway(self) -> bool:
        """Whether part of a frame has come and the rest has not."""
        return bool(self._partial)

    def sole_stdin(self, data: bytes) -> memoryview | None:
        """Return the payload if ``data`` is one whole frame of stdin and nothing else.

        That is what most reads bring where many sessions talk at once; for
        everything else, None, there is :meth:`feed`.
        """
        length = len(data) - HEADER_BYTES
        if self._partial or not 0 < length <= self._max_payload_bytes:
            return None
        if _KIND_AND_LENGTH.unpack_from(data) != (_STDIN_KIND, length):
            return None
        return memoryview(data)[HEADER_BYTES:]

    def sole_command(self, data: bytes) -> tuple[int, bytes] | None:
        """Return opcode and payload if ``data`` is one whole command and nothing else.

        As most reads of commands are; for everything else there is :meth:`feed`.
        """
        length = len(data) - HEADER_BYTES
        if self._partial or not 0 <= length <= self._max_payload_bytes:
            return None
        if not data.startswith(_COMMAND_HEADER) or data[8:12] != length.to_bytes(4, "big"):
            return None
        return data[7], data[HEADER_BYTES:]

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes.

        Streams are bytes: neighbouring frames of stdin that lie whole in ``data``
        come out as one.  The iterator must be exhausted before the next call.
        Raises ProtocolError for a header that no version 2 client sends, and
        PayloadTooLarge before a byte of such a payload is kept.
        """
        view = memoryview(data)
        pos = 0
        end = len(view)
        if self._partial:
            pos = self._top_up(view)
            if len(self._partial) < self._need_bytes or not self._need_bytes:
                return
            yield self._finish_partial()
        # The common header is taken apart in place.
        unpack = _HEADER.unpack_from
        limit = self._max_payload_bytes
        while end - pos >= HEADER_BYTES:
            if data.startswith(_STDIN_HEADER, pos):
                pieces, pos = self._stdin_run(data, view, pos)
                if pieces:
                    payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    yield _new(Frame, (Type.STREAM, Stream.STDIN, payload, False))
                    continue
            version, words, flags, opcode, length = unpack(view, pos)
            if version != VERSION or words != MIN_HEADER_WORDS or length > limit:
                start = self._open(view, pos)[0]
            else:
                start = HEADER_BYTES
            stop = pos + start + length
            if stop > end:
                break
            payload = view[pos + start : stop]
            yield _new(Frame, (flags & TYPE_MASK, opcode, payload, flags & ERROR_FLAG != 0))
            pos = stop
        if pos < end:
            self._keep(view[pos:])

    def abandon(self) -> Frame | None:
        """Return what has come of a frame whose rest never will, None if nothing of its payload.

        Whoever sends a stream counts what the socket has taken as sent.
        """
        partial, self._partial, self._need_bytes = self._partial, bytearray(), 0
        if len(partial) <= HEADER_BYTES:
            return None
        start, _, type, opcode, error = self._open(partial, 0)
        payload = bytes(memoryview(partial)[start:])
        return Frame(type, opcode, payload, error) if payload else None

    def _stdin_run(self, data: bytes, view: memoryview, pos: int) -> tuple[list[memoryview], int]:
        """Return the payloads of the frames of stdin that begin at ``pos``, and where they end."""
        pieces: list[memoryview] = []
        end = len(data)
        limit = self._max_payload_bytes
        unpack = _KIND_AND_LENGTH.unpack_from
        while end - pos >= HEADER_BYTES:
            kind, length = unpack(data, pos)
            start = pos + HEADER_BYTES
            stop = start + length
            if kind != _STDIN_KIND or stop > end or not 0 < length <= limit:
                break
            pieces.append(view[start:stop])
            pos = stop
        return pieces, pos

    def _open(self, view: memoryview | bytearray, pos: int) -> tuple[int, int, int, int, bool]:
        version, words, flags, opcode, length = _HEADER.unpack_from(view, pos)
        if version != VERSION:
            raise ProtocolError(f"frame of protocol version {version}, expected {VERSION}")
        if words < MIN_HEADER_WORDS:
            raise ProtocolError(
                f"frame header of {words} words, expected {MIN_HEADER_WORDS} at least"
            )
        type = flags & TYPE_MASK
        if length > self._max_payload_bytes:
            raise PayloadTooLarge(
                f"payload of {length} bytes is over the limit of {self._max_payload_bytes}",
                type,
                opcode,
            )
        return words * 4, length, type, opcode, bool(flags & ERROR_FLAG)

    def _keep(self, rest: memoryview) -> None:
        """Keep the beginning of a frame, refusing at once what can't become one."""
        self._partial += rest
        if not _VERSION_BYTES.startswith(self._partial[:2]):
            raise ProtocolError("the first bytes are not those of a version 2 frame")
        self._measure()

    def _measure(self) -> None:
        if len(self._partial) >= HEADER_BYTES:
            start, length, *_ = self._open(self._partial, 0)
            self._need_bytes = start + length
        else:
            self._need_bytes = 0

    def _top_up(self, view: memoryview) -> int:
        """Move what the partial frame lacks out of ``view``; return how much that was."""
        pos = 0
        if not self._need_bytes:
            pos = min(HEADER_BYTES - len(self._partial), len(view))
            self._keep(view[:pos])
            if not self._need_bytes:
                return pos
        take = min(self._need_bytes - len(self._partial), len(view) - pos)
        self._partial += view[pos : pos + take]
        return pos + take

    def _finish_partial(self) -> Frame:
        start, _, type, opcode, error = self._open(self._partial, 0)
        payload = bytes(memoryview(self._partial)[start:])
        self.completed += 1
        self._partial = bytearray()
        self._need_bytes = 0
        return Frame(type, opcode, payload, error)
