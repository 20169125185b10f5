"""Output in order: batches, the queue, another connection, the end."""

from __future__ import annotations

import pytest

from ccproxy_lib.state.output import BURST_BYTES, FrameQueue, Output
from ccproxy_lib.wire.frames import Stream
from tests.state.sent import IOV_MAX, drain, err, exited, out, read, stdout_frame

# ---- the batch


def test_without_output_there_is_no_batch() -> None:
    output = Output()
    assert output.batch() == []
    output.keep_unsent()
    assert not output.queue


def test_neighbouring_messages_of_one_stream_become_one_frame() -> None:
    output = Output()
    for stream, piece in [
        (Stream.STDOUT, b"a"),
        (Stream.STDOUT, b"b"),
        (Stream.STDERR, b"c"),
        (Stream.STDOUT, b"d"),
    ]:
        output.add(stream, memoryview(piece))
    assert read(b"".join(output.batch())) == [out(b"ab"), err(b"c"), out(b"d")]


def test_large_pieces_are_not_copied_and_small_ones_are_joined() -> None:
    output = Output()
    large = [memoryview(b"x" * 4096), memoryview(b"y" * 4096)]
    for piece in large:
        output.add(Stream.STDOUT, piece)
    for _ in range(10):
        output.add(Stream.STDERR, memoryview(b"z"))
    batch = output.batch()
    assert [len(buffer) for buffer in batch] == [12, 4096, 4096, 22]
    assert all(any(buffer is piece for buffer in batch) for piece in large)


def test_a_batch_that_was_sent_is_over() -> None:
    output = Output()
    output.add(Stream.STDOUT, memoryview(b"sent"))
    output.keep_unsent(len(b"".join(output.batch())))
    assert not output.queue
    assert output.batch() == []


def test_what_is_kept_is_a_copy() -> None:
    output, buffer = Output(), bytearray(b"first")
    output.add(Stream.STDOUT, memoryview(buffer))
    output.keep_unsent(3)
    buffer[:] = b"other"
    assert stdout_frame(b"first")[:3] + drain(output) == stdout_frame(b"first")


def test_more_runs_than_sendmsg_takes_buffers_go_out_all_the_same() -> None:
    output = Output()
    expected = [out(b"a"), err(b"b")] * 2000
    for _, opcode, payload in expected:
        output.add(Stream(opcode), memoryview(payload))
    batch = output.batch()
    assert len(batch) <= IOV_MAX
    assert read(b"".join(batch)) == expected
    output.keep_unsent(5)
    assert read(b"".join(batch)[:5] + drain(output)) == expected


def test_what_the_socket_took_of_a_batch_does_not_come_again() -> None:
    expected = [out(b"first"), err(b"second"), out(b"3"), err(b"last")]
    whole = b"".join(stdout_frame(payload) for _, _, payload in expected)
    for taken in range(len(whole) + 1):
        output = Output()
        for _, opcode, payload in expected:
            output.add(Stream(opcode), memoryview(payload))
        sent = b"".join(output.batch())[:taken]
        output.keep_unsent(taken)
        assert output.kept_bytes == len(whole) - taken
        assert read(sent + drain(output)) == expected


# ---- the queue


def test_an_offer_to_the_socket_has_its_bounds() -> None:
    queue = FrameQueue()
    large = [stdout_frame(b"%d" % n * (BURST_BYTES // 2)) for n in range(5)]
    for frame in large:
        queue.push(frame)
    assert BURST_BYTES <= sum(map(len, queue.buffers())) < 2 * BURST_BYTES
    assert drain(queue) == b"".join(large)


def test_a_queue_of_many_frames_is_offered_in_parts() -> None:
    queue = FrameQueue()
    many = [stdout_frame(b"%d" % n) for n in range(3000)]
    for frame in many:
        queue.push(frame)
    assert drain(queue) == b"".join(many)
    assert queue.size_bytes == 0


def test_a_frame_can_be_queued_with_part_of_it_sent() -> None:
    queue, frame = FrameQueue(), stdout_frame(b"answer")
    queue.push(frame, 5)
    assert queue.midway
    assert queue.size_bytes == len(frame) - 5
    assert drain(queue) == frame[5:]
    assert not queue and not queue.midway


def test_midway_is_only_inside_a_frame() -> None:
    queue, frame = FrameQueue(), stdout_frame(b"x")
    queue.push(frame)
    queue.push(frame)
    seen = []
    for _ in range(2 * len(frame)):
        seen.append(queue.midway)
        queue.consume(1)
    assert seen == [False, *[True] * (len(frame) - 1)] * 2
    assert not queue


def test_whoever_waits_for_room_is_told_when_there_is_more() -> None:
    queue, told = FrameQueue(), []
    queue.on_taken = lambda: told.append(queue.size_bytes)
    queue.push(stdout_frame(b"12345678"))
    assert told == []
    queue.consume(15)
    assert told == [5]
    queue.clear()
    assert told == [5, 0]
    assert not queue and not queue.midway


# ---- another connection


@pytest.mark.parametrize("sent", range(12))
def test_a_frame_whose_header_was_cut_off_starts_again(sent: int) -> None:
    queue, frame = FrameQueue(), stdout_frame(b"payload")
    queue.push(frame)
    queue.consume(sent)
    queue.rewind()
    assert not queue.midway
    assert queue.size_bytes == len(frame)
    assert drain(queue) == frame


@pytest.mark.parametrize("sent", range(12, 12 + 7))
def test_a_frame_whose_payload_was_cut_off_starts_again_with_the_rest(sent: int) -> None:
    queue, frame = FrameQueue(), stdout_frame(b"payload")
    queue.push(frame)
    queue.push(stdout_frame(b"next"))
    queue.consume(sent)
    queue.rewind()
    assert not queue.midway
    rest = stdout_frame(frame[sent:]) + stdout_frame(b"next")
    assert queue.size_bytes == len(rest)
    assert drain(queue) == rest


def test_between_frames_there_is_nothing_to_rewind() -> None:
    queue = FrameQueue()
    queue.rewind()
    queue.push(stdout_frame(b"a"))
    queue.push(stdout_frame(b"b"))
    queue.consume(13)
    queue.rewind()
    assert drain(queue) == stdout_frame(b"b")


# ---- the end


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_exit_status_comes_behind_everything(status: int) -> None:
    output = Output()
    output.add(Stream.STDOUT, memoryview(b"kept"))
    output.keep_unsent()
    output.add(Stream.STDERR, memoryview(b"in the batch"))
    output.end(status)
    assert read(drain(output)) == [out(b"kept"), err(b"in the batch"), exited(status)]


def test_what_nobody_wants_is_dropped() -> None:
    output = Output()
    output.add(Stream.STDOUT, memoryview(b"kept"))
    output.keep_unsent()
    output.add(Stream.STDOUT, memoryview(b"in the batch"))
    output.discard()
    assert output.batch() == [] and not output.queue
    output.add(Stream.STDERR, memoryview(b"later"))
    output.add(Stream.STDERR, memoryview(b"later"))
    assert output.batch() == []
    output.end(0)
    assert not output.queue
    assert output.kept_bytes == 0
