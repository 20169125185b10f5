"""Output of a protocol 1 session: packets as the agent sent them, one a write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.state.packets import PacketOutput
from ccproxy_lib.wire import tty
from ccproxy_lib.wire.frames import Stream
from tests.state.sent import MIB, Memory


def writes(output: PacketOutput) -> list[bytes]:
    """Take everything that is kept, as the buffers of one write after another."""
    found = []
    while buffers := output.buffers():
        (packet,) = buffers
        found.append(bytes(packet))
        output.consume(len(packet))
    return found


def test_each_message_is_a_packet_and_a_write_of_its_own() -> None:
    output = PacketOutput(5)
    for stream, data in [(Stream.STDOUT, b"a"), (Stream.STDOUT, b"b"), (Stream.STDERR, b"c")]:
        output.add(stream, memoryview(data))
    assert output.batch() == [], "nothing may leave together with anything else"
    output.keep_unsent()
    assert writes(output) == [tty.encode(5, b"a"), tty.encode(5, b"b"), tty.encode(6, b"c")]


def test_the_end_is_an_empty_packet_and_the_exit_status() -> None:
    output = PacketOutput(5)
    output.add(Stream.STDERR, memoryview(b"last words"))
    output.end(7)
    assert writes(output) == [tty.encode(6, b"last words"), tty.encode(5), tty.encode(5, b"\x07")]


def test_what_nobody_wants_is_dropped_and_does_not_end() -> None:
    output = PacketOutput(5)
    output.add(Stream.STDOUT, memoryview(b"kept"))
    output.keep_unsent()
    output.discard()
    output.add(Stream.STDOUT, memoryview(b"later"))
    output.end(0)
    assert writes(output) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Stream.STDOUT, Stream.STDERR]),
            st.binary(min_size=1, max_size=30),
            st.integers(0, 60),
        ),
        max_size=30,
    ),
    st.sampled_from([1, 50, 1 << 20]),
    st.sampled_from([None, 1, 20, 1 << 20]),
)
def test_packets_keep_their_order_and_edges_however_slowly_they_leave(
    steps: list[tuple[Stream, bytes, int]], buffer_bytes: int, take_bytes: int | None
) -> None:
    output = PacketOutput(
        3, buffer_bytes, (lambda: Memory(MIB, take_bytes)) if take_bytes else None
    )
    expected, sent = [], b""
    for stream, data, taken in steps:
        output.add(stream, memoryview(data))
        output.keep_unsent()
        expected.append(tty.encode(3 if stream is Stream.STDOUT else 4, data))
        offered = b"".join(output.buffers())
        assert len(output.buffers()) == 1 and b"".join(expected).find(offered, len(sent)) == len(
            sent
        )
        sent += offered[:taken]
        output.consume(min(taken, len(offered)))
    output.end(1)
    expected += [tty.encode(3), tty.encode(3, b"\x01")]
    assert sent + b"".join(writes(output)) == b"".join(expected)
