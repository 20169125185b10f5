"""A VM's I/O channel: the way of a byte between a process and its shim.

From the VM, the reader takes as much as the socket has, adds each message to the
output of the session that its number leads to, and lets every session it has
touched send its batch.  To the VM, the writer sends what sessions have put into
the shared input queue, never tearing a message header.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import sys
import termios
from collections.abc import Callable, Iterable

import gevent
from gevent.event import Event

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.host.hangup import HasDescriptor, hung_up
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.io_dump import IoDump
from ccproxy_lib.service.stream import Bell, Stream
from ccproxy_lib.service.traces import session_tags
from ccproxy_lib.service.waiting import LOOK_EVERY_S
from ccproxy_lib.state.input import Input, InputQueue
from ccproxy_lib.state.session import Session
from ccproxy_lib.state.vm import Route, Vm
from ccproxy_lib.wire.tty import MAX_TO_AGENT_BYTES, TtyParser

READ_BYTES = 256 * 1024
# More than any socket holds, and an end for a guest that goes on sending.
DRAIN_READS = 64
WRITES_IN_A_ROW = 16
# Doubled by the kernel.  Large enough for a write of 4096 bytes to stay in one
# piece (half of it, less a little); a socket polls as writable again when at
# most a quarter of it is unread.
SEND_BUFFER_BYTES = 4352
WRITABLE_UNREAD_BYTES = SEND_BUFFER_BYTES * 2 // 4

log = logging.getLogger(__name__)

_NO_INT = bytes(4)
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
        channel.plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._vm = vm
        self._stream = channel
        self._buffer_bytes = buffer_bytes
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._input = InputQueue()
        self._has_input = Bell()
        self._parser = TtyParser()
        self._dump = IoDump(vm)
        self._broken = False
        self.greenlets = [gevent.spawn(self._read), gevent.spawn(self._write)]

    # ---- to the VM

    def write(self, target: Input, data: bytes | memoryview, client: HasDescriptor) -> None:
        """Queue stdin of a client for a process; waits while its buffer is full.

        For a client that has gone it does not: until it is let go of, no other can
        claim its session.  What it had sent before that is no more than a socket holds.
        """
        if len(target.buffer) >= self._buffer_bytes and not target.eof:
            self._wait_for_process(target, client)
        self._input.push(target, data)
        self._has_input.ring()

    def _wait_for_process(self, target: Input, client: HasDescriptor) -> None:
        """Wait until half of the buffer is free, not to be woken for each message taken."""
        has_room = Event()

        def look() -> None:
            if len(target.buffer) * 2 <= self._buffer_bytes or target.eof:
                has_room.set()

        target.on_taken = look
        while not hung_up(client) and not has_room.wait(LOOK_EVERY_S):
            pass
        target.on_taken = None

    def write_eof(self, target: Input) -> None:
        """Close a process's stdin behind what is queued."""
        self._input.push_eof(target)
        self._has_input.ring()

    def drop(self, target: Input) -> None:
        """Forget the input of a process that is over."""
        self._input.drop(target)

    def _write(self) -> None:
        try:
            while True:
                self._has_input.wait()
                writes = 0
                while self._input:
                    write = self._input.next_write(self._headers_within())
                    if log.isEnabledFor(logging.DEBUG):
                        self._dump.to_vm(write)
                    self._stream.send_all(write)
                    writes += 1
                    if writes % WRITES_IN_A_ROW == 0:
                        gevent.sleep(0)  # a VM that reads fast would keep us here
        except OSError as error:
            self._on_lost(f"writing to the I/O channel failed: {error.strerror}")

    def _headers_within(self) -> int:
        """Wait until little is unread; return how far into one piece a header may now end.

        The kernel's count of what is unread includes its own overhead, so it
        errs on the safe side.
        """
        while (unread := _unread_bytes(self._stream)) > WRITABLE_UNREAD_BYTES:
            self._stream.wait_writable()
        return MAX_TO_AGENT_BYTES - unread

    # ---- from the VM

    def _read(self) -> None:
        buffer = _buffer
        try:
            while count := self._stream.receive_into(buffer):
                touched = self._route(buffer[:count])
                self._wait_for_room(touched)
                if count == READ_BYTES:
                    # There is more, and this VM is not the only one.
                    gevent.sleep(0)
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

    def _route(self, read: memoryview) -> Iterable[Session]:
        """Hand each message of one read to its session, then let those sessions send."""
        routes = self._vm.routes
        touched: dict[Session, None] = {}
        messages = self._parser.feed(read)
        if log.isEnabledFor(logging.DEBUG):
            messages = self._dump.from_vm(messages)
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
        for session in touched:
            deliver(session)
        return touched

    def _wait_for_room(self, touched: Iterable[Session]) -> None:
        """Read no more while a session is full: what nobody takes must stay in the VM."""
        for session in touched:
            if session.output.full:
                self._wait_for_shim(session)

    def _wait_for_shim(self, session: Session) -> None:
        fields = session_tags(session)
        log.warning("session is full: the VM's output waits for its shim", extra=fields)
        queue = session.output.queue
        while session.output.full:
            taken = Event()
            queue.on_taken = taken.set
            taken.wait()
            queue.on_taken = None
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


def _unread_bytes(channel: Stream) -> int:
    """Return SIOCOUTQ (which has TIOCOUTQ's number): what the other end has not read yet."""
    return int.from_bytes(fcntl.ioctl(channel, termios.TIOCOUTQ, _NO_INT), sys.byteorder)
