"""A connection that has become the shim of a session: stdin and signals on their way in."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
from gevent.event import Event

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.hangup import HasDescriptor, hung_up
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.service.waiting import LEFT_BEHIND_BYTES, LOOK_EVERY_S, wait_until
from ccproxy_lib.state.early import Early, EarlySignal
from ccproxy_lib.state.session import BEFORE_PROCESS, OVER, WITH_PROCESS, Session
from ccproxy_lib.wire.payloads import SIGKILL, SIGTERM, Signal

# Told to a shim whose process is ended before it was started.
STATUS_ENDED_EARLY = 0


class Shim:
    """What one shim may do to its own session, and to nothing else."""

    __slots__ = ("_client", "_counters", "_limits", "_link", "session")

    def __init__(self, session: Session, link: VmLink, proxy: Proxy, client: HasDescriptor) -> None:
        self.session = session
        self._client = client
        self._link = link
        self._limits = proxy.limits
        self._counters = proxy.counters

    def stdin(self, data: bytes | memoryview) -> None:
        """Pass stdin on, or keep it until the process runs; empty data is its end of file.

        Waits while too much is kept already.
        """
        session = self.session
        if session.early is None and session.state in WITH_PROCESS:
            self._write(data)
        elif session.state not in OVER:
            self._wait_for_early_room()
            self._keep(bytes(data))

    def pass_on(self, data: memoryview) -> bool:
        """Pass stdin on if the process runs and nothing has to wait; False if it has to."""
        session = self.session
        target = session.input
        if target is None or session.early is not None or session.state not in WITH_PROCESS:
            return False
        return self._link.io.take(target, data)

    def signal(self, signal: Signal, answer: Callable[[str], None]) -> None:
        """Deliver a signal, then call ``answer`` with "" or the reason why it failed.

        A signal for a process that does not run yet waits for it, behind what
        came before; SIGTERM and SIGKILL before the start command end the session.
        """
        session = self.session
        if session.state in BEFORE_PROCESS and signal.number in (SIGTERM, SIGKILL):
            self._end_early()
            answer("")
        elif session.early is None and session.state not in BEFORE_PROCESS and self._started():
            self._deliver(signal, answer)
        else:
            deadline_s = time.monotonic() + self._limits.process_timeout_s
            self._keep(EarlySignal(signal, deadline_s, answer))

    def refuse(self, message: str, answer: Callable[[str], None]) -> None:
        """Answer a command with the reason why it failed, behind the signals that wait."""
        early = self.session.early
        if early is not None and early.next_deadline_s() is not None:
            deadline_s = time.monotonic() + self._limits.process_timeout_s
            self._keep(EarlySignal(None, deadline_s, answer, message))
        else:
            answer(message)

    def _started(self) -> bool:
        return self.session.state in WITH_PROCESS or self.session.state in OVER

    def _write(self, data: bytes | memoryview) -> None:
        target = self.session.input
        if target is None:
            return
        if data:
            self._link.io.write(target, data, self._client)
        else:
            self._link.io.write_eof(target)

    def _answer(self, item: EarlySignal) -> None:
        if item.signal is None:
            item.answer(item.refusal)
        else:
            self._deliver(item.signal, item.answer)

    def _deliver(self, signal: Signal, answer: Callable[[str], None]) -> None:
        try:
            self._link.signal(self.session, signal)
        except CommandError as error:
            answer(str(error))
        else:
            answer("")

    # ---- before the process runs

    def _end_early(self) -> None:
        if self.session.early:
            self.session.early.cancel("the process was ended before it was started")
        self._link.end_before_start(self.session, STATUS_ENDED_EARLY, "a signal of its shim")
        if self.session.sink:
            # The shim must have its exit status before the answer to the signal.
            self.session.sink.finish(None)

    def _keep(self, item: bytes | EarlySignal) -> None:
        early = self.session.early
        if early is None:
            early = self.session.early = Early()
            gevent.spawn(self._work_off)
        early.push(item)
        self.session.poke()

    def _wait_for_early_room(self) -> None:
        limit_bytes = self._limits.session_buffer_bytes
        while (early := self.session.early) and early.stdin_bytes >= limit_bytes:
            if early.stdin_bytes < limit_bytes + LEFT_BEHIND_BYTES and hung_up(self._client):
                break  # as in IoChannel.write
            taken = Event()
            early.on_taken = taken.set
            taken.wait(LOOK_EVERY_S)

    def _work_off(self) -> None:
        """Deliver what was kept once the process runs, in order; a greenlet of its own."""
        session = self.session
        early = session.early
        assert early is not None
        while early.items and not self._started():
            self._wait_for_process(early)
        while early.items:
            item = early.items[0]
            if isinstance(item, EarlySignal):
                self._answer(item)
            else:
                self._write(item)
            if early.items and early.items[0] is item:
                early.pop()
        session.early = None

    def _wait_for_process(self, early: Early) -> None:
        """Wait until the process runs or the next signal has waited too long for it."""
        deadline_s = early.next_deadline_s()
        patience_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())

        def done() -> bool:
            return self._started() or early.next_deadline_s() != deadline_s

        if not wait_until(self.session, done, patience_s):
            for item in early.take_expired(time.monotonic()):
                self._counters.deadlines["process-timeout"] += 1
                timeout = f"timeout waiting for process with token {self.session.token}"
                item.answer(item.refusal or timeout)
