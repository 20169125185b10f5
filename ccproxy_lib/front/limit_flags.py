"""The flags that set limits: their names, their values, the fields that they set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ccproxy_lib.errors import UsageError
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.wire import json

_SIZE = re.compile(r"(\d{1,16})(?:([kmg])(?:ib|b)?)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# A file offset must be able to name any place in a spool.
_MOST = 1 << 50


def seconds(text: str) -> float:
    """Parse a time in seconds, more than 0, fractions allowed."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _MOST:
        raise ValueError("a number of seconds, more than 0")
    return value


def size(text: str) -> int:
    """Parse a size in bytes, perhaps with K, M or G behind it."""
    match = _SIZE.fullmatch(text)
    value = int(match[1]) * _FACTORS[(match[2] or "").lower()] if match else -1
    if not 0 <= value <= _MOST:
        raise ValueError("a number of bytes, or one with K, M or G")
    return value


def positive_size(text: str) -> int:
    """Parse a size of at least one byte."""
    value = size(text)
    if value == 0:
        raise ValueError("a number of bytes more than 0, or one with K, M or G")
    return value


def count(text: str) -> int:
    """Parse a number of things, at least 1."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) == 0:
        raise ValueError("a whole number more than 0")
    return int(text)


def depth(text: str) -> int:
    """Parse a depth that the JSON code can stand."""
    if not re.fullmatch(r"\d{1,3}", text) or not 0 < int(text) <= json.MAX_DEPTH:
        raise ValueError(f"a whole number from 1 to {json.MAX_DEPTH}")
    return int(text)


# flag: (field of Limits, parser)
LIMIT_FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ready-timeout": ("ready_timeout_s", seconds),
    "shim-timeout": ("shim_timeout_s", seconds),
    "process-timeout": ("process_timeout_s", seconds),
    "command-timeout": ("command_timeout_s", seconds),
    "session-buffer": ("session_buffer_bytes", positive_size),
    "session-spool": ("session_spool_bytes", size),
    "token-ttl": ("token_ttl_s", seconds),
    "orphan-ttl": ("orphan_ttl_s", seconds),
    "max-clients": ("max_clients", count),
    "max-vms": ("max_vms", count),
    "max-tokens": ("max_tokens", count),
    "max-commands": ("max_commands", count),
    "max-payload": ("max_payload_bytes", positive_size),
    "max-pending": ("max_pending_bytes", positive_size),
    "max-json-depth": ("max_json_depth", depth),
    "frame-timeout": ("frame_timeout_s", seconds),
    "log-burst": ("max_log_burst", count),
    "log-rate": ("max_log_rate", count),
}


def default_text(flag: str) -> str:
    """Return the default of a limit's flag as one would write it."""
    value = getattr(Limits(), LIMIT_FLAGS[flag][0])
    for suffix, factor in reversed(_FACTORS.items()):
        if LIMIT_FLAGS[flag][1] in (size, positive_size) and value and value % factor == 0:
            return f"{value // factor}{suffix.upper()}"
    return f"{value:g}"


def parse_limits(given: Mapping[str, str | None]) -> Limits:
    """Return the limits with those that are given by flag; UsageError for a bad value."""
    fields: dict[str, Any] = {}
    for flag, (field, parse) in LIMIT_FLAGS.items():
        text = given.get(f"--{flag}")
        if text is None:
            continue
        try:
            fields[field] = parse(text)
        except ValueError as error:
            raise UsageError(f"flag -{flag} needs {error}, got '{text}'") from None
    return Limits(**fields)
