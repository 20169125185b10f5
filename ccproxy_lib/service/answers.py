"""Answers of protocol 2: one for each command, in the order of the commands."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy_lib.service.connection import Connection
from ccproxy_lib.wire import frames, payloads
from ccproxy_lib.wire.frames import Command, Type


def answer(client: Connection, opcode: int, payload: bytes = b"") -> None:
    """Answer a command with success."""
    client.outbox.send(frames.encode(Type.RESPONSE, opcode, payload))


def answer_error(client: Connection, opcode: int, message: str) -> None:
    """Answer a command with the reason why it failed."""
    payload = payloads.error_response(message)
    client.outbox.send(frames.encode(Type.RESPONSE, opcode, payload, error=True))


def log_refusal(client: Connection, opcode: int, reason: str) -> None:
    """Say why a command came to nothing; ``reason`` must have no token that a client made up."""
    client.log_refusal("command refused", command=Command(opcode).name, reason=reason)


def answerer(client: Connection, opcode: int) -> Callable[[str], None]:
    """Return a function that answers a command later: with "" or an error's text."""

    def answer_later(message: str) -> None:
        if message:
            log_refusal(client, opcode, message)
            answer_error(client, opcode, message)
        else:
            answer(client, opcode)

    return answer_later
