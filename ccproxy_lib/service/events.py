"""What happens to VMs and sessions, told to the clients that have asked for it."""

from __future__ import annotations

import time

from ccproxy_lib.service.outbox import Outbox
from ccproxy_lib.state.counters import Counters
from ccproxy_lib.state.session import Session
from ccproxy_lib.wire import frames, payloads
from ccproxy_lib.wire.frames import Notification, Type

# What may wait for a subscriber that reads slowly.
MAX_UNREAD_BYTES = 1 << 20


class Events:
    """The subscribers of one proxy.

    One that reads too slowly loses events, never its connection, and hears how
    many when it reads again.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._subscribers: dict[Outbox, _Subscriber] = {}

    def __len__(self) -> int:
        return len(self._subscribers)

    def subscribe(self, outbox: Outbox, vm_id: str) -> None:
        """Tell a client from now on; ``vm_id`` of "" stands for all VMs."""
        self._subscribers[outbox] = _Subscriber(vm_id)

    def unsubscribe(self, outbox: Outbox) -> None:
        """Tell a client nothing more; harmless if it has not subscribed."""
        self._subscribers.pop(outbox, None)

    def tell_of(self, event: str, session: Session, **more: object) -> None:
        """Tell what has happened to a session."""
        if self._subscribers:
            where = {"container": session.container_id, "stdio": session.stdio}
            self.tell(event, session.vm.id, **where, **more)

    def tell(self, event: str, vm_id: str, **more: object) -> None:
        """Tell what has happened to a VM, without ever waiting."""
        if not self._subscribers:
            return
        frame = _frame({"event": event, "time": time.time(), "vm": vm_id, **more})
        for outbox, subscriber in tuple(self._subscribers.items()):
            if subscriber.vm_id in ("", vm_id):
                self._send(outbox, subscriber, frame)

    def _send(self, outbox: Outbox, subscriber: _Subscriber, frame: bytes) -> None:
        if outbox.pending_bytes > MAX_UNREAD_BYTES:
            subscriber.dropped += 1
            self._counters.drops["events"] += 1
            return
        if subscriber.dropped:
            dropped = {"event": "dropped", "time": time.time(), "count": subscriber.dropped}
            subscriber.dropped = 0
            outbox.send(_frame(dropped))
        outbox.send(frame)


class _Subscriber:
    """Which VM one wants to hear of, and how many events it has missed since the last."""

    __slots__ = ("dropped", "vm_id")

    def __init__(self, vm_id: str) -> None:
        self.vm_id = vm_id
        self.dropped = 0


def _frame(event: dict[str, object]) -> bytes:
    return frames.encode(Type.NOTIFICATION, Notification.EVENT, payloads.event(event))
