"""Pod mode: one VM, and an end with it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.vm_link import VmLink

# How long to wait for UnregisterVM when the guest has ended before it.
LINGER_S = 30.0

log = logging.getLogger(__name__)


class PodProxy(Proxy):
    """A proxy that calls ``on_end``, in a greenlet of its own, when its VM is no more.

    A guest often ends while its runtime is about to say UnregisterVM.  That is
    then answered all the same, before the end.
    """

    on_end: Callable[[], None]

    _lost_vm_id: str | None = None

    def unregister(self, vm_id: str, client_id: int) -> None:
        """Unregister the VM, also if it is gone already."""
        if vm_id == self._lost_vm_id:
            self._unregister_lost(client_id)
        else:
            super().unregister(vm_id, client_id)

    def dismiss(self, vm_id: str, client_id: int) -> None:
        """Unregister the VM and close it, also if it is gone already."""
        if vm_id == self._lost_vm_id:
            self._unregister_lost(client_id)
        else:
            super().dismiss(vm_id, client_id)

    def find(self, vm_id: str) -> VmLink:
        """Return the VM; CommandError if there is none, or it is gone."""
        if vm_id == self._lost_vm_id:
            raise CommandError(f"VM {vm_id} is gone")
        return super().find(vm_id)

    def link_closed(self, link: VmLink) -> None:
        """The VM is gone: end now if that was asked for, soon if not."""
        super().link_closed(link)
        if link.unregistered:
            self._end_soon()
        else:
            self._lost_vm_id = link.vm.id
            gevent.spawn_later(LINGER_S, self._end_soon)

    def _unregister_lost(self, client_id: int) -> None:
        log.info("VM unregistered", extra=tags(vm=self._lost_vm_id, client=client_id))
        self._end_soon()

    def _end_soon(self) -> None:
        # Not in this greenlet: it has an answer to give first.
        gevent.spawn(self.on_end)
