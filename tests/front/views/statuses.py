"""Status answers as the daemon gives them, with what a test says."""

from __future__ import annotations

TRAFFIC = {
    "stdinBytes": 0,
    "outputBytes": 0,
    "stdinMessages": 0,
    "outputMessages": 0,
    "bufferedBytes": 0,
    "spooledBytes": 0,
    "full": False,
}


def session(**members) -> dict:
    return {
        "container": "c1",
        "state": "running",
        "stdio": 1,
        "stderr": 2,
        "exec": False,
        "shim": True,
        "ageSeconds": 10.0,
        "sinceSeconds": 2.0,
        "exitStatus": None,
        "inputWaitingBytes": 0,
        **TRAFFIC,
        **members,
    }


def vm(id: str = "vm1", *sessions: dict, **members) -> dict:
    return {
        "id": id,
        "ageSeconds": 20.0,
        "unregistered": False,
        "sessionCount": len(sessions),
        "commandsWaiting": 0,
        "commandOutstandingSeconds": None,
        "commands": 3,
        **TRAFFIC,
        "sessions": list(sessions),
        **members,
    }


def status(*vms: dict, **members) -> dict:
    return {
        "version": "0.1.0-abc1234",
        "pid": 12,
        "uri": "unix:///run/clear-containers/proxy.sock",
        "pod": False,
        "uptimeSeconds": 100.0,
        "logLevel": "info",
        "clients": 3,
        "subscribers": 1,
        "tokens": 4,
        "unclaimedTokens": 1,
        "limits": {"maxClients": 20000, "maxVms": 4096},
        "rssBytes": 30 << 20,
        "cpuSeconds": 1.5,
        "hubLagSeconds": 0.0001,
        "totals": {"vms": len(vms), **TRAFFIC},
        "refusals": {},
        "deadlines": {},
        "drops": {},
        "vms": list(vms),
        **members,
    }


def many(number: int) -> dict:
    return status(*(vm(f"{i:064x}", session(container=f"{i:064x}")) for i in range(number)))
