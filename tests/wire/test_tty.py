"""Messages of the agent's I/O channel, handed out in pieces as they come."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.wire import tty
from ccproxy_lib.wire.tty import TtyParser
from tests.wire.chunks import CUTS, cut, one_by_one

Piece = tuple[int, bytes, int]

SEQS = st.one_of(st.integers(0, 8), st.integers(0, (1 << 64) - 1))
MESSAGES = st.tuples(SEQS, st.one_of(st.just(b""), st.binary(max_size=1), st.binary(max_size=50)))


def raw_message(seq: int, data: bytes) -> bytes:
    """Make a message by the specification's table, without the code under test."""
    return struct.pack(">QI", seq, 12 + len(data)) + data


RAW_MESSAGES = MESSAGES.map(lambda message: raw_message(*message))
STREAMS = st.builds(
    lambda whole, rest: b"".join(whole) + rest,
    st.lists(RAW_MESSAGES, max_size=5),
    st.one_of(
        st.binary(max_size=30),
        RAW_MESSAGES.map(lambda message: message[: len(message) // 2]),
    ),
)


def read(chunks: Iterable[bytes]) -> tuple[list[Piece], bool]:
    """Return the pieces that come out, and whether the parser then refused the rest.

    Each chunk is fed from the same buffer, as the reader of a socket does.
    """
    parser = TtyParser()
    buffer = memoryview(bytearray(1 << 12))
    found: list[Piece] = []
    try:
        for chunk in chunks:
            buffer[: len(chunk)] = chunk
            for seq, data, length in parser.feed(buffer[: len(chunk)]):
                found.append((seq, bytes(data), length))
            buffer[: len(chunk)] = bytes(len(chunk))
    except ProtocolError:
        return found, True
    return found, False


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Put the pieces of each message together; the last one may lack some of its data."""
    messages: list[Piece] = []
    for seq, data, length in pieces:
        if messages and len(messages[-1][1]) < messages[-1][2]:
            assert (seq, length) == (messages[-1][0], messages[-1][2])
            messages[-1] = seq, messages[-1][1] + data, length
        else:
            messages.append((seq, data, length))
    return messages


# ---- what is sent


def test_stdin_is_its_number_the_whole_length_and_the_data() -> None:
    assert tty.encode(3, b"ls\n") == bytes.fromhex("0000000000000003 0000000f") + b"ls\n"


def test_stdins_end_of_file_is_an_empty_message() -> None:
    assert tty.encode(1 << 40) == bytes.fromhex("0000010000000000 0000000c")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_come_in_any_kind_of_buffer(kind: type) -> None:
    assert tty.encode(1, kind(b"data")) == raw_message(1, b"data")


def test_no_message_to_the_agent_needs_more_than_4096_bytes() -> None:
    assert len(tty.encode(1, bytes(tty.MAX_STDIN_BYTES))) == 4096


@given(MESSAGES)
def test_what_is_encoded_is_parsed_back(message: tuple[int, bytes]) -> None:
    seq, data = message
    assert read([tty.encode(seq, data)]) == ([(seq, data, len(data))], False)


# ---- what is received


@given(STREAMS, CUTS)
def test_it_does_not_matter_in_what_pieces_a_stream_comes(stream: bytes, places: list[int]) -> None:
    pieces, refused = read([stream])
    whole = joined(pieces), refused
    for chunks in (one_by_one(stream), cut(stream, places)):
        pieces, refused = read(chunks)
        assert (joined(pieces), refused) == whole


@given(st.lists(MESSAGES, min_size=1, max_size=6), CUTS)
def test_pieces_put_together_are_the_messages(
    messages: list[tuple[int, bytes]], places: list[int]
) -> None:
    stream = b"".join(raw_message(*message) for message in messages)
    expected = [(seq, data, len(data)) for seq, data in messages]
    pieces, refused = read(cut(stream, places))
    assert not refused
    assert joined(pieces) == expected
    for _, data, length in pieces:
        assert bool(data) == bool(length), "only an end of file is an empty piece"


@given(st.lists(MESSAGES, min_size=1, max_size=6), CUTS)
def test_an_exit_status_is_known_by_its_length_whatever_the_pieces(
    before: list[tuple[int, bytes]], places: list[int]
) -> None:
    # The tail of a longer message can be one byte, and must not look like a status.
    messages = [*before, (7, b"not a status"), (7, b""), (7, b"\x2a")]
    stream = b"".join(raw_message(*message) for message in messages)
    statuses = [(seq, data) for seq, data in messages if len(data) == 1]
    for chunks in (one_by_one(stream), cut(stream, places)):
        pieces, _ = read(chunks)
        assert [(seq, data) for seq, data, length in pieces if length == 1] == statuses


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_of_any_kind_raise_nothing_but_protocol_errors(chunks: list[bytes]) -> None:
    read(chunks)  # anything else that is raised fails the test


def test_data_is_handed_out_before_its_message_is_complete() -> None:
    parser = TtyParser()
    start = raw_message(5, b"x" * 1000)[:112]
    assert [(seq, len(data), length) for seq, data, length in parser.feed(memoryview(start))] == [
        (5, 100, 1000)
    ]
    assert [len(data) for _, data, _ in parser.feed(memoryview(b"x" * 900))] == [900]
    assert not parser.midway


def test_a_header_alone_is_no_piece_of_its_message() -> None:
    parser = TtyParser()
    message = raw_message(5, b"data")
    assert not list(parser.feed(memoryview(message[:12])))
    assert parser.midway
    assert not list(parser.feed(memoryview(b"")))
    assert [bytes(data) for _, data, _ in parser.feed(memoryview(message[12:]))] == [b"data"]


def test_data_is_a_view_into_what_was_read() -> None:
    stream = raw_message(1, b"out") + raw_message(2, b"err") + raw_message(1, b"beginning")[:17]
    pieces = list(TtyParser().feed(memoryview(stream)))
    assert [bytes(data) for _, data, _ in pieces] == [b"out", b"err", b"begin"]
    assert all(data.obj is stream for _, data, _ in pieces)


@given(RAW_MESSAGES, st.integers(0, 1 << 16))
def test_midway_tells_whether_a_message_has_begun_and_not_ended(raw: bytes, place: int) -> None:
    parser = TtyParser()
    assert not parser.midway
    place %= len(raw)
    list(parser.feed(memoryview(raw[:place])))
    assert parser.midway == (place > 0)
    list(parser.feed(memoryview(raw[place:])))
    assert not parser.midway


# ---- limits


@pytest.mark.parametrize("length", [*range(12), (1 << 20) + 1, 0xFFFFFFFF])
def test_a_length_that_is_no_messages_is_refused_on_sight_of_the_header(length: int) -> None:
    header = struct.pack(">QI", 1, length)
    with pytest.raises(ProtocolError, match=f"I/O message of {length} bytes, expected 12 to"):
        list(TtyParser().feed(memoryview(header)))
    assert read(one_by_one(header)) == ([], True)


def test_the_limit_counts_the_whole_message() -> None:
    (piece,) = TtyParser(16).feed(memoryview(raw_message(1, b"1234")))
    assert bytes(piece[1]) == b"1234"
    with pytest.raises(ProtocolError):
        list(TtyParser(16).feed(memoryview(raw_message(1, b"12345"))))


def test_messages_before_a_broken_one_come_out_first() -> None:
    stream = raw_message(1, b"out") + raw_message(1, b"") + struct.pack(">QI", 1, 3)
    assert read([stream]) == ([(1, b"out", 3), (1, b"", 0)], True)


# ---- one message, and nothing else


@given(st.binary(max_size=30), RAW_MESSAGES, st.sampled_from([0, 0, -1, 1]))
def test_sole_is_what_feed_would_say(before: bytes, message: bytes, excess: int) -> None:
    data = memoryview(message[:excess] if excess < 0 else message + bytes(excess))
    parser, other = TtyParser(40), TtyParser(40)
    try:
        for each in (parser, other):
            list(each.feed(memoryview(before)))
    except ProtocolError:
        return
    if seq := parser.sole(data):
        assert [(told, bytes(piece), length) for told, piece, length in other.feed(data)] == [
            (seq, bytes(data[tty.HEADER_BYTES :]), len(data) - tty.HEADER_BYTES)
        ]
        assert not other.midway


def test_sole_finds_what_it_is_for() -> None:
    assert TtyParser().sole(memoryview(raw_message(7, b"abc"))) == 7


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw_message(7, b""),  # the end of file is no data
        raw_message(7, b"abc") + b"\0",
        raw_message(7, b"abc")[:-1],
        raw_message(7, b"x" * 100),
    ],
)
def test_sole_leaves_everything_else_to_feed(data: bytes) -> None:
    assert TtyParser(99).sole(memoryview(data)) == 0


@pytest.mark.parametrize("left", [5, 45])
def test_sole_in_the_middle_of_a_message_is_none(left: int) -> None:
    parser = TtyParser()
    list(parser.feed(memoryview(raw_message(7, bytes(50))[:-left])))
    assert parser.sole(memoryview(raw_message(7, b"abc"))) == 0
    parser = TtyParser()
    list(parser.feed(memoryview(raw_message(7, bytes(50))[:5])))
    assert parser.sole(memoryview(raw_message(7, b"abc"))) == 0
