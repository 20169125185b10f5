"""Messages of the agent's control channel (docs/PROTOCOL.md, "Control channel").

    +---------------+------------------------+-----------+
    |  code (u32)   |  length (u32), whole   |  payload  |
    +---------------+------------------------+-----------+

The length counts the header's 8 bytes.  Answers (ACK, ERROR) carry no id: they
come in the order of the commands.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.wire.buffered import BufferedParser

HEADER_BYTES = 8
# Older agents read a command into a buffer of this size and no larger one.
MAX_COMMAND_BYTES = 10240
DEFAULT_MAX_MESSAGE_BYTES = 1 << 20

_HEADER = struct.Struct(">II")


class Code(IntEnum):
    """Message codes that are sent or received."""

    VERSION = 0
    START_POD = 1
    DESTROY_POD = 4
    EXEC_CMD = 6
    READY = 8
    ACK = 9
    ERROR = 10
    WIN_SIZE = 11
    PING = 12
    NEXT = 14
    WRITE_FILE = 15
    READ_FILE = 16
    NEW_CONTAINER = 17
    KILL_CONTAINER = 18
    ONLINE_CPU_MEM = 19
    SETUP_INTERFACE = 20
    SETUP_ROUTE = 21
    REMOVE_CONTAINER = 22
    PS_CONTAINER = 23
    PROCESS_ASYNC_EVENT = 24


# What clients may ask for with a Hyper command, under the names that they use.
COMMANDS: dict[str, Code] = {
    "version": Code.VERSION,
    "startpod": Code.START_POD,
    "destroypod": Code.DESTROY_POD,
    "execcmd": Code.EXEC_CMD,
    "winsize": Code.WIN_SIZE,
    "ping": Code.PING,
    "writefile": Code.WRITE_FILE,
    "readfile": Code.READ_FILE,
    "newcontainer": Code.NEW_CONTAINER,
    "killcontainer": Code.KILL_CONTAINER,
    "onlinecpumem": Code.ONLINE_CPU_MEM,
    "setupinterface": Code.SETUP_INTERFACE,
    "setuproute": Code.SETUP_ROUTE,
    "removecontainer": Code.REMOVE_CONTAINER,
    "pscontainer": Code.PS_CONTAINER,
}


class CtlMessage(NamedTuple):
    """One control message; ``code`` may be a number that :class:`Code` does not know."""

    code: int
    payload: bytes


def encode(code: int, payload: bytes = b"") -> bytes:
    """Return a whole control message."""
    return _HEADER.pack(code, HEADER_BYTES + len(payload)) + payload


class CtlParser(BufferedParser[CtlMessage]):
    """Cuts a control channel's bytes into messages."""

    __slots__ = ()

    HEADER_BYTES = HEADER_BYTES

    def __init__(self, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        super().__init__(max_message_bytes)

    def _length(self, buffer: bytes | bytearray | memoryview) -> int:
        _, length = _HEADER.unpack_from(buffer)
        if not HEADER_BYTES <= length <= self._max_message_bytes:
            raise ProtocolError(
                f"control message of {length} bytes, expected {HEADER_BYTES}"
                f" to {self._max_message_bytes}"
            )
        return int(length)

    def _message(self, raw: bytes) -> CtlMessage:
        code, _ = _HEADER.unpack_from(raw)
        return CtlMessage(code, raw[HEADER_BYTES:])
