"""Messages of the client protocol, version 1 (docs/PROTOCOL.md, "Version 1").

    +-------------------------+----------------+----------+
    |  data length (32 bits)  |  reserved = 0  |   JSON   |
    +-------------------------+----------------+----------+

Requests are ``{"id": NAME, "data"?: {...}}``, responses
``{"success": bool, "error"?: text, "data"?: {...}}``, one for each request.
"""

import struct
from typing import Any, NamedTuple

from ccproxy_lib.errors import PayloadError, PayloadTooLarge, ProtocolError
from ccproxy_lib.wire import json
from ccproxy_lib.wire.buffered import BufferedParser

HEADER_BYTES = 8
DEFAULT_MAX_PAYLOAD_BYTES = 1 << 20

_HEADER = struct.Struct(">II")


def encode(payload: bytes) -> bytes:
    """Return a whole message, so that it can leave in one write."""
    return _HEADER.pack(len(payload), 0) + payload


class MessageParser(BufferedParser[bytes]):
    """Cuts a version 1 connection's bytes into JSON texts."""

    __slots__ = ()

    HEADER_BYTES = HEADER_BYTES

    def __init__(self, max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES) -> None:
        super().__init__(max_payload_bytes)

    def _length(self, buffer: bytes | bytearray | memoryview) -> int:
        length, reserved = _HEADER.unpack_from(buffer)
        if reserved:
            raise ProtocolError(f"the reserved field is {reserved}, expected 0")
        if length > self._max_message_bytes:
            raise PayloadTooLarge(
                f"payload of {length} bytes is over the limit of {self._max_message_bytes}"
            )
        return HEADER_BYTES + int(length)

    def _message(self, raw: bytes) -> bytes:
        return raw[HEADER_BYTES:]


class Request(NamedTuple):
    """One request; ``data`` are its members by lower-case name, ``text`` their JSON as it came."""

    name: str
    data: dict[str, Any]
    text: str


def parse_request(payload: bytes) -> Request:
    """Parse a request.

    Raises ProtocolError if it is no JSON object, PayloadError if it has no name
    or its data is no object.
    """
    try:
        fields = json.parse_object(payload)
    except PayloadError as error:
        raise ProtocolError(str(error)) from None
    name = fields.get("id")
    if not isinstance(name, str) or not name:
        raise PayloadError("no 'id' field in request")
    if fields.get("data") is None:
        return Request(name, {}, "")
    text = json.decode_text(payload)
    member = json.find(json.members(text), "data")
    if member is None or not isinstance(fields["data"], dict):
        raise PayloadError("'data' must be a JSON object")
    data = {json.fold(key): value for key, value in fields["data"].items()}
    return Request(name, data, text[member.start : member.end])


def success(data: dict[str, Any] | None = None) -> bytes:
    """Return the payload of a response that tells success."""
    return json.dumps({"success": True} if data is None else {"success": True, "data": data})


def failure(message: str) -> bytes:
    """Return the payload of a response that tells what failed."""
    return json.dumps({"success": False, "error": message})
