"""The status as the page and scripts get it: as protocol 2's, and what is stuck."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ccproxy_lib.service.debug import in_turns
from ccproxy_lib.service.debug.census import Census
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.status import status

VMS_IN_A_ROW = 100
SESSIONS_IN_A_ROW = 200
# What the page can show of what is stuck, and a person can take in.
MAX_STUCK = 100


def pieces(proxy: Proxy, vm_id: str, sessions: bool) -> Iterator[bytes]:
    """Return the JSON in pieces, as all of it at once would take too long.

    Raises CommandError for an unknown VM, before anything is sent.
    """
    report = status(proxy, vm_id, sessions)
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
    return _encode(report, vms)


def _encode(report: dict[str, Any], vms: list[dict[str, Any]]) -> Iterator[bytes]:
    head = json.dumps(report).removesuffix("}")
    yield f'{head}, "vms": ['.encode()
    comma = ""
    for vm in in_turns(vms, VMS_IN_A_ROW):
        sessions = vm.pop("sessions", None)
        text = json.dumps(vm)
        if sessions is None:
            yield (comma + text).encode()
        else:
            yield f'{comma}{text.removesuffix("}")}, "sessions": ['.encode()
            yield from _joined(sessions)
            yield b"]}"
        comma = ", "
    yield b"]}\n"


def _joined(sessions: list[dict[str, Any]]) -> Iterator[bytes]:
    for start in range(0, len(sessions), SESSIONS_IN_A_ROW):
        text = json.dumps(sessions[start : start + SESSIONS_IN_A_ROW])
        yield ((", " if start else "") + text[1:-1]).encode()
