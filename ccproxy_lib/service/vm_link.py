"""A VM and its two channels: where its processes start, get signals and end."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable

import gevent

from ccproxy_lib.errors import CCProxyError, CommandError, DeadlineMissed, VmGone
from ccproxy_lib.host import logs
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.console import follow_console
from ccproxy_lib.service.ctl_channel import CtlChannel
from ccproxy_lib.service.dial import dial
from ccproxy_lib.service.events import Events
from ccproxy_lib.service.io_channel import IoChannel, deliver
from ccproxy_lib.service.traces import free, free_unused, session_tags
from ccproxy_lib.state.counters import Counters
from ccproxy_lib.state.input import Input
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.registry import Registry
from ccproxy_lib.state.session import OVER, Event, Session
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire import ctl, payloads
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.payloads import SIGWINCH, Signal
from ccproxy_lib.wire.process import ProcessStart

# What a shim is told of a process that never started, or went down with its VM.
STATUS_NO_PROCESS = 255
# How long to wait for READY before asking, and for a second answer behind the first.
ASK_AFTER_S = 1.0
SETTLE_S = 0.2
LARGEST_SEQ = 2**64 - 1
# How many stream numbers an earlier connection to an agent may have used, at most.
EARLIER_SEQS = 2**20
# How much of what an agent tells unasked is passed on, in characters.
MAX_EVENT_TEXT = 64 * 1024

log = logging.getLogger(__name__)


class VmLink:
    """The live side of one registered VM, to whose agent ``commands`` have gone.

    ``on_closed`` is called once, when the channels are closed for good: after
    UnregisterVM when the last session has ended, or when the VM is gone.
    """

    def __init__(
        self,
        vm: Vm,
        registry: Registry,
        limits: Limits,
        counters: Counters,
        events: Events,
        on_closed: Callable[[VmLink], None],
    ) -> None:
        self.vm = vm
        self.commands = 0
        self._counters = counters
        self._events = events
        self._registry = registry
        self._limits = limits
        self._on_closed = on_closed
        self.unregistered = False
        self._leaving = False
        self._closed = False
        self._console: gevent.Greenlet[..., None] | None = None

    def connect(self, ctl_path: str, io_path: str, console_path: str = "") -> None:
        """Connect both channels and wait for the agent's READY; follow the console meanwhile.

        Raises CommandError, and leaves nothing behind, if that fails.
        """
        deadline_s = time.monotonic() + self._limits.ready_timeout_s
        ctl_channel = dial(ctl_path, "control channel", deadline_s)
        try:
            io_channel = dial(io_path, "I/O channel", deadline_s)
        except BaseException:
            ctl_channel.close()
            raise
        self._console_path = console_path
        self.follow_console()
        self.ctl = CtlChannel(
            self.vm.id,
            ctl_channel,
            self._limits.max_commands,
            self._counters,
            self._agent_event,
            self.lost,
        )
        self.io = IoChannel(
            self.vm, io_channel, self._limits.session_buffer_bytes, self._process_over, self.lost
        )
        began_s = time.monotonic()
        if not self._wait_for_ready(deadline_s):
            reason = f"the agent was not ready within {self._limits.ready_timeout_s:g} s"
            self.close(reason)
            raise DeadlineMissed(reason, "ready-timeout")
        if self._closed:
            raise VmGone(self._reason)
        waited_s = round(time.monotonic() - began_s, 3)
        log.info("VM ready", extra=tags(vm=self.vm.id, waited_s=waited_s))

    def follow_console(self) -> None:
        """Log what the VM prints from now on, if somebody wants that and it has a console."""
        followed = self._console is not None and not self._console.dead
        wanted = logs.wants(logging.DEBUG, self.vm.id) and self._console_path
        if wanted and not followed and not self._closed:
            path, timeout_s = self._console_path, self._limits.ready_timeout_s
            self._console = gevent.spawn(follow_console, self.vm.id, path, timeout_s)

    def _wait_for_ready(self, deadline_s: float) -> bool:
        """Wait for READY; an agent that has said it to another connection before is asked."""
        ready = self.ctl.ready
        if ready.wait(min(ASK_AFTER_S, max(0.0, deadline_s - time.monotonic()))):
            return True
        asking = gevent.spawn(self._ask_whether_ready)
        try:
            return bool(ready.wait(max(0.0, deadline_s - time.monotonic())))
        finally:
            asking.kill()

    def _ask_whether_ready(self) -> None:
        with contextlib.suppress(CommandError):
            self.ctl.call(Code.PING, b"", self._limits.ready_timeout_s)
            # That may have been the answer to the last command of the other connection.
            # Then the ping's own is close behind, and no command may be taken for it.
            gevent.sleep(SETTLE_S)
            # Its processes may run on, and no output of theirs is for sessions of ours.
            self.vm.skip_numbers_to(_far_number())
            self.ctl.ready.set()

    # ---- commands to the agent

    def command(
        self,
        code: Code,
        payload: bytes,
        on_done: Callable[[CCProxyError | None], None] | None = None,
    ) -> bytes:
        """Pass a command on and return the payload of the agent's ACK.

        ``on_done`` is that of CtlChannel's Call.  Raises CommandError, AgentError,
        AgentTimeout or VmGone.
        """
        _check_length(len(payload))
        self.commands += 1
        return self.ctl.call(code, payload, self._limits.command_timeout_s, on_done)

    def start_process(
        self, session: Session, code: Code, start: ProcessStart, client_id: int
    ) -> bytes:
        """Start the session's process; returns and raises as :meth:`command`."""
        if self._closed:
            raise VmGone(self._reason)
        if self._leaving:
            raise CommandError(f"unknown containerID: {self.vm.id}")
        _check_length(len(start.with_numbers(LARGEST_SEQ, LARGEST_SEQ)))
        session.apply(Event.START)
        self.vm.route(session, start.terminal)
        session.input = Input(session.stdio)
        session.container_id = start.container_id
        session.is_exec = start.is_exec
        fields = session_tags(session, exec=start.is_exec, client=client_id)
        log.info("process starting", extra=fields)
        payload = start.with_numbers(session.stdio, session.stderr)
        return self.command(code, payload, lambda error: self._start_answered(session, error))

    def signal(self, session: Session, signal: Signal) -> None:
        """Deliver a signal to a session's process; raises as :meth:`command`."""
        if session.state in OVER:
            raise CommandError("the process has ended")
        if signal.number == SIGWINCH:
            self.command(Code.WIN_SIZE, payloads.win_size(session.stdio, signal))
        elif session.is_exec:
            name = payloads.SIGNAL_NAMES[signal.number]
            raise CommandError(
                f"signal {name} cannot be delivered: the agent can only signal the"
                " first process of a container, not one that execcmd has started"
            )
        else:
            payload = payloads.kill_container(session.container_id, signal.number)
            self.command(Code.KILL_CONTAINER, payload)

    # ---- the end of a process, of the VM

    def _start_answered(self, session: Session, error: CCProxyError | None) -> None:
        if error is None:
            if session.state not in OVER:
                log.info("process started", extra=session_tags(session))
            session.apply(Event.STARTED)
            self._events.tell_of("process-started", session)
        else:
            # In a greenlet of its own, which runs behind the one that has just been
            # woken with the error: the shim is told when the runtime has its answer.
            gevent.spawn(self._process_over, session, STATUS_NO_PROCESS, error)

    def _process_over(
        self, session: Session, status: int, error: CCProxyError | None = None
    ) -> None:
        """End a session; ``error`` says why there never was a process."""
        self.vm.unroute(session)
        if session.input:
            self.io.drop(session.input)
        if session.end(status):
            if error is None:
                log.info("process ended", extra=session_tags(session, status=status))
            else:
                log.info("process not started", extra=session_tags(session, reason=error))
            self._events.tell_of("process-ended", session, status=status)
            deliver(session)
        if not session.token and session.sink is None:
            free(self._registry, session, "its process has ended")
        self.leave_when_idle()

    def end_before_start(self, session: Session, status: int, reason: str) -> None:
        """End a session that has no process: its shim gets ``status`` as exit status."""
        if session.end(status):
            log.info("process not started", extra=session_tags(session, reason=reason))
            deliver(session)

    def unregister(self) -> None:
        """Free the id, drop what never started, and go when the running sessions have ended."""
        self.unregistered = True
        self._leaving = True
        self._events.tell("vm-unregistered", self.vm.id)
        for session in self._registry.unregister(self.vm):
            self._drop_unstarted(session)
        self.leave_when_idle()

    def _drop_unstarted(self, session: Session) -> None:
        if session.sink is None:
            free_unused(self._registry, session, "the VM was unregistered")
        else:
            self.end_before_start(session, STATUS_NO_PROCESS, "the VM was unregistered")

    def leave_when_idle(self) -> None:
        """Close the channels of an unregistered VM whose processes are all over."""
        if self._leaving and all(session.state in OVER for session in self.vm.sessions):
            self.close("the VM was unregistered")

    def lost(self, reason: str) -> None:
        """The VM is gone: drop it and all that belongs to it."""
        if self._closed:
            return
        # Either channel may end first: what the VM has said on the other still counts.
        self.ctl.drain()
        level = logging.INFO if self._leaving else logging.WARNING
        log.log(level, "VM lost", extra=tags(vm=self.vm.id, reason=reason))
        if not self.unregistered:
            self._events.tell("vm-lost", self.vm.id, reason=reason)
        self.io.drain()
        self.close(reason)

    def close(self, reason: str) -> None:
        """Close both channels and end every session; harmless if repeated."""
        if self._closed:
            return
        self._closed = True
        self._reason = f"VM {self.vm.id} is gone: {reason}"
        self._leaving = True
        log.info("VM closed", extra=tags(vm=self.vm.id, reason=reason))
        self._registry.unregister(self.vm)
        self.ctl.close(self._reason)
        self.ctl.ready.set()
        for route in self.vm.routes.values():
            # Also of sessions that are freed: somebody may wait to write to them.
            if route.session.input:
                self.io.drop(route.session.input)
        for session in tuple(self.vm.sessions):
            if session.sink is None:
                free(self._registry, session, "its VM is gone")
            elif session.state not in OVER:
                error = None if session.stdio else VmGone(self._reason)
                self._process_over(session, STATUS_NO_PROCESS, error)
        self.io.close()
        if self._console is not None:
            # Without waiting: a reader that is still busy with what it has read must not.
            self._console.kill(block=False)
        self._on_closed(self)

    def _agent_event(self, text: str) -> None:
        self._events.tell("agent-event", self.vm.id, data=text[:MAX_EVENT_TEXT])


def _far_number() -> int:
    """Return a stream number that no earlier connection has come near to, in 31 bits.

    Clients of version 1 may have no room for more.
    """
    return EARLIER_SEQS + (int.from_bytes(os.urandom(4), "big") >> 2)


def _check_length(payload_bytes: int) -> None:
    limit = ctl.MAX_COMMAND_BYTES - ctl.HEADER_BYTES
    if payload_bytes > limit:
        raise CommandError(
            f"the agent command has {payload_bytes} bytes of data; agents take at most {limit}"
        )
