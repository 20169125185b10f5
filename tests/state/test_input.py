"""Stdin of many processes on one channel: no header is torn, nobody waits for long."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_lib.state.input import CHUNK_BYTES, Input, InputQueue
from ccproxy_lib.wire.tty import TtyParser

PIECE_BYTES = 4096
HEADER_BYTES = 12


def messages(write: bytes) -> list[tuple[int, bytes]]:
    """Read a write as an agent does; it must hold whole messages only."""
    parser = TtyParser()
    found = [(seq, bytes(data)) for seq, data, _ in parser.feed(memoryview(write))]
    assert not parser.midway
    return found


def header_ends(write: bytes) -> list[int]:
    """Return where in a write each of its headers ends."""
    ends, pos = [], 0
    for _, data in messages(write):
        ends.append(pos + HEADER_BYTES)
        pos += HEADER_BYTES + len(data)
    return ends


def all_messages(queue: InputQueue) -> list[tuple[int, bytes]]:
    found = []
    while queue:
        found += messages(queue.next_write(PIECE_BYTES))
    return found


def cut(write: bytes) -> list[bytes]:
    """Return the pieces in which a VM reads a write."""
    return [write[start : start + PIECE_BYTES] for start in range(0, len(write), PIECE_BYTES)]


# ---- by example


def test_stdin_becomes_a_message_with_the_number_of_its_process() -> None:
    queue, shell = InputQueue(), Input(3)
    assert not queue
    queue.push(shell, b"ls\n")
    assert queue
    assert queue.next_write(PIECE_BYTES) == b"\0\0\0\0\0\0\0\3" + b"\0\0\0\x0f" + b"ls\n"
    assert not queue
    assert queue.next_write(PIECE_BYTES) == b""


def test_neighbouring_pieces_travel_as_one_message() -> None:
    queue, shell = InputQueue(), Input(1)
    for piece in (b"a", memoryview(b"b"), b"c"):
        queue.push(shell, piece)
    assert all_messages(queue) == [(1, b"abc")]


def test_long_stdin_is_split_into_messages_of_4096_bytes() -> None:
    queue, shell = InputQueue(), Input(1)
    queue.push(shell, b"x" * 10_000)
    writes = [queue.next_write(PIECE_BYTES) for _ in range(3)]
    assert [len(write) for write in writes] == [4096, 4096, 10_000 - 2 * 4084 + 12]
    assert not queue


def test_a_write_is_never_longer_than_one_piece() -> None:
    queue, long = InputQueue(), Input(3)
    queue.push(Input(1), b"short")
    queue.push(long, b"x" * 5000)
    assert [len(queue.next_write(PIECE_BYTES)) for _ in range(2)] == [4096, 5000 - 4067 + 12]


def test_a_write_of_several_pieces_has_whole_messages_in_each() -> None:
    queue, one, other = InputQueue(), Input(1), Input(3)
    queue.push(one, b"x" * 10_000)
    queue.push(other, b"y" * 1000)
    first = queue.next_pieces(2)
    assert [[seq for seq, _ in messages(piece)] for piece in cut(first)] == [[1], [3, 1]]
    assert len(first) == 2 * PIECE_BYTES
    assert len(queue.next_pieces(2)) == 10_000 + 1000 + 4 * HEADER_BYTES - 2 * PIECE_BYTES
    assert queue.next_pieces(2) == b""


def test_a_piece_that_is_not_full_is_the_last_of_its_write() -> None:
    queue = InputQueue()
    queue.push(Input(1), b"x" * (PIECE_BYTES - 2 * HEADER_BYTES))
    queue.push(Input(3), b"y")
    assert [seq for seq, _ in messages(queue.next_pieces(2))] == [1]
    assert [seq for seq, _ in messages(queue.next_pieces(2))] == [3]


@pytest.mark.parametrize("left", [11, 12, 13])
def test_a_write_with_room_for_hardly_more_than_a_header_makes_no_end_of_file(left: int) -> None:
    queue = InputQueue()
    queue.push(Input(1), b"x" * (PIECE_BYTES - HEADER_BYTES - left))
    queue.push(Input(3), b"data")
    assert b"".join(data for seq, data in all_messages(queue) if seq == 3) == b"data"
    queue.push(Input(1), b"x" * (PIECE_BYTES - HEADER_BYTES - left))
    queue.push(Input(3), b"data")
    assert all(data for _, data in all_messages(queue))


def test_small_messages_share_a_write() -> None:
    queue = InputQueue()
    for seq in (1, 3, 5):
        queue.push(Input(seq), b"hello")
    assert messages(queue.next_write(PIECE_BYTES)) == [(1, b"hello"), (3, b"hello"), (5, b"hello")]


def test_the_end_of_file_is_an_empty_message_behind_the_data() -> None:
    queue, shell = InputQueue(), Input(1)
    queue.push(shell, b"last words")
    queue.push_eof(shell)
    assert all_messages(queue) == [(1, b"last words"), (1, b"")]


def test_the_end_of_file_alone_is_sent_and_only_once() -> None:
    queue, shell = InputQueue(), Input(1)
    queue.push_eof(shell)
    queue.push_eof(shell)
    assert all_messages(queue) == [(1, b"")]
    queue.push_eof(shell)
    queue.push(shell, b"too late")
    assert all_messages(queue) == []


def test_an_empty_piece_is_no_end_of_file() -> None:
    queue, shell = InputQueue(), Input(1)
    queue.push(shell, b"")
    assert not queue


@pytest.mark.parametrize("headers_within", [-1, 0, 11])
def test_without_room_for_a_header_nothing_is_sent(headers_within: int) -> None:
    queue, shell = InputQueue(), Input(1)
    queue.push(shell, b"data")
    assert queue.next_write(headers_within) == b""
    assert all_messages(queue) == [(1, b"data")]


def test_data_may_reach_beyond_the_room_for_headers() -> None:
    queue = InputQueue()
    queue.push(Input(1), b"x" * 1000)
    queue.push(Input(3), b"y")
    assert messages(queue.next_write(12)) == [(1, b"x" * 1000)]
    assert messages(queue.next_write(12)) == [(3, b"y")]


def test_a_talkative_process_leaves_turns_to_the_others() -> None:
    queue, talker = InputQueue(), Input(1)
    queue.push(talker, b"x" * 20_000)
    order = []
    for seq in (3, 5):
        queue.push(Input(seq), b"y" * 5000)
    while queue:
        order += [seq for seq, _ in messages(queue.next_write(PIECE_BYTES))]
    assert order[:6] == [1, 3, 5, 1, 3, 5]


def test_input_of_a_process_that_is_over_is_forgotten() -> None:
    queue, gone, other = InputQueue(), Input(1), Input(3)
    queue.push(gone, b"x" * 5000)
    queue.push(other, b"y")
    queue.drop(gone)
    queue.push(gone, b"more")
    queue.push_eof(gone)
    assert all_messages(queue) == [(3, b"y")]
    queue.drop(gone)
    queue.drop(other)
    assert not queue


def test_whoever_waits_for_room_is_told_when_there_is_more() -> None:
    queue, shell, told = InputQueue(), Input(1), []
    shell.on_taken = lambda: told.append(shell.size_bytes)
    queue.push(shell, b"x" * 5000)
    assert told == []
    queue.next_write(PIECE_BYTES)
    assert told == [5000 - 4084]
    queue.drop(shell)
    assert told == [5000 - 4084, 0]


def test_what_is_pushed_while_some_is_taken_is_not_lost() -> None:
    queue, shell = InputQueue(), Input(1)
    more = [b"third", b"second"]

    def push_more() -> None:
        if more:
            queue.push(shell, more.pop())

    shell.on_taken = push_more
    queue.push(shell, b"first")
    assert b"".join(data for _, data in all_messages(queue)) == b"firstsecondthird"


# ---- for any sequence

SEQS = (1, 3, 5, 7)
# Sizes with a message, a write or the room in it just full are the likely ones to go wrong.
SIZES = st.one_of(st.integers(0, 30), st.sampled_from([4071, 4072, 4073, 4084, 4085, 9000]))
ROOMS = st.one_of(st.integers(0, PIECE_BYTES), st.sampled_from([11, 12, 13, 4084, PIECE_BYTES]))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push"] * 6 + ["write"] * 3 + ["pieces"] * 2 + ["eof", "drop"]),
        st.sampled_from(SEQS),
        SIZES,
        ROOMS,
    ),
    min_size=8,
    max_size=40,
)


class Model:
    """What each process ought to read, and who has waited for whose turns."""

    def __init__(self) -> None:
        self.due = {seq: bytearray() for seq in SEQS}
        self.closed: set[int] = set()
        self.eof_due: set[int] = set()
        self.turns_waited: dict[int, Counter[int]] = {seq: Counter() for seq in SEQS}

    def waits(self, seq: int) -> bool:
        return bool(self.due[seq]) or seq in self.eof_due

    def take(self, seq: int, data: bytes) -> None:
        assert self.waits(seq)
        for other in SEQS:
            if other != seq and self.waits(other):
                self.turns_waited[other][seq] += 1
                assert self.turns_waited[other][seq] == 1, f"{seq} came twice before {other}"
        self.turns_waited[seq].clear()
        if data:
            assert self.due[seq].startswith(data)
            del self.due[seq][: len(data)]
        else:
            assert not self.due[seq], "the end of file comes behind the data"
            self.eof_due.remove(seq)


@settings(max_examples=2 * settings.default.max_examples)
@given(STEPS)
def test_any_sequence_keeps_bytes_order_turns_and_headers(
    steps: list[tuple[str, int, int, int]],
) -> None:
    queue, model = InputQueue(), Model()
    inputs = {seq: Input(seq) for seq in SEQS}
    made = 0
    for step, seq, size, room in [*steps, *[("write", 0, 0, PIECE_BYTES)] * 60]:
        if step == "push":
            data = bytes((made + n) % 251 for n in range(size))
            made += size
            queue.push(inputs[seq], data)
            if seq not in model.closed:
                model.due[seq] += data
        elif step == "eof":
            queue.push_eof(inputs[seq])
            if seq not in model.closed:
                model.eof_due.add(seq)
            model.closed.add(seq)
        elif step == "drop":
            queue.drop(inputs[seq])
            model.due[seq].clear()
            model.eof_due.discard(seq)
            model.closed.add(seq)
            model.turns_waited[seq].clear()
        elif step == "pieces":
            most = 1 + room % 4
            pieces = cut(queue.next_pieces(most))
            assert len(pieces) <= most
            assert all(len(piece) == PIECE_BYTES for piece in pieces[:-1])
            for piece in pieces:
                for found, data in messages(piece):
                    model.take(found, data)
        else:
            write = queue.next_write(room)
            assert len(write) <= PIECE_BYTES
            assert all(end <= room for end in header_ends(write))
            assert bool(write) == (bool(queue or write) and room >= HEADER_BYTES)
            for found, data in messages(write):
                model.take(found, data)
        assert bool(queue) == any(map(model.waits, SEQS))
    assert not queue, "everything has left in the end"


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.integers(0, 5000),
                st.sampled_from([CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1]),
            ),
        ),
        max_size=30,
    )
)
def test_any_amount_is_taken_in_the_order_in_which_it_came(steps: list[tuple[bool, int]]) -> None:
    shell, due, made = Input(1), bytearray(), 0
    for appending, size in [*steps, (False, 10**6), *[(False, 4084)] * 2]:
        if appending:
            data = bytes((made + n) % 251 for n in range(size))
            made += size
            shell.append(data)
            due += data
        else:
            taken = shell.take(size)
            assert len(taken) <= size
            assert bool(taken) == bool(due and size)
            assert due.startswith(taken)
            del due[: len(taken)]
        assert shell.size_bytes == len(due)
    assert shell.payload_bytes == made
