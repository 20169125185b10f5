"""Which version of the client protocol a connection speaks, by its first bytes.

    version 2:  00 02 | header length | 3 reserved bytes | ...
    version 1:  data length, 32 bits  | 00 00 00 00      | ...

A version 1 message that begins with 00 02 would be 128 KiB long or more, and no
first message is anywhere near that.
"""

from __future__ import annotations

from enum import IntEnum

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.wire import frames, messages


class Generation(IntEnum):
    """The two generations of clients."""

    V1 = 1
    V2 = 2


_V2_START = frames.VERSION.to_bytes(2, "big")
_V1_STARTS = (b"\x00\x00", b"\x00\x01")


def detect(first: bytes) -> Generation | None:
    """Return the generation that ``first`` begins, or None if that takes more bytes.

    Raises ProtocolError as soon as neither is possible.
    """
    start = first[:2]
    if start == _V2_START:
        return Generation.V2
    if len(start) == len(_V2_START):
        if start not in _V1_STARTS:
            raise ProtocolError("the first bytes are of neither protocol version 1 nor 2")
        reserved = first[4 : messages.HEADER_BYTES]
        if any(reserved):
            raise ProtocolError("the reserved field of the first message is not 0")
        return Generation.V1 if len(first) >= messages.HEADER_BYTES else None
    if first and first[0]:
        raise ProtocolError("the first byte is of neither protocol version 1 nor 2")
    return None
