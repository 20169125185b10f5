"""A console's lines: any bytes, in any pieces, and no line grows without end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.wire.lines import LineSplitter
from tests.wire.chunks import one_by_one

TEXT = st.lists(st.sampled_from([b"a", b"b\xc3\xa9", b"\n", b"\r\n", b"\r", b"\xff", b"\0"])).map(
    b"".join
)


def read(chunks: Iterable[bytes], limit: int = 4096) -> list[str]:
    splitter = LineSplitter(limit)
    return [line for chunk in chunks for line in splitter.feed(chunk)]


def test_lines_come_without_their_ends() -> None:
    assert read([b"first\nsecond\r\n\nlast is not complete"]) == ["first", "second", ""]


def test_a_line_waits_for_its_end() -> None:
    assert read([b"be", b"gin", b"ning\nof ", b"\n"]) == ["beginning", "of "]


@given(TEXT, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_it_does_not_matter_in_what_pieces_lines_come(text: bytes, places: list[int]) -> None:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    pieces = [text[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    lines = text.split(b"\n")[:-1]
    expected = [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]
    assert read([text]) == read(one_by_one(text)) == read(pieces) == expected


@given(TEXT, st.integers(1, 5))
def test_nor_does_it_matter_for_lines_that_are_cut(text: bytes, limit: int) -> None:
    assert read([text], limit) == read(one_by_one(text), limit)


@given(st.binary(max_size=60), st.integers(1, 8))
def test_bytes_of_any_kind_give_lines_of_bounded_length(data: bytes, limit: int) -> None:
    for chunks in ([data], one_by_one(data)):
        assert all(len(line) <= limit for line in read(chunks, limit))


@pytest.mark.parametrize("chunked", [False, True])
def test_an_overlong_line_is_cut_and_the_next_one_read_as_ever(chunked: bool) -> None:
    text = b"x" * 70_000 + b"\nnext\n"
    lines = read(one_by_one(text) if chunked else [text])
    assert all(len(line) <= 4096 for line in lines)
    assert "".join(lines[:-1]) == "x" * 70_000
    assert lines[-1] == "next"


def test_a_line_that_never_ends_is_not_kept() -> None:
    assert read([b"x" * 25], limit=10) == ["x" * 10, "x" * 10]
    assert read([b"x" * 25, b"\n"], limit=10) == ["x" * 10, "x" * 10, "x" * 5]
