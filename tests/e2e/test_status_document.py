"""docs/PROTOCOL.md names every member of the answer to Status."""

from __future__ import annotations

import json

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import TOP

# Their members are kinds of errors, flags and limits.
COUNTS = {"refusals", "deadlines", "drops"}


def test_all_members_of_a_status_stand_in_the_document(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token):
        status = json.loads(runtime.call(Command.STATUS, {"containerId": vm_id}))
    document = (TOP / "docs" / "PROTOCOL.md").read_text()
    assert status["vms"][0]["sessions"]
    assert [name for name in members(status) if f"`{name}`" not in document] == []


def members(value):
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            if name not in COUNTS:
                yield from members(member)
    elif isinstance(value, list):
        for each in value:
            yield from members(each)
