"""What the proxy allows, in one place.  Times are in seconds, sizes in bytes."""

from typing import NamedTuple

KIB = 1 << 10
MIB = 1 << 20


class Limits(NamedTuple):
    """Each limit has a default that no real deployment meets, and a flag of the same name."""

    # How long a client may have to wait for an answer, by what it waits for.
    ready_timeout_s: float = 30.0
    shim_timeout_s: float = 30.0
    process_timeout_s: float = 30.0
    command_timeout_s: float = 30.0

    # What one session may hold, each way: in memory, and beyond that in a file.
    session_buffer_bytes: int = MIB
    session_spool_bytes: int = 256 * MIB

    # How long what nobody takes is kept.
    token_ttl_s: float = 600.0
    orphan_ttl_s: float = 3600.0

    # What clients may do.
    max_clients: int = 20_000
    max_vms: int = 4096
    max_tokens: int = 16_384
    max_commands: int = 1024
    max_payload_bytes: int = MIB
    max_pending_bytes: int = 16 * MIB
    max_json_depth: int = 100
    frame_timeout_s: float = 30.0
    max_log_burst: int = 1000
    max_log_rate: int = 200

    # How long an orderly stop may take before the rest is cut off.
    shutdown_timeout_s: float = 2.0
