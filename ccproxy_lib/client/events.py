"""What happens in the proxy and its VMs, as objects."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ccproxy_lib.client.decoding import decode
from ccproxy_lib.errors import ProxyError


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have: ``time`` in seconds since the epoch, and ``vm``, the VM's id or ""."""

    time: float
    vm: str


@dataclass(frozen=True, slots=True)
class VmRegistered(Event):
    """A VM is known and ready."""


@dataclass(frozen=True, slots=True)
class VmUnregistered(Event):
    """A runtime has unregistered a VM; sessions with a process go on."""


@dataclass(frozen=True, slots=True)
class VmLost(Event):
    """A VM went without being asked to; ``reason`` is a sentence."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class AgentEvent(Event):
    """An asynchronous event of the agent, as its text, 64 KiB at most."""

    data: str = ""


@dataclass(frozen=True, slots=True)
class ProcessStarted(Event):
    """A process runs in ``container``; ``stdio`` is its number in the VM."""

    container: str = ""
    stdio: int = 0


@dataclass(frozen=True, slots=True)
class ProcessEnded(Event):
    """A process has ended with exit status ``status``, 0 to 255."""

    container: str = ""
    stdio: int = 0
    status: int = 0


@dataclass(frozen=True, slots=True)
class ShimConnected(Event):
    """A shim holds a session; ``container`` is "", ``stdio`` 0 if its process is not started."""

    container: str = ""
    stdio: int = 0


@dataclass(frozen=True, slots=True)
class ShimLost(Event):
    """A shim went without saying so; it may come back."""

    container: str = ""
    stdio: int = 0


@dataclass(frozen=True, slots=True)
class ShimDisconnected(Event):
    """A shim has let its session go."""

    container: str = ""
    stdio: int = 0


@dataclass(frozen=True, slots=True)
class EventsDropped(Event):
    """Here ``count`` events are missing: they came faster than they were taken."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class ProxyGone(Event):
    """The connection has ended, so there are no more events; only callbacks get this."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event that this client does not know; ``name`` and ``members`` are as it came."""

    name: str = ""
    members: dict[str, Any] = field(default_factory=dict)


CLASSES: dict[str, type[Event]] = {
    "vm-registered": VmRegistered,
    "vm-unregistered": VmUnregistered,
    "vm-lost": VmLost,
    "agent-event": AgentEvent,
    "process-started": ProcessStarted,
    "process-ended": ProcessEnded,
    "shim-connected": ShimConnected,
    "shim-lost": ShimLost,
    "shim-disconnected": ShimDisconnected,
    "dropped": EventsDropped,
}


def parse(payload: bytes) -> Event:
    """Return the event in an EVENT notification; ProxyError if there is none in it."""
    try:
        members = decode(payload)
        name = members["event"]
        common = (float(members.get("time", 0.0)), str(members.get("vm", "")))
        event_class = CLASSES.get(name)
        if event_class is None:
            return UnknownEvent(*common, str(name), members)
        own = {each.name for each in fields(event_class)} - {"time", "vm"}
        return event_class(*common, **{name: members[name] for name in own & members.keys()})
    except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProxyError(f"the proxy sent what is no event: {error}") from None
