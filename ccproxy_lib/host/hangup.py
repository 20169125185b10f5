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
    """Whether the other end, or ours, is closed altogether; never waits."""
    descriptor = peer.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is reported without being asked for
    return bool(poll.poll(0))
