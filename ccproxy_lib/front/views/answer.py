"""What a Status answer says, whichever version of the daemon gave it.

A member that is missing, null or of another kind than expected reads as
nothing: these views are for days when things are not as they should be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ccproxy_lib.front.views.safe import plain

Members = Mapping[str, Any]


def figure(members: Members, name: str) -> float | None:
    """Return a number, or None."""
    value = members.get(name)
    if not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def amount(members: Members, name: str) -> float:
    """Return a number, 0 if there is none."""
    return figure(members, name) or 0.0


def text(members: Members, name: str) -> str:
    """Return a text that is safe to show, "" if there is none."""
    value = members.get(name)
    return "" if value is None else plain(value)


def inner(members: Members, name: str) -> Members:
    """Return an object, empty if there is none."""
    value = members.get(name)
    return value if isinstance(value, Mapping) else {}


def several(members: Members, name: str) -> list[Members]:
    """Return the objects of an array."""
    value = members.get(name)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def vms(status: Members) -> list[Members]:
    """Return the VMs of a Status answer."""
    return several(status, "vms")


def sessions(vm: Members) -> list[Members]:
    """Return the sessions of a VM of a Status answer."""
    return several(vm, "sessions")
