"""Entries that clients send, and what the daemon's log has of them."""

from __future__ import annotations

import json

import logfmtkv

from ccproxy_lib.wire.frames import Stream, Type
from tests.e2e.harness import Client


def send_entry(client: Client, **entry) -> None:
    client.send(Type.STREAM, Stream.LOG, json.dumps({"source": "shim"} | entry).encode())


def records(daemon) -> list[dict[str, str]]:
    """What a daemon has logged, as the fields of each line.

    The shared daemon's log may begin in the middle of one, and end so.
    """
    lines = daemon.log.split("\n")[:-1]
    return [logfmtkv.parse(line, strict=True) for line in lines if line.startswith("time=")]


def lines_about(daemon, message: str) -> list[dict[str, str]]:
    return [each for each in records(daemon) if each["msg"] == message]
