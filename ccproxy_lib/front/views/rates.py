"""How much per second: the difference of two Status answers, by the daemon's own clock."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from ccproxy_lib.front.views import answer
from ccproxy_lib.front.views.answer import Members

# An id may be another's by now, but not one of the same age.
_SAME_AGE_S = 0.5


class Rates(NamedTuple):
    """Bytes and messages per second, to processes (in) and from them (out)."""

    bytes_in: float
    bytes_out: float
    messages_in: float
    messages_out: float

    @property
    def bytes(self) -> float:
        """Both ways."""
        return self.bytes_in + self.bytes_out


_COUNTED = ("stdinBytes", "outputBytes", "stdinMessages", "outputMessages")


class Change:
    """What happened from one Status answer to a later one of the same daemon.

    Rates are None where they cannot be known: without an answer before, or for
    a VM or session that was there before, but not in that answer.
    """

    def __init__(self, before: Members | None, now: Members) -> None:
        before = before or {}
        same = answer.figure(before, "pid") == answer.figure(now, "pid")
        elapsed_s = answer.amount(now, "uptimeSeconds") - answer.amount(before, "uptimeSeconds")
        self.elapsed_s = elapsed_s if before and same and elapsed_s > 0 else 0.0
        self._totals = answer.inner(before, "totals"), answer.inner(now, "totals")
        self._cpu_s = answer.figure(before, "cpuSeconds"), answer.figure(now, "cpuSeconds")
        vms = answer.vms(before)
        self._vms = _by_key(vms, _vm_key)
        self._sessions = {
            id: _by_key([each for vm in same_id for each in answer.sessions(vm)], _session_key)
            for id, same_id in self._vms.items()
        }

    @property
    def total(self) -> Rates | None:
        """Those of the whole daemon."""
        return self._rates(*self._totals) if self.elapsed_s else None

    @property
    def cpu_share(self) -> float | None:
        """How much of one processor the daemon used, 1.0 for all of it."""
        before_s, now_s = self._cpu_s
        if not self.elapsed_s or before_s is None or now_s is None:
            return None
        return max(now_s - before_s, 0.0) / self.elapsed_s

    def of_vm(self, vm: Members) -> Rates | None:
        """Return those of a VM."""
        return self._of(vm, self._vms.get(_vm_key(vm), ()))

    def of_session(self, vm: Members, session: Members) -> Rates | None:
        """Return those of a session of ``vm``."""
        sessions = self._sessions.get(_vm_key(vm), {})
        # Before its process was started it had neither container nor stream.
        candidates = [
            each for key in (_session_key(session), _UNUSED) for each in sessions.get(key, ())
        ]
        return self._of(session, candidates)

    def _of(self, now: Members, candidates: Sequence[Members]) -> Rates | None:
        if not self.elapsed_s:
            return None
        age_s = answer.amount(now, "ageSeconds")
        for before in candidates:
            if abs(answer.amount(before, "ageSeconds") + self.elapsed_s - age_s) < _SAME_AGE_S:
                return self._rates(before, now)
        return self._rates({}, now) if age_s <= self.elapsed_s else None

    def _rates(self, before: Members, now: Members) -> Rates:
        return Rates(
            *(
                max(answer.amount(now, name) - answer.amount(before, name), 0.0) / self.elapsed_s
                for name in _COUNTED
            )
        )


_UNUSED = ("", 0.0)


def _vm_key(vm: Members) -> Hashable:
    return answer.text(vm, "id")


def _session_key(session: Members) -> Hashable:
    return answer.text(session, "container"), answer.figure(session, "stdio")


def _by_key(
    found: Sequence[Members], key: Callable[[Members], Hashable]
) -> dict[Hashable, list[Members]]:
    keyed: dict[Hashable, list[Members]] = {}
    for each in found:
        keyed.setdefault(key(each), []).append(each)
    return keyed
