"""Fuzz targets for what parses: a target is fed bytes and must hold its promises.

A parser may raise ProtocolError, what reads a payload CommandError, and nothing
else.  How a stream is cut into chunks must not matter, JSON must be handed on as
it came, and a target returns whether its input was valid.
"""

from __future__ import annotations

import itertools
import json as reference
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ccproxy_lib.errors import CommandError, PayloadError, ProtocolError
from ccproxy_lib.wire import ctl, frames, generation, json, lines, messages, payloads, process, tty
from ccproxy_lib.wire.ctl import Code

# Low, so that inputs over it need not be large.
LIMIT_BYTES = 2048
LONGEST_CHUNK_BYTES = 40


class Outcome(NamedTuple):
    """What came out of a stream: its messages, the error that ended it, the state it is left in."""

    messages: list[Any]
    error: type[ProtocolError] | None
    midway: bool


Stream = Callable[[Iterable[bytes]], Outcome]


# ---- streams


def _outcome(parser: Any, parsed: Iterator[Any]) -> Outcome:
    found: list[Any] = []
    try:
        found.extend(parsed)
    except ProtocolError as error:
        return Outcome(found, type(error), False)
    return Outcome(found, None, parser.midway)


def joined_stdin(found: Iterable[frames.Frame]) -> list[frames.Frame]:
    """Make one of neighbouring frames of stdin; which of them come out as one is no matter."""
    joined: list[frames.Frame] = []
    for frame in found:
        payload = bytes(frame.payload)
        if joined and _is_stdin(joined[-1]) and _is_stdin(frame):
            payload = bytes(joined.pop().payload) + payload
        joined.append(frame._replace(payload=payload))
    return joined


def _is_stdin(frame: frames.Frame) -> bool:
    stdin = (frames.Type.STREAM, frames.Stream.STDIN, False)
    return (frame.type, frame.opcode, frame.error) == stdin and len(frame.payload) > 0


def _frames(chunks: Iterable[bytes]) -> Outcome:
    parser = frames.FrameParser(LIMIT_BYTES)
    fed = itertools.chain.from_iterable(map(parser.feed, chunks))
    outcome = _outcome(parser, (frame._replace(payload=bytes(frame.payload)) for frame in fed))
    return outcome._replace(messages=joined_stdin(outcome.messages))


def _messages(chunks: Iterable[bytes]) -> Outcome:
    parser = messages.MessageParser(LIMIT_BYTES)
    return _outcome(parser, itertools.chain.from_iterable(map(parser.feed, chunks)))


def _ctl(chunks: Iterable[bytes]) -> Outcome:
    parser = ctl.CtlParser(LIMIT_BYTES)
    return _outcome(parser, itertools.chain.from_iterable(map(parser.feed, chunks)))


def _tty(chunks: Iterable[bytes]) -> Outcome:
    parser = tty.TtyParser(LIMIT_BYTES)
    fed = itertools.chain.from_iterable(parser.feed(memoryview(chunk)) for chunk in chunks)
    outcome = _outcome(parser, ((seq, bytes(piece), length) for seq, piece, length in fed))
    return outcome._replace(messages=_joined(outcome.messages))


def _joined(pieces: Iterable[tuple[int, bytes, int]]) -> list[tuple[int, bytes, int]]:
    """Put the pieces of each message together."""
    whole: list[tuple[int, bytes, int]] = []
    for seq, piece, length in pieces:
        assert bool(piece) == bool(length), "an empty piece of a message that is not"
        if whole and len(whole[-1][1]) < whole[-1][2]:
            begun_seq, begun, begun_length = whole.pop()
            assert (begun_seq, begun_length) == (seq, length), "a piece of another message"
        else:
            begun = b""
        assert len(begun) + len(piece) <= length, "more than the message holds"
        whole.append((seq, begun + piece, length))
    return whole


def _lines(chunks: Iterable[bytes]) -> Outcome:
    splitter = lines.LineSplitter(LONGEST_CHUNK_BYTES)
    found = list(itertools.chain.from_iterable(map(splitter.feed, chunks)))
    assert max(map(len, found), default=0) <= LONGEST_CHUNK_BYTES, "a line over the limit"
    return Outcome(found, None, False)


def chunks(data: bytes, size: int) -> list[bytes]:
    """Cut data into chunks of ``size`` bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def same_in_chunks(stream: Stream, data: bytes, size: int) -> bool:
    """Assert that chunks of ``size`` bytes give what one piece does; return whether it is valid."""
    whole = stream([data])
    assert stream(chunks(data, size)) == whole, f"chunks of {size} bytes matter"
    return whole.error is None


STREAMS: dict[str, Stream] = {
    "frames": _frames,
    "messages": _messages,
    "ctl": _ctl,
    "tty": _tty,
    "lines": _lines,
}


# ---- payloads: one byte that chooses, perhaps, and the rest


def first_bytes(data: bytes) -> bool:
    """Detect the protocol; with more bytes the answer may come, but never change."""
    answers: list[Any] = []
    for length in range(min(len(data), 2 * messages.HEADER_BYTES) + 1):
        try:
            answers.append(generation.detect(data[:length]))
        except ProtocolError:
            answers.append(ProtocolError)
    decided = [answer for answer in answers if answer is not None]
    assert len(set(decided)) <= 1, answers
    assert answers[len(answers) - len(decided) :] == decided, answers
    return ProtocolError not in decided


def json_text(data: bytes) -> bool:
    """Read JSON in both ways; where members are found they are those of the reference."""
    try:
        json.check_depth(data)
        json.parse_object(data)
        text = json.decode_text(data)
        found = json.members(text)
    except PayloadError:
        return False
    pairs = _pairs(text)
    if pairs is not None:
        assert [(member.name, _value(text[member.start : member.end])) for member in found] == pairs
    for member in found:
        assert 0 < member.start < member.end < len(text)
        json.value_of(text, member)
    return True


_PAYLOADS: tuple[Callable[[bytes], object], ...] = (
    payloads.parse_register_vm,
    payloads.parse_unregister_vm,
    payloads.parse_attach_vm,
    payloads.parse_hyper,
    payloads.parse_connect_shim,
    payloads.parse_signal,
    payloads.parse_log_entry,
    messages.parse_request,
)


def payload(data: bytes) -> bool:
    """Parse the payload of one command, chosen by the first byte."""
    parse = _PAYLOADS[(data[0] if data else 0) % len(_PAYLOADS)]
    try:
        request = parse(data[1:])
    except CommandError as error:
        payloads.error_response(str(error))
        return False
    except ProtocolError:
        assert parse is messages.parse_request
        return False
    if isinstance(request, payloads.Hyper) and request.data:
        _value(request.data)
    return True


def process_start(data: bytes) -> bool:
    """Give a process its numbers; all else must stay as it was."""
    code = Code.EXEC_CMD if data[:1] == b"\x01" else Code.NEW_CONTAINER
    try:
        json.check_depth(data[1:])
        text = json.decode_text(data[1:])
        start = process.parse_process_start(code, text)
    except CommandError:
        return False
    patched = start.with_numbers(1001, 1002).decode()
    before = _inner(text)
    after = _inner(patched)
    numbers = {"stdio": "1001"} if start.terminal else {"stdio": "1001", "stderr": "1002"}
    chosen = [(json.fold(name), value) for name, value in after if json.fold(name) in numbers]
    assert dict(chosen) == numbers and len(chosen) == len(numbers), (text, patched)
    rest = [each for each in after if json.fold(each[0]) not in numbers]
    assert rest == [each for each in before if json.fold(each[0]) not in numbers], (text, patched)
    return True


def _inner(text: str) -> list[tuple[str, str]]:
    """Return the names and texts of the process's members."""
    found = json.find(json.members(text), "process")
    assert found
    return [
        (member.name, text[member.start : member.end]) for member in json.members(text, found.start)
    ]


def _value(text: str) -> Any:
    return reference.loads(text, parse_int=str, parse_float=str)


def _pairs(text: str) -> Sequence[tuple[str, Any]] | None:
    """Return the outermost object's members as the reference sees them, None if it refuses."""
    levels: list[list[tuple[str, Any]]] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        levels.append(pairs)
        return dict(pairs)

    try:
        reference.loads(text, object_pairs_hook=note, parse_int=str, parse_float=str)
    except ValueError:
        return None
    return levels[-1]


# ---- all of them


def _stream_target(stream: Stream) -> Callable[[bytes], bool]:
    def target(data: bytes) -> bool:
        return same_in_chunks(stream, data, 1 + zlib.crc32(data) % LONGEST_CHUNK_BYTES)

    return target


TARGETS: dict[str, Callable[[bytes], bool]] = {
    **{name: _stream_target(stream) for name, stream in STREAMS.items()},
    "generation": first_bytes,
    "json": json_text,
    "payloads": payload,
    "process": process_start,
}
