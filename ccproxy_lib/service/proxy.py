"""What all connections share: the registry, the live VMs, the limits, the address."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.hangup import hung_up
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.connection import Connection
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.registry import Registry
from ccproxy_lib.state.session import OVER, WITHOUT_SHIM, Event, Session
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.payloads import RegisterVM

if TYPE_CHECKING:
    from ccproxy_lib.service.commands import Handler

log = logging.getLogger(__name__)


class Proxy:
    """One daemon's state.  ``uri`` is the address that clients are told.

    ``on_vm_closed`` is called when a VM's channels are closed for good.
    """

    def __init__(
        self,
        uri: str,
        limits: Limits,
        commands: Mapping[int, Handler],
        on_vm_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.uri = uri
        self.limits = limits
        self.commands = commands
        self.registry = Registry()
        self.connections: set[Connection] = set()
        self.links: dict[Vm, VmLink] = {}
        self.holders: dict[Session, Connection] = {}
        self._on_vm_closed = on_vm_closed
        self._last_client_id = 0

    # ---- clients

    def serve_client(self, client: socket.socket, address: object = None) -> None:
        """Serve one client to its end; the greenlet of a connection."""
        self._last_client_id += 1
        connection = Connection(self, client, self._last_client_id)
        self.connections.add(connection)
        try:
            connection.serve()
        except Exception:
            log.exception("client handler failed", extra=tags(client=connection.id))
        finally:
            self.connections.discard(connection)

    # ---- VMs

    def register(self, request: RegisterVM) -> VmLink:
        """Connect to a VM and make it known; CommandError, and nothing left behind, if not."""
        vm = self.registry.reserve(request.vm_id)
        link = VmLink(vm, self.registry, self.limits, self._link_closed)
        try:
            link.connect(request.ctl_path, request.io_path)
        except BaseException:
            self.registry.unregister(vm)
            raise
        self.links[vm] = link
        self.registry.publish(vm)
        log.info("VM registered", extra=tags(vm=vm.id))
        return link

    def find(self, vm_id: str) -> VmLink:
        """Return a registered VM; CommandError if there is none."""
        return self.links[self.registry.find(vm_id)]

    def unregister(self, vm_id: str) -> None:
        """Unregister a VM; CommandError if there is none."""
        self.find(vm_id).unregister()

    def _link_closed(self, link: VmLink) -> None:
        if self.links.pop(link.vm, None) is not None:
            self._on_vm_closed()

    # ---- sessions

    def link_of(self, session: Session) -> VmLink:
        """Return the VM that a session belongs to; CommandError if it is gone."""
        try:
            return self.links[session.vm]
        except KeyError:
            raise CommandError(f"the VM of token {session.token} is gone") from None

    def wait_for_dead_holder(self, session: Session) -> None:
        """Let a shim that is gone, perhaps unnoticed, come to its end before another takes over."""
        holder = self.holders.get(session)
        if holder is not None and session.state not in WITHOUT_SHIM and hung_up(holder.socket):
            holder.finished.wait(self.limits.shim_timeout_s)

    def shim_lost(self, session: Session, all_read: bool) -> None:
        """A shim is gone without DisconnectShim.

        Its session waits for it to come back, unless it has read everything, the
        exit status included, or the VM is no more.
        """
        self.holders.pop(session, None)
        done = session.state in OVER and all_read and not session.output.queue
        if done or session.vm not in self.links:
            self.registry.free(session)
        elif session.can(Event.LOSE):
            session.apply(Event.LOSE)
            log.warning("shim lost", extra=tags(vm=session.vm.id, stdio=session.stdio))
