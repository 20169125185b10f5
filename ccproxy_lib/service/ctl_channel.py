"""A VM's control channel: one command outstanding, each answer to its own command.

Answers carry no id, so a command is sent only when the one before it has been
answered.  That also keeps headers whole: when a command is sent, the agent has
read everything before it.  A caller whose patience has ended leaves its command
outstanding, and the late answer is still taken for that one.

A command leaves in the greenlet that makes it the next one; the writer greenlet
finishes those that the socket does not take in one go.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import Waiter, get_hub

from ccproxy_lib.errors import (
    AgentError,
    AgentTimeout,
    CCProxyError,
    LimitReached,
    ProtocolError,
    VmGone,
)
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.stream import Bell, Stream
from ccproxy_lib.state.counters import Counters
from ccproxy_lib.state.rate import Rate
from ccproxy_lib.wire import ctl
from ccproxy_lib.wire.ctl import Code, CtlMessage

READ_BYTES = 65536
# More than any socket holds, and an end for an agent that goes on sending.
DRAIN_READS = 16
PLAIN_ACK = CtlMessage(Code.ACK, b"")
PLAIN_ACK_BYTES = ctl.encode(*PLAIN_ACK)
NEVER = float("inf")
# How many of an agent's events are logged at once, and a second.
EVENTS_BURST = 100
EVENTS_PER_S = 10

log = logging.getLogger(__name__)


class Call:
    """One command on its way to the agent and back.

    ``deadline_s`` and ``sent_s`` are on the monotonic clock; the latter is 0 until
    it is sent.
    ``on_done`` is called with None for success or the error, when the answer
    comes or never can, whether somebody still waits or not.  A waiter is woken
    before any greenlet that ``on_done`` spawns.
    """

    __slots__ = (
        "answer",
        "code",
        "deadline_s",
        "done",
        "error",
        "message",
        "on_done",
        "sent_s",
        "waiter",
    )

    def __init__(
        self, code: Code, payload: bytes, on_done: Callable[[CCProxyError | None], None] | None
    ) -> None:
        self.code = code
        self.message = ctl.encode(code, payload)
        self.on_done = on_done
        self.done = False
        self.deadline_s = 0.0
        self.waiter: Waiter[None] | None = None
        self.answer = b""
        self.error: CCProxyError | None = None
        self.sent_s = 0.0

    def wait(self) -> None:
        """Wait until it is done, or somebody else has lost patience and wakes us."""
        self.waiter = Waiter()
        try:
            self.waiter.get()
        finally:
            self.waiter = None

    def finish(self, answer: bytes = b"", error: CCProxyError | None = None) -> None:
        """Wake whoever waits; only the first call counts."""
        if self.done:
            return
        self.answer = answer
        self.error = error
        self.done = True
        if self.waiter:
            get_hub().loop.run_callback(self.waiter.switch, None)
        if self.on_done:
            self.on_done(error)


class CtlChannel:
    """Commands to one agent.

    ``on_event`` gets what the agent tells unasked, ``on_lost`` the reason when
    the channel ends.
    """

    def __init__(
        self,
        vm_id: str,
        channel: Stream,
        max_commands: int,
        counters: Counters,
        on_event: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.ready = Event()
        self._vm_id = vm_id
        self._stream = channel
        self._counters = counters
        self._on_event = on_event
        self._on_lost = on_lost
        self._calls: deque[Call] = deque()
        self._max_commands = max_commands
        # What the socket has not taken of the outstanding command.
        self._rest = memoryview(b"")
        self._has_rest = Bell()
        self._outstanding: Call | None = None
        # Set for the first deadline, or earlier, after a call that came back in time.
        self._alarm: Any = None
        self._alarm_s = NEVER
        self._gone: str | None = None
        # Whether no more commands leave, and whether what the agent says makes sense.
        self._ending = False
        self._broken = False
        self._event_rate = Rate(EVENTS_BURST, EVENTS_PER_S, time.monotonic())
        self._parser = ctl.CtlParser()
        channel.shortcut = self._take_plain_ack
        gevent.spawn(self._read)
        gevent.spawn(self._write)

    def call(
        self,
        code: Code,
        payload: bytes,
        timeout_s: float,
        on_done: Callable[[CCProxyError | None], None] | None = None,
    ) -> bytes:
        """Send a command and return the payload of its ACK.

        Raises AgentError for the agent's ERROR, AgentTimeout after ``timeout_s``
        (the text says whether the command was sent), VmGone if the VM goes.
        """
        call = Call(code, payload, on_done)
        if self._gone is not None:
            call.finish(error=VmGone(self._gone))
        elif len(self._calls) >= self._max_commands:
            reason = f"{self._max_commands} commands wait for the agent and no more are allowed"
            call.finish(error=LimitReached(reason, "max-commands"))
        else:
            self._calls.append(call)
            self._send_next()
            if not call.done:
                call.deadline_s = time.monotonic() + timeout_s
                self._watch(call.deadline_s)
                call.wait()
            if not call.done:
                self._give_up(call, timeout_s)
        if call.error:
            raise call.error
        return call.answer

    @property
    def waiting(self) -> int:
        """How many commands wait for their turn."""
        return len(self._calls)

    @property
    def outstanding_s(self) -> float | None:
        """For how long the agent has owed an answer, None if it owes none."""
        call = self._outstanding
        return None if call is None else time.monotonic() - call.sent_s

    def close(self, reason: str) -> None:
        """Fail all commands with VmGone, and close the channel; its greenlets end."""
        if self._gone is not None:
            return
        self._gone = reason
        if self._outstanding:
            self._outstanding.finish(error=VmGone(reason))
        while self._calls:
            self._calls.popleft().finish(error=VmGone(reason))
        self._stop_watching()
        self._stream.close()
        self._has_rest.ring()

    def drain(self) -> None:
        """Take what the agent has said before it went, and send it no more; never waits."""
        self._ending = True
        with contextlib.suppress(OSError, ProtocolError):
            for _ in range(0 if self._broken else DRAIN_READS):
                data = self._stream.plain.recv(READ_BYTES)
                if not data:
                    return
                for message in self._parser.feed(data):
                    self._take(message)

    # ---- deadlines: one timer for all, as hardly any is ever missed

    def _watch(self, deadline_s: float) -> None:
        if deadline_s < self._alarm_s:
            self._stop_watching()
            self._alarm_s = deadline_s
            self._alarm = get_hub().loop.timer(max(0.0, deadline_s - time.monotonic()))
            self._alarm.start(self._look_at_deadlines)

    def _stop_watching(self) -> None:
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self._alarm_s = NEVER

    def _look_at_deadlines(self) -> None:
        """Wake the callers whose time is up; runs in the hub."""
        now_s = time.monotonic()
        self._stop_watching()
        for call in filter(None, (self._outstanding, *self._calls)):
            if call.waiter is None or call.done:
                continue  # nobody waits, or not for long
            if call.deadline_s <= now_s:
                call.waiter.switch(None)
            else:
                self._watch(call.deadline_s)

    def _give_up(self, call: Call, timeout_s: float) -> None:
        name = call.code.name.lower()
        if call.sent_s:
            raise AgentTimeout(
                f"the agent did not answer {name} within {timeout_s:g} s;"
                " the command may still have run"
            )
        self._calls.remove(call)
        call.finish(
            error=AgentTimeout(
                f"the agent was busy with earlier commands for {timeout_s:g} s; {name} was not sent"
            )
        )

    def _send_next(self) -> None:
        """Send the next command, unless one is outstanding."""
        if self._outstanding is None and self._calls and not self._ending:
            call = self._calls.popleft()
            self._outstanding = call
            call.sent_s = time.monotonic()
            self._counters.commands += 1
            try:
                sent = self._stream.try_send((call.message,))
            except OSError as error:
                self._rest = memoryview(call.message)  # so that no answer is taken for its own
                self._cannot_write(error)
                return
            if sent < len(call.message):
                self._rest = memoryview(call.message)[sent:]
                self._has_rest.ring()

    def _write(self) -> None:
        try:
            while self._gone is None:
                self._has_rest.wait()
                self._stream.send_all(self._rest)
                self._rest = memoryview(b"")
        except OSError as error:
            self._cannot_write(error)

    def _cannot_write(self, error: OSError) -> None:
        self._on_lost(f"writing to the control channel failed: {error.strerror}")

    def _read(self) -> None:
        try:
            while data := self._stream.receive(READ_BYTES):
                for message in self._parser.feed(data):
                    self._take(message)
            reason = "the agent closed the control channel"
        except ProtocolError as error:
            self._broken = True
            reason = f"the agent broke the control protocol: {error}"
        except OSError as error:
            reason = f"reading the control channel failed: {error.strerror}"
        self._on_lost(reason)

    def _take_plain_ack(self, data: bytes) -> bool:
        """Take an ACK without data, as most are, in the hub; False if this is none.

        Where there is more to do on it, that is left to the reader, which may wait.
        """
        call = self._outstanding
        if data != PLAIN_ACK_BYTES or call is None or call.on_done:
            return False
        if self._rest or self._parser.midway:
            return False
        self._answer(PLAIN_ACK)
        return True

    def _take(self, message: CtlMessage) -> None:
        code = message.code
        if code in (Code.ACK, Code.ERROR):
            self._answer(message)
        elif code == Code.READY:
            self.ready.set()
        elif code == Code.PROCESS_ASYNC_EVENT:
            text = message.payload.decode("utf-8", "replace")
            self._log_event(text)
            self._on_event(text)
        elif code != Code.NEXT:
            raise ProtocolError(f"unexpected message code {code}")

    def _log_event(self, text: str) -> None:
        if self._event_rate.take(time.monotonic()):
            skipped = self._event_rate.take_refused()
            more = {"skipped": skipped} if skipped else {}
            log.info("agent event", extra=tags(vm=self._vm_id, event=text, **more))

    def _answer(self, message: CtlMessage) -> None:
        call = self._outstanding
        if call is None:
            log.warning("answer of the agent to no command", extra=tags(vm=self._vm_id))
            return
        if self._rest:
            raise ProtocolError("an answer to a command that the agent has not read")
        self._outstanding = None
        self._counters.command_seconds.observe(time.monotonic() - call.sent_s)
        if message.code == Code.ACK:
            call.finish(answer=message.payload)
        else:
            call.finish(error=AgentError(message.payload.decode("utf-8", "replace")))
        self._send_next()
