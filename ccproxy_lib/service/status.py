"""What an operator wants to know of a running daemon; docs/PROTOCOL.md, "Commands for operators".

Tokens are never part of it.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from typing import Any

from ccproxy_lib import version
from ccproxy_lib.host import logs, process
from ccproxy_lib.service.pod import PodProxy
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.turns import in_turns
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.state.session import WITHOUT_SHIM, Session, State
from ccproxy_lib.state.traffic import Traffic, sum_up
from ccproxy_lib.state.vm import Vm

# How many sessions to describe before others get a turn.
SESSIONS_IN_A_ROW = 100
VMS_IN_A_ROW = 10

Report = dict[str, Any]


def status(proxy: Proxy, vm_id: str = "", sessions: bool = True) -> Report:
    """Describe the daemon and its VMs, or ``vm_id`` alone; CommandError if that is unknown.

    With many sessions it lets others run in between, so that parts of it can be
    a little older than the rest.
    """
    chosen = [proxy.find(vm_id)] if vm_id else list(proxy.links.values())
    vms = [_vm(link, sessions) for link in in_turns(chosen, VMS_IN_A_ROW)]
    counters = proxy.counters
    return {
        "version": _version(),
        "pid": os.getpid(),
        "uri": proxy.uri,
        "pod": isinstance(proxy, PodProxy),
        "uptimeSeconds": _age(proxy.started_s),
        "logLevel": logs.level_name(),
        "clients": len(proxy.clients),
        "subscribers": len(proxy.events),
        "tokens": proxy.registry.tokens,
        "unclaimedTokens": proxy.registry.unclaimed_tokens,
        "limits": {"maxClients": proxy.limits.max_clients, "maxVms": proxy.limits.max_vms},
        "rssBytes": process.rss_bytes(),
        "cpuSeconds": round(time.process_time(), 3),
        "hubLagSeconds": round(proxy.hub_lag.last_s, 6),
        "hubLagWorstSeconds": round(proxy.hub_lag.worst_s, 6),
        "totals": {
            "vms": counters.vms,
            "clients": counters.clients,
            "sessions": counters.sessions,
            "commands": counters.commands,
            **_traffic(traffic_of(proxy)),
        },
        "refusals": dict(counters.refusals),
        "deadlines": dict(counters.deadlines),
        "drops": dict(counters.drops),
        "vms": vms,
    }


def traffic_of(proxy: Proxy) -> Traffic:
    """Return what has gone through the daemon since its start."""
    return sum_up((proxy.counters.past, *(link.vm.traffic for link in proxy.links.values())))


def _vm(link: VmLink, sessions: bool) -> Report:
    vm = link.vm
    found = tuple(vm.sessions)
    kept_bytes, spooled_bytes, full = 0, 0, False
    for session in in_turns(found, SESSIONS_IN_A_ROW):
        kept_bytes += session.output.kept_bytes
        spooled_bytes += session.output.spooled_bytes
        full = full or session.output.full
    report = {
        "id": vm.id,
        "ageSeconds": _age(vm.reserved_s),
        "unregistered": link.unregistered,
        "sessionCount": len(found),
        "commands": link.commands,
        "commandsWaiting": link.ctl.waiting,
        "commandOutstandingSeconds": link.ctl.outstanding_s,
        **_traffic(vm.traffic),
        "bufferedBytes": kept_bytes,
        "spooledBytes": spooled_bytes,
        "full": full,
    }
    if sessions:
        report["sessions"] = list(sessions_of(vm))
    return report


def sessions_of(vm: Vm) -> Iterator[Report]:
    """Describe a VM's sessions, the oldest first."""
    for session in in_turns(sorted(vm.sessions, key=_age_order), SESSIONS_IN_A_ROW):
        if session.state is not State.FREED:
            yield _session(session)


def _age_order(session: Session) -> float:
    return session.allocated_s


def _session(session: Session) -> Report:
    output = session.output
    return {
        "container": session.container_id,
        "state": session.state.name.lower(),
        "stdio": session.stdio,
        "stderr": session.stderr,
        "exec": session.is_exec,
        "shim": session.state not in WITHOUT_SHIM and session.sink is not None,
        "ageSeconds": _age(session.allocated_s),
        "sinceSeconds": _age(session.since_s),
        "exitStatus": session.exit_status,
        **_traffic(session.traffic),
        "inputWaitingBytes": _input_waiting(session),
        "bufferedBytes": output.kept_bytes,
        "spooledBytes": output.spooled_bytes,
        "full": output.full,
    }


def _traffic(traffic: Traffic) -> Report:
    return {
        "stdinBytes": traffic.stdin_bytes,
        "stdinMessages": traffic.stdin_messages,
        "outputBytes": traffic.output_bytes,
        "outputMessages": traffic.output_messages,
    }


def _input_waiting(session: Session) -> int:
    early = session.early.stdin_bytes if session.early else 0
    return early + (session.input.size_bytes if session.input else 0)


def _age(since_s: float) -> float:
    return round(time.monotonic() - since_s, 3)


@functools.cache
def _version() -> str:
    return version.full()
