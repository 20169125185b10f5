"""Telling a peer that has only stopped sending from one that is gone."""

from __future__ import annotations

import select
from typing import Protocol


class HasDescriptor(Protocol):
    """A socket of whatever kind."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


def hung_up(peer: HasDescriptor) -> bool:
    """Whether the other end is closed altogether; never waits."""
    poll = select.poll()
    poll.register(peer.fileno(), 0)  # a hang-up is reported without being asked for
    return bool(poll.poll(0))
