"""The status as the page and scripts get it: as protocol 2's, and what is stuck."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping

from ccproxy_lib.service.debug.census import Census
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.status import Report, sessions_of, status
from ccproxy_lib.service.turns import in_turns
from ccproxy_lib.state.vm import Vm

VMS_IN_A_ROW = 20
SESSIONS_IN_A_ROW = 100
# What the page can show of what is stuck, and a person can take in.
MAX_STUCK = 100


def pieces(proxy: Proxy, vm_id: str, sessions: bool) -> Iterator[bytes]:
    """Return the JSON in pieces, as all of it at once would take too long.

    Raises CommandError for an unknown VM, before anything is sent.
    """
    report = status(proxy, vm_id, sessions=False)
    stuck = Census(proxy).stuck
    report["stuckCount"] = len(stuck)
    report["stuck"] = [
        {
            "vm": each.vm_id,
            "reason": each.reason,
            "count": each.count,
            "longestSeconds": round(each.longest_s, 3),
        }
        for each in stuck[:MAX_STUCK]
    ]
    vms = report.pop("vms")
    found = {link.vm.id: link.vm for link in proxy.links.values()} if sessions else {}
    return _encode(report, vms, found)


def _encode(report: Report, vms: list[Report], with_sessions: Mapping[str, Vm]) -> Iterator[bytes]:
    yield f'{_open(report)}, "vms": ['.encode()
    comma = ""
    for each in in_turns(vms, VMS_IN_A_ROW):
        vm = with_sessions.get(each["id"])
        if vm is None:
            yield (comma + json.dumps(each)).encode()
        else:
            yield f'{comma}{_open(each)}, "sessions": ['.encode()
            yield from _joined(sessions_of(vm))
            yield b"]}"
        comma = ", "
    yield b"]}\n"


def _open(report: Report) -> str:
    return json.dumps(report).removesuffix("}")


def _joined(sessions: Iterator[Report]) -> Iterator[bytes]:
    # Encoded at once, as what lives long costs the garbage collector time.
    comma = ""
    while some := list(itertools.islice(sessions, SESSIONS_IN_A_ROW)):
        yield (comma + json.dumps(some)[1:-1]).encode()
        comma = ", "
