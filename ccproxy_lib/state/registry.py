"""The shared registry: VMs by id, sessions by token."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy_lib.errors import CommandError, LimitReached
from ccproxy_lib.state.counters import Counters
from ccproxy_lib.state.input import Input
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.output import Output
from ccproxy_lib.state.session import BEFORE_PROCESS, Event, Session, State
from ccproxy_lib.state.traffic import sum_up
from ccproxy_lib.state.vm import Vm


class Registry:
    """All that clients can see.

    A VM's id is taken from :meth:`reserve` on, so that two clients cannot
    register the same one at once; it is found from :meth:`publish` on.  After
    :meth:`unregister` the id is free, while the VM object may live on until its
    last session has ended.  ``new_token`` makes a token, ``new_output`` the output
    of a new session.
    """

    __slots__ = (
        "_counters",
        "_limits",
        "_new_output",
        "_new_token",
        "_reserved",
        "_tokens",
        "_vms",
    )

    def __init__(
        self,
        new_token: Callable[[], str],
        limits: Limits | None = None,
        new_output: Callable[[], Output] = Output,
        counters: Counters | None = None,
    ) -> None:
        self._new_token = new_token
        self._counters = counters or Counters()
        self._limits = limits or Limits()
        self._new_output = new_output
        self._reserved: dict[str, Vm] = {}
        self._vms: dict[str, Vm] = {}
        self._tokens: dict[str, Session] = {}

    @property
    def vms(self) -> tuple[Vm, ...]:
        """The VMs that are registered."""
        return tuple(self._vms.values())

    @property
    def tokens(self) -> int:
        """How many tokens are known."""
        return len(self._tokens)

    @property
    def unclaimed_tokens(self) -> int:
        """How many of them no shim has claimed."""
        sessions = self._tokens.values()
        return sum(1 for session in sessions if session.state is State.ALLOCATED)

    def reserve(self, vm_id: str) -> Vm:
        """Take an id; CommandError if it is taken, or there are too many VMs."""
        if vm_id in self._reserved:
            raise CommandError(f"{vm_id}: container already registered")
        if len(self._reserved) >= self._limits.max_vms:
            raise LimitReached(
                f"{len(self._reserved)} VMs are registered and no more are allowed", "max-vms"
            )
        vm = Vm(vm_id)
        self._reserved[vm_id] = vm
        return vm

    def publish(self, vm: Vm) -> None:
        """Let clients find a reserved VM."""
        self._vms[vm.id] = vm
        self._counters.vms += 1

    def find(self, vm_id: str) -> Vm:
        """Return a registered VM; CommandError if there is none."""
        try:
            return self._vms[vm_id]
        except KeyError:
            raise CommandError(f"unknown containerID: {vm_id}") from None

    def unregister(self, vm: Vm) -> list[Session]:
        """Make a VM invisible; return its sessions that have no process and never will.

        They are for the caller to end or free.  Harmless if it has happened before.
        """
        if self._reserved.get(vm.id) is vm:
            del self._reserved[vm.id]
            self._vms.pop(vm.id, None)
        return [session for session in vm.sessions if session.state in BEFORE_PROCESS]

    def allocate(self, vm: Vm, count: int) -> list[str]:
        """Return ``count`` new tokens, each with a session; CommandError if that is too many."""
        if len(vm.sessions) + count > self._limits.max_tokens:
            raise LimitReached(
                f"VM {vm.id} has {len(vm.sessions)} tokens and may have"
                f" {self._limits.max_tokens}, so {count} more are refused",
                "max-tokens",
            )
        return [self._allocate(vm).token for _ in range(count)]

    def _allocate(self, vm: Vm) -> Session:
        token = self._new_token()
        session = Session(vm, token, self._new_output())
        self._tokens[token] = session
        self._add(session)
        return session

    def allocate_unclaimed(self, vm: Vm) -> Session:
        """Return a session without a token, for a process whose output nobody wants."""
        session = Session(vm, "")
        session.output.discard()
        self._add(session)
        return session

    def allocate_descriptor(
        self, vm: Vm, streams: int, new_output: Callable[[int], Output]
    ) -> Session:
        """Return a running session without a token, for protocol 1; CommandError if too many.

        Its numbers are known to the client, and so led to it, before there is a
        process.  ``new_output`` makes its output, given the first number.
        """
        if len(vm.sessions) >= self._limits.max_tokens:
            raise LimitReached(
                f"VM {vm.id} has {len(vm.sessions)} sessions and no more are allowed", "max-tokens"
            )
        io_base = vm.next_number
        session = Session(vm, "", new_output(io_base))
        vm.route(session, terminal=streams == 1)
        session.input = Input(io_base)
        session.apply(Event.START)
        session.apply(Event.STARTED)
        self._add(session)
        return session

    def _add(self, session: Session) -> None:
        session.vm.sessions.add(session)
        self._counters.sessions += 1

    def session(self, token: str) -> Session:
        """Return the session of a token; CommandError if there is none."""
        try:
            return self._tokens[token]
        except KeyError:
            raise CommandError("unknown token: {token}", token) from None

    def free(self, session: Session) -> bool:
        """Forget a session and its token; False if that has happened before."""
        self._tokens.pop(session.token, None)
        if session in session.vm.sessions:
            session.vm.sessions.discard(session)
            session.vm.past = sum_up((session.vm.past, session.traffic))
        return session.free()

    def expired(self, now_s: float) -> list[Session]:
        """Return the sessions that nobody has come for in time.

        They are unclaimed tokens, and orphans whose process has ended; a session
        with a process is never among them.  ``now_s`` is on the monotonic clock.
        """
        patience_s = {
            State.ALLOCATED: self._limits.token_ttl_s,
            State.ENDED_DETACHED: self._limits.orphan_ttl_s,
        }
        return [
            session
            for session in self._tokens.values()
            if session.state in patience_s and now_s - session.since_s >= patience_s[session.state]
        ]
