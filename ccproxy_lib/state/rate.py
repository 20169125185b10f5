"""How often something may happen."""

from __future__ import annotations


class Rate:
    """A token bucket: ``burst`` times at once, and ``per_s`` times a second in the long run.

    Times are in seconds on one clock, whichever it is.  ``refused`` counts how
    often it might not happen since it was last asked for with :meth:`take_refused`.
    """

    __slots__ = ("_at_s", "_burst", "_left", "_per_s", "refused")

    def __init__(self, burst: int, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._at_s = now_s
        self.refused = 0

    def take(self, now_s: float) -> bool:
        """Whether it may happen now; then it has."""
        grown = max(0.0, now_s - self._at_s) * self._per_s
        self._left = min(self._burst, self._left + grown)
        self._at_s = now_s
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True

    def take_refused(self) -> int:
        """Return how often it might not happen, and begin anew to count."""
        refused, self.refused = self.refused, 0
        return refused
