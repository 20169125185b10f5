"""A sampling profile of the running daemon, as text that flame graph tools take.

Samples are taken in a signal handler, which the kernel's timer calls.  A thread
that looks at the stacks instead would get its turn where this one waits for the
kernel, and so would see little but reads and writes.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from types import CodeType, FrameType
from typing import NamedTuple

import gevent

from ccproxy_lib.service.debug.code_names import file_of, name_of
from ccproxy_lib.service.turns import in_turns

HERTZ = 100
MIN_S, MAX_S, DEFAULT_S = 1.0, 60.0, 10.0
# What a profile may hold; deeper and further stacks are cut.
MAX_DEPTH = 100
MAX_STACKS = 20_000
STACKS_IN_A_ROW = 100

IDLE = "(idle)"
OTHER = "(other)"

Stack = tuple[CodeType, ...]


class Clock(NamedTuple):
    """A timer of the process, and the signal that it sends."""

    timer: int
    signal: signal.Signals


CPU = Clock(signal.ITIMER_PROF, signal.SIGPROF)
WALL = Clock(signal.ITIMER_REAL, signal.SIGALRM)


class Busy(Exception):
    """A profile is being taken already."""


def parse_seconds(text: str) -> float:
    """Return how long to sample; ValueError, a sentence, if it is not 1 to 60 s."""
    try:
        seconds = float(text or DEFAULT_S)
    except ValueError:
        seconds = 0.0
    if not MIN_S <= seconds <= MAX_S:
        raise ValueError(f"seconds must be a number from {MIN_S:g} to {MAX_S:g}.")
    return seconds


def parse_clock(text: str) -> Clock:
    """Return which timer to sample by; ValueError, a sentence, if it is not cpu or wall."""
    try:
        return {"": CPU, "cpu": CPU, "wall": WALL}[text]
    except KeyError:
        raise ValueError("clock must be cpu or wall.") from None


class Profiler:
    """Takes one profile at a time."""

    def __init__(self) -> None:
        self._samples: Counter[Stack] | None = None

    def run(self, seconds: float, clock: Clock) -> str:
        """Let ``seconds`` pass and return where they went: a line per stack, outermost first.

        By the CPU's clock one line tells for how much of the time it was idle.
        Raises Busy.
        """
        if self._samples is not None:
            raise Busy("Another profile is being taken: try again when it is done.")
        samples: Counter[Stack] = Counter()
        self._samples = samples
        began_s = time.monotonic()
        try:
            signal.signal(clock.signal, self._sample)
            signal.siginterrupt(clock.signal, False)
            signal.setitimer(clock.timer, 1 / HERTZ, 1 / HERTZ)
            gevent.sleep(seconds)
        finally:
            signal.setitimer(clock.timer, 0)
            # Not the default: a signal that is on its way would end the daemon.
            signal.signal(clock.signal, signal.SIG_IGN)
            self._samples = None
        named = _named(samples)
        if clock is CPU:
            expected = round((time.monotonic() - began_s) * HERTZ)
            named[IDLE] = max(0, expected - samples.total())
        return "".join(f"{stack} {count}\n" for stack, count in named.most_common() if count)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        # Called between any two instructions of the daemon: must neither wait nor fail.
        samples = self._samples
        if samples is None:
            return
        stack = _stack(frame)
        samples[stack if len(samples) < MAX_STACKS else ()] += 1


def _stack(frame: FrameType | None) -> Stack:
    """Return what is being run, from the innermost call outwards."""
    codes: list[CodeType] = []
    while frame is not None and len(codes) < MAX_DEPTH:
        codes.append(frame.f_code)
        frame = frame.f_back
    return tuple(codes)


def _named(samples: Counter[Stack]) -> Counter[str]:
    named: Counter[str] = Counter()
    for stack, count in in_turns(samples.items(), STACKS_IN_A_ROW):
        named[";".join(_name(code) for code in reversed(stack)) or OTHER] += count
    return named


def _name(code: CodeType) -> str:
    # Blanks and semicolons separate.
    return f"{file_of(code)}:{name_of(code)}".replace(" ", "_").replace(";", "_")
