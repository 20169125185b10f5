"""One look at every session: sums for the metrics, and what is stuck."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.turns import in_turns
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.state.session import STARTING, WITHOUT_SHIM, Session, State

SESSIONS_IN_A_ROW = 200
# A command that an agent has not answered for so long is worth a look.
SLOW_COMMAND_S = 5.0
# What waits for a shim or a runtime: they take a moment, but not so long.
SLOW_CLIENT_S = 60.0

# Why something is stuck, as metrics and the page name it.
COMMAND = "command"
START = "start"
FULL = "full"
SPOOLING = "spooling"
STDIN = "stdin"
WAITING = {
    State.ALLOCATED: "unclaimed",
    State.CLAIMED: "no-process",
    State.DETACHED: "no-shim",
    State.ENDED: "not-released",
    State.ENDED_DETACHED: "no-shim",
}
REASONS = (COMMAND, START, FULL, SPOOLING, STDIN, *dict.fromkeys(WAITING.values()))


@dataclass(slots=True)
class Stuck:
    """What is stuck for one reason in one VM: how many, and for how long the first, in seconds.

    ``longest_s`` stays 0 where nobody knows.
    """

    vm_id: str
    reason: str
    count: int = 0
    longest_s: float = 0.0


class Census:
    """Sums over all VMs and sessions, and what is stuck; made by looking at each of them."""

    def __init__(self, proxy: Proxy) -> None:
        self.states: Counter[State] = Counter()
        self.kept_bytes = 0
        self.spooled_bytes = 0
        self.stdin_bytes = 0
        self.full = 0
        self.commands_waiting = 0
        self.oldest_command_s = 0.0
        self._stuck: dict[tuple[str, str], Stuck] = {}
        self._buffer_bytes = proxy.limits.session_buffer_bytes
        sessions = (each for link in list(proxy.links.values()) for each in self._look(link))
        for session in in_turns(sessions, SESSIONS_IN_A_ROW):
            self._count(session, time.monotonic())

    @property
    def stuck(self) -> list[Stuck]:
        """What has been stuck for longest first."""
        return sorted(self._stuck.values(), key=lambda each: each.longest_s, reverse=True)

    def _look(self, link: VmLink) -> tuple[Session, ...]:
        self.commands_waiting += link.ctl.waiting
        outstanding_s = link.ctl.outstanding_s or 0.0
        self.oldest_command_s = max(self.oldest_command_s, outstanding_s)
        if outstanding_s > SLOW_COMMAND_S:
            self._note(link.vm.id, COMMAND, outstanding_s)
        return tuple(link.vm.sessions)

    def _count(self, session: Session, now_s: float) -> None:
        state, output = session.state, session.output
        self.states[state] += 1
        self.kept_bytes += output.kept_bytes
        self.spooled_bytes += output.spooled_bytes
        stdin_bytes = session.input.size_bytes if session.input else 0
        self.stdin_bytes += stdin_bytes
        since_s = now_s - session.since_s
        vm_id = session.vm.id
        if state in STARTING and since_s > SLOW_COMMAND_S:
            self._note(vm_id, START, since_s)
        if state in WAITING and since_s > SLOW_CLIENT_S:
            self._note(vm_id, WAITING[state], since_s)
        if stdin_bytes >= self._buffer_bytes:
            self._note(vm_id, STDIN)
        if output.full:
            self.full += 1
            self._note(vm_id, FULL)
        elif output.spooled_bytes and state not in WITHOUT_SHIM:
            self._note(vm_id, SPOOLING)

    def _note(self, vm_id: str, reason: str, age_s: float = 0.0) -> None:
        found = self._stuck.setdefault((vm_id, reason), Stuck(vm_id, reason))
        found.count += 1
        found.longest_s = max(found.longest_s, age_s)
