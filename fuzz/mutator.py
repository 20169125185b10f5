"""Random changes to known inputs: what fuzzes where atheris cannot be installed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MAX_BYTES = 4096
CHANGES = (1, 1, 1, 2, 3, 6)
# Where lengths and numbers change their meaning.
EDGES = (0, 1, 2, 3, 7, 8, 9, 11, 12, 13, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF)

# What single bytes seldom make.
WORDS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"{}", b"[]", b'""', b"0", b"1", b"-1"),
    *(b"null", b"true", b"false", b"NaN", b"1e9", b"1.5", b"\\u0073", b"\\ud800", b"\xc5\xbf"),
    *(b'"process":', b'"stdio":', b'"stderr":', b'"terminal":', b'"container":', b'"id":'),
    *(b'"containerId":', b'"numIOStreams":', b'"hyperName":', b'"tokens":', b'"data":'),
    *(b'"signalNumber":', b'"nStreams":', b"newcontainer", b"execcmd", b"allocateIO", b"bye"),
    *(b"\0\x02\x03\0", b"\0\0\0\x08", b"\0\0\0\x0c", b"\xff\xff\xff\xff", b"\r\n"),
    *(b"\xf5\xf50", b"\xf5\xf51", b"\xf5\xf5c", b"\xf5\xf5d", b"\xf5\xf5f", b"\xf5\xf5h"),
    *(b"\xf5\xf5i", b"\xf5\xf5r", b"\xf5\xf5x"),
)

Change = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutate(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return one of the corpus's inputs with a few changes."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice(CHANGES)):
        chance.choice(_CHANGES)(chance, data, corpus)
    return bytes(data[:MAX_BYTES])


def _flip_bit(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set_byte(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _set_edge(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    width = chance.choice((1, 2, 4, 8))
    edge = chance.choice(EDGES) & ((1 << 8 * width) - 1)
    start = chance.randrange(len(data) + 1)
    data[start : start + width] = edge.to_bytes(width, "big")


def _delete(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start, stop = _span(chance, data)
    del data[start:stop]


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start, stop = _span(chance, data)
    data[stop:stop] = data[start:stop] * chance.choice((1, 1, 2, 20))


def _insert(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.randbytes(chance.randint(1, 8))


def _insert_word(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start : start + chance.choice((0, 0, 1, 4))] = chance.choice(WORDS)


def _splice(chance: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = chance.choice(corpus)
    start, stop = _span(chance, other)
    into = chance.randrange(len(data) + 1)
    data[into:into] = other[start:stop]


def _cut(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _span(chance: random.Random, data: bytes | bytearray) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.randint(0, 1 << chance.randrange(8)))


_CHANGES: tuple[Change, ...] = (
    _flip_bit,
    _set_byte,
    _set_edge,
    _delete,
    _repeat,
    _insert,
    _insert_word,
    _insert_word,
    _splice,
    _cut,
)
