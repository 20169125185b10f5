"""One socket serves two generations of clients: the first bytes tell them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.wire import frames, messages
from ccproxy_lib.wire.frames import Command, Type
from ccproxy_lib.wire.generation import Generation, detect


def told(stream: bytes) -> tuple[Generation | None, int]:
    """Return what is told of a stream that comes byte by byte, and after how many bytes."""
    for count in range(len(stream) + 1):
        generation = detect(stream[:count])
        if generation is not None:
            return generation, count
    return None, len(stream)


def test_a_frame_is_told_by_its_version() -> None:
    assert told(frames.encode(Type.COMMAND, Command.REGISTER_VM, b"{}")) == (Generation.V2, 2)


def test_a_version_1_message_is_told_by_its_header() -> None:
    assert told(messages.encode(b'{"id":"hello"}')) == (Generation.V1, 8)
    assert told(messages.encode(b"x" * 0x1FFFF)) == (Generation.V1, 8)


@pytest.mark.parametrize("first", [b"", b"\0", b"\0\0", b"\0\1\xff\xff", b"\0\0\0\x0e\0\0\0"])
def test_too_few_bytes_tell_nothing(first: bytes) -> None:
    assert detect(first) is None


@pytest.mark.parametrize("first", [b"G", b"\x02", b"\0\3", b"\0\xff", b"{}"])
def test_bytes_of_neither_are_refused_at_once(first: bytes) -> None:
    with pytest.raises(ProtocolError, match="neither protocol version 1 nor 2"):
        detect(first)


@pytest.mark.parametrize("first", [b"\0\0\0\x0e\1", b"\0\0\0\x0e\0\0\0\1", b"\0\1\0\0\0\xff"])
def test_a_reserved_field_that_is_not_0_is_refused_at_once(first: bytes) -> None:
    assert detect(first[:4]) is None
    with pytest.raises(ProtocolError, match="reserved field"):
        detect(first)


@given(st.binary(max_size=12) | st.binary(max_size=12).map(lambda rest: b"\0\0\0\x10" + rest))
def test_more_bytes_never_change_what_is_told(stream: bytes) -> None:
    try:
        generation, count = told(stream)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            detect(stream)
    else:
        assert all(detect(stream[:end]) is generation for end in range(count, len(stream) + 1))
