"""VMs and sessions as rows of a table, the ones that want attention first."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ccproxy_lib.front.views import answer, figures
from ccproxy_lib.front.views.answer import Members
from ccproxy_lib.front.views.rates import Change, Rates

# How long an agent or a start may take before it is worth a look, and a worry.
SLOW_S = 1.0
STUCK_S = 5.0


class Trouble(IntEnum):
    """How much a row wants attention."""

    OVER = 0
    NONE = 1
    WAITING = 2
    STUCK = 3


class Row(NamedTuple):
    """A VM or a session; ``rates`` is None where it is not known."""

    vm: str
    members: Members
    state: str
    trouble: Trouble
    rates: Rates | None

    @property
    def order(self) -> tuple[float, ...]:
        """What sorts the first rows to the front."""
        traffic = answer.amount(self.members, "stdinBytes")
        traffic += answer.amount(self.members, "outputBytes")
        return -self.trouble, -(self.rates.bytes if self.rates else 0.0), -traffic


def vm_rows(status: Members, change: Change) -> list[Row]:
    """Return the VMs of a Status answer, sorted."""
    rows = []
    for vm in answer.vms(status):
        state, trouble = _vm_state(vm)
        rows.append(Row(answer.text(vm, "id"), vm, state, trouble, change.of_vm(vm)))
    return sorted(rows, key=lambda row: (row.order, row.vm))


def session_rows(status: Members, change: Change) -> list[Row]:
    """Return the sessions of all VMs, sorted."""
    rows = []
    for vm in answer.vms(status):
        id = answer.text(vm, "id")
        for session in answer.sessions(vm):
            state, trouble = _session_state(session)
            rows.append(Row(id, session, state, trouble, change.of_session(vm, session)))
    return sorted(
        rows, key=lambda row: (row.order, row.vm, answer.amount(row.members, "ageSeconds"))
    )


def _vm_state(vm: Members) -> tuple[str, Trouble]:
    outstanding_s = answer.amount(vm, "commandOutstandingSeconds")
    if vm.get("full"):
        return "full", Trouble.STUCK
    if outstanding_s >= STUCK_S:
        return f"agent {figures.span(outstanding_s)}", Trouble.STUCK
    if outstanding_s >= SLOW_S:
        return f"agent {figures.span(outstanding_s)}", Trouble.WAITING
    if answer.amount(vm, "bufferedBytes"):
        return "buffering", Trouble.WAITING
    if vm.get("unregistered"):
        return "leaving", Trouble.WAITING
    return "ok", Trouble.NONE


def _session_state(session: Members) -> tuple[str, Trouble]:
    state = answer.text(session, "state").replace("_", " ")
    if session.get("full"):
        return f"{state}, full", Trouble.STUCK
    if state.startswith("starting") and answer.amount(session, "sinceSeconds") >= STUCK_S:
        return state, Trouble.STUCK
    if state == "ended":
        return state, Trouble.OVER
    waits = answer.amount(session, "bufferedBytes") or answer.amount(session, "inputWaitingBytes")
    if waits or "detached" in state:
        return state, Trouble.WAITING
    return state, Trouble.NONE
