"""The HTTP endpoint for metrics and debugging; loaded with -pprof only.

server -> routes -> metrics, status, page, greenlets, memory, profile

All of it runs in the daemon's one thread, so whatever looks at every session or
every object gives way to the proxying in between (:func:`in_turns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent

T = TypeVar("T")


def in_turns(things: Iterable[T], many: int) -> Iterator[T]:
    """Yield ``things``, and let others run after every ``many`` of them."""
    for count, thing in enumerate(things, 1):
        yield thing
        if count % many == 0:
            gevent.sleep(0)
