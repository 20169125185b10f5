"""What all clients share: the registry, the live VMs, the limits, the address."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.hangup import hung_up
from ccproxy_lib.host.logs import tags
from ccproxy_lib.host.spool import Spool
from ccproxy_lib.host.tokens import new_token
from ccproxy_lib.service.events import Events
from ccproxy_lib.service.hub_lag import HubLag
from ccproxy_lib.service.outbox import Outbox
from ccproxy_lib.service.stream import Stream
from ccproxy_lib.service.traces import free, free_unused, session_tags
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.state.counters import Counters
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.output import Output
from ccproxy_lib.state.packets import PacketOutput
from ccproxy_lib.state.registry import Registry
from ccproxy_lib.state.session import OVER, WITHOUT_SHIM, Event, Session
from ccproxy_lib.state.traffic import sum_up
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.payloads import RegisterVM

log = logging.getLogger(__name__)


class Holder(Protocol):
    """Who holds a session: the connection of its shim."""

    stream: Stream

    def wait_until_finished(self, timeout_s: float) -> None:
        """Wait until nobody serves it any more, for ``timeout_s`` at most."""
        ...


class Client(Holder, Protocol):
    """Who is connected."""

    outbox: Outbox

    def hang_up(self) -> None:
        """Take no more from the client; what it is due still goes out."""
        ...


class Proxy:
    """One daemon's VMs and sessions; ``uri`` is the address that clients are told."""

    def __init__(self, uri: str, limits: Limits) -> None:
        self.uri = uri
        self.limits = limits
        self.counters = Counters()
        self.events = Events(self.counters)
        self.hub_lag = HubLag()
        self.started_s = time.monotonic()
        self.registry = Registry(new_token, limits, self._new_output, self.counters)
        self.clients: set[Client] = set()
        self.links: dict[Vm, VmLink] = {}
        self.holders: dict[Session, Holder] = {}
        self.on_registered: Callable[[], None] = lambda: None

    def _new_output(self) -> Output:
        return Output(self.limits.session_buffer_bytes, self._overflow())

    def new_packet_output(self, io_base: int) -> Output:
        """Return the output of a protocol 1 session."""
        return PacketOutput(io_base, self.limits.session_buffer_bytes, self._overflow())

    def _overflow(self) -> Callable[[], Spool] | None:
        spool_bytes = self.limits.session_spool_bytes
        return partial(Spool, spool_bytes) if spool_bytes else None

    # ---- VMs

    def register(self, request: RegisterVM, client_id: int) -> VmLink:
        """Connect to a VM and make it known; CommandError, and nothing left behind, if not."""
        vm = self.registry.reserve(request.vm_id)  # before anything that waits
        log.info("VM registering", extra=tags(vm=vm.id, client=client_id))
        link = VmLink(vm, self.registry, self.limits, self.counters, self.events, self._link_closed)
        try:
            link.connect(request.ctl_path, request.io_path, request.console_path)
        except BaseException as error:
            log.info("VM not registered", extra=tags(vm=vm.id, client=client_id, reason=error))
            self.registry.unregister(vm)
            raise
        self.links[vm] = link
        self.registry.publish(vm)
        log.info("VM registered", extra=tags(vm=vm.id, client=client_id))
        self.events.tell("vm-registered", vm.id)
        self.on_registered()
        return link

    def find(self, vm_id: str) -> VmLink:
        """Return a registered VM; CommandError if there is none."""
        return self.links[self.registry.find(vm_id)]

    def unregister(self, vm_id: str, client_id: int) -> None:
        """Unregister a VM; CommandError if there is none."""
        link = self.find(vm_id)
        log.info("VM unregistered", extra=tags(vm=vm_id, client=client_id))
        link.unregister()

    def dismiss(self, vm_id: str, client_id: int) -> None:
        """Unregister a VM and close it, whatever runs in it; CommandError if there is none."""
        link = self.find(vm_id)
        log.info("VM unregistered", extra=tags(vm=vm_id, client=client_id))
        link.unregister()
        link.close("the VM was unregistered")

    def follow_consoles(self) -> None:
        """Log the consoles that somebody wants to see since the log's level has changed."""
        for link in tuple(self.links.values()):
            link.follow_console()

    def _link_closed(self, link: VmLink) -> None:
        if link.vm in self.links:  # otherwise it was never registered
            self.link_closed(link)

    def link_closed(self, link: VmLink) -> None:
        """A VM's channels are closed for good."""
        self.links.pop(link.vm, None)
        self.counters.past = sum_up((self.counters.past, link.vm.traffic))

    # ---- sessions

    def link_of(self, session: Session) -> VmLink:
        """Return the VM that a session belongs to; CommandError if it is gone."""
        try:
            return self.links[session.vm]
        except KeyError:
            raise CommandError("the VM of token {token} is gone", session.token) from None

    def collect_garbage(self) -> None:
        """Free what nobody has come for in time."""
        for session in self.registry.expired(time.monotonic()):
            free_unused(self.registry, session, "nobody came for it in time")

    def wait_for_dead_holder(self, session: Session) -> None:
        """Let a shim that is gone, perhaps unnoticed, come to its end before another takes over."""
        holder = self.holders.get(session)
        if holder is not None and session.state not in WITHOUT_SHIM and hung_up(holder.stream):
            holder.wait_until_finished(self.limits.shim_timeout_s)

    def shim_lost(self, session: Session, client_id: int, all_read: bool) -> None:
        """A shim is gone without DisconnectShim.

        Its session waits for it to come back, unless it has read everything, the
        exit status included, or the VM is no more.
        """
        done = session.state in OVER and all_read and not session.output.queue
        if done:
            free(self.registry, session, "its shim has taken everything")
        elif session.vm not in self.links:
            free(self.registry, session, "its VM is gone")
        elif session.can(Event.LOSE):
            session.apply(Event.LOSE)
            log.warning("shim lost", extra=session_tags(session, client=client_id))
            self.events.tell_of("shim-lost", session)
