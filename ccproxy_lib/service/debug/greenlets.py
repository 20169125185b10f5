"""What every greenlet is doing: those that wait at the same place together."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterable
from types import CodeType, FrameType

import gevent
from greenlet import greenlet

from ccproxy_lib.service.debug.code_names import file_of, name_of
from ccproxy_lib.service.turns import in_turns

GREENLETS_IN_A_ROW = 50
OBJECTS_IN_A_ROW = 5_000
MAX_DEPTH = 50

# Code and line, from the innermost call outwards; ends with a greenlet's first call.
Stack = tuple[tuple[CodeType, int], ...]


def report(greenlets: Iterable[greenlet]) -> str:
    """Return the stacks of these greenlets, the most frequent first."""
    counts: Counter[Stack] = Counter()
    for each in in_turns(greenlets, GREENLETS_IN_A_ROW):
        counts[_stack(_frame(each))] += 1
    parts = [f"{counts.total()} greenlets are alive\n"]
    for stack, count in counts.most_common():
        parts.append(f"\n{count} x\n")
        parts += (f"    {file_of(code)}:{line} {name_of(code)}\n" for code, line in stack)
        if not stack:
            parts.append("    not yet started\n")
    return "".join(parts)


def alive() -> list[greenlet]:
    """Find all greenlets that are not over, the hub and the main one included."""
    kinds: dict[type, bool] = {}
    found: list[greenlet] = []
    for each in in_turns(gc.get_objects(), OBJECTS_IN_A_ROW):
        kind = type(each)
        if kind not in kinds:
            kinds[kind] = issubclass(kind, greenlet)
        if kinds[kind] and not each.dead:
            found.append(each)
    return found


def _frame(each: greenlet) -> FrameType | None:
    return sys._getframe() if each is gevent.getcurrent() else each.gr_frame


def _stack(frame: FrameType | None) -> Stack:
    places: list[tuple[CodeType, int]] = []
    while frame is not None and len(places) < MAX_DEPTH:
        places.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(places)
