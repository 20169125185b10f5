"""How much has gone through: of one session, or summed up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Bytes and messages each way, payloads only.

    stdin goes to the agent; output is stdout and stderr, on their way to the shim.
    Output that nobody wants is not counted.
    """

    stdin_bytes: int = 0
    stdin_messages: int = 0
    output_bytes: int = 0
    output_messages: int = 0

    def add(self, other: Traffic) -> None:
        """Count what another one has counted."""
        self.stdin_bytes += other.stdin_bytes
        self.stdin_messages += other.stdin_messages
        self.output_bytes += other.output_bytes
        self.output_messages += other.output_messages
