"""A VM as the registry knows it: its id, its sessions and its stream numbers."""

from __future__ import annotations

import time

from ccproxy_lib.state.session import Session
from ccproxy_lib.state.traffic import Traffic, sum_up
from ccproxy_lib.wire.frames import Stream


class Route:
    """Where messages with one stream number go.

    ``ended`` tells that the end of file has come, so that a one-byte message
    is the exit status.  It is only ever set for a process's stdio number.
    """

    __slots__ = ("ended", "session", "stream")

    def __init__(self, session: Session, stream: Stream) -> None:
        self.session = session
        self.stream = stream
        self.ended = False


class Vm:
    """One VM.  ``id`` is what the wire calls containerId.

    ``past`` is the traffic of its sessions that are freed; ``reserved_s`` is when
    it came, on the monotonic clock.
    """

    __slots__ = ("_next_seq", "id", "past", "reserved_s", "routes", "sessions")

    def __init__(self, vm_id: str) -> None:
        self.id = vm_id
        self.reserved_s = time.monotonic()
        self.past = Traffic()
        self.sessions: set[Session] = set()
        self.routes: dict[int, Route] = {}
        # Agents refuse a number that was ever used before, and 0 means none.
        self._next_seq = 1

    @property
    def traffic(self) -> Traffic:
        """What has gone through so far, freed sessions included."""
        # In one go, so that no session is counted twice or not at all; thus it must be fast.
        stdin_bytes = stdin_messages = output_bytes = output_messages = 0
        for session in self.sessions:
            output, sent = session.output, session.input
            output_bytes += output.payload_bytes
            output_messages += output.messages
            if sent is not None:
                stdin_bytes += sent.payload_bytes
                stdin_messages += sent.messages
        total = Traffic(stdin_bytes, stdin_messages, output_bytes, output_messages)
        return sum_up((self.past, total))

    @property
    def next_number(self) -> int:
        """The stream number that is given out next."""
        return self._next_seq

    def take_numbers(self, count: int) -> int:
        """Return the first of ``count`` neighbouring stream numbers; none is ever used again."""
        first = self._next_seq
        self._next_seq += count
        return first

    def skip_numbers_to(self, number: int) -> None:
        """Give out none before ``number``: somebody else may have used those."""
        self._next_seq = max(self._next_seq, number)

    def route(self, session: Session, terminal: bool) -> None:
        """Give a session numbers that lead to it: one for a terminal, otherwise stderr's, too."""
        session.stdio = self.take_numbers(1 if terminal else 2)
        self.routes[session.stdio] = Route(session, Stream.STDOUT)
        if not terminal:
            session.stderr = session.stdio + 1
            self.routes[session.stderr] = Route(session, Stream.STDERR)

    def unroute(self, session: Session) -> None:
        """Forget a session's numbers: its process is over."""
        self.routes.pop(session.stdio, None)
        self.routes.pop(session.stderr, None)
