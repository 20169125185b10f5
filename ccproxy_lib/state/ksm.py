"""How hard the kernel looks for memory pages that VMs could share (KSM), and when.

    FOUND --VM--> AGGRESSIVE --30 s--> STANDARD --120 s--> SLOW --120 s--> FOUND

A VM that is registered leads to AGGRESSIVE from everywhere, and starts its time anew.
A new VM brings many pages that equal those of the others; once they are merged,
looking on as hard would only cost CPU.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Mode(Enum):
    """What the daemon does with KSM; the values are those of the command line."""

    OFF = "off"
    INITIAL = "initial"
    AUTO = "auto"


class Phase(Enum):
    """How hard the kernel looks; FOUND is what the host had before."""

    FOUND = "found"
    AGGRESSIVE = "aggressive"
    STANDARD = "standard"
    SLOW = "slow"


class Settings(NamedTuple):
    """The kernel's own names: ``run`` is 1 for on, 0 for off, 2 for off and all unmerged."""

    run: int
    pages_to_scan: int
    sleep_millisecs: int


class Stage(NamedTuple):
    """A phase of ours: scan a share of the anonymous pages, sleep, and for how long so."""

    share: int
    sleep_millisecs: int
    lasts_s: float
    then: Phase

    def settings(self, anonymous_pages: int) -> Settings:
        """Return the settings on a host that has so many anonymous pages."""
        # With none to scan, KSM would be on and yet do nothing.
        return Settings(1, max(1, anonymous_pages // self.share), self.sleep_millisecs)


STAGES: Mapping[Phase, Stage] = {
    Phase.AGGRESSIVE: Stage(10, 1, 30.0, Phase.STANDARD),
    Phase.STANDARD: Stage(100, 10, 120.0, Phase.SLOW),
    Phase.SLOW: Stage(500, 100, 120.0, Phase.FOUND),
}


class Throttle:
    """The phase at a time, which its caller tells: any clock in seconds that never goes back.

    ``next_s`` is when :meth:`advance` will have something to do, None while only
    a VM can change the phase.
    """

    def __init__(self, stages: Mapping[Phase, Stage] = STAGES) -> None:
        self._stages = stages
        self.phase = Phase.FOUND
        self.next_s: float | None = None

    def vm_registered(self, now_s: float) -> None:
        """Begin with the first phase, also if in it already."""
        self._enter(Phase.AGGRESSIVE, now_s)

    def advance(self, now_s: float) -> None:
        """Go through all phases whose time is over."""
        while self.next_s is not None and now_s >= self.next_s:
            self._enter(self._stages[self.phase].then, self.next_s)

    def settings(self, anonymous_pages: int) -> Settings | None:
        """Return the phase's settings on a host that has so many pages, None for its own."""
        if self.phase is Phase.FOUND:
            return None
        return self._stages[self.phase].settings(anonymous_pages)

    def _enter(self, phase: Phase, since_s: float) -> None:
        self.phase = phase
        self.next_s = None if phase is Phase.FOUND else since_s + self._stages[phase].lasts_s
