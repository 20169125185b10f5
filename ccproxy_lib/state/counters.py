"""What has happened since the start, in numbers that only grow."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from ccproxy_lib.errors import CommandError, DeadlineMissed
from ccproxy_lib.state.traffic import Traffic

# Upper ends of the buckets, in seconds; there is one more, for what takes longer.
LATENCY_BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)


class Histogram:
    """How many values were of which size.

    ``counts[i]`` are those up to ``bounds[i]`` and above the bound before; the last
    ones are above all bounds.
    """

    __slots__ = ("bounds", "counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value_s)] += 1
        self.sum_s += value_s


class Counters:
    """Totals of one daemon.

    ``refusals`` counts what clients were refused, by the kind of the error or the
    flag of the limit; ``deadlines`` what came too late, by the flag of the
    deadline; ``drops`` what was thrown away, by what it was.  ``past`` is the
    traffic of sessions that are no more.  ``command_seconds`` is how long agents
    took to answer.
    """

    __slots__ = (
        "clients",
        "command_seconds",
        "commands",
        "deadlines",
        "drops",
        "past",
        "refusals",
        "sessions",
        "vms",
    )

    def __init__(self) -> None:
        self.clients = 0
        self.vms = 0
        self.sessions = 0
        self.commands = 0
        self.refusals: Counter[str] = Counter()
        self.deadlines: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.past = Traffic()
        self.command_seconds = Histogram()

    def refused(self, error: CommandError) -> None:
        """Count a command that was refused or came to nothing."""
        kinds = self.deadlines if isinstance(error, DeadlineMissed) else self.refusals
        kinds[error.kind] += 1
