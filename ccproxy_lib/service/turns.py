"""Giving way in the middle of long work, so that it keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent

# Any time at all: gevent runs up to fifty callbacks, which sleep(0) is one of,
# before it looks at sockets again.  After a timer it always does.
MOMENT_S = 1e-6

T = TypeVar("T")


def give_way() -> None:
    """Let all others run that can, also those for whom something has just come in."""
    gevent.sleep(MOMENT_S)


def in_turns(things: Iterable[T], many: int) -> Iterator[T]:
    """Yield ``things``, and let others run, new input included, after every ``many`` of them."""
    for count, thing in enumerate(things, 1):
        yield thing
        if count % many == 0:
            give_way()
