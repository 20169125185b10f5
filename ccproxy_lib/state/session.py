"""The life of a session: one process, its token and the shim that holds it.

    ALLOCATED --claim--> CLAIMED --start--> STARTING --started--> RUNNING --end--> ENDED
        ^                  | |                | ^                  | ^              | ^
        +------ lose ------+ |           lose | | claim       lose | | claim   lose | | claim
                             |                v |                  v |              v |
                             |        STARTING_DETACHED  -->   DETACHED  -->  ENDED_DETACHED
                             +---- end ----------------------------------------> ENDED

Every state may be left for FREED.  What the table lacks is refused.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from ccproxy_lib.errors import CommandError
from ccproxy_lib.state.early import Early
from ccproxy_lib.state.input import Input
from ccproxy_lib.state.output import Output
from ccproxy_lib.state.traffic import Traffic

if TYPE_CHECKING:
    from ccproxy_lib.state.vm import Vm


class State(Enum):
    """Where a session stands."""

    ALLOCATED = auto()  # token handed out, no shim has it
    CLAIMED = auto()  # a shim is connected, no process yet
    STARTING = auto()  # the start command is with the agent
    STARTING_DETACHED = auto()  # ... and the shim is gone
    RUNNING = auto()  # the process runs
    DETACHED = auto()  # ... and the shim is gone
    ENDED = auto()  # the exit status is known
    ENDED_DETACHED = auto()  # ... and waits for the shim to come back
    FREED = auto()  # token and session are no more

    # Members are looked up in sets for each piece of stdin; Enum's own hash is slow.
    __hash__ = object.__hash__


class Event(Enum):
    """What can happen to a session."""

    CLAIM = auto()  # a shim connects with the token
    LOSE = auto()  # the shim is gone without DisconnectShim
    START = auto()  # a start command goes to the agent
    STARTED = auto()  # the agent says that the process runs
    END = auto()  # the exit status is known, or there will never be a process
    FREE = auto()  # DisconnectShim, UnregisterVM, age, or the VM is gone


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.ALLOCATED: {
        Event.CLAIM: State.CLAIMED,
        Event.FREE: State.FREED,
    },
    State.CLAIMED: {
        Event.LOSE: State.ALLOCATED,
        Event.START: State.STARTING,
        Event.END: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.STARTING: {
        Event.LOSE: State.STARTING_DETACHED,
        Event.STARTED: State.RUNNING,
        Event.END: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.STARTING_DETACHED: {
        Event.CLAIM: State.STARTING,
        Event.STARTED: State.DETACHED,
        Event.END: State.ENDED_DETACHED,
        Event.FREE: State.FREED,
    },
    State.RUNNING: {
        Event.LOSE: State.DETACHED,
        Event.END: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.DETACHED: {
        Event.CLAIM: State.RUNNING,
        Event.END: State.ENDED_DETACHED,
        Event.FREE: State.FREED,
    },
    # A short process can be over before the agent has acknowledged its start.
    State.ENDED: {
        Event.LOSE: State.ENDED_DETACHED,
        Event.STARTED: State.ENDED,
        Event.FREE: State.FREED,
    },
    State.ENDED_DETACHED: {
        Event.CLAIM: State.ENDED,
        Event.STARTED: State.ENDED_DETACHED,
        Event.FREE: State.FREED,
    },
    # A shim can disconnect while the start command is with the agent.
    State.FREED: {
        Event.STARTED: State.FREED,
    },
}

BEFORE_PROCESS = frozenset({State.ALLOCATED, State.CLAIMED})
WITHOUT_SHIM = frozenset(
    {State.ALLOCATED, State.STARTING_DETACHED, State.DETACHED, State.ENDED_DETACHED}
)
STARTING = frozenset({State.STARTING, State.STARTING_DETACHED})
WITH_PROCESS = frozenset({State.RUNNING, State.DETACHED})
OVER = frozenset({State.ENDED, State.ENDED_DETACHED, State.FREED})


class Sink(Protocol):
    """Where a session's output goes: the connection of its shim."""

    def deliver(self) -> None:
        """Send or keep the batch that the session's output holds, without waiting."""
        ...

    def finish(self, timeout_s: float | None) -> None:
        """Wait until everything is on the wire, for ``timeout_s`` at most (None: as it takes)."""
        ...


_numbers = itertools.count(1)


class Session:
    """One token, the process that it is for, and the shim that holds it.

    ``stdio`` and ``stderr`` are stream numbers, 0 until the process is started
    (``stderr`` stays 0 with a terminal).  ``input`` exists from then on, and
    ``early`` while something that the shim sent waits for that.  A session
    without a token belongs to a process whose output nobody wants.
    ``number`` tells it from all others in the log, where its token must not be.
    ``allocated_s`` and ``since_s`` are when it and its state began, on the
    monotonic clock.
    """

    __slots__ = (
        "allocated_s",
        "container_id",
        "early",
        "exit_status",
        "input",
        "is_exec",
        "number",
        "output",
        "since_s",
        "sink",
        "state",
        "stderr",
        "stdio",
        "token",
        "vm",
        "watchers",
    )

    def __init__(self, vm: Vm, token: str, output: Output | None = None) -> None:
        self.vm = vm
        self.number = next(_numbers)
        self.token = token
        self.state = State.ALLOCATED if token else State.CLAIMED
        self.output = output or Output()
        self.input: Input | None = None
        self.early: Early | None = None
        self.sink: Sink | None = None
        self.container_id = ""
        self.is_exec = False
        self.stdio = 0
        self.stderr = 0
        self.exit_status: int | None = None
        self.since_s = self.allocated_s = time.monotonic()
        self.watchers: list[Callable[[], None]] = []

    @property
    def traffic(self) -> Traffic:
        """What has gone through so far."""
        sent, output = self.input, self.output
        if sent is None:
            return Traffic(0, 0, output.payload_bytes, output.messages)
        return Traffic(sent.payload_bytes, sent.messages, output.payload_bytes, output.messages)

    def can(self, event: Event) -> bool:
        """Whether the table has a way for ``event``."""
        return event in TRANSITIONS[self.state]

    def apply(self, event: Event) -> None:
        """Take one step and tell the watchers.

        Raises CommandError, worded for the client whose command it was, if the
        table has no way for ``event``.
        """
        try:
            state = TRANSITIONS[self.state][event]
        except KeyError:
            raise CommandError(self._refusal(event), self.token) from None
        self.state = state
        self.since_s = time.monotonic()
        self.poke()

    def poke(self) -> None:
        """Let the watchers look again."""
        for watcher in tuple(self.watchers):
            watcher()

    def end(self, status: int) -> bool:
        """Note the exit status; False, and nothing happens, if the session is over already."""
        if not self.can(Event.END):
            return False
        self.exit_status = status
        self.output.end(status)
        self.apply(Event.END)
        return True

    def claim(self) -> None:
        """Let a shim take the session; raises as :meth:`apply`.

        A shim that comes back for an exit status that went down with its last
        connection gets it again.
        """
        self.apply(Event.CLAIM)
        if self.exit_status is not None and not self.output.queue:
            self.output.end(self.exit_status)

    def free(self) -> bool:
        """Free the session; False if that has happened before."""
        if not self.can(Event.FREE):
            return False
        self.apply(Event.FREE)
        self.output.discard()
        return True

    def _refusal(self, event: Event) -> str:
        if event is Event.CLAIM and self.state is not State.FREED:
            return "token already claimed: {token}"
        if event is Event.START and self.state in STARTING | WITH_PROCESS:
            return "token already used for a process: {token}"
        if self.state in OVER:
            return "the session of token {token} has ended"
        return f"token {{token}} cannot {event.name.lower()} while {self.state.name.lower()}"
