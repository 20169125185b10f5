"""The shared registry: VMs by id, sessions by token."""

from __future__ import annotations

import base64
import secrets

from ccproxy_lib.errors import CommandError
from ccproxy_lib.state.session import BEFORE_PROCESS, Session
from ccproxy_lib.state.vm import Vm

TOKEN_BYTES = 32


class Registry:
    """All that clients can see.

    A VM's id is taken from :meth:`reserve` on, so that two clients cannot
    register the same one at once; it is found from :meth:`publish` on.  After
    :meth:`unregister` the id is free, while the VM object may live on until its
    last session has ended.
    """

    __slots__ = ("_reserved", "_tokens", "_vms")

    def __init__(self) -> None:
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

    def reserve(self, vm_id: str) -> Vm:
        """Take an id; CommandError if it is taken."""
        if vm_id in self._reserved:
            raise CommandError(f"{vm_id}: container already registered")
        vm = Vm(vm_id)
        self._reserved[vm_id] = vm
        return vm

    def publish(self, vm: Vm) -> None:
        """Let clients find a reserved VM."""
        self._vms[vm.id] = vm

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

    def allocate(self, vm: Vm) -> Session:
        """Return a new session with a token of its own."""
        token = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode()
        session = Session(vm, token)
        self._tokens[token] = session
        vm.sessions.add(session)
        return session

    def allocate_unclaimed(self, vm: Vm) -> Session:
        """Return a session without a token, for a process whose output nobody wants."""
        session = Session(vm, "")
        session.output.discard()
        vm.sessions.add(session)
        return session

    def session(self, token: str) -> Session:
        """Return the session of a token; CommandError if there is none."""
        try:
            return self._tokens[token]
        except KeyError:
            raise CommandError(f"unknown token: {token}") from None

    def free(self, session: Session) -> bool:
        """Forget a session and its token; False if that has happened before."""
        self._tokens.pop(session.token, None)
        session.vm.sessions.discard(session)
        return session.free()
