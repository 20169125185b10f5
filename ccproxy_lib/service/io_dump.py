"""What goes over a VM's I/O channel, in the log: for those who debug, and within bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from ccproxy_lib.host import logs
from ccproxy_lib.host.logs import tags
from ccproxy_lib.state.rate import Rate
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.tty import HEADER, HEADER_BYTES

# Of each message so many bytes; of each VM so many messages at once, and a second.
SHOWN_BYTES = 64
BURST = 500
PER_S = 200

Messages = Iterable[tuple[int, memoryview, int]]

log = logging.getLogger(__name__)


class IoDump:
    """Shows messages of one VM where somebody wants to see them.

    To be called only where ``log.isEnabledFor(DEBUG)``, so that it costs nothing
    otherwise.  Tokens are in no message, as agents never hear of them.
    """

    __slots__ = ("_rate", "_vm")

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._rate = Rate(BURST, PER_S, time.monotonic())

    def from_vm(self, messages: Messages) -> Iterator[tuple[int, memoryview, int]]:
        """Show messages, or pieces of them, on their way from the VM, and pass them on."""
        for message in messages:
            seq, piece, length = message
            self._show("from the VM", seq, piece, length)
            yield message

    def to_vm(self, write: bytes) -> None:
        """Show the whole messages of one write to the VM."""
        rest = memoryview(write)
        while rest:
            seq, length = HEADER.unpack_from(rest)
            self._show("to the VM", seq, rest[HEADER_BYTES:length], length - HEADER_BYTES)
            rest = rest[length:]

    def _show(self, way: str, seq: int, data: memoryview, length: int) -> None:
        route = self._vm.routes.get(seq)
        container = route.session.container_id if route else ""
        if not logs.wants(logging.DEBUG, self._vm.id, container):
            return
        if not self._rate.take(time.monotonic()):
            return
        fields = {"vm": self._vm.id, "container": container, "seq": seq, "bytes": length}
        if skipped := self._rate.take_refused():
            fields["skipped"] = skipped
        log.debug(way, extra=tags(**fields, hex=data[:SHOWN_BYTES].hex()))
