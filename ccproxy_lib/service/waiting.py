"""Waiting for a session to get somewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from gevent.event import Event

from ccproxy_lib.host.hangup import HasDescriptor, hung_up
from ccproxy_lib.state.session import OVER, Session

# How often to look whether a client has gone that is not being read from.
LOOK_EVERY_S = 1.0
# What shims that have gone may leave beyond the limit: more than a socket holds,
# and less than what comes of going and coming back again and again.
LEFT_BEHIND_BYTES = 4 << 20


def wait_until(session: Session, done: Callable[[], bool], timeout_s: float | None) -> bool:
    """Wait until ``done()``, looking after each step of the session; return ``done()``.

    ``timeout_s`` of None waits without a deadline.
    """
    if done():
        return True
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    stepped = Event()
    wake = stepped.set
    session.watchers.append(wake)
    try:
        while not done():
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            stepped.wait(left_s)
            stepped.clear()
        return True
    finally:
        session.watchers.remove(wake)


def wait_until_over(session: Session, client: HasDescriptor) -> None:
    """Wait until the session is over, or its client, which sends no more, has gone."""

    def done() -> bool:
        return session.state in OVER or hung_up(client)

    while not wait_until(session, done, LOOK_EVERY_S):
        pass
