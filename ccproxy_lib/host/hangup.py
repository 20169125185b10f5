"""Telling a peer that has only stopped sending from one that is gone."""

from __future__ import annotations

import select
import socket


def hung_up(peer: socket.socket) -> bool:
    """Whether the other end is closed altogether; never waits."""
    poll = select.poll()
    poll.register(peer.fileno(), 0)  # a hang-up is reported without being asked for
    return bool(poll.poll(0))
