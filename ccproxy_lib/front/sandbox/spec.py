"""What the JSON of a command says.  Everything here raises CommandError.

The JSON library is another one than the proxy's on purpose: two readings of
what the proxy rewrites are better than one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ccproxy_lib.errors import CommandError

FIRST_PROCESS_ID = "init"
MAX_STREAM_NUMBER = 2**64 - 1
MAX_TERMINAL_SIZE = 2**16 - 1
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# fmt: off
_PROCESS_MEMBERS = frozenset({
    "additionalGroups", "args", "capabilities", "envs", "group", "id", "noNewPrivileges",
    "rlimits", "stderr", "stdio", "terminal", "user", "workdir",
})
_CONTAINER_MEMBERS = frozenset({
    "addr", "constraints", "fsmap", "fstype", "id", "image", "initialize", "ports", "process",
    "readOnly", "restartPolicy", "rootfs", "scsiaddr", "sysctl", "systemMountsInfo", "volumes",
})
# fmt: on
_EXEC_MEMBERS = frozenset({"container", "process"})


@dataclass(frozen=True)
class ProcessSpec:
    """A process to run; ``stderr`` is 0 where there is no number of its own for it."""

    id: str
    args: list[str]
    environment: dict[str, str]
    workdir: str
    terminal: bool
    stdio: int
    stderr: int

    @property
    def stream_numbers(self) -> list[int]:
        """The numbers that the process takes, stdio first."""
        return [self.stdio, self.stderr] if self.stderr else [self.stdio]


@dataclass(frozen=True)
class StartOrder:
    """A newcontainer or execcmd: the container's id and the process."""

    container: str
    process: ProcessSpec


def parse_new_container(payload: bytes, strict: bool) -> StartOrder:
    """Read a newcontainer; ``strict`` refuses members that old agents don't know."""
    order = parse_object(payload)
    if strict:
        _refuse_unknown(order, _CONTAINER_MEMBERS, "newcontainer")
    return StartOrder(text(order, "id"), _parse_process(order, FIRST_PROCESS_ID, strict))


def parse_exec(payload: bytes, strict: bool) -> StartOrder:
    """Read an execcmd; ``strict`` refuses members that old agents don't know."""
    order = parse_object(payload)
    if strict:
        _refuse_unknown(order, _EXEC_MEMBERS, "execcmd")
    return StartOrder(text(order, "container"), _parse_process(order, "", strict))


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the members of a JSON object."""
    try:
        value = json.loads(payload.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"bad JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError("bad JSON: expected an object")
    return value


def text(members: Mapping[str, Any], name: str) -> str:
    """Return a member that must be there and be a string with something in it."""
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise CommandError(f"'{name}' must be a string that is not empty")
    return value


def number(members: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return a member that must be there and be an integer from ``low`` to ``high``."""
    value = members.get(name)
    if type(value) is not int or not low <= value <= high:
        raise CommandError(f"'{name}' must be an integer from {low} to {high}")
    return value


def flag(members: Mapping[str, Any], name: str) -> bool:
    """Return a member that is true or false, or absent, which is false."""
    value = members.get(name, False)
    if not isinstance(value, bool):
        raise CommandError(f"'{name}' must be true or false")
    return value


def _parse_process(order: Mapping[str, Any], default_id: str, strict: bool) -> ProcessSpec:
    process = order.get("process")
    if not isinstance(process, dict):
        raise CommandError("'process' must be an object")
    if strict:
        _refuse_unknown(process, _PROCESS_MEMBERS, "process")
    terminal = flag(process, "terminal")
    stderr = number(process, "stderr", 0, MAX_STREAM_NUMBER) if "stderr" in process else 0
    if terminal and stderr:
        raise CommandError("a process with a terminal has no stderr number")
    return ProcessSpec(
        id=text(process, "id") if process.get("id") else default_id,
        args=_parse_args(process),
        environment=_parse_environment(process, terminal),
        workdir=text(process, "workdir") if process.get("workdir") else "/",
        terminal=terminal,
        stdio=number(process, "stdio", 1, MAX_STREAM_NUMBER),
        stderr=stderr,
    )


def _parse_args(process: Mapping[str, Any]) -> list[str]:
    args = process.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
        raise CommandError("'args' must be a list of strings that is not empty")
    return args


def _parse_environment(process: Mapping[str, Any], terminal: bool) -> dict[str, str]:
    environment = {"PATH": _SEARCH_PATH}
    if terminal:
        environment["TERM"] = "xterm"
    variables = process.get("envs") or []
    if not isinstance(variables, list):
        raise CommandError("'envs' must be a list")
    for variable in variables:
        if not isinstance(variable, dict) or not isinstance(variable.get("value"), str):
            raise CommandError("each of 'envs' must have 'env' and 'value', both strings")
        environment[text(variable, "env")] = variable["value"]
    return environment


def _refuse_unknown(members: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(members.keys() - known)
    if unknown:
        raise CommandError(f"unknown member '{unknown[0]}' in {where}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
