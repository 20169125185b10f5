"""The processes that descend from this one, whatever they did to get away.

The agent adopts orphans, so a process that left its session, or lost its
parent, is still found below the agent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

import gevent

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Zombies and the dead, as /proc/PID/stat names them.
_ENDED_STATES = "ZX"
_KILL_DEADLINE_S = 5.0
_KILL_ROUND_S = 0.002

# Loaded once, so that a forked child need not.
_libc = ctypes.CDLL(None, use_errno=True)


class Entry(NamedTuple):
    """One running process."""

    pid: int
    parent: int
    session: int
    state: str
    name: str


def adopt_orphans() -> None:
    """Make this process the parent of all orphans below it."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have this process killed when its parent ends, even by SIGKILL; for a forked child."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def all_running() -> list[Entry]:
    """Return what runs below this process, parents before their children."""
    children: dict[int, list[Entry]] = {}
    for entry in _all_entries():
        children.setdefault(entry.parent, []).append(entry)
    found: list[Entry] = []
    parents = [os.getpid()]
    while parents:
        generation = children.pop(parents.pop(), [])
        found += generation
        parents += [entry.pid for entry in generation]
    return [entry for entry in found if entry.state not in _ENDED_STATES]


def in_sessions(sessions: Collection[int]) -> list[Entry]:
    """Return those that belong to one of the sessions, named by their leaders' pids."""
    return [entry for entry in all_running() if entry.session in sessions]


def send_signal(number: int, entries: Iterable[Entry]) -> None:
    """Signal processes, of which some may be gone."""
    for entry in entries:
        try:
            os.kill(entry.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def kill_all() -> None:
    """Kill everything below this process, also what forks meanwhile."""
    deadline = time.monotonic() + _KILL_DEADLINE_S
    while (entries := all_running()) and time.monotonic() < deadline:
        send_signal(signal.SIGKILL, entries)
        gevent.sleep(_KILL_ROUND_S)


def _all_entries() -> Iterable[Entry]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                yield _parse(int(pid), file.read())
        except (FileNotFoundError, ProcessLookupError):
            continue


def _parse(pid: int, stat: str) -> Entry:
    """Read a line ``pid (name) state parent group session ...``."""
    # The name may hold anything, parentheses and blanks included.
    head, _, tail = stat.rpartition(")")
    state, parent, _, session, *_ = tail.split()
    return Entry(pid, int(parent), int(session), state, head.partition("(")[2])
