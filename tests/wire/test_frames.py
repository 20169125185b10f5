"""Frames of protocol 2: their bytes, and that it never matters how they arrive."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccproxy_lib.errors import PayloadTooLarge, ProtocolError
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Frame, FrameParser, Notification, Stream, Type
from fuzz.parsers import joined_stdin
from tests.wire.chunks import CUTS, cut, one_by_one

LIMIT = 1 << 20


def raw_frame(
    flags: int,
    opcode: int,
    payload: bytes,
    more_header: bytes = b"",
    reserved: bytes = b"\0\0\0",
) -> bytes:
    """Make a frame by the specification's table, without the code under test."""
    words = 3 + len(more_header) // 4
    start = struct.pack(">HB3sBBI", 2, words, reserved, flags, opcode, len(payload))
    return start + more_header + payload


def read(chunks: Iterable[bytes], parser: FrameParser | None = None) -> tuple[list[Frame], bool]:
    """Return the frames that come out, and whether the parser then refused the rest."""
    parser = parser or FrameParser()
    found: list[Frame] = []
    try:
        for chunk in chunks:
            for frame in parser.feed(chunk):
                found.append(frame._replace(payload=bytes(frame.payload)))
    except ProtocolError:
        return joined_stdin(found), True
    return joined_stdin(found), False


PAYLOADS = st.binary(max_size=40)
RAW_FRAMES = st.builds(
    raw_frame,
    flags=st.integers(0, 255),
    opcode=st.integers(0, 255),
    payload=PAYLOADS,
    more_header=st.one_of(st.just(b""), st.integers(1, 252).map(lambda words: b"\xee" * 4 * words)),
    reserved=st.binary(min_size=3, max_size=3),
)
# Frames, then perhaps something that is none, or half of one.
STREAMS = st.builds(
    lambda whole, rest: b"".join(whole) + rest,
    st.lists(RAW_FRAMES, max_size=4),
    st.one_of(
        st.binary(max_size=24),
        st.binary(max_size=24).map(lambda rest: b"\0\2\3" + rest),
        RAW_FRAMES.map(lambda frame: frame[: len(frame) // 2]),
    ),
)


# ---- what is sent


def test_a_command_is_twelve_header_bytes_and_its_payload() -> None:
    frame = frames.encode(Type.COMMAND, Command.HYPER, b"{}")
    assert frame == bytes.fromhex("0002 03 000000 00 03 00000002") + b"{}"


def test_an_error_response_has_its_flag_set() -> None:
    frame = frames.encode(Type.RESPONSE, Command.SIGNAL, b"", error=True)
    assert frame == bytes.fromhex("0002 03 000000 11 06 00000000")


def test_process_exited_is_one_byte() -> None:
    frame = frames.encode(Type.NOTIFICATION, Notification.PROCESS_EXITED, b"\x07")
    assert frame == bytes.fromhex("0002 03 000000 03 00 00000001 07")


def test_a_header_alone_announces_what_follows_it() -> None:
    header = frames.header(Type.STREAM, Stream.STDERR, 0x1234)
    assert header == bytes.fromhex("0002 03 000000 02 02 00001234")


def test_opcodes_are_those_of_the_specification() -> None:
    assert {command.name: command.value for command in Command}.items() >= {
        ("REGISTER_VM", 0),
        ("UNREGISTER_VM", 1),
        ("ATTACH_VM", 2),
        ("HYPER", 3),
        ("CONNECT_SHIM", 4),
        ("DISCONNECT_SHIM", 5),
        ("SIGNAL", 6),
    }
    assert [stream.name for stream in sorted(Stream)] == ["STDIN", "STDOUT", "STDERR", "LOG"]
    assert [type.name for type in sorted(Type)] == ["COMMAND", "RESPONSE", "STREAM", "NOTIFICATION"]


@given(st.integers(0, 15), st.integers(0, 255), PAYLOADS, st.booleans())
def test_what_is_encoded_is_parsed_back(
    type: int, opcode: int, payload: bytes, error: bool
) -> None:
    found, refused = read([frames.encode(type, opcode, payload, error)])
    assert not refused
    assert found == [Frame(type, opcode, payload, error)]


# ---- what is received


@given(STREAMS, CUTS)
@example(raw_frame(0, 0, b"x" * 30, more_header=b"\xee" * 1008), [1, 13, 1000])
def test_it_does_not_matter_in_what_pieces_a_stream_comes(stream: bytes, places: list[int]) -> None:
    whole = read([stream])
    assert read(one_by_one(stream)) == whole
    assert read(cut(stream, places)) == whole


@given(st.lists(RAW_FRAMES, min_size=1, max_size=6), CUTS)
def test_every_frame_of_a_stream_comes_out_in_order(raw: list[bytes], places: list[int]) -> None:
    expected = [
        Frame(frame[6] & 15, frame[7], frame[frame[2] * 4 :], bool(frame[6] & 16)) for frame in raw
    ]
    assert read(cut(b"".join(raw), places)) == (joined_stdin(expected), False)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_of_any_kind_raise_nothing_but_protocol_errors(chunks: list[bytes]) -> None:
    read(chunks)  # anything else that is raised fails the test


@pytest.mark.parametrize("words", [0, 1, 2])
def test_a_header_too_short_to_be_one_is_refused(words: int) -> None:
    header = bytes([0, 2, words, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ProtocolError, match=f"frame header of {words} words"):
        list(FrameParser().feed(header))
    assert read(one_by_one(header)) == ([], True)


def test_what_a_longer_header_holds_is_skipped() -> None:
    frame = raw_frame(Type.STREAM, Stream.STDOUT, b"payload", more_header=b"whatever" * 10)
    assert read([frame]) == ([Frame(Type.STREAM, Stream.STDOUT, b"payload")], False)


def test_the_longest_header_is_1020_bytes() -> None:
    frame = raw_frame(Type.COMMAND, Command.HYPER, b"{}", more_header=b"\xee" * 1008)
    assert len(frame) == 1022
    assert read([frame[:700], frame[700:]]) == ([Frame(Type.COMMAND, Command.HYPER, b"{}")], False)


def test_reserved_bytes_and_bits_are_ignored() -> None:
    frame = raw_frame(0xE0 | Type.STREAM, Stream.STDIN, b"in", reserved=b"\xff\xff\xff")
    assert read([frame]) == ([Frame(Type.STREAM, Stream.STDIN, b"in")], False)


def test_a_type_or_opcode_that_nobody_knows_is_handed_on() -> None:
    assert read([raw_frame(0x0F, 0xFF, b"")]) == ([Frame(15, 255, b"")], False)


@pytest.mark.parametrize("start", [b"\x01", b"\x02", b"\xff", b"\0\0", b"\0\1", b"\0\3"])
def test_another_version_is_refused_with_its_first_byte_that_cannot_fit(start: bytes) -> None:
    parser = FrameParser()
    for byte in one_by_one(start[:-1]):
        assert not list(parser.feed(byte))
    with pytest.raises(ProtocolError, match="not those of a version 2 frame"):
        list(parser.feed(start[-1:]))


def test_another_version_in_a_whole_header_is_named() -> None:
    with pytest.raises(ProtocolError, match="protocol version 3, expected 2"):
        list(FrameParser().feed(b"\0\3" + raw_frame(0, 0, b"")[2:]))


def test_frames_before_a_broken_one_come_out_first() -> None:
    good = raw_frame(Type.COMMAND, Command.SIGNAL, b"{}")
    assert read([good + good + b"GET / HTTP/1.1"]) == ([Frame(0, 6, b"{}")] * 2, True)


# ---- limits


def test_four_gigabytes_are_refused_on_sight_of_the_header() -> None:
    header = bytes.fromhex("0002 03 000000 00 03 ffffffff")
    with pytest.raises(PayloadTooLarge, match="4294967295 bytes is over the limit") as caught:
        list(FrameParser().feed(header))
    assert (caught.value.type, caught.value.opcode) == (Type.COMMAND, Command.HYPER)


def test_the_twelfth_header_byte_is_enough_to_refuse_a_length() -> None:
    header = bytes.fromhex("0002 03 000000 02 00 00100001")
    parser = FrameParser()
    assert not list(parser.feed(header[:11]))
    with pytest.raises(PayloadTooLarge) as caught:
        list(parser.feed(header[11:]))
    assert (caught.value.type, caught.value.opcode) == (Type.STREAM, Stream.STDIN)


def test_a_payload_of_exactly_the_limit_is_taken() -> None:
    frame = raw_frame(0, 0, b"x" * LIMIT)
    assert read([frame]) == ([Frame(0, 0, b"x" * LIMIT)], False)
    assert read([frame[:-1], frame[-1:]]) == ([Frame(0, 0, b"x" * LIMIT)], False)


def test_the_limit_can_be_chosen() -> None:
    assert read([raw_frame(0, 0, b"12345")], FrameParser(5)) == ([Frame(0, 0, b"12345")], False)
    assert read([raw_frame(0, 0, b"123456")], FrameParser(5)) == ([], True)


def test_the_limit_holds_for_each_of_neighbouring_frames_of_stdin() -> None:
    stdin = [raw_frame(Type.STREAM, Stream.STDIN, payload) for payload in (b"12345", b"123456")]
    frame = Frame(Type.STREAM, Stream.STDIN, b"12345")
    assert read([b"".join(stdin)], FrameParser(5)) == ([frame], True)


def test_no_memory_is_taken_on_the_word_of_a_length() -> None:
    parser = FrameParser(max_payload_bytes=1 << 30)
    tracemalloc.start()
    try:
        assert not list(parser.feed(bytes.fromhex("0002 03 000000 02 00 40000000") + b"start"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 16


# ---- views and copies


def test_a_payload_that_lies_whole_in_a_chunk_is_not_copied() -> None:
    chunk = raw_frame(2, 1, b"first") + raw_frame(2, 2, b"second")
    payloads = [frame.payload for frame in FrameParser().feed(chunk)]
    assert payloads == [b"first", b"second"]
    assert all(isinstance(view, memoryview) and view.obj is chunk for view in payloads)


def test_a_frame_across_chunks_is_a_copy_and_those_behind_it_are_views() -> None:
    stream = raw_frame(2, 1, b"across") + raw_frame(2, 1, b"behind")
    parser = FrameParser()
    assert not list(parser.feed(stream[:15]))
    chunk = stream[15:]
    first, second = parser.feed(chunk)
    assert (first.payload, second.payload) == (b"across", b"behind")
    assert isinstance(first.payload, bytes)
    assert isinstance(second.payload, memoryview) and second.payload.obj is chunk


@given(RAW_FRAMES, st.integers(0, 1 << 16))
def test_midway_tells_whether_a_frame_has_begun_and_not_ended(frame: bytes, place: int) -> None:
    parser = FrameParser()
    assert not parser.midway
    place %= len(frame)
    assert not list(parser.feed(frame[:place]))
    assert parser.midway == (place > 0)
    assert len(list(parser.feed(frame[place:]))) == 1
    assert not parser.midway


def test_frames_completed_in_a_later_chunk_are_counted() -> None:
    parser, frame = FrameParser(), raw_frame(2, 1, b"payload")
    for chunk in (frame + frame, frame[:5], frame[5:] + frame[:14], frame[14:], frame):
        list(parser.feed(chunk))
    assert parser.completed == 2


@pytest.mark.parametrize("come", range(20))
def test_what_has_come_of_an_abandoned_frame(come: int) -> None:
    parser = FrameParser()
    assert list(parser.feed(frames.encode(Type.STREAM, 1, b"whole"))) == [Frame(2, 1, b"whole")]
    assert list(parser.feed(frames.encode(Type.STREAM, 2, b"12345678")[:come])) == []
    rest = b"12345678"[: max(0, come - 12)]
    assert parser.abandon() == (Frame(2, 2, rest) if rest else None)
    assert not parser.midway
    assert list(parser.feed(frames.encode(Type.STREAM, 1, b"next"))) == [Frame(2, 1, b"next")]


# ---- stdin


def test_neighbouring_frames_of_stdin_come_out_as_one() -> None:
    first, end, entry = stdin(b"1"), stdin(b""), raw_frame(Type.STREAM, Stream.LOG, b"abc")
    chunk = first + stdin(b"2") + entry + stdin(b"3") + end + stdin(b"4") + stdin(b"5") + end[:5]
    payloads = [bytes(frame.payload) for frame in FrameParser().feed(chunk)]
    assert payloads == [b"12", b"abc", b"3", b"", b"45"]


def stdin(data: bytes) -> bytes:
    return raw_frame(Type.STREAM, Stream.STDIN, data)


# ---- one frame of stdin, and nothing else

FIRST_FRAMES = st.builds(
    raw_frame,
    st.sampled_from([Type.STREAM, Type.STREAM, Type.COMMAND, Type.STREAM | frames.ERROR_FLAG]),
    st.sampled_from([Stream.STDIN, Stream.STDIN, Stream.LOG]),
    st.binary(max_size=20),
    st.sampled_from([b"", b"", b"more"]),
)


@st.composite
def same_state(draw) -> tuple[FrameParser, FrameParser, bytes]:
    """Two parsers that have read the same, and what both read next."""
    before, frame = draw(st.binary(max_size=5)), draw(FIRST_FRAMES)
    excess, limit = draw(st.sampled_from([0, 0, -1, 1])), draw(st.sampled_from([9, 99]))
    if read([before], FrameParser(limit)) != ([], False):
        before = b""  # it must be the beginning of a frame
    parser, other = FrameParser(limit), FrameParser(limit)
    read([before], parser)
    read([before], other)
    return parser, other, frame[:excess] if excess < 0 else frame + b"\0" * excess


@given(same_state())
def test_sole_stdin_is_what_feed_would_say(state) -> None:
    parser, other, data = state
    sole = parser.sole_stdin(data)
    if sole is not None:
        (told,), refused = read([data], other)
        assert not refused
        assert (told.type, told.opcode, told.payload) == (Type.STREAM, Stream.STDIN, sole)
        assert not parser.midway


def test_sole_stdin_finds_what_it_is_for() -> None:
    assert FrameParser().sole_stdin(raw_frame(Type.STREAM, Stream.STDIN, b"abc")) == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw_frame(Type.STREAM, Stream.STDIN, b""),  # the end of file is no data
        raw_frame(Type.STREAM, Stream.STDIN, b"abc") + b"\0",
        raw_frame(Type.STREAM, Stream.STDIN, b"abc")[:-1],
        raw_frame(Type.STREAM, Stream.STDIN, b"x" * 100),
        raw_frame(Type.STREAM, Stream.LOG, b"abc"),
    ],
)
def test_sole_stdin_leaves_everything_else_to_feed(data: bytes) -> None:
    assert FrameParser(99).sole_stdin(data) is None


def test_sole_stdin_in_the_middle_of_a_frame_is_none() -> None:
    parser = FrameParser()
    list(parser.feed(raw_frame(Type.STREAM, Stream.STDIN, bytes(50))[:-20]))
    assert parser.sole_stdin(raw_frame(Type.STREAM, Stream.STDIN, b"abc")) is None


@given(same_state())
def test_a_sole_command_is_what_feed_would_say(state) -> None:
    parser, other, data = state
    sole = parser.sole_command(data)
    if sole is not None:
        (told,), refused = read([data], other)
        assert not refused
        assert (told.type, told.opcode, told.payload, told.error) == (Type.COMMAND, *sole, False)
        assert not parser.midway


@pytest.mark.parametrize("payload", [b"", b"{}", b"x" * 99])
def test_a_sole_command_is_found(payload: bytes) -> None:
    data = raw_frame(Type.COMMAND, Command.HYPER, payload)
    assert FrameParser(99).sole_command(data) == (Command.HYPER, payload)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw_frame(Type.COMMAND, Command.HYPER, b"{}") + b"\0",
        raw_frame(Type.COMMAND, Command.HYPER, b"{}")[:-1],
        raw_frame(Type.COMMAND, Command.HYPER, b"")[:-1],
        raw_frame(Type.COMMAND, Command.HYPER, b"x" * 100),
        raw_frame(Type.COMMAND, Command.HYPER, b"{}", b"more"),
        raw_frame(Type.COMMAND | frames.ERROR_FLAG, Command.HYPER, b"{}"),
        raw_frame(Type.STREAM, Stream.LOG, b"{}"),
        raw_frame(Type.STREAM, Stream.STDIN, b"abc"),
    ],
)
def test_all_but_a_sole_command_is_left_to_feed(data: bytes) -> None:
    assert FrameParser(99).sole_command(data) is None


def test_a_sole_command_in_the_middle_of_a_frame_is_none() -> None:
    parser = FrameParser()
    list(parser.feed(raw_frame(Type.STREAM, Stream.STDIN, bytes(50))[:-20]))
    assert parser.sole_command(raw_frame(Type.COMMAND, Command.HYPER, b"{}")) is None
