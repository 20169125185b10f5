"""A VM's I/O channel: the way of a byte between a process and its shim.

From the VM, the reader takes as much as the socket has, adds each message to the
output of the session that its number leads to, and lets every session it has
touched send its batch.  To the VM, what sessions have put into the shared input
queue leaves in one go for all of them, never tearing a message header; the writer
waits where that cannot be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import gevent
from gevent.event import Event

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.host.hangup import HasDescriptor, hung_up
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.io_dump import IoDump, Messages
from ccproxy_lib.service.stream import Bell, Stream
from ccproxy_lib.service.traces import session_tags
from ccproxy_lib.service.turns import give_way
from ccproxy_lib.service.unread import Unread
from ccproxy_lib.service.waiting import LEFT_BEHIND_BYTES, LOOK_EVERY_S
from ccproxy_lib.state.input import Input, InputQueue
from ccproxy_lib.state.output import Buffer
from ccproxy_lib.state.session import Session
from ccproxy_lib.state.vm import Route, Vm
from ccproxy_lib.wire.tty import HEADER_BYTES, TtyParser

READ_BYTES = 256 * 1024
# More than any socket holds, and an end for a guest that goes on sending.
DRAIN_READS = 64
WRITES_IN_A_ROW = 8

log = logging.getLogger(__name__)

# A message of this length may be an exit status.
STATUS_BYTES = HEADER_BYTES + 1

# All readers share one buffer: what a read brings has left it, or has been copied,
# before the reader waits for anything.
_buffer = memoryview(bytearray(READ_BYTES))


class IoChannel:
    """The streams of one VM.

    ``on_exit`` is called with a session and its process's exit status,
    ``on_lost`` with the reason when the channel ends.
    """

    def __init__(
        self,
        vm: Vm,
        channel: Stream,
        buffer_bytes: int,
        on_exit: Callable[[Session, int], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._vm = vm
        self._stream = channel
        self._buffer_bytes = buffer_bytes
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._input = InputQueue()
        # Whether what is in the queue will be sent without another word.
        self._flushing = False
        self._run_soon = gevent.get_hub().loop.run_callback
        # The writer's work: what the flush could not send, then the queue.
        self._rest: Buffer = b""
        self._has_work = Bell()
        self._unread = Unread(channel)
        self._parser = TtyParser()
        self._dump = IoDump(vm)
        self._broken = False
        self._closed = False
        # Rung for a reader that waits for a shim.
        self._has_room = Bell()
        gevent.spawn(self._read)
        gevent.spawn(self._write)

    def close(self) -> None:
        """Close the channel; its greenlets end."""
        self._closed = True
        self._stream.close()
        self._has_work.ring()
        self._has_room.ring()

    # ---- to the VM

    def write(self, target: Input, data: bytes | memoryview, client: HasDescriptor) -> None:
        """Queue stdin of a client for a process; waits while its buffer is full.

        For a client that has gone it does not, up to LEFT_BEHIND_BYTES: until it is
        let go of, no other can claim its session.
        """
        if target.size_bytes >= self._buffer_bytes and not target.eof:
            self._wait_for_process(target, client)
        self._input.push(target, data)
        if not self._flushing:
            self._flush_soon()

    def take(self, target: Input, data: memoryview) -> bool:
        """Queue stdin for a process; False, and nothing is done, if its buffer is full."""
        if target.size_bytes >= self._buffer_bytes:
            return False
        self._input.push(target, data)
        if not self._flushing:
            self._flush_soon()
        return True

    def _wait_for_process(self, target: Input, client: HasDescriptor) -> None:
        """Wait until half of the buffer is free, not to be woken for each message taken."""
        has_room = Event()

        def look() -> None:
            if target.size_bytes * 2 <= self._buffer_bytes or target.eof:
                has_room.set()

        most_bytes = self._buffer_bytes + LEFT_BEHIND_BYTES
        target.on_taken = look
        while not (target.size_bytes < most_bytes and hung_up(client)):
            if has_room.wait(LOOK_EVERY_S):
                break
        target.on_taken = None

    def write_eof(self, target: Input) -> None:
        """Close a process's stdin behind what is queued."""
        self._input.push_eof(target)
        if not self._flushing:
            self._flush_soon()

    def drop(self, target: Input) -> None:
        """Forget the input of a process that is over."""
        self._input.drop(target)

    def _flush_soon(self) -> None:
        """Send what is in the queue once all clients that have something now were heard.

        So what many sessions have to say leaves in few writes, and without a
        switch of greenlets as long as the VM takes it.
        """
        self._flushing = True
        self._run_soon(self._flush)

    def _flush(self) -> None:
        """Send what the VM takes now; leave the rest to the writer.  Runs in the hub."""
        try:
            for _ in range(WRITES_IN_A_ROW):
                if not self._input or self._closed:
                    self._flushing = False
                    return
                if not self._unread.is_little():
                    break
                write = self._next_write()
                sent = self._stream.try_send((write,))
                if sent < len(write):
                    self._rest = memoryview(write)[sent:]
                    break
        except OSError as error:
            self._on_lost(f"writing to the I/O channel failed: {error.strerror}")
        else:
            self._has_work.ring()

    def _write(self) -> None:
        """Send what has to wait for the VM; the writer greenlet."""
        try:
            while not self._closed:
                self._has_work.wait()
                self._stream.send_all(self._rest)
                self._rest = b""
                writes = 0
                while self._input:
                    self._unread.wait_until_little()
                    self._stream.send_all(self._next_write())
                    writes += 1
                    if writes % WRITES_IN_A_ROW == 0:
                        give_way()  # a VM that reads fast would keep us here
                self._flushing = False
        except OSError as error:
            self._on_lost(f"writing to the I/O channel failed: {error.strerror}")

    def _next_write(self) -> bytes:
        write = self._unread.next_write(self._input)
        if log.isEnabledFor(logging.DEBUG):
            self._dump.to_vm(write)
        return write

    # ---- from the VM

    def _read(self) -> None:
        buffer = _buffer
        try:
            while count := self._stream.receive_into(buffer):
                for session in self._route(buffer[:count]):
                    # Read no more: what nobody takes must stay in the VM.
                    if not self._closed:
                        self._wait_for_shim(session)
                if count == READ_BYTES:
                    # There is more, and this VM is not the only one.
                    give_way()
            reason = "the agent closed the I/O channel"
        except ProtocolError as error:
            self._broken = True
            reason = f"the agent broke the I/O protocol: {error}"
        except OSError as error:
            reason = f"reading the I/O channel failed: {error.strerror}"
        self._on_lost(reason)

    def drain(self) -> None:
        """Take what the VM has sent before it went; never waits."""
        try:
            for _ in range(0 if self._broken else DRAIN_READS):
                count = self._stream.plain.recv_into(_buffer)
                if not count:
                    return
                self._route(_buffer[:count])
        except (OSError, ProtocolError):
            return

    def _route(self, read: memoryview) -> Sequence[Session]:
        """Hand each message of one read to its session, then let those sessions send.

        Returns the sessions that are full.
        """
        parser = self._parser
        debugging = log.isEnabledFor(logging.DEBUG)
        route = self._vm.routes.get(parser.sole(read))
        if route is not None and len(read) > STATUS_BYTES and not debugging:
            session = route.session
            session.output.add(route.stream, read[HEADER_BYTES:])
            deliver(session)
            return (session,) if session.output.full else ()
        messages = parser.feed(read)
        if debugging:
            messages = self._dump.from_vm(messages)
        touched = self._sort(messages)
        for session in touched:
            deliver(session)
        return [session for session in touched if session.output.full]

    def _sort(self, messages: Messages) -> Iterable[Session]:
        """Add messages to the output of their sessions, and return those."""
        routes = self._vm.routes
        touched: dict[Session, None] = {}
        for seq, piece, length in messages:
            route = routes.get(seq)
            if route is None:
                self._stray(seq, length)
            elif length > 1 or (length and not route.ended):
                session = route.session
                session.output.add(route.stream, piece)
                touched[session] = None
            else:
                self._end(route, seq, piece)
                touched[route.session] = None
        return touched

    def _wait_for_shim(self, session: Session) -> None:
        fields = session_tags(session)
        error = session.output.overflow_error
        why = {"reason": f"the spool cannot grow: {error.strerror}"} if error else {}
        log.warning(
            "session is full: the VM's output waits for its shim",
            extra=session_tags(session, **why),
        )
        queue = session.output.queue
        queue.on_taken = self._has_room.ring
        while session.output.full and not self._closed:
            self._has_room.wait()
        queue.on_taken = None
        if not self._closed:
            log.warning("session has room again: the VM's output goes on", extra=fields)

    def _end(self, route: Route, seq: int, piece: memoryview) -> None:
        """Take an end of file or an exit status."""
        if piece:
            self._on_exit(route.session, piece[0])
        elif seq == route.session.stdio:
            route.ended = True

    def _stray(self, seq: int, length: int) -> None:
        log.debug("output for no process", extra=tags(vm=self._vm.id, seq=seq, bytes=length))


def deliver(session: Session) -> None:
    """Let a session's batch leave, or be kept until a shim takes it."""
    if session.sink is not None:
        session.sink.deliver()
    else:
        session.output.keep_unsent()
