"""Output that is more than memory may hold."""

from __future__ import annotations

import pytest

from ccproxy_lib.state.output import READ_ALLOWANCE_BYTES, Output
from ccproxy_lib.wire.frames import Stream
from tests.state.sent import MIB, Memory, Message, drain, exited, joined, out, read


def filled(output: Output, count: int, piece: bytes = b"x" * 88) -> list[Message]:
    """Keep ``count`` frames of 100 bytes, and return what they are."""
    for _ in range(count):
        output.add(Stream.STDOUT, memoryview(piece))
        output.keep_unsent()
    return [out(piece)] * count


def test_what_is_over_the_limit_goes_to_the_overflow_and_comes_back_in_order() -> None:
    opened: list[Memory] = []

    def open_overflow() -> Memory:
        opened.append(Memory(MIB))
        return opened[-1]

    output = Output(200, open_overflow)
    expected = filled(output, 2)
    assert not opened and output.spooled_bytes == 0
    expected += filled(output, 5, b"y" * 88)
    assert len(opened) == 1
    assert (output.queue.size_bytes, output.spooled_bytes, output.kept_bytes) == (200, 500, 700)
    output.end(3)
    assert read(drain(output)) == [*expected, exited(3)]
    assert opened[0].closed
    assert output.kept_bytes == output.spooled_bytes == 0


@pytest.mark.parametrize("take_bytes", [1, 13, 100, 130])
def test_it_does_not_matter_in_what_pieces_the_overflow_comes_back(take_bytes: int) -> None:
    output = Output(300, lambda: Memory(MIB, take_bytes))
    expected = filled(output, 20)
    output.end(3)
    assert read(drain(output)) == [*expected, exited(3)]


@pytest.mark.parametrize("capacity", [None, 20, 110, 250, 1000, MIB])
@pytest.mark.parametrize("buffer_bytes", [1, 250, 1000])
@pytest.mark.parametrize("taken", [70, 130, 290])
def test_what_comes_while_some_is_taken_goes_behind_what_is_kept(
    capacity: int | None, buffer_bytes: int, taken: int
) -> None:
    output = Output(buffer_bytes, (lambda: Memory(capacity)) if capacity else None)
    expected, sent = [], b""
    for n in range(60):
        # More comes than goes at first, then nothing at all.
        if n < 20:
            expected += filled(output, 3, b"%2d" % n * 44)
        offered = b"".join(output.buffers())[:taken]
        output.consume(len(offered))
        sent += offered
    assert read(sent + drain(output)) == expected


def test_an_overflow_is_opened_again_when_it_is_needed_again() -> None:
    opened: list[Memory] = []

    def open_overflow() -> Memory:
        opened.append(Memory(MIB))
        return opened[-1]

    output = Output(100, open_overflow)
    for _ in range(2):
        expected = filled(output, 4)
        assert joined(read(drain(output))) == joined(expected)
    assert [overflow.closed for overflow in opened] == [True, True]


def test_discarding_closes_the_overflow() -> None:
    overflow = Memory(MIB)
    output = Output(100, lambda: overflow)
    filled(output, 4)
    assert not overflow.closed
    output.discard()
    assert overflow.closed
    assert output.kept_bytes == 0


def test_without_an_overflow_the_limit_makes_the_output_full() -> None:
    output = Output(200)
    expected = filled(output, 1)
    assert not output.full
    expected += filled(output, 1)
    assert output.full
    expected += filled(output, 2)  # what was read already is kept all the same
    assert output.full and output.kept_bytes == 400
    assert read(drain(output)) == expected
    assert not output.full


def test_with_an_overflow_the_output_is_full_when_the_next_read_might_not_fit() -> None:
    output = Output(100, lambda: Memory(READ_ALLOWANCE_BYTES + 150))
    expected = filled(output, 1)
    assert not output.full, "the overflow has yet to be opened"
    expected += filled(output, 1)
    assert not output.full
    expected += filled(output, 1)
    assert output.full
    assert read(drain(output)) == expected
    assert not output.full


def test_frames_that_the_overflow_has_no_room_for_are_kept_behind_it() -> None:
    output = Output(100, lambda: Memory(250))
    expected = filled(output, 3) + filled(output, 3, b"y" * 88)
    assert output.full
    assert (output.spooled_bytes, output.kept_bytes) == (200, 600)
    assert read(drain(output)) == expected
    assert not output.full


def test_an_overflow_too_small_for_any_frame_holds_up_nothing() -> None:
    output = Output(100, lambda: Memory(50))
    expected = filled(output, 3)
    assert output.full
    assert read(drain(output)) == expected


def test_an_overflow_that_cannot_be_opened_makes_the_output_full_and_loses_nothing() -> None:
    def open_overflow() -> Memory:
        raise OSError("too many open files")

    output = Output(100, open_overflow)
    expected = filled(output, 3)
    assert output.full and output.spooled_bytes == 0
    assert read(drain(output)) == expected


def test_a_full_disk_makes_the_output_full_and_loses_nothing() -> None:
    overflow = Memory(MIB)
    overflows = [Memory(MIB), overflow]
    output = Output(100, overflows.pop)
    expected = filled(output, 3)
    overflow.disk_is_full = True
    expected += filled(output, 2, b"y" * 88)
    assert output.full and output.spooled_bytes == 200
    assert output.overflow_error is not None
    assert read(drain(output)) == expected
    expected = filled(output, 3)
    assert output.overflow_error is None
    assert read(drain(output)) == expected
