"""Messages of the agent's control channel; the agent is hostile until checked."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.wire import ctl
from ccproxy_lib.wire.ctl import Code, CtlMessage, CtlParser
from tests.wire.chunks import CUTS, cut, one_by_one

RAW_MESSAGES = st.builds(
    lambda code, payload: struct.pack(">II", code, 8 + len(payload)) + payload,
    st.one_of(st.sampled_from(Code), st.integers(0, 0xFFFFFFFF)),
    st.binary(max_size=40),
)
STREAMS = st.builds(
    lambda whole, rest: b"".join(whole) + rest,
    st.lists(RAW_MESSAGES, max_size=5),
    st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(lambda rest: b"\0\0\0\t" + rest)),
)


def read(chunks: Iterable[bytes], parser: CtlParser | None = None) -> tuple[list[CtlMessage], bool]:
    """Return the messages that come out, and whether the parser then refused the rest."""
    parser = parser or CtlParser()
    found: list[CtlMessage] = []
    try:
        for chunk in chunks:
            found.extend(parser.feed(chunk))
    except ProtocolError:
        return found, True
    return found, False


# ---- what is sent


def test_a_ping_is_its_code_and_the_length_of_its_header() -> None:
    assert ctl.encode(Code.PING) == bytes.fromhex("0000000c 00000008")


def test_the_length_counts_header_and_payload() -> None:
    assert ctl.encode(Code.EXEC_CMD, b"{}") == bytes.fromhex("00000006 0000000a") + b"{}"


def test_clients_may_ask_for_these_commands_and_no_others() -> None:
    assert ctl.COMMANDS == {
        "version": 0,
        "startpod": 1,
        "destroypod": 4,
        "execcmd": 6,
        "winsize": 11,
        "ping": 12,
        "writefile": 15,
        "readfile": 16,
        "newcontainer": 17,
        "killcontainer": 18,
        "onlinecpumem": 19,
        "setupinterface": 20,
        "setuproute": 21,
        "removecontainer": 22,
        "pscontainer": 23,
    }


def test_answers_and_events_have_the_numbers_of_the_specification() -> None:
    assert (Code.READY, Code.ACK, Code.ERROR) == (8, 9, 10)
    assert (Code.NEXT, Code.PROCESS_ASYNC_EVENT) == (14, 24)


@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=100))
def test_what_is_encoded_is_parsed_back(code: int, payload: bytes) -> None:
    assert read([ctl.encode(code, payload)]) == ([(code, payload)], False)


# ---- what is received


@given(STREAMS, CUTS)
def test_it_does_not_matter_in_what_pieces_a_stream_comes(stream: bytes, places: list[int]) -> None:
    whole = read([stream])
    assert read(one_by_one(stream)) == whole
    assert read(cut(stream, places)) == whole


@given(st.lists(RAW_MESSAGES, min_size=1, max_size=6), CUTS)
def test_every_message_comes_out_in_order(raw: list[bytes], places: list[int]) -> None:
    expected = [(int.from_bytes(message[:4], "big"), message[8:]) for message in raw]
    assert read(cut(b"".join(raw), places)) == (expected, False)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_of_any_kind_raise_nothing_but_protocol_errors(chunks: list[bytes]) -> None:
    read(chunks)  # anything else that is raised fails the test


def test_a_view_is_as_good_as_bytes_and_may_be_overwritten_afterwards() -> None:
    buffer = bytearray(ctl.encode(Code.ACK, b"result"))
    (message,) = CtlParser().feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == (Code.ACK, b"result")
    assert isinstance(message.payload, bytes)


def test_a_parser_that_is_fed_in_the_middle_goes_on_with_what_is_left() -> None:
    """As a channel does that finds itself lost because of the first message."""
    first, second, third = (ctl.encode(Code.ACK, payload) for payload in (b"1", b"2", b"3"))
    parser = CtlParser()
    begun = parser.feed(first + second + third[:5])
    assert next(begun) == (Code.ACK, b"1")
    assert list(parser.feed(third[5:])) == [(Code.ACK, b"2"), (Code.ACK, b"3")]
    assert list(begun) == []


@pytest.mark.parametrize("length", range(8))
def test_a_length_below_the_header_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"control message of {length} bytes"):
        list(CtlParser().feed(struct.pack(">II", Code.ACK, length)))


def test_messages_before_a_broken_one_come_out_first() -> None:
    stream = ctl.encode(Code.NEXT, b"\0\0\0\4") + ctl.encode(Code.ACK) + struct.pack(">II", 9, 7)
    assert read([stream]) == ([(Code.NEXT, b"\0\0\0\4"), (Code.ACK, b"")], True)


# ---- limits


def test_four_gigabytes_are_refused_on_sight_of_the_header() -> None:
    with pytest.raises(ProtocolError, match="control message of 4294967295 bytes"):
        list(CtlParser().feed(struct.pack(">II", Code.ACK, 0xFFFFFFFF)))


def test_the_limit_counts_the_whole_message() -> None:
    assert read([ctl.encode(9, b"1234")], CtlParser(12)) == ([(9, b"1234")], False)
    assert read([ctl.encode(9, b"12345")], CtlParser(12)) == ([], True)


def test_no_memory_is_taken_on_the_word_of_a_length() -> None:
    parser = CtlParser(max_message_bytes=1 << 30)
    tracemalloc.start()
    try:
        assert not list(parser.feed(struct.pack(">II", Code.ACK, 1 << 30) + b"start"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 16
