"""Messages of protocol 1: a length, and JSON with a name."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import PayloadError, PayloadTooLarge, ProtocolError
from ccproxy_lib.wire import messages
from ccproxy_lib.wire.messages import MessageParser, Request, parse_request
from tests.wire.chunks import CUTS, cut, one_by_one

RAW_MESSAGES = st.binary(max_size=40).map(
    lambda payload: struct.pack(">II", len(payload), 0) + payload
)
STREAMS = st.builds(
    lambda whole, rest: b"".join(whole) + rest,
    st.lists(RAW_MESSAGES, max_size=5),
    st.binary(max_size=20) | st.binary(max_size=20).map(lambda rest: b"\0\0\0\x05\0\0\0" + rest),
)


def read(chunks: Iterable[bytes], parser: MessageParser | None = None) -> tuple[list[bytes], bool]:
    """Return the payloads that come out, and whether the parser then refused the rest."""
    parser = parser or MessageParser()
    found: list[bytes] = []
    try:
        for chunk in chunks:
            found.extend(parser.feed(chunk))
    except ProtocolError:
        return found, True
    return found, False


# ---- bytes


def test_a_message_is_its_length_zero_and_json() -> None:
    assert messages.encode(b"{}") == bytes.fromhex("00000002 00000000") + b"{}"


@given(st.binary(max_size=100))
def test_what_is_encoded_is_parsed_back(payload: bytes) -> None:
    assert read([messages.encode(payload)]) == ([payload], False)


@given(STREAMS, CUTS)
def test_it_does_not_matter_in_what_pieces_a_stream_comes(stream: bytes, places: list[int]) -> None:
    whole = read([stream])
    assert read(one_by_one(stream)) == whole
    assert read(cut(stream, places)) == whole


@given(st.lists(RAW_MESSAGES, min_size=1, max_size=6), CUTS)
def test_every_message_comes_out_in_order(raw: list[bytes], places: list[int]) -> None:
    parser = MessageParser()
    assert read(cut(b"".join(raw), places), parser) == ([message[8:] for message in raw], False)
    assert parser.completed == len(raw)
    assert not parser.midway


def test_midway_tells_whether_a_message_has_begun_and_not_ended() -> None:
    parser, message = MessageParser(), messages.encode(b"{}")
    for place in range(1, len(message)):
        assert not parser.midway
        assert not list(parser.feed(message[:place]))
        assert parser.midway
        assert list(parser.feed(message[place:])) == [b"{}"]


def test_a_reserved_field_that_is_not_0_is_refused() -> None:
    with pytest.raises(ProtocolError, match="^the reserved field is 256, expected 0$"):
        list(MessageParser().feed(bytes.fromhex("00000002 00000100")))


def test_four_gigabytes_are_refused_on_sight_of_the_header() -> None:
    with pytest.raises(PayloadTooLarge, match="4294967295 bytes is over the limit of 1048576"):
        list(MessageParser().feed(bytes.fromhex("ffffffff 00000000")))


def test_the_limit_counts_the_payload() -> None:
    assert read([messages.encode(b"12345")], MessageParser(5)) == ([b"12345"], False)
    assert read([messages.encode(b"123456")], MessageParser(5)) == ([], True)


def test_no_memory_is_taken_on_the_word_of_a_length() -> None:
    parser = MessageParser(max_payload_bytes=1 << 30)
    tracemalloc.start()
    try:
        assert not list(parser.feed(bytes.fromhex("40000000 00000000") + b"start"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 16


# ---- requests


def test_a_request_has_a_name_and_data_by_lower_case_names() -> None:
    payload = b'{"ID":"hello","Data": { "containerId":"pod1", "x":1.50e3 } }'
    text = '{ "containerId":"pod1", "x":1.50e3 }'
    assert parse_request(payload) == Request("hello", {"containerid": "pod1", "x": 1500.0}, text)


@pytest.mark.parametrize("payload", [b'{"id":"bye"}', b'{"id":"bye","data":null,"x":[]}'])
def test_data_may_be_absent_or_null(payload: bytes) -> None:
    assert parse_request(payload) == Request("bye", {}, "")


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"id":""}', b'{"id":null}', b'{"id":5}', b'{"name":"hello"}']
)
def test_a_request_without_a_name_is_answered(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="^no 'id' field in request$"):
        parse_request(payload)


@pytest.mark.parametrize("data", [b"[]", b'"text"', b"1", b"false"])
def test_data_that_is_no_object_is_answered(data: bytes) -> None:
    with pytest.raises(PayloadError, match="^'data' must be a JSON object$"):
        parse_request(b'{"id":"hello","data":%b}' % data)


@pytest.mark.parametrize("payload", [b"{", b"[]", b"hello", b"\xff", b'{"id":"x"}}'])
def test_what_is_no_json_object_breaks_the_protocol(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_request(payload)


@given(st.binary(max_size=50) | st.binary(max_size=30).map(lambda end: b'{"id":"x","data":' + end))
def test_bytes_of_any_kind_raise_nothing_else(payload: bytes) -> None:
    try:
        parse_request(payload)
    except (PayloadError, ProtocolError):
        pass


# ---- responses


def test_success_is_told_with_data_or_without() -> None:
    assert messages.success() == b'{"success":true}'
    assert messages.success({"version": 1}) == b'{"success":true,"data":{"version":1}}'
    assert messages.success({}) == b'{"success":true,"data":{}}'


def test_failure_is_told_with_a_reason() -> None:
    text = "no payload named 'x'"
    assert messages.failure(text) == b'{"success":false,"error":"no payload named \'x\'"}'
