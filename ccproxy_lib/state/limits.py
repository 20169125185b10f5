"""What the proxy allows, in one place.  Times are in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults that no real deployment meets."""

    max_payload_bytes: int = 1 << 20
    max_clients: int = 20_000
    ready_timeout_s: float = 30.0
    shim_timeout_s: float = 30.0
    process_timeout_s: float = 30.0
    command_timeout_s: float = 30.0
    # Of one session, each way: what a shim has yet to take, what a process has yet to read.
    session_buffer_bytes: int = 1 << 20
    shutdown_timeout_s: float = 3.0
